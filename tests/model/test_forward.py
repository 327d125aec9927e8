"""Packing, padding, caching and the loss: each equal to every document read alone."""

from __future__ import annotations

import pytest
import torch
from internlm_core.errors import KernelError, ModelError
from internlm_core.model import InternLM2, KVCache
from torch.nn import functional

TIGHT = {"atol": 3e-5, "rtol": 0}


def bounds(*sizes: int) -> torch.Tensor:
    return torch.tensor([0, *sizes]).cumsum(0).to(torch.int32)


@pytest.mark.parametrize("scaling", [None, {"type": "dynamic", "factor": 2.0}])
@pytest.mark.parametrize("sizes", [(5, 17, 1, 33), (70, 3), (9,), (4, 0, 6)])
def test_packed_documents_equal_each_alone(make_model, draw_ids, sizes, scaling):
    model = make_model(rope_scaling=scaling)
    ids = draw_ids(1, sum(sizes))
    alone = torch.cat([model(part) for part in ids.split(sizes, 1) if part.numel()], dim=1)
    torch.testing.assert_close(model(ids, cu_seqlens=bounds(*sizes)), alone, **TIGHT)


def test_without_bounds_documents_do_see_each_other(make_model, draw_ids):
    model, ids = make_model(), draw_ids(1, 30)
    packed = model(ids, cu_seqlens=bounds(10, 20))
    assert torch.allclose(packed[:, :10], model(ids)[:, :10], atol=1e-5)
    assert not torch.allclose(packed[:, 10:], model(ids)[:, 10:], atol=1e-2)


def test_gradients_of_packed_documents_equal_each_alone(make_model, draw_ids):
    model, sizes = make_model(), (5, 17, 1, 33)
    ids, labels = draw_ids(1, 56), draw_ids(1, 56, seed=9)
    model.loss(ids, labels, cu_seqlens=bounds(*sizes))[0].backward()
    packed = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for part, label in zip(ids.split(sizes, 1), labels.split(sizes, 1), strict=True):
        model.loss(part, label)[0].backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(packed[name], parameter.grad, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.tensor([0, 10], dtype=torch.int32),
        torch.tensor([0, 90], dtype=torch.int32),
        torch.tensor([0, 20, 10, 30], dtype=torch.int32),
        torch.tensor([5, 30], dtype=torch.int32),
        torch.tensor([0, 30]),
        torch.tensor([[0, 30]], dtype=torch.int32),
    ],
)
def test_wrong_bounds_are_refused(make_model, draw_ids, wrong):
    with pytest.raises(KernelError, match="cu_seqlens"):
        make_model()(draw_ids(1, 30), cu_seqlens=wrong)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batch_equals_each_row_alone(make_model, draw_ids, side):
    model, sizes = make_model(), (3, 12, 7)
    rows = [draw_ids(1, size, seed=size) for size in sizes]
    ids, mask = torch.zeros(3, 12, dtype=torch.int64), torch.zeros(3, 12, dtype=torch.bool)
    for i, row in enumerate(rows):
        at = slice(0, row.shape[1]) if side == "right" else slice(12 - row.shape[1], 12)
        ids[i, at], mask[i, at] = row[0], True
    logits = model(ids, mask=mask)
    assert torch.isfinite(logits).all()
    for i, row in enumerate(rows):
        torch.testing.assert_close(logits[i][mask[i]], model(row)[0], **TIGHT)
    if side == "left":  # the test bites: without a mask the padding is seen
        assert not torch.allclose(model(ids)[0, -3:], model(rows[0])[0], atol=1e-2)


