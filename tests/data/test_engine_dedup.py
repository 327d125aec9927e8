"""The steps that an engine runs give what `dedup` gives, however their rows are dealt out."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.data import DedupConfig, dedup
from internlm_core.data import engine_dedup as steps
from internlm_core.data.dedup_on_disk import dedup_streamed
from internlm_core.errors import DataError


def by_steps(
    frame: pl.DataFrame, config: DedupConfig, parts: int, seed: int = 0, by: str = "key"
) -> pl.DataFrame:
    """What an engine does: each step over every part of its input, parts made by one column."""
    frame = frame.sample(fraction=1, shuffle=True, seed=seed)
    pieces = [frame.slice(start, 97) for start in range(0, frame.height, 97)]
    table = [steps.read_table(piece.to_arrow()) for piece in pieces]

    def dealt(rows: pl.DataFrame, column: str) -> list[pl.DataFrame]:
        place = rows[column].reinterpret(signed=False) % parts
        return [part for number in range(parts) if (part := rows.filter(place == number)).height]

    signed = pl.concat([steps.sign(piece, config) for piece in table])
    rows = pl.concat([steps.first_rows(part) for part in dealt(signed, "low")])
    compared = rows.filter(pl.col("keys").is_not_null())
    members = compared.select(steps.nodes(compared["row"]), key="keys").explode("key")
    edges = [steps.bucket_edges(part) for part in dealt(members, by)]
    stars = steps.components(pl.concat(edges))
    labels = pl.concat([stars, stars.select(u="v", v="v").unique()]).sort("u")
    named = pl.concat([steps.named(piece) for piece in table])
    label = steps.lookup(steps.nodes(named["row"]), labels["u"].to_numpy(), labels["v"].to_numpy())
    compared = named.with_columns(label=label).filter(pl.col("label").is_not_null())
    gone = [steps.decide(part, config) for part in dealt(compared, "label")]
    return steps.finish(rows, pl.concat(gone))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clusters": "components", "unit": "text"},
        {"verify": "signature", "threshold": 0.6},
        {"max_memory": 1_000_000, "fold": False},
        {"bands": 42, "rows": 3, "max_candidates": 3},
    ],
)
def test_same_as_on_one_machine(mixed_corpus: pl.DataFrame, options: dict[str, Any]) -> None:
    want = dedup(mixed_corpus, **options).sort("id")
    assert 100 < (~want["keep"]).sum() < want.height - 100
    for parts in (1, 5):
        found = by_steps(mixed_corpus, DedupConfig(**options), parts, seed=parts)
        assert found.sort("id").equals(want)


def test_it_matters_that_keys_come_together(mixed_corpus: pl.DataFrame) -> None:
    want = dedup(mixed_corpus).sort("id")
    astray = by_steps(mixed_corpus, DedupConfig(), 5, by="node")
    assert astray["keep"].sum() > want["keep"].sum()


@pytest.mark.parametrize("kind", [pl.Int64, pl.UInt64, pl.Categorical])
def test_ids_of_any_kind(mixed_corpus: pl.DataFrame, kind: Any) -> None:
    numbers = pl.Series("id", random.Random(4).sample(range(10**6), mixed_corpus.height))
    ids = numbers.cast(pl.String).cast(kind) if kind == pl.Categorical else numbers.cast(kind)
    frame = mixed_corpus.with_columns(ids)
    found = by_steps(frame, DedupConfig(), 3).with_columns(pl.col("id").cast(pl.String))
    want = dedup(frame).with_columns(pl.col("id").cast(pl.String))
    columns = [pl.col("duplicate_of").cast(pl.String), pl.col("cluster").cast(pl.String)]
    assert found.with_columns(columns).sort("id").equals(want.with_columns(columns).sort("id"))


def test_rows_that_nothing_tells_apart_lose_all_but_one(mixed_corpus: pl.DataFrame) -> None:
    """Repeated ids cost no row: of equal rows one stays, and of empty ones all do."""
    again = pl.concat([mixed_corpus] * 3)
    with pytest.warns(UserWarning, match="repeat the id"):
        want = dedup(again)
    found = by_steps(again, DedupConfig(), 4)
    assert found.height == again.height
    order = ["id", "keep", "jaccard", "duplicate_of", "cluster"]
    assert found.select(order).sort(order).equals(want.select(order).sort(order))


def test_a_page_of_many_copies_is_carried_once(
    mixed_corpus: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they share an id, as records do whose id is a hash of the text, or have their own."""
    page = mixed_corpus.head(1)
    like = page.with_columns(text=pl.col("text") + " and a word", id=pl.lit("like"))
    own = pl.concat([page.with_columns(id=pl.lit(f"copy {n:03}")) for n in range(400)])
    frame = pl.concat([page] * 400 + [own, like, mixed_corpus[1:40]])
    signed = steps.sign(steps.read_table(frame.to_arrow()), DedupConfig())
    assert signed["keys"].null_count() >= 799
    carried = []

    def decide(rows: pl.DataFrame, config: DedupConfig) -> pl.DataFrame:
        carried.append(steps.distinct(rows).height)
        return decided(rows, config)

    decided = steps.decide
    monkeypatch.setattr(steps, "decide", decide)
    found = by_steps(frame, DedupConfig(), 3)
    assert sum(carried) < 10
    with pytest.warns(UserWarning, match="repeat the id"):
        want = dedup(frame)
    order = ["id", "keep", "jaccard", "duplicate_of", "cluster"]
    assert found.select(order).sort(order).equals(want.select(order).sort(order))


