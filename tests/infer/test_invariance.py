"""An answer depends on its prompt and its settings alone, to the last bit in fp32."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from internlm_core._core import CpuMatrix
from internlm_core.infer import Completion, Engine, SamplingParams
from internlm_core.infer.cpu_runner import CpuRunner
from internlm_core.infer.runner import PAGE, Batch, Result, Segment
from internlm_core.infer.torch_runner import TorchRunner
from internlm_core.model import InternLM2, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable

RNG = np.random.default_rng(11)
SHARED = RNG.integers(0, 300, 3 * PAGE).tolist()
PROMPTS = [
    [5, 6, 7],
    RNG.integers(0, 300, 61).tolist(),
    [*SHARED, 9],
    [*SHARED, 8, 7, 6],
    SHARED,
    [4] * 17,
    RNG.integers(0, 300, 2 * PAGE).tolist(),
]


def model(group: int = 3, width: int = 8, **changes: Any) -> InternLM2:
    config = ModelConfig(
        vocab_size=341,
        hidden_size=40,
        num_hidden_layers=3,
        num_attention_heads=2 * group,
        num_key_value_heads=2,
        head_dim=width,
        intermediate_size=72,
        initializer_range=0.3,
        eos_token_id=None,
        max_position_embeddings=256,
        dtype="float32",
        **changes,
    )
    return InternLM2(config, seed=3)


@pytest.fixture(scope="module")
def small() -> InternLM2:
    return model()


def run(engine: Engine, **settings: Any) -> list[Completion]:
    return engine.generate(PROMPTS, **({"max_tokens": 30} | settings))


def assert_same(found: list[Completion], wanted: list[Completion]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.log_probs, other.log_probs)


@pytest.fixture(scope="module")
def alone(small: InternLM2) -> list[Completion]:
    """Each prompt in an engine of its own, which has read nothing before."""
    return [Engine(small).generate([prompt], max_tokens=30)[0] for prompt in PROMPTS]


def test_it_is_the_models_own_answer(small: InternLM2, alone: list[Completion]) -> None:
    for prompt, answer in zip(PROMPTS, alone, strict=True):
        ids = [*prompt, *answer.ids]
        with torch.no_grad():
            scores = small(torch.tensor([ids]))[0].log_softmax(-1)[len(prompt) - 1 : -1]
        assert scores.argmax(-1).tolist() == list(answer.ids)
        best = scores.max(-1).values.numpy()
        np.testing.assert_allclose(answer.log_probs, best, atol=2e-5)


def test_in_company(small: InternLM2, alone: list[Completion]) -> None:
    engine = Engine(small)
    assert_same(run(engine), alone)
    assert engine.load["used"] == 0


@pytest.mark.parametrize("step_tokens", [1, 7, 16, 50])
def test_prompts_read_in_parts(small: InternLM2, alone: list[Completion], step_tokens: int) -> None:
    assert_same(run(Engine(small, step_tokens=step_tokens)), alone)


def test_prefix_found(small: InternLM2, alone: list[Completion]) -> None:
    engine = Engine(small)
    run(engine)
    again = run(engine)
    assert_same(again, alone)
    # All full blocks but the last token's come from the cache.
    assert [a.cached_tokens for a in again] == [(len(p) - 1) // PAGE * PAGE for p in PROMPTS]
    without = Engine(small, prefix_cache=False)
    assert_same(run(without), alone)
    assert {a.cached_tokens for a in run(without)} == {0}


def test_stepping_back_and_reading_again(small: InternLM2, alone: list[Completion]) -> None:
    engine = Engine(small, cache_tokens=PAGE * 9, step_tokens=20)
    assert_same(run(engine), alone)
    assert engine.stats.preemptions > 0
    assert engine.load["used"] == 0


def test_draws_too(small: InternLM2) -> None:
    settings: dict[str, Any] = {
        "temperature": 1.0,
        "top_p": 0.9,
        "min_p": 0.01,
        "seed": 5,
        "repetition_penalty": 1.2,
        "frequency_penalty": 0.3,
        "logit_bias": {7: 2.0},
    }
    wanted = [Engine(small).generate([p], max_tokens=30, **settings)[0] for p in PROMPTS]
    tight = Engine(small, cache_tokens=PAGE * 9, step_tokens=20)
    assert_same(run(tight, **settings), wanted)
    assert tight.stats.preemptions > 0


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "int8"])
def test_with_a_rounded_cache(small: InternLM2, kv_dtype: str) -> None:
    wanted = [Engine(small, kv_dtype=kv_dtype).generate([p], max_tokens=30)[0] for p in PROMPTS]
    tight = Engine(small, kv_dtype=kv_dtype, cache_tokens=PAGE * 9, step_tokens=20)
    assert_same(run(tight), wanted)
    assert tight.stats.preemptions > 0


@pytest.mark.parametrize("weights", ["bfloat16", "int8", "int4"])
def test_with_rounded_weights(small: InternLM2, weights: str) -> None:
    this, settings = small, {"weights": weights}
    if weights == "bfloat16":
        this, settings = model().bfloat16(), {}
    wanted = [Engine(this, **settings).generate([p], max_tokens=9)[0] for p in PROMPTS]
    tight = Engine(this, step_tokens=20, cache_tokens=PAGE * 9, threads=3, **settings)
    assert_same(run(tight, max_tokens=9), wanted)
    assert tight.stats.preemptions > 0


def test_any_number_of_threads(small: InternLM2, alone: list[Completion]) -> None:
    for threads in (1, 3):
        assert_same(run(Engine(small, threads=threads)), alone)


class _Broken:
    """A runner whose block tables are disturbed: the control of all the above."""

    def __init__(self, inner: CpuRunner, disturb: Callable[[list[int]], list[int]]) -> None:
        self._inner, self._disturb = inner, disturb

    def step(self, batch: Batch) -> Result:
        changed = [Segment(s.start, s.count, self._disturb(s.table)) for s in batch.segments]
        return self._inner.step(dataclasses.replace(batch, segments=changed))


def _one_twice(table: list[int]) -> list[int]:
    # Two blocks changing places would do nothing: keys carry their positions.
    return [table[-1], *table[1:]]


@pytest.mark.parametrize("disturb", [_one_twice, lambda table: [0] * len(table)])
def test_a_broken_block_table_is_noticed(
    small: InternLM2, alone: list[Completion], disturb: Callable[[list[int]], list[int]]
) -> None:
    inner = CpuRunner(small.config, small.state_dict(), blocks=99, session_length=256)
    broken = Engine(small, runner=_Broken(inner, disturb), cache_tokens=99 * PAGE)
    found = broken.generate(PROMPTS, max_tokens=30)
    assert [a.ids for a in found] != [a.ids for a in alone]


@pytest.mark.parametrize(
    ("group", "width", "changes"),
    [
        (1, 8, {}),
        (6, 16, {}),
        (4, 24, {"qkv_bias": True, "bias": True, "mlp_bias": True}),
        (2, 96, {}),
        (2, 128, {"norm_head": True}),
        (2, 32, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
        (2, 32, {"rope_scaling": {"type": "linear", "factor": 3.0}}),
    ],
)
def test_the_decoder_is_torchs_model(group: int, width: int, changes: dict[str, Any]) -> None:
    """Scores of a whole text, read in parts over pages, against the plain forward pass."""
    this = model(group, width, **changes)
    with torch.no_grad():
        for name, parameter in this.named_parameters():
            if name.endswith(("bias", "norm.weight")):
                parameter.normal_(0.5, 0.3, generator=torch.Generator().manual_seed(1))
    ids = RNG.integers(0, 341, 300).tolist()
    length = 320  # beyond what it was trained for: dynamic scaling has work to do
    with torch.no_grad():
        logits = this(torch.tensor([ids]), session_length=length)[0].log_softmax(-1)
    wanted = logits[range(len(ids) - 1), ids[1:]].numpy()
    ours = Engine(this, session_length=length, step_tokens=70)
    plain = TorchRunner(this, blocks=40, session_length=length)
    torchs = Engine(this, session_length=length, runner=plain, cache_tokens=40 * PAGE)
    for engine in (ours, torchs):
        np.testing.assert_allclose(engine.score([ids])[0], wanted, atol=1e-3, rtol=1e-4)
    if changes.get("rope_scaling", {}).get("type") == "dynamic":
        other = Engine(this, session_length=301, step_tokens=70).score([ids])[0]
        assert np.abs(other - wanted).max() > 1e-2  # the control: another session is noticed


@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (31, 5), (33, 128), (96, 300), (64, 129)])
def test_products_of_rows_alone_and_together(outputs: int, inputs: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(outputs, inputs)).astype(np.float32)
    x = rng.normal(size=(37, inputs)).astype(np.float32)
    matrix = CpuMatrix.f32(weight)
    whole = matrix.product(x).reshape(37, outputs)
    np.testing.assert_allclose(whole, x.astype(np.float64) @ weight.T, atol=1e-4)
    for rows in (1, 2, 3, 5, 8, 9, 20):
        np.testing.assert_array_equal(matrix.product(x[:rows]).reshape(rows, -1), whole[:rows])


def test_n_answers_share_their_prompt(small: InternLM2) -> None:
    engine = Engine(small)
    settings = SamplingParams(max_tokens=12, temperature=1.0, seed=40, n=4)
    answers = engine.generate([PROMPTS[1]], settings)
    assert [a.index for a in answers] == [0, 1, 2, 3]
    for i, answer in enumerate(answers):
        [one] = engine.generate([PROMPTS[1]], max_tokens=12, temperature=1.0, seed=40 + i)
        assert one.ids == answer.ids
    assert len({a.ids for a in answers}) == 4


def test_a_shared_prefix_is_read_once(small: InternLM2) -> None:
    rng = np.random.default_rng(2)
    prefix = rng.integers(0, 300, 8 * PAGE).tolist()
    prompts = [[*prefix, *rng.integers(0, 300, 5).tolist()] for _ in range(20)]
    engine = Engine(small)
    engine.generate(prompts, max_tokens=2)
    # All came at once, and still only the first read what they share.
    assert engine.stats.prefill_tokens == 8 * PAGE + 20 * 5
    assert engine.stats.cached_tokens == 19 * 8 * PAGE
