"""Handles, cancelling, prescribed forms, log-probabilities, and what is refused."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from internlm_core.errors import CheckpointError, InferError, InternlmError, ModelError
from internlm_core.infer import Engine, Event, SamplingParams
from internlm_core.infer.runner import Batch, Result
from internlm_core.infer.sampling import Sampler, candidates
from internlm_core.model import InternLM2, save

if TYPE_CHECKING:
    from pathlib import Path

    from internlm_core.tokenizer import Tokenizer


def test_many_threads_submit(engine: Engine) -> None:
    wanted = {i: engine.generate([[i, i + 1]], max_tokens=8)[0].ids for i in range(12)}
    found: dict[int, tuple[int, ...]] = {}

    def ask(i: int) -> None:
        events = list(engine.submit([i, i + 1], max_tokens=8, request_id=f"r{i}"))
        assert {event.request_id for event in events} == {f"r{i}"}
        found[i] = tuple(token for event in events for token in event.token_ids)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


def test_async_reading(engine: Engine) -> None:
    async def one(prompt: list[int], count: int) -> list[Event]:
        return [event async for event in engine.submit(prompt, max_tokens=count)]

    async def both() -> list[list[Event]]:
        return await asyncio.gather(one([5], 6), one([6, 7], 9))

    for events, count, prompt in zip(asyncio.run(both()), (6, 9), ([5], [6, 7]), strict=True):
        assert [event.finish_reason for event in events] == [None] * (count - 1) + ["length"]
        assert events[-1].prompt_tokens == len(prompt)
        [wanted] = engine.generate([prompt], max_tokens=count)
        assert "".join(event.text for event in events) == wanted.text


def settled(engine: Engine) -> bool:
    end = time.monotonic() + 60
    while engine.load["used"] or engine.load["running"] or engine.load["waiting"]:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_cancelling_frees_the_cache(random_model: InternLM2) -> None:
    engine = Engine(random_model, session_length=4000, max_batch=2)
    handles = [engine.submit([i], max_tokens=3000, n=2) for i in range(3)]
    first = iter(handles[0])
    next(first)
    assert engine.load["used"] > 0
    for handle in handles:
        handle.cancel()
    for handle in handles:
        last = {e.index: e for e in handle}
        assert {e.finish_reason for e in last.values()} == {"cancelled"}
        assert set(last) == {0, 1}
    assert settled(engine)
    # A stream that is left does the same.
    stream = engine.stream([5], max_tokens=3000, ignore_eos=True)
    engine_text = Engine(random_model)  # ids only: no text comes, so nothing but the end is told
    assert list(engine_text.stream([5], max_tokens=3))[-1].ids != ()
    del stream
    handle = engine.submit([5], max_tokens=3000)
    next(iter(handle))
    handle.cancel()
    assert settled(engine)


def test_a_stream_that_is_left_is_cancelled(engine: Engine) -> None:
    stream = engine.stream([5], max_tokens=200)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert settled(engine)


def test_closing_ends_everything(random_model: InternLM2) -> None:
    with Engine(random_model) as engine:
        handle = engine.submit([5], max_tokens=250)
    with pytest.raises(InferError, match="closed"):
        list(handle)
    with pytest.raises(InferError, match="closed"):
        engine.generate([[5]])


class _Failing:
    def __init__(self, size: int) -> None:
        self.size, self.calls = size, 0

    def step(self, batch: Batch) -> Result:
        self.calls += 1
        if self.calls == 1:
            raise ZeroDivisionError("of the runner")
        logits = np.full(
            (len(batch.rows), self.size), np.nan if 9 in batch.ids else 0.0, np.float32
        )
        return Result(logits, np.zeros(len(batch.rows), np.float32), np.zeros(0, np.float32))


def test_a_failure_is_told_and_the_engine_goes_on(random_model: InternLM2) -> None:
    engine = Engine(random_model.config, runner=_Failing(random_model.config.vocab_size))
    with pytest.raises(InferError, match="of the runner"):
        engine.generate([[1]], max_tokens=2)
    with pytest.raises(InferError, match="not numbers"):
        engine.generate([[9]], max_tokens=2)
    assert engine.generate([[1]], max_tokens=2)[0].ids == (0, 0)
    assert settled(engine)


def test_log_probabilities(engine: Engine, random_model: InternLM2) -> None:
    """Of the model, before anything that changes the draw; 0 asks for the written token alone."""
    settings = {"temperature": 1.5, "top_k": 5, "logit_bias": {3: 5.0}, "seed": 1}
    [answer] = engine.generate([[5, 6]], max_tokens=10, logprobs=4, **settings)  # type: ignore[arg-type]
    assert answer.logprobs is not None
    with torch.no_grad():
        scores = random_model(torch.tensor([[5, 6, *answer.ids]]))[0].log_softmax(-1)[1:-1]
    for row, token in zip(scores, answer.logprobs, strict=True):
        values, ids = row.topk(4)
        assert [i for i, _ in token.top] == ids.tolist()
        np.testing.assert_allclose([p for _, p in token.top], values, atol=1e-4)
        assert token.log_prob == pytest.approx(float(row[token.id]), abs=1e-4)
    [bare] = engine.generate([[5, 6]], max_tokens=2, logprobs=0)
    assert bare.logprobs is not None
    assert bare.logprobs[0].top == ()


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "n": {"type": "integer", "minimum": 0, "maximum": 99},
        "kind": {"enum": ["潮", "tide"]},
    },
    "required": ["name", "n", "kind"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "seed": 3}])
def test_prescribed_forms(engine: Engine, settings: dict[str, Any]) -> None:
    answers = engine.generate(["x", "the tide"], max_tokens=120, json_schema=SCHEMA, **settings)
    for answer in answers:
        value = json.loads(answer.text)
        assert set(value) == {"name", "n", "kind"}
        assert 0 <= value["n"] <= 99
        assert value["kind"] in ("潮", "tide")
        assert answer.finish_reason == "stop"
    expression = r"[a-c]{3}-\d+"
    [answer] = engine.generate("x", max_tokens=40, regex=expression, **settings)
    complete = answer.finish_reason == "stop"
    assert re.match(expression if complete else r"[a-c]{0,3}-?\d*", answer.text)
    [answer] = engine.generate("x", max_tokens=40, choice=["yes <|im_end|>", "no"], **settings)
    assert answer.text in ("yes <|im_end|>", "no")
    [answer] = engine.generate("x", max_tokens=9, json_schema=True, **settings)
    assert answer.text.startswith("{")


def test_a_form_holds_in_company_and_after_stepping_back(
    random_model: InternLM2, small_tokenizer: Tokenizer, engine: Engine
) -> None:
    # What comes last steps back: the prescribed one.
    settings = [SamplingParams(max_tokens=60), SamplingParams(max_tokens=60, json_schema=SCHEMA)]
    wanted = [engine.generate(p, s)[0] for p, s in zip("yx", settings, strict=True)]
    tight = Engine(random_model, small_tokenizer, cache_tokens=64, step_tokens=9)
    found = tight.generate(["y", "x"], settings)
    assert [a.ids for a in found] == [a.ids for a in wanted]
    assert tight.stats.preemptions > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"json_schema": {"type": "nonsense"}}, "json_schema: can't be used"),
        ({"json_schema": {"type": "string", "pattern": "(("}}, "json_schema: can't be used"),
        ({"regex": "(("}, "regex: can't be used"),
        ({"choice": []}, "choice"),
        ({"regex": "a", "choice": ["a"]}, "regex and choice: give one"),
        ({"min_p": 2}, "min_p=2"),
        ({"n": 0}, "n=0"),
        ({"seed": -1}, "seed=-1"),
        ({"repetition_penalty": 0}, "repetition_penalty=0"),
        ({"frequency_penalty": 3}, "frequency_penalty=3"),
        ({"logit_bias": {-1: 1.0}}, "ids run from -1"),
        ({"logit_bias": {9999: 1.0}}, "to 9999"),
        ({"logit_bias": {1: float("nan")}}, "not a number"),
        ({"stop_ids": [9999]}, "to 9999"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"tempature": 1}, "tempature"),
        ({"logprobs": -1}, "logprobs=-1"),
    ],
)
def test_bad_settings_are_named(engine: Engine, settings: dict[str, Any], words: str) -> None:
    with pytest.raises((InferError, ModelError), match=re.escape(words)):
        engine.generate("x", **settings)
    assert settled(engine)


def test_what_does_not_fit_is_refused(random_model: InternLM2, tmp_path: Path) -> None:
    small = Engine(random_model, cache_tokens=32)
    with pytest.raises(InferError, match="the cache holds 32"):
        small.generate([[5] * 20], max_tokens=20)
    with pytest.raises(InferError, match="the session 256"):
        small.score([[5] * 300])
    for settings, words in [
        ({"kv_dtype": "int3"}, "kv_dtype 'int3'"),
        ({"weights": "int5"}, "weights 'int5'"),
        ({"cache_tokens": 3}, "cache_tokens=3"),
        ({"max_batch": 0}, "max_batch=0"),
        ({"session_length": 1}, "session_length=1"),
    ]:
        with pytest.raises(InferError, match=words):
            Engine(random_model, **settings)  # type: ignore[arg-type]
    save(random_model, tmp_path)
    with pytest.raises(InferError, match="dtype 'float17'"):
        Engine.from_folder(tmp_path, dtype="float17")
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(CheckpointError):
        Engine.from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InternlmError, match=r"config\.json"):
        Engine.from_folder(tmp_path)


def test_penalties_bias_and_cuts() -> None:
    logits = np.array([2.0, 1.0, -1.0, 0.5], np.float32)

    def picks(count: int, **settings: Any) -> list[int]:
        sampler = Sampler(SamplingParams(**settings), prompt=[0])
        return [sampler.pick(logits) for _ in range(count)]

    # 2.0 / 4 = 0.5 for what the prompt has; then 1 is in the answer too, and 1.0 / 4 < 0.5.
    assert picks(3, repetition_penalty=4.0) == [1, 0, 0]
    assert picks(4, frequency_penalty=0.8) == [0, 0, 1, 3]
    assert picks(3, presence_penalty=1.2) == [0, 1, 0]
    assert picks(1, logit_bias={2: 100.0}) == [2]
    # min_p 0.3: e^(1 − 2) = 0.37 stays, e^(0.5 − 2) = 0.22 goes.
    assert candidates(logits, 1.0, min_p=0.3)[0].tolist() == [0, 1]
    assert candidates(logits, 2.0, min_p=0.3)[0].tolist() == [0, 1, 3]
    assert logits.tolist() == [2.0, 1.0, -1.0, 0.5]


def test_a_long_nucleus_is_exact() -> None:
    logits = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    weights = np.exp(logits.astype(np.float64) - logits.max())
    order = np.argsort(-weights, kind="stable")
    for top_p in (0.01, 0.3, 0.9, 0.999):
        before = np.cumsum(weights[order]) - weights[order]
        wanted = order[before < top_p * weights.sum()]
        assert candidates(logits, 1.0, 0, top_p)[0].tolist() == wanted.tolist()
