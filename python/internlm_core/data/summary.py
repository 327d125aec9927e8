"""What a run will read, and what it did, as tables in the terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table

from internlm_core.data.progress import duration_text
from internlm_core.data.readers import group_files
from internlm_core.report.numbers import bytes_text, count_of, count_text, share_text

if TYPE_CHECKING:
    from rich.console import Console

    from internlm_core.data.dry_run import DryRun
    from internlm_core.data.pipeline import Pipeline, RunSummary

__all__ = ["print_dry_run", "print_plan", "print_summary"]


def print_plan(pipeline: Pipeline, console: Console) -> None:
    """The files that would be read, by source, and the settings of the stages."""
    found = pipeline.find_files()
    files: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for file in found.files:
        files[file.defaults.source] += 1
        size[file.defaults.source] += file.path.stat().st_size if file.path.exists() else 0
    table = Table("source", "files", "bytes", title="Would read")
    for source in files:
        table.add_row(source, count_text(files[source]), bytes_text(size[source]))
    console.print(table)
    for suffix, count in sorted(found.skipped.items()):
        console.print(f"skipped, no reader: {count} files with {suffix}", markup=False)
    config = pipeline.config
    stages = {
        "normalise": config.normalise.enabled,
        "language": config.language.enabled,
        f"filter ({config.filter.preset})": config.filter.enabled,
        f"dedup (Jaccard ≥ {config.dedup.threshold})": config.dedup.enabled,
    }
    chosen = " → ".join(name for name, enabled in stages.items() if enabled) or "none"
    console.print(
        f"stages: {chosen}; {len(group_files(found.files))} groups of files", markup=False
    )


def print_dry_run(result: DryRun, console: Console) -> None:
    """What the sample says: what would be kept and dropped, why, and how long it would take."""
    if not result.records:
        console.print("no record in the sample", markup=False)
        return
    table = Table(title=f"Sample of {bytes_text(result.sample_bytes)}, by stage")
    for name in ("", "documents", "share"):
        table.add_column(name, justify="right" if name else "left")
    order = sorted(result.dropped.items(), key=lambda item: (-item[1], item[0]))
    for (stage, reason), count in order:
        share = share_text(count, result.records)
        table.add_row(f"dropped by {stage}: {reason}", count_text(count), share)
    table.add_section()
    share = share_text(result.kept, result.records)
    table.add_row("kept", count_text(result.kept), share, style="bold")
    console.print(table)
    if result.rejected:
        console.print(f"rejected in the sample: {count_of(result.rejected, 'line')}", markup=False)
    rate = result.text_bytes / 1e6 / max(result.seconds, 1e-9)
    console.print(
        f"the whole, about: {result.estimated_records:,} records, {result.estimated_kept:,} kept "
        f"(fewer if more is duplicated than the sample shows), in "
        f"{duration_text(result.estimated_seconds)} at {rate:.1f} MB/s of text; nothing was written",
        markup=False,
    )


def print_summary(summary: RunSummary, console: Console) -> None:
    """Documents and bytes by what became of them."""
    run = summary.run
    whole = sum(row["documents"] for row in run["counts"])
    documents: Counter[tuple[str, str]] = Counter()
    size: Counter[tuple[str, str]] = Counter()
    for row in run["counts"]:
        documents[row["stage"], row["reason"]] += row["documents"]
        size[row["stage"], row["reason"]] += row["bytes"]
    table = Table(title=f"{summary.folder}")
    for name in ("", "documents", "bytes", "share"):
        table.add_column(name, justify="right" if name else "left")
    total = sum(size.values())
    table.add_row("read", count_text(whole), bytes_text(total), "", end_section=True)
    order = sorted((key for key in documents if key[0]), key=lambda key: (-documents[key], key))
    for key in order:
        stage, reason = key
        share = share_text(documents[key], whole)
        cells = (count_text(documents[key]), bytes_text(size[key]), share)
        table.add_row(f"dropped by {stage}: {reason}", *cells)
    kept = ("", "")
    table.add_section()
    cells = (
        count_text(documents[kept]),
        bytes_text(size[kept]),
        share_text(documents[kept], whole),
    )
    table.add_row("kept", *cells, style="bold")
    console.print(table)
    if summary.rejected:
        reasons: Counter[str] = Counter()
        for row in run["rejected"]:
            reasons[row["reason"]] += row["count"]
        words = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        console.print(f"rejected: {words}; see {summary.folder / 'rejected'}", markup=False)
    console.print(f"report: {summary.folder / 'report.html'}", markup=False)
