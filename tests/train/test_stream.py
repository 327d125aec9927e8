"""What is read when: every token once an epoch, mixtures on target, any place can be gone to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from internlm_core.errors import TrainError
from internlm_core.tokenizer import Shard
from internlm_core.train import PhaseConfig
from internlm_core.train.stream import IGNORE, Mixer, SourceOver, Stream, to_arrays

if TYPE_CHECKING:
    from collections.abc import Callable


def places(rows: list) -> Counter:
    """How often each token of the shard is in the rows."""
    return Counter(i for row in rows for _, a, b, _ in row.pieces.tolist() for i in range(a, b))


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    window=st.integers(2, 24),
    seed=st.integers(0, 5),
)
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_token_is_read_exactly_once_an_epoch(
    tmp_path: Path, write_shard: Callable[..., Path], sizes: list[int], window: int, seed: int
) -> None:
    documents = [np.arange(n) + 1 for n in sizes]
    shard = Shard.open(write_shard(tmp_path / f"{hash((*sizes, window, seed))}", documents))
    stream = Stream("s", [shard], window, (seed,))
    total = sum(sizes)
    for epoch in range(2):
        rows = []
        while stream.tokens < total * (epoch + 1):
            rows.append(stream.next())
        assert places(rows) == Counter(range(total))
        assert stream.epoch == epoch
        assert all(0 < row.tokens <= window for row in rows)
        ids, labels, bounds = to_arrays(rows, [shard])
        # Tokens count up within a document, so what follows i is i + 1, or nothing at its end.
        follows = labels != IGNORE
        assert (labels[follows] == ids[follows] + 1).all()
        assert (~follows).sum() == len(sizes)
        assert bounds[-1] == total


def test_epochs_differ_and_repeat_with_the_seed(shard: Path) -> None:
    opened = Shard.open(shard)

    def order(seed: int, rows: int = 300) -> list[list[int]]:
        stream = Stream("s", [opened], 32, (seed,))
        return [stream.next().pieces.tolist() for _ in range(rows)]

    first = order(1)
    assert first == order(1)
    assert first != order(2)
    per_epoch = next(
        n
        for n in range(1, 300)
        if sum(b - a for r in first[:n] for _, a, b, _ in r) == len_of(opened)
    )
    assert first[:per_epoch] != first[per_epoch : 2 * per_epoch]


def len_of(shard: Shard) -> int:
    return int(shard.n_tokens)


def test_any_place_can_be_gone_to(shard: Path) -> None:
    opened = Shard.open(shard)
    whole = Stream("s", [opened], 32, (7,))
    states, rows = [], []
    for _ in range(250):  # into the third epoch
        states.append(whole.state())
        rows.append(whole.next().pieces.tolist())
    assert whole.epoch >= 2
    for place in (0, 1, 77, 120, 199, 249):
        again = Stream("s", [opened], 32, (7,))
        again.load(states[place])
        assert [again.next().pieces.tolist() for _ in range(250 - place)] == rows[place:]


def phase(**values: object) -> PhaseConfig:
    return PhaseConfig.model_validate(
        {"tokens": 10, "sequence_length": 32, "batch_tokens": 32} | values
    )


@pytest.fixture
def two_sources(tmp_path: Path, write_shard: Callable[..., Path]) -> dict[str, list[Shard]]:
    """200 short documents of `a`, 100 longer ones of `b`."""
    rng = np.random.default_rng(1)
    return {
        "a": [Shard.open(write_shard(tmp_path / "a", [rng.integers(0, 97, 20)] * 200))],
        "b": [Shard.open(write_shard(tmp_path / "b", [rng.integers(0, 97, 90)] * 100))],
    }


def test_mixture_is_within_one_percent(two_sources: dict[str, list[Shard]]) -> None:
    mixer = Mixer(two_sources, phase(mixture={"a": 3, "b": 1}), 0, 1, 16)
    counts, rows = Counter(), []
    while mixer.tokens < 20_000:
        row = mixer.next()
        counts[row.source] += row.tokens
        rows.append((row.tokens, row.tokens if row.source == "a" else 0))
        # The shard numbers of a row are those of all sources together.
        assert {"a": {0}, "b": {1}}[row.source] == set(row.pieces[:, 0].tolist())
    assert counts["a"] / counts.total() == pytest.approx(0.75, abs=0.01)
    # Not on the whole alone: in any stretch of 200 rows, too.
    tokens, of_a = np.array(rows).cumsum(0).T
    shares = (of_a[200:] - of_a[:-200]) / (tokens[200:] - tokens[:-200])
    assert np.abs(shares - 0.75).max() < 0.01
    assert mixer.streams["a"].epoch >= 3  # 4,000 tokens an epoch: it ran out and started over


def test_without_a_mixture_everything_is_read_once(two_sources: dict[str, list[Shard]]) -> None:
    mixer = Mixer(two_sources, phase(on_exhausted="stop"), 0, 1, 16)
    counts = Counter()
    with pytest.raises(SourceOver):
        while True:
            counts.update(mixer.next().pieces[:, 0].tolist())
    assert mixer.tokens == mixer.epoch_tokens == 200 * 20 + 100 * 90
    assert set(counts) == {0, 1}


def test_short_fraction(two_sources: dict[str, list[Shard]]) -> None:
    """Half in pieces of up to 32 tokens of all documents, half in documents longer than that."""
    mixer = Mixer(
        two_sources, phase(short_fraction=0.5, sequence_length=64, batch_tokens=64), 0, 1, 32
    )
    tokens, owners, longest = Counter(), {}, Counter()
    while mixer.tokens < 20_000:
        row = mixer.next()
        tokens[row.source] += row.tokens
        owners.setdefault(row.source, set()).update(row.pieces[:, 0].tolist())
        size = int((row.pieces[:, 2] - row.pieces[:, 1]).max())
        longest[row.source] = max(longest[row.source], size)
    assert owners == {"all/short": {0, 1}, "all/long": {1}}
    assert longest == {"all/short": 32, "all/long": 64}
    assert tokens["all/short"] / tokens.total() == pytest.approx(0.5, abs=0.01)


def test_a_source_that_stops_is_announced_beforehand(two_sources: dict[str, list[Shard]]) -> None:
    mixer = Mixer(two_sources, phase(mixture={"a": 0.5, "b": 0.5}, on_exhausted="stop"), 0, 1, 16)
    assert mixer.until_exhausted() == 8_000  # a's 4,000 tokens are half of it


def test_unknown_and_empty_sources_are_named(two_sources: dict[str, list[Shard]]) -> None:
    with pytest.raises(TrainError, match="mixture names c; the shards have a, b"):
        Mixer(two_sources, phase(mixture={"a": 1, "c": 1}), 0, 1, 16)
    with pytest.raises(TrainError, match="no documents of 101 tokens or more"):
        Mixer(two_sources, phase(short_fraction=0.5), 0, 1, 100)


def test_supervised_flags_choose_the_labels(
    tmp_path: Path, write_shard: Callable[..., Path]
) -> None:
    flags = [np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1])]
    path = write_shard(tmp_path / "s", [np.array([5, 6, 7, 8, 9, 10]), np.array([3, 4])], flags)
    shard = Shard.open(path)
    stream = Stream("s", [shard], 4, (1,))  # the first document is cut inside its answer
    rows = []
    while stream.tokens < 8:
        rows.append(stream.next())
    ids, labels, _ = to_arrays(rows, [shard])
    assert sorted((i, n) for i, n in zip(ids.tolist(), labels.tolist(), strict=True) if n != IGNORE) == [
        (3, 4), (7, 8), (8, 9), (9, 10),
    ]  # fmt: skip


def test_the_parts_of_a_long_document_are_spread_over_the_epoch(
    tmp_path: Path, write_shard: Callable[..., Path]
) -> None:
    """A book of half the corpus must not fill whole batches: its parts are everywhere."""
    book, pages = np.zeros(20_000, np.int64), [np.ones(20, np.int64)] * 1000
    shard = Shard.open(write_shard(tmp_path / "s", [book, *pages]))
    stream = Stream("s", [shard], 32, (1,))
    shares = []
    for _ in range(40):
        rows = [stream.next() for _ in range(30)]
        ids, _, _ = to_arrays(rows, [shard])
        shares.append((ids == 0).mean())
    assert min(shares) > 0.2
    assert max(shares) < 0.8
