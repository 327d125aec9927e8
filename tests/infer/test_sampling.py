"""Draws have the right frequencies, and stop texts are found however the text is cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from internlm_core.errors import InferError
from internlm_core.infer import SamplingParams
from internlm_core.infer.sampling import Sampler, candidates
from internlm_core.infer.text import StopMatcher

LOGITS = np.array([1.0, 3.0, 2.0, -1.0, 2.5], np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    y = np.exp(x - x.max())
    return y / y.sum()


def frequencies(params: SamplingParams, draws: int = 6000) -> np.ndarray:
    sampler = Sampler(params)
    return np.bincount([sampler.pick(LOGITS) for _ in range(draws)], minlength=5) / draws


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    wanted = softmax(LOGITS / temperature)
    found = frequencies(SamplingParams(temperature=temperature, seed=0))
    # Five standard deviations of a frequency over 6,000 draws.
    assert (np.abs(found - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / 6000)).all()


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    assert set(np.flatnonzero(frequencies(SamplingParams(temperature=1, top_k=2, seed=1)))) == {
        1,
        4,
    }
    probabilities = softmax(LOGITS)
    two = float(probabilities[1] + probabilities[4])
    for top_p, kept in [
        (two - 0.01, {1, 4}),
        (two + 0.01, {1, 4, 2}),
        (1e-9, {1}),
        (1.0, set(range(5))),
    ]:
        ids, _ = candidates(LOGITS, 1.0, 0, top_p)
        assert set(ids.tolist()) == kept
    ids, _ = candidates(LOGITS, 1.0, 3, 0.5)
    assert ids.tolist() == [1]  # top-k first, top-p on what it leaves


def test_temperature_zero_is_greedy_whatever_the_seed() -> None:
    assert {Sampler(SamplingParams(seed=s)).pick(LOGITS) for s in range(5)} == {1}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_refused(temperature: float) -> None:
    with pytest.raises(InferError, match="not numbers"):
        Sampler(SamplingParams(temperature=temperature)).pick(np.full(4, np.nan, np.float32))


@given(
    text=st.text("abc", max_size=30),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 30), max_size=8),
)
def test_any_cutting_finds_the_same_stop(text: str, stops: list[str], cuts: list[int]) -> None:
    bounds = sorted({0, len(text), *(min(c, len(text)) for c in cuts)})
    matcher = StopMatcher(stops)
    shown = "".join(matcher.push(text[a:b]) for a, b in itertools.pairwise(bounds))
    held = matcher.flush()
    places = [at for stop in stops if (at := text.find(stop)) >= 0]
    if matcher.found is None:
        assert not places
        assert shown + held == text
    else:
        # Fed in pieces, a stop that is complete earlier wins over one that merely starts earlier.
        assert text[len(shown) :].startswith(matcher.found)
        assert not any(stop in shown for stop in stops)
        assert held == ""


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e300])
def test_temperatures_at_the_ends(temperature: float) -> None:
    logits = np.array([1.0, 3.0, -np.inf, 2.0], np.float32)
    ids, weights = candidates(logits, temperature)
    assert np.isfinite(weights).all()
    assert 1 in ids
    assert 2 not in ids
    assert len(ids) == (1 if temperature < 1 else 3)