def test_rows_of_nothing_but_padding_give_no_nan_and_no_gradient(make_model, draw_ids):
    model = make_model().train()
    ids = draw_ids(2, 6)
    mask = torch.tensor([[True] * 6, [False] * 6])
    logits = model(ids, mask=mask)
    assert torch.isfinite(logits).all()
    logits[0].logsumexp(-1).sum().backward()
    both = {name: p.grad.clone() for name, p in model.named_parameters()}
    assert all(torch.isfinite(grad).all() for grad in both.values())
    model.zero_grad()
    model(ids[:1])[0].logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(both[name], parameter.grad, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("chunks", [[1] * 20, [20], [7, 1, 1, 11], [13, 7]])
@pytest.mark.parametrize("group", [1, 3])
def test_cached_reading_equals_one_pass_for_any_chunking(make_model, draw_ids, chunks, group):
    model = make_model(group=group)
    ids = draw_ids(2, 20)
    cache = KVCache(model.config, 2, 24)
    parts = [model(part, cache=cache) for part in ids.split(chunks, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), model(ids), **TIGHT)
    assert cache.lengths.tolist() == [20, 20]


@pytest.mark.parametrize("side", ["left", "right"])
def test_ragged_rows_decode_as_alone(make_model, draw_ids, side):
    model, sizes = make_model(), (3, 9, 6)
    whole = [draw_ids(1, size + 5, seed=size) for size in sizes]
    ids, mask = torch.zeros(3, 9, dtype=torch.int64), torch.zeros(3, 9, dtype=torch.bool)
    for i, size in enumerate(sizes):
        at = slice(0, size) if side == "right" else slice(9 - size, 9)
        ids[i, at], mask[i, at] = whole[i][0, :size], True
    cache = KVCache(model.config, 3, 16)
    prefill = model(ids, mask=mask, cache=cache)
    assert cache.lengths.tolist() == list(sizes)
    steps = []
    for step in range(5):
        column = torch.stack([row[0, size + step] for row, size in zip(whole, sizes, strict=True)])
        steps.append(model(column[:, None], cache=cache))
    for i, row in enumerate(whole):
        got = torch.cat([prefill[i][mask[i]], *(step[i] for step in steps)])
        torch.testing.assert_close(got, model(row)[0], **TIGHT)


def test_a_finished_row_can_be_masked_while_others_go_on(make_model, draw_ids):
    model, ids = make_model(), draw_ids(2, 8)
    cache = KVCache(model.config, 2, 10)
    model(ids[:, :5], cache=cache)
    model(ids[:, 5:6], cache=cache, mask=torch.tensor([[True], [False]]))
    assert cache.lengths.tolist() == [6, 5]
    last = model(ids[:, 6:7], cache=cache, mask=torch.tensor([[True], [False]]))
    torch.testing.assert_close(last[0, 0], model(ids[:1, :7])[0, -1], **TIGHT)


def test_going_back_in_the_cache_leaves_no_trace(make_model, draw_ids):
    model, ids = make_model(), draw_ids(1, 12)
    cache = KVCache(model.config, 1, 32)
    model(draw_ids(1, 30, seed=5), cache=cache)
    cache.lengths[:] = 0
    first = model(ids[:, :8], cache=cache)
    model(draw_ids(1, 4, seed=6), cache=cache)
    cache.lengths[:] = 8
    both = torch.cat([first, model(ids[:, 8:], cache=cache)], 1)
    torch.testing.assert_close(both, model(ids), **TIGHT)


def test_a_full_cache_is_an_error_and_stays_usable(make_model, draw_ids):
    model = make_model()
    cache = KVCache(model.config, 1, 8)
    model(draw_ids(1, 6), cache=cache)
    with pytest.raises(ModelError, match=r"row 0: 6 tokens.*3 more.*8"):
        model(draw_ids(1, 3), cache=cache)
    assert cache.lengths.tolist() == [6]
    model(draw_ids(1, 2), cache=cache)


def test_positions_need_not_start_at_zero(make_model, draw_ids):
    model, ids = make_model(), draw_ids(1, 5)
    shifted = model(ids, positions=torch.arange(5, 10)[None])
    torch.testing.assert_close(shifted, model(ids), atol=1e-4, rtol=0)  # RoPE is relative
    stretched = model(ids, positions=torch.arange(0, 10, 2)[None])
    assert not torch.allclose(stretched, model(ids), atol=1e-2)


@pytest.mark.parametrize("ids", [torch.tensor([[1, 101]]), torch.tensor([[-1, 5]])])
def test_ids_outside_the_vocabulary_are_refused(make_model, ids):
    with pytest.raises(ModelError, match="vocabulary has 101"):
        make_model()(ids)


@pytest.mark.parametrize("norm_head", [False, True])
def test_loss_and_gradients_equal_the_plain_ones(make_model, draw_ids, norm_head):
    model = make_model(norm_head=norm_head)
    ids, labels = draw_ids(3, 19), draw_ids(3, 19, seed=4)
    labels[0, :7], labels[2] = -100, -100
    total, count = model.loss(ids, labels)
    assert count == 12 + 19
    total.backward()
    chunked = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    plain = functional.cross_entropy(model(ids).flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(total, plain, atol=1e-3, rtol=1e-5)
    plain.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(chunked[name], parameter.grad, atol=5e-4, rtol=1e-4)


def test_loss_over_nothing_is_zero_with_zero_gradients(make_model, draw_ids):
    model = make_model()
    total, count = model.loss(draw_ids(1, 4), torch.full((1, 4), -100))
    total.backward()
    assert (float(total.detach()), count) == (0.0, 0)
    assert not any(p.grad.abs().any() for p in model.parameters() if p.grad is not None)


def test_normalised_head_ignores_the_rows_lengths(make_model, draw_ids):
    model, ids = make_model(norm_head=True), draw_ids(1, 9)
    before = model(ids)
    with torch.no_grad():
        model.output.weight.mul_(torch.linspace(0.5, 3, 101)[:, None])
    torch.testing.assert_close(model(ids), before, **TIGHT)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_recomputed_activations_give_the_same_gradients(make_model, draw_ids, share):
    model = make_model().train()
    ids, labels = draw_ids(1, 30), draw_ids(1, 30, seed=2)
    model.loss(ids, labels, cu_seqlens=bounds(12, 18))[0].backward()
    kept = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.activation_checkpointing = share
    model.loss(ids, labels, cu_seqlens=bounds(12, 18))[0].backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(kept[name], parameter.grad)


def test_bf16_stays_near_fp32(make_model, draw_ids):
    model, ids = make_model(initializer_range=0.02), draw_ids(1, 40)
    cut = bounds(25, 15)
    wide = model(ids, cu_seqlens=cut).detach()
    narrow = model.to(torch.bfloat16)(ids, cu_seqlens=cut).detach().float()
    assert (narrow - wide).abs().max() < 0.03 * wide.abs().max()
    model.loss(ids, ids, cu_seqlens=cut)[0].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_initial_weights_follow_the_seed_and_the_published_scheme(make_config):
    config = make_config(
        width=32, num_hidden_layers=4, intermediate_size=512, initializer_range=0.02
    )
    torch.manual_seed(0)
    first = InternLM2(config, seed=7)
    torch.manual_seed(1)
    again, other = InternLM2(config, seed=7), InternLM2(config, seed=8)
    for (name, a), b, c in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert name.endswith("norm.weight") or not torch.equal(a, c)
    for layer in range(4):
        std = 0.02 / (2 * (layer + 1)) ** 0.5
        block = first.layers[layer]
        assert block.attention.wo.weight.std().item() == pytest.approx(std, rel=0.05)
        assert block.feed_forward.w2.weight.std().item() == pytest.approx(std, rel=0.05)
        assert block.attention.wqkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (first.norm.weight == 1).all()


def test_parameter_names_are_the_published_ones(make_model):
    names = {name for name, _ in make_model().named_parameters()}
    layer = {
        "attention.wqkv",
        "attention.wo",
        "feed_forward.w1",
        "feed_forward.w2",
        "feed_forward.w3",
        "attention_norm",
        "ffn_norm",
    }
    assert names == {"tok_embeddings.weight", "norm.weight", "output.weight"} | {
        f"layers.{i}.{part}.weight" for i in range(2) for part in layer
    }
