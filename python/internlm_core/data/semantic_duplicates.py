"""Semantic near-duplicates: documents whose embeddings point the same way, within clusters.

Source: Abbas et al. 2023, "SemDeDup", arXiv:2303.09540: k-means over the embeddings, then pairs by
cosine within each cluster. Here, as with shingles, each removed document has a kept one at the
threshold or above; chains do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import Field

from internlm_core import _core
from internlm_core._config import Config, load_config
from internlm_core.data.dedup_input import keep_keys, text_frame
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

__all__ = ["SemanticDedupConfig", "dedup_semantic", "k_means"]

_ROWS = 1024
"""Rows that are compared at once: the block of similarities has a few megabytes."""


class SemanticDedupConfig(Config):
    """When two embeddings are of one document."""

    threshold: float = Field(0.95, gt=0, le=1)
    """Smallest cosine. It depends on the model: look at pairs near it before you trust it."""
    clusters: int | None = Field(None, ge=1)
    """Clusters of k-means. None: one for every 5,000 documents, so that up to 10,000 are all compared
    with each other. Pairs that fall into two clusters are not found."""
    iterations: int = Field(20, ge=1)
    """Most rounds of k-means."""
    seed: int = Field(1, ge=0, lt=2**63)
    """Fixes where k-means starts."""


def dedup_semantic(
    data: pl.Series | pl.DataFrame | pl.LazyFrame | Sequence[str] | Any,
    embeddings: npt.NDArray[np.floating[Any]] | Callable[[list[str]], Any],
    threshold: float = 0.95,
    *,
    clusters: int | None = None,
    iterations: int = 20,
    seed: int = 1,
    batch_rows: int = 1024,
    threads: int = 0,
) -> pl.DataFrame:
    """Find documents that mean the same, by the cosine of their embeddings.

    Of duplicates the one stays that `dedup` would keep. The outcome is the same for any order of
    rows, up to the last bits of sums of floats.

    Args:
        data: As for `dedup`, but for paths.
        embeddings: `[documents, dimensions]`, in row order; or what makes them of a list of texts
            (`model.encode` of sentence-transformers, model2vec and others). Length does not count;
            a row of zeros is like nothing.
        threshold: See `SemanticDedupConfig`, as for `clusters`, `iterations` and `seed`.
        clusters: Clusters of k-means.
        iterations: Most rounds of k-means.
        seed: Fixes where k-means starts.
        batch_rows: Texts a call of `embeddings`.
        threads: For the keep order; products of matrices take those of numpy.

    Returns:
        One row a document, in input order: `id`, `cluster`, `keep`, `cosine` (to `duplicate_of`),
        `duplicate_of`; the last two are null where the document is kept.

    Raises:
        ConfigError: A setting is out of range.
        DataError: The embeddings are not one row of finite numbers a document.
    """
    config = load_config(
        SemanticDedupConfig,
        {"threshold": threshold, "clusters": clusters, "iterations": iterations, "seed": seed},
    )
    frame = text_frame(data)
    vectors = _unit_rows(_embed(frame["text"], embeddings, max(1, batch_rows)), frame.height)
    rank = _core.dedup_keep_order(frame["text"], keep_keys(frame), threads)
    order = np.argsort(rank)
    # In keep order, so that neither clusters nor greedy choice depend on the input's.
    ordered = vectors[order]
    there = np.flatnonzero(ordered.any(axis=1))
    count = config.clusters or max(1, len(there) // 5_000)
    count = (
        1 if config.clusters is None and len(there) <= 10_000 else min(count, max(1, len(there)))
    )
    labels = k_means(ordered[there], count, iterations=config.iterations, seed=config.seed)
    target = np.arange(len(order))
    cosine = np.full(len(order), np.nan)
    for label in range(count):
        rows = there[labels == label]
        _greedy(ordered, rows, config.threshold, target, cosine)
    row_of, value = np.empty(len(order), np.int64), np.empty(len(order))
    row_of[order], value[order] = order[target], cosine
    ids, keep = frame["id"], pl.Series(row_of == np.arange(len(order)), dtype=pl.Boolean)
    return pl.DataFrame(
        {
            "id": ids,
            "cluster": ids.gather(row_of),
            "keep": keep,
            "cosine": pl.Series(value).set(keep, None),
            "duplicate_of": ids.gather(pl.Series(row_of).set(keep, None)),
        }
    )


def k_means(
    vectors: npt.NDArray[np.float32], clusters: int, *, iterations: int = 20, seed: int = 1
) -> npt.NDArray[np.int64]:
    """Cluster of each row, by cosine (spherical k-means); the same for the same rows and seed.

    Starts from `clusters` rows that a PCG64 generator picks. A cluster that runs empty takes the row
    that lies farthest from its own centre.

    Args:
        vectors: `[rows, dimensions]`, each of length 1.
        clusters: How many.
        iterations: Most rounds; it ends earlier when no row moves.
        seed: Fixes the start.
    """
    labels = np.zeros(len(vectors), np.int64)
    if clusters < 2 or len(vectors) < 2:
        return labels
    start = np.random.Generator(np.random.PCG64(seed)).permutation(len(vectors))[:clusters]
    centres = vectors[np.sort(start)]
    for round_ in range(iterations):
        before, best = labels, np.empty(len(vectors), np.float32)
        labels = np.empty(len(vectors), np.int64)
        for first in range(0, len(vectors), _ROWS):
            near = vectors[first : first + _ROWS] @ centres.T
            labels[first : first + _ROWS] = near.argmax(axis=1)
            best[first : first + _ROWS] = near.max(axis=1)
        if round_ and np.array_equal(before, labels):
            break
        centres = np.zeros_like(centres)
        np.add.at(centres, labels, vectors)
        empty = np.flatnonzero(~centres.any(axis=1))
        centres[empty] = vectors[np.argsort(best, kind="stable")[: len(empty)]]
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    return labels


def _greedy(
    vectors: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    threshold: float,
    target: npt.NDArray[np.int64],
    cosine: npt.NDArray[np.float64],
) -> None:
    """Enter for rows of one cluster, in keep order, the nearest kept row at the threshold."""
    kept = np.empty(0, np.int64)
    for first in range(0, len(rows), _ROWS):
        block = rows[first : first + _ROWS]
        near = vectors[block] @ vectors[kept].T if len(kept) else np.empty((len(block), 0))
        within = vectors[block] @ vectors[block].T
        new: list[int] = []
        for place in range(len(block)):
            choices = np.concatenate([near[place], within[place, new]])
            best = int(choices.argmax()) if len(choices) else -1
            # Rounding makes the cosine of equal rows 1 less a few bits.
            if best >= 0 and choices[best] >= threshold - 1e-6:
                own = best - len(kept)
                target[block[place]] = kept[best] if own < 0 else block[new[own]]
                cosine[block[place]] = min(1.0, float(choices[best]))
            else:
                new.append(place)
        kept = np.concatenate([kept, block[new]])


def _embed(texts: pl.Series, embeddings: Any, batch_rows: int) -> npt.NDArray[Any]:
    if not callable(embeddings):
        return np.asarray(embeddings)
    filled = texts.fill_null("")
    batches = [
        np.asarray(embeddings(filled[start : start + batch_rows].to_list()))
        for start in range(0, len(filled), batch_rows)
    ]
    sizes = {batch.shape[1:] for batch in batches}
    if len(sizes) > 1:
        raise DataError(f"embeddings of several shapes: {sorted(sizes)}")
    return np.concatenate(batches) if batches else np.empty((0, 1))


def _unit_rows(vectors: npt.NDArray[Any], documents: int) -> npt.NDArray[np.float32]:
    if vectors.ndim != 2 or len(vectors) != documents:
        raise DataError(
            f"embeddings must be one row for each of {documents} documents, their shape is "
            f"{vectors.shape}"
        )
    try:
        numbers: npt.NDArray[np.float32] = vectors.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"embeddings must be numbers: {error}") from None
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if len(bad):
        raise DataError(f"the embedding of row {bad[0]} is not finite ({len(bad)} such rows)")
    # By the largest part first, whose square may be beyond what the type holds.
    largest = np.abs(numbers).max(axis=1, keepdims=True, initial=0)
    scaled = numbers / np.where(largest > 0, largest, np.float32(1))
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return (scaled / np.where(lengths > 0, lengths, 1)).astype(np.float32)
