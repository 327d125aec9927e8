"""What the repairs of a run did: counts by kind and a few places before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from internlm_core.data.map_stages import edit_columns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from internlm_core.report import Section

__all__ = ["EditSummary", "edits_section"]

_SAMPLES = 2
"""Samples of a kind."""
_BEFORE, _AFTER = 60, 140
"""Characters of a sample before and after the first difference."""


class EditSummary:
    """Records, edits and characters by stage and kind, with samples.

    The samples are those of the records with the fewest kinds of edit, then with the lowest ids:
    as good as drawn by lot, and the same however the records came in batches.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, before: pl.Series, frame: pl.DataFrame) -> None:
        """Count the edits of one part.

        Args:
            before: Texts as they were read.
            frame: The same records after the stages, in the same order, with edit columns.
        """
        counted = [name for name in edit_columns(frame) if "#" not in name]
        if not counted:
            return
        kinds = frame.select(pl.sum_horizontal(pl.col(counted) > 0).alias("kinds"))["kinds"]
        for name in counted:
            stage, _, kind = name.partition(".")
            chosen = (
                frame.select("id", pl.lit(kinds).alias("kinds"), pl.col(name).alias("edits"))
                .with_row_index("row").filter(pl.col("edits") > 0)
                .unique("id", keep="first", maintain_order=True)
                .bottom_k(_SAMPLES, by=["kinds", "id"]).sort("kinds", "id")
            )  # fmt: skip
            samples = [
                {"kinds": kinds_of, "id": id_, **_difference(before[row], frame[row, "text"])}
                for row, id_, kinds_of, _ in chosen.iter_rows()
            ]
            row = {
                "stage": stage,
                "kind": kind,
                "records": int((frame[name] > 0).sum()),
                "edits": int(frame[name].sum()),
                "characters": int(frame[f"{name}#characters"].sum()),
                "samples": samples,
            }
            self.merge([row])

    def merge(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add what `rows` of another summary gave."""
        for row in rows:
            own = self._rows.setdefault(
                (row["stage"], row["kind"]),
                {**row, "records": 0, "edits": 0, "characters": 0, "samples": []},
            )
            for what in ("records", "edits", "characters"):
                own[what] += row[what]
            both = {sample["id"]: sample for sample in [*row["samples"], *own["samples"]]}
            order = sorted(both.values(), key=lambda sample: (sample["kinds"], sample["id"]))
            own["samples"] = order[:_SAMPLES]

    def rows(self) -> list[dict[str, Any]]:
        """One row a stage and kind, sorted.

        Keys: `stage`, `kind`, `records`, `edits`, `characters` (taken out or replaced), `samples`
        (`id`, `before`, `after`).
        """
        return [self._rows[key] for key in sorted(self._rows)]


def _difference(before: str, after: str) -> dict[str, str]:
    """Both texts from a little before their first difference on."""
    low, high = 0, min(len(before), len(after))
    while low < high:
        middle = (low + high + 1) // 2
        if before[:middle] == after[:middle]:
            low = middle
        else:
            high = middle - 1
    start = max(0, low - _BEFORE)
    lead = "…" if start else ""
    return {
        "before": lead + before[start : low + _AFTER],
        "after": lead + after[start : low + _AFTER],
    }


def edits_section(run: dict[str, Any]) -> Section | None:
    """The report's part about repairs; `None` where none was made."""
    from internlm_core.report import Section, count_text, fold, side_by_side, stack, table

    rows = run["edits"]
    if not rows:
        return None
    order = sorted(rows, key=lambda row: (-row["records"], row["stage"], row["kind"]))
    cells = [
        [row["kind"].replace("_", " ").replace("line.", "line: "), row["stage"]]
        + [count_text(row[what]) for what in ("records", "edits", "characters")]
        for row in order
    ]
    heads = ["edit", "stage", "documents", "edits", "characters"]
    blocks = [table(heads, cells, numbers=(2, 3, 4))]
    for row in order:
        pairs = [
            side_by_side(
                _shown(sample["before"]),
                _shown(sample["after"]),
                captions=(f"before · id {sample['id'][:8]}…", "after"),
            )
            for sample in row["samples"]
        ]
        blocks.append(fold(f"{row['kind'].replace('_', ' ')}: before and after", stack(pairs)))
    return Section(
        "Edits",
        stack(blocks),
        "What was repaired before anything was measured. Characters are those taken out or "
        "replaced; the samples start at the first difference, invisible characters by number.",
    )


def _shown(text: str) -> str:
    """The text with what can't be seen written out, as `⟨200B⟩`."""
    return "".join(
        c if c.isprintable() or c == "\n" else f"⟨{ord(c):04X}⟩"
        for c in text.replace("\r\n", "⟨0D⟩\n")
    )
