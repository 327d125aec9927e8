from __future__ import annotations

import pytest
import torch
from internlm_core.model import KVCache
from internlm_core.model.rope import dynamic_base, rope_tables

DYNAMIC = {"type": "dynamic", "factor": 2.0}


# base 1e6, head width 128, trained to 32,768
@pytest.mark.parametrize(
    ("factor", "length", "base"),
    [
        (1.0, 65_536, 2_022_126),
        (1.0, 131_072, 4_088_994),
        (1.0, 204_800, 6_434_474),
        (2.0, 65_536, 3_052_774),
        (2.0, 131_072, 7_219_586),
        (2.0, 204_800, 11_954_580),
        (2.0, 32_768, 1_000_000),
        (2.0, 5, 1_000_000),
    ],
)
def test_dynamic_base(factor, length, base):
    assert dynamic_base(1e6, 128, factor, length, 32_768) == pytest.approx(base, rel=1e-6)


def test_angles_are_those_of_the_formula(make_config):
    config = make_config(width=8)
    cos, sin = rope_tables(config, torch.tensor([[0, 3, 1000]]), 1001)
    i = torch.arange(4, dtype=torch.float64)
    angles = torch.tensor([0.0, 3.0, 1000.0])[:, None].double() * 10_000.0 ** (-2 * i / 8)
    torch.testing.assert_close(cos[0].double(), angles.cos(), atol=1e-4, rtol=0)
    torch.testing.assert_close(sin[0].double(), angles.sin(), atol=1e-4, rtol=0)


def test_linear_scaling_divides_positions(make_config):
    plain, scaled = make_config(), make_config(rope_scaling={"type": "linear", "factor": 4.0})
    at = torch.arange(0, 40, 4)[None]
    for a, b in zip(rope_tables(scaled, at, 40), rope_tables(plain, at // 4, 40), strict=True):
        assert torch.equal(a, b)


def test_lengths_may_differ_in_one_row(make_config):
    config = make_config(rope_scaling=DYNAMIC)
    positions = torch.tensor([[7, 7, 7]])
    cos, _ = rope_tables(config, positions, torch.tensor([[64, 128, 64]]))
    for column, length in enumerate((64, 128, 64)):
        assert torch.equal(cos[:, column], rope_tables(config, positions, length)[0][:, 0])
    assert not torch.equal(cos[:, 0], cos[:, 1])


def test_an_earlier_long_request_never_changes_a_later_answer(make_model, draw_ids):
    model = make_model(rope_scaling=DYNAMIC)
    short = draw_ids(1, 20)
    before = model(short)
    long = model(draw_ids(1, 200, seed=3))
    assert torch.equal(model(short), before)
    assert torch.equal(model(draw_ids(1, 200, seed=3)), long)


def test_scaling_acts_only_beyond_the_trained_length(make_model, draw_ids):
    plain, scaled = make_model(), make_model(rope_scaling=DYNAMIC)
    assert torch.equal(plain(draw_ids(1, 64)), scaled(draw_ids(1, 64)))
    assert not torch.allclose(plain(draw_ids(1, 65)), scaled(draw_ids(1, 65)), atol=1e-3)


def test_declared_session_length_fixes_the_base_from_the_first_token(make_model, draw_ids):
    model = make_model(rope_scaling=DYNAMIC)
    ids = draw_ids(1, 100)
    cache = KVCache(model.config, 1, 128, session_length=100)
    parts = [model(ids[:, :30], cache=cache), model(ids[:, 30:], cache=cache)]
    torch.testing.assert_close(torch.cat(parts, 1), model(ids), atol=2e-5, rtol=0)
    other = model(ids, session_length=128)
    assert not torch.allclose(other, model(ids), atol=1e-3)


def test_set_rope_is_the_model_built_with_those_values(make_model, draw_ids):
    model, other = make_model(), make_model(rope_theta=1e6, max_position_embeddings=256)
    ids = draw_ids(2, 33)
    assert not torch.allclose(model(ids), other(ids), atol=1e-3)
    model.set_rope(1e6, 256)
    assert torch.equal(model(ids), other(ids))
    assert model.config == other.config
