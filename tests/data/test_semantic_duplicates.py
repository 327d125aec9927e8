"""Duplicates by embeddings: brute force, clusters, and input that is no embedding."""

from __future__ import annotations

from typing import Any

import internlm_core as ic
import numpy as np
import polars as pl
import pytest
from internlm_core.data.semantic_duplicates import k_means
from internlm_core.errors import ConfigError, DataError


def planted(documents: int, copies: int, seed: int = 1) -> tuple[pl.DataFrame, Any]:
    """Random directions, which are far apart, and copies of some of them with little noise."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(documents, 64))
    near = base[rng.integers(0, documents, copies)] + rng.normal(scale=0.05, size=(copies, 64))
    vectors = np.concatenate([base, near]).astype(np.float32)
    frame = pl.DataFrame(
        {
            "id": [f"d{n:05}" for n in range(len(vectors))],
            "text": ["x" * int(n) for n in rng.integers(1, 50, len(vectors))],
        }
    )
    return frame, vectors


def test_as_by_brute_force() -> None:
    frame, vectors = planted(1_500, 500)
    found = ic.data.dedup_semantic(frame, vectors, 0.95)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    lengths = frame["text"].str.len_chars()
    kept: list[int] = []
    for row in sorted(range(frame.height), key=lambda row: (-lengths[row], row)):
        if not any(cosine[row, other] >= 0.95 for other in kept):
            kept.append(row)
    assert found["keep"].arg_true().to_list() == sorted(kept)
    assert found["keep"].sum() == 1_500
    removed = found.filter(~pl.col("keep"))
    assert removed["cosine"].min() >= 0.95 - 1e-6
    assert set(removed["duplicate_of"]) <= set(found.filter("keep")["id"])
    assert found["cluster"].equals(found["duplicate_of"].fill_null(found["id"]).rename("cluster"))


def test_within_clusters_most_are_found_and_none_wrongly() -> None:
    frame, vectors = planted(1_500, 500)
    whole = ic.data.dedup_semantic(frame, vectors, 0.95)
    parts = ic.data.dedup_semantic(frame, vectors, 0.95, clusters=8)
    removed, wanted = (set(found.filter(~found["keep"])["id"]) for found in (parts, whole))
    assert removed <= wanted
    assert len(removed) > 0.9 * len(wanted)
    assert parts.equals(ic.data.dedup_semantic(frame, vectors, 0.95, clusters=8))


@pytest.mark.parametrize("clusters", [1, 6])
def test_any_order(clusters: int) -> None:
    frame, vectors = planted(300, 200)
    expected = ic.data.dedup_semantic(frame, vectors, clusters=clusters)
    order = np.random.default_rng(5).permutation(frame.height)
    shuffled = ic.data.dedup_semantic(frame[order], vectors[order], clusters=clusters).sort("id")
    columns = ["id", "cluster", "keep", "duplicate_of"]
    assert shuffled.select(columns).equals(expected.select(columns))


def test_chains_do_not_count() -> None:
    angles = np.radians([0, 15, 30, 45])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = ic.data.dedup_semantic(list("abcd"), vectors, 0.95)
    assert found["duplicate_of"].to_list() == [None, 0, None, 2]


def test_a_callable_by_batches() -> None:
    sizes = []

    def letters(texts: list[str]) -> list[list[int]]:
        sizes.append(len(texts))
        return [[text.count(c) for c in "abcdefgh"] for text in texts]

    texts = ["bad cab", "cab bad", "fed hedge", None, "..."]
    found = ic.data.dedup_semantic(pl.Series(texts), letters, 0.99, batch_rows=2)
    assert sizes == [2, 2, 1]
    assert found["duplicate_of"].to_list() == [None, 0, None, None, None]


def test_length_does_not_count() -> None:
    vectors = np.array([[1e30, 2e30], [1e-30, 2e-30], [2.0, -1.0], [0, 0], [0, 0]])
    assert ic.data.dedup_semantic(list("abcde"), vectors)["keep"].to_list() == [
        True,
        False,
        True,
        True,
        True,
    ]


def test_what_is_no_embedding() -> None:
    with pytest.raises(DataError, match=r"2 documents.*\(3, 4\)"):
        ic.data.dedup_semantic(["a", "b"], np.ones((3, 4)))
    with pytest.raises(DataError, match="row 1 is not finite"):
        ic.data.dedup_semantic(["a", "b"], np.array([[1.0, 1], [np.nan, 1]]))
    with pytest.raises(DataError, match="must be numbers"):
        ic.data.dedup_semantic(["a"], np.array([["x"]]))
    with pytest.raises(ConfigError, match="threshold"):
        ic.data.dedup_semantic(["a"], np.ones((1, 2)), 1.5)
    empty = ic.data.dedup_semantic(pl.Series([], dtype=pl.String), lambda _: np.empty((0, 2)))
    assert empty.height == 0


def test_k_means_has_no_empty_cluster_and_repeats() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(500, 8)).astype(np.float32)
    vectors[:400] = vectors[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = k_means(vectors, 10)
    assert np.array_equal(labels, k_means(vectors, 10))
    assert len(np.unique(labels[:400])) == 1
    assert len(np.unique(labels)) == 10
