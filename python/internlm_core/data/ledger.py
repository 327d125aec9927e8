"""What became of each record: ledger rows, and counts by source, language and reason."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

__all__ = ["DECISION", "LEDGER", "Counts", "IdCheck", "ledger_rows", "undecided"]

DECISION: dict[str, type[pl.DataType]] = {
    "stage": pl.String,
    "reason": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
}
"""Why a record was dropped: the stage and its first reason; `stage` is null while it is kept."""

LEDGER: dict[str, type[pl.DataType]] = {
    "id": pl.String,
    "stage": pl.String,
    "decision": pl.String,
    "reason": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
}
"""Decisions are `edit` (value: how many edits, or by the metric how many characters they took out or
replaced), `drop`, and `keep` at the end."""


def undecided(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with empty decision columns."""
    return frame.with_columns(pl.lit(None, kind).alias(name) for name, kind in DECISION.items())


def ledger_rows(frame: pl.DataFrame, edits: Iterable[str] = ()) -> pl.DataFrame:
    """Ledger of decided records, in their order.

    Args:
        frame: Columns `id`, those of `DECISION`, and the edit columns.
        edits: Names of columns about edits, `stage.reason#metric`; the metric is `edits` where there
            is none (`normalise.line_end`, `normalise.line_end#characters`).
    """
    edits = list(edits)
    numbered = frame.with_row_index("row")
    final = numbered.select(
        "row",
        pl.lit(len(edits), pl.Int64).alias("order"),
        "id",
        pl.col("stage").fill_null("end"),
        pl.when(pl.col("stage").is_null()).then(pl.lit("keep")).otherwise(pl.lit("drop"))
        .alias("decision"),
        "reason", "metric", "value", "threshold",
    )  # fmt: skip
    parts = [final]
    for order, name in enumerate(edits):
        stage, _, reason = name.partition(".")
        reason, _, metric = reason.partition("#")
        parts.append(
            numbered.filter(pl.col(name) > 0).select(
                "row",
                pl.lit(order, pl.Int64).alias("order"),
                "id",
                pl.lit(stage).alias("stage"),
                pl.lit("edit").alias("decision"),
                pl.lit(reason).alias("reason"),
                pl.lit(metric or "edits").alias("metric"),
                pl.col(name).cast(pl.Float64).alias("value"),
                pl.lit(None, pl.Float64).alias("threshold"),
            )
        )
    return pl.concat(parts).sort("row", "order").select(list(LEDGER))


class Counts:
    """Documents and bytes by source, language, stage and reason, and rejected lines by reason."""

    def __init__(self) -> None:
        self._documents: Counter[tuple[str, str, str, str]] = Counter()
        self._bytes: Counter[tuple[str, str, str, str]] = Counter()
        self._rejected: Counter[tuple[str, str]] = Counter()
        self.faults: list[dict[str, Any]] = []
        self.rejected_records = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Count decided records."""
        keys = ("source", "lang", "stage", "reason")
        groups = frame.group_by(*keys).agg(
            pl.len().alias("documents"), pl.col("text").str.len_bytes().sum().alias("bytes")
        )
        for *key, documents, size in groups.iter_rows():
            where = tuple(part or "" for part in key)
            self._documents[where] += documents  # type: ignore[index]
            self._bytes[where] += size  # type: ignore[index]

    def add_rejected(self, entries: Iterable[dict[str, Any]]) -> None:
        """Count entries of `rejected/`."""
        for entry in entries:
            self._rejected[entry["file"], entry["reason"]] += 1
            self.rejected_records += entry["is_record"]
            if not entry["is_record"]:
                self.faults.append({key: entry[key] for key in ("file", "reason", "detail")})

    def rows(self) -> list[dict[str, Any]]:
        """One row a combination, sorted; an empty `stage` means kept."""
        return [
            dict(zip(("source", "lang", "stage", "reason"), key, strict=True))
            | {"documents": self._documents[key], "bytes": self._bytes[key]}
            for key in sorted(self._documents)
        ]

    def rejected_rows(self) -> list[dict[str, Any]]:
        """One row for each file and reason, sorted."""
        return [
            {"file": file, "reason": reason, "count": count}
            for (file, reason), count in sorted(self._rejected.items())
        ]

    def totals(self) -> dict[str, dict[str, int]]:
        """Documents and bytes that were kept and dropped."""
        totals = {"kept": {"documents": 0, "bytes": 0}, "dropped": {"documents": 0, "bytes": 0}}
        for key, documents in self._documents.items():
            side = totals["dropped" if key[2] else "kept"]
            side["documents"] += documents
            side["bytes"] += self._bytes[key]
        return totals


class IdCheck:
    """How many ids there were, and a sum over them that any loss or doubling would change.

    Args:
        repeats: Whether to count ids that come again, which takes eight bytes an id.
    """

    def __init__(self, *, repeats: bool = False) -> None:
        self.rows = self._sum = 0
        self._hashes: list[npt.NDArray[np.uint64]] | None = [] if repeats else None

    def add(self, ids: pl.Series) -> None:
        """Count `ids`."""
        hashes = ids.hash().to_numpy()
        self.rows += len(ids)
        self._sum = (self._sum + int(hashes.sum(dtype=np.uint64))) % (1 << 64)
        if self._hashes is not None:
            self._hashes.append(hashes)

    @property
    def repeated(self) -> int:
        """Records whose id another one had before."""
        if not self._hashes:
            return 0
        # Sorted in place, for a set of them would take several times their memory.
        hashes = np.concatenate(self._hashes)
        hashes.sort()
        return int((hashes[1:] == hashes[:-1]).sum())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdCheck) and (self.rows, self._sum) == (other.rows, other._sum)

    __hash__ = None  # type: ignore[assignment]