def test_a_component_beyond_memory_is_decided_on_disk(
    mixed_corpus: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = steps.named(steps.read_table(mixed_corpus.to_arrow()))
    pieces = [named[start : start + 97] for start in range(0, named.height, 97)]
    want = steps.decide(iter(pieces), DedupConfig()).sort("leader")
    on_disk = []

    def streamed(*given: Any) -> pl.DataFrame:
        on_disk.append(given[1].max_memory)
        return dedup_streamed(*given)

    monkeypatch.setattr(steps, "dedup_streamed", streamed)
    for bound in (1 << 30, 100_000):
        monkeypatch.setattr(steps, "IN_MEMORY", bound)
        assert steps.decide(iter(pieces), DedupConfig()).sort("leader").equals(want)
    assert on_disk == [100_000]
    assert want.height > 100


def test_an_id_is_asked_for() -> None:
    with pytest.raises(DataError, match="no column 'id'; the frame has text"):
        steps.read_table(pl.DataFrame({"text": ["a"]}).to_arrow())


def test_of_nothing() -> None:
    empty = steps.read_table(pl.DataFrame(schema={"id": pl.String, "text": pl.String}).to_arrow())
    signed = steps.sign(empty, DedupConfig())
    rows = steps.first_rows(signed)
    assert rows.height == 0
    no_edges = pl.DataFrame(schema={"u": pl.Int64, "v": pl.Int64})
    assert steps.components(no_edges).height == 0
    none = np.array([], np.int64)
    assert steps.lookup(pl.Series([1, 2], dtype=pl.Int64), none, none).null_count() == 2


def test_keys_of_two_bands_are_never_one() -> None:
    """A text of one word has the same slots in no two bands, and equal ones are still told apart."""
    frame = pl.DataFrame({"id": ["a"], "text": ["tide"]})
    keys = steps.sign(frame, DedupConfig(permutations=1, bands=1, rows=1))["keys"].to_list()[0]
    more = steps.sign(frame, DedupConfig(permutations=128, bands=128, rows=1))["keys"].to_list()[0]
    assert len(set(more)) == 128
    assert keys[0] == more[0]


# --- components -------------------------------------------------------------------------------------


def smallest(edges: list[tuple[int, int]]) -> dict[int, int]:
    """By hand: the smallest node that each one is joined with."""
    label = {node: node for edge in edges for node in edge}
    while True:
        before = dict(label)
        for u, v in edges:
            label[u] = label[v] = min(label[u], label[v])
        if label == before:
            return label


def check(edges: list[tuple[int, int]]) -> None:
    given_edges = pl.DataFrame(edges, schema={"u": pl.Int64, "v": pl.Int64}, orient="row")
    found = steps.components(given_edges)
    want = {node: label for node, label in smallest(edges).items() if node != label}
    assert dict(found.iter_rows()) == want
    assert found.height == len(want)


nodes = st.integers(-5, 12)


@given(st.lists(st.tuples(nodes, nodes).filter(lambda edge: edge[0] != edge[1]), max_size=30))
@settings(max_examples=60, deadline=None)
def test_components_as_by_hand(edges: list[tuple[int, int]]) -> None:
    check(edges)


def test_a_chain_of_ten_thousand_is_one_component() -> None:
    """No cap on the rounds, and few of them: a chain in any order is whole."""
    order = list(range(10_000))
    for seed in (None, 1):
        if seed is not None:
            random.Random(seed).shuffle(order)
        edges = pl.DataFrame({"u": order[1:], "v": order[:-1]})
        found = steps.components(edges)
        assert found.height == 9_999
        assert found["v"].unique().to_list() == [0]


def test_stars_are_known_to_be_stars_and_others_not() -> None:
    star = pl.DataFrame({"u": [1, 2, 3], "v": [0, 0, 0]})
    assert not steps.large_star(steps.both_ways(star))["open"].any()
    for u, v in ([1, 2], [0, 1]), ([2, 2], [0, 1]), ([2, 3, 3], [0, 0, 1]):
        opened = steps.large_star(steps.both_ways(pl.DataFrame({"u": u, "v": v})))
        assert opened["open"].any()


def test_a_crowd_costs_its_size() -> None:
    members = pl.DataFrame({"node": range(100_000), "key": [7] * 100_000})
    edges = steps.bucket_edges(members)
    assert edges.height == 99_999
    assert steps.components(edges).height == 99_999
