"""The report of a pipeline run: what came in, what was kept, what was dropped and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from internlm_core._files import atomic_path
from internlm_core.data.edits import edits_section
from internlm_core.data.run_folder import RunFolder, flat
from internlm_core.report import (
    Mark,
    Section,
    Segment,
    Tile,
    bar_chart,
    bytes_text,
    count_of,
    count_text,
    fold,
    funnel,
    histogram,
    page,
    paragraph,
    sample,
    share_text,
    short_number,
    side_by_side,
    stack,
    table,
    tiles,
)

if TYPE_CHECKING:
    from pathlib import Path

    from markupsafe import Markup

__all__ = ["sections", "write_report"]

_STAGES = {
    "read": "read (empty texts)",
    "language": "language",
    "rules": "rules",
    "repeats": "repeated text",
    "dedup": "deduplication",
}
"""Stages that drop, in the order in which they run."""

_SAMPLES, _REASONS, _METRICS, _CLUSTERS, _REJECTED = 3, 16, 12, 6, 12
_MOST_VALUES = 1_000_000


def write_report(folder: str | Path) -> Path:
    """Draw `report.html` of a finished run; returns its path.

    Raises:
        DataError: The folder holds no finished run.
        MissingExtraError: jinja2 is not installed.
    """
    where = RunFolder(folder)
    run = where.read()
    text = page(
        "Data report",
        sections(folder),
        lead="Every document that came in is in kept/, dropped/ or rejected/ of the run folder.",
        footer=f"internlm-core {run['version']}",
    )
    with atomic_path(where.report) as partial:
        partial.write_text(text, "utf-8")
    return where.report


def sections(folder: str | Path) -> list[Section]:
    """The parts of the report, for a page of their own or a larger one.

    Args:
        folder: A finished run folder.
    """
    where = RunFolder(folder)
    run = where.read()
    found = [
        _overview(run),
        _by(run, "source", "Sources"),
        _by(run, "lang", "Languages"),
        edits_section(run),
        _reasons(run),
        _distributions(where, run),
        _dropped_samples(where),
        _clusters(where),
        _rejected(where, run),
        _settings(run),
    ]
    return [section for section in found if section is not None]


# --- counts -------------------------------------------------------------------------------------


def _sum(rows: list[dict[str, Any]], what: str) -> int:
    return sum(row[what] for row in rows)


def _overview(run: dict[str, Any]) -> Section:
    counts = run["counts"]
    documents, size = _sum(counts, "documents"), _sum(counts, "bytes")
    kept, dropped = run["totals"]["kept"], run["totals"]["dropped"]
    files = sum(entry.get("role") is None for entry in run["inputs"])
    faults = f"{len(run['faults'])} damaged" if run["faults"] else "all whole"
    head = tiles(
        [
            Tile("files", count_text(files), faults),
            Tile("documents read", count_text(documents), bytes_text(size)),
            Tile("kept", count_text(kept["documents"]), bytes_text(kept["bytes"])),
            Tile("dropped", count_text(dropped["documents"]), bytes_text(dropped["bytes"])),
            Tile("rejected", count_text(run["rejected_records"]), "lines that gave no document"),
            Tile("kept share", share_text(kept["bytes"], size), "of bytes"),
        ]
    )
    charts = []
    for what, number in (("documents", count_text), ("bytes", bytes_text)):
        left = _sum(counts, what)
        steps = [("read", float(left))]
        for stage, label in _STAGES.items():
            taken = sum(row[what] for row in counts if row["stage"] == stage)
            left -= taken
            # Stages that did not run, or took nothing from empty texts, would be noise.
            if taken or stage in ("rules", "dedup"):
                steps.append((f"after {label}", float(left)))
        charts.append(funnel(what.capitalize(), steps, number=number))
    return Section("Overview", stack([head, stack(charts, columns=True)]))


def _by(run: dict[str, Any], key: str, title: str) -> Section | None:
    groups: dict[str, Counter[str]] = {}
    for row in run["counts"]:
        group = groups.setdefault(row[key] or "unknown", Counter())
        side = row["stage"] or "kept"
        group[side] += row["documents"]
        group[f"{side} bytes"] += row["bytes"]
    if not groups:
        return None
    order = sorted(groups, key=lambda name: (-_documents(groups[name]), name))[:24]
    segments = [Segment("kept", 1), Segment("dropped by rules", 2), Segment("duplicates", 4)]
    segments.append(Segment("other", 0))
    rows = {
        name: (
            groups[name]["kept"],
            groups[name]["rules"],
            groups[name]["dedup"],
            sum(groups[name][stage] for stage in ("read", "language", "repeats")),
        )
        for name in order
    }
    if not any(values[3] for values in rows.values()):
        segments = segments[:3]
        rows = {name: values[:3] for name, values in rows.items()}  # type: ignore[misc]
    notes = {
        name: f"{share_text(groups[name]['kept'], _documents(groups[name]))} kept" for name in order
    }
    chart = bar_chart("Share of documents", rows, segments, shares=True, notes=notes)
    cells = [
        [
            name,
            count_text(_documents(groups[name])),
            bytes_text(_bytes(groups[name])),
            count_text(groups[name]["kept"]),
            bytes_text(groups[name]["kept bytes"]),
        ]
        for name in order
    ]
    heads = [title[:-1].lower(), "documents in", "bytes in", "documents kept", "bytes kept"]
    return Section(title, stack([chart, table(heads, cells, numbers=(1, 2, 3, 4))]))


def _documents(group: Counter[str]) -> int:
    return sum(group[side] for side in ("kept", *_STAGES))


def _bytes(group: Counter[str]) -> int:
    return sum(group[f"{side} bytes"] for side in ("kept", *_STAGES))


def _reasons(run: dict[str, Any]) -> Section | None:
    documents: Counter[tuple[str, str]] = Counter()
    size: Counter[tuple[str, str]] = Counter()
    for row in run["counts"]:
        if row["stage"]:
            documents[row["stage"], row["reason"]] += row["documents"]
            size[row["stage"], row["reason"]] += row["bytes"]
    if not documents:
        return None
    order = sorted(documents, key=lambda key: (-documents[key], key))
    whole = _sum(run["counts"], "documents")
    rows = {f"{reason} ({stage})": (documents[stage, reason],) for stage, reason in order}
    notes = {
        f"{reason} ({stage})": f"{count_of(documents[stage, reason], 'document')}, "
        f"{bytes_text(size[stage, reason])}, {share_text(documents[stage, reason], whole)}"
        for stage, reason in order
    }
    chart = bar_chart("Documents dropped", rows, [Segment("dropped", 2)], notes=notes)
    return Section(
        "Reasons", chart, "A document counts under the first reason that was found against it."
    )


# --- distributions ------------------------------------------------------------------------------


def _distributions(where: RunFolder, run: dict[str, Any]) -> Section | None:
    metrics, dropped = where.scan("metrics"), where.scan("dropped")
    if metrics is None or dropped is None:
        return None
    known = set(metrics.collect_schema())
    order = (
        dropped.filter(pl.col("stage") == "rules", pl.col("metric").is_not_null())
        .group_by("metric").len().sort("len", "metric", descending=[True, False]).collect()
    )  # fmt: skip
    names = [name for name in order["metric"] if name in known]
    # Then those that dropped nothing, so that each threshold is seen against its statistic.
    quiet = [name for name in sorted(run["thresholds"]) if name in known and name not in names]
    shown, names = names[:_METRICS], [*names, *quiet]
    if not names:
        return None
    every = max(1, -(-int(run["records"]) // _MOST_VALUES))
    against = dropped.filter(pl.col("stage") == "rules").select("id").unique()
    ids = metrics.select("id").gather_every(every).collect()["id"]
    is_out = ids.is_in(against.collect()["id"].implode())

    def chart(name: str) -> Markup:
        # One column at a time, for a corpus has many rows.
        found = metrics.select(pl.col(name).cast(pl.Float64)).gather_every(every).collect()
        column = found.to_series()
        groups = {
            "passed the rules": column.filter(~is_out).drop_nulls().to_numpy(),
            "dropped": column.filter(is_out).drop_nulls().to_numpy(),
        }
        marks = [Mark(limit, short_number(limit)) for limit in run["thresholds"].get(name, [])]
        return histogram(name.replace("_", " "), groups, marks=marks)

    rest = [name for name in names if name not in shown]
    blocks = [stack([chart(name) for name in shown], columns=True)] if shown else []
    if rest:
        title = f"{count_of(len(rest), 'more statistic')} with a threshold"
        blocks.append(fold(title, stack([chart(name) for name in rest], columns=True)))
    return Section(
        "Statistics against thresholds",
        stack(blocks),
        "Those that dropped most come first; dashed lines are the thresholds, of all kinds of text.",
    )


# --- text ---------------------------------------------------------------------------------------


def _texts(scan: pl.LazyFrame, ids: list[str]) -> dict[str, dict[str, Any]]:
    rows = scan.filter(pl.col("id").is_in(ids)).unique("id", keep="first", maintain_order=True)
    return {row["id"]: row for row in rows.collect().iter_rows(named=True)}


def _dropped_samples(where: RunFolder) -> Section | None:
    dropped = where.scan("dropped")
    if dropped is None:
        return None
    open_ = dropped.filter(pl.col("stage") != "dedup").select("id", "stage", "reason")
    # The lowest ids are as good as drawn by lot, and the same each time.
    chosen = (
        open_.unique().sort("id").group_by("stage", "reason", maintain_order=True)
        .agg(pl.col("id").head(_SAMPLES), pl.len().alias("count")).collect()
        .sort("count", "reason", descending=[True, False])
    )  # fmt: skip
    if chosen.is_empty():
        return None
    shown = chosen.head(_REASONS)
    texts = _texts(dropped, shown["id"].explode().to_list())
    blocks: list[Markup] = []
    for stage, reason, ids, count in shown.iter_rows():
        body = stack([_sample(texts[each]) for each in ids])
        blocks.append(fold(f"{reason} ({stage}): {count_text(count)}", body, opened=not blocks))
    rest = chosen.height - shown.height
    lead = f"{rest} rarer reasons are only in dropped/." if rest else ""
    return Section("Dropped documents", stack(blocks), lead)


def _sample(row: dict[str, Any]) -> Markup:
    words = [row["source"], row["lang"] or "language unknown"]
    if row["metric"] is not None and row["value"] is not None:
        limit = "" if row["threshold"] is None else f", threshold {short_number(row['threshold'])}"
        words.append(f"{row['metric'].replace('_', ' ')} = {short_number(row['value'])}{limit}")
    words += [row["url"] or "", f"id {row['id'][:8]}…"]
    return sample(row["text"], caption=" · ".join(word for word in words if word))


def _clusters(where: RunFolder) -> Section | None:
    dropped, kept = where.scan("dropped"), where.scan("kept")
    if dropped is None or kept is None:
        return None
    copies = (
        dropped.filter(pl.col("stage") == "dedup")
        .select("id", "cluster", "duplicate_of", "value").collect()
    )  # fmt: skip
    if copies.is_empty():
        return None
    sizes = copies.group_by("cluster").len().sort("len", "cluster", descending=[True, False])
    spread = sizes.group_by("len").agg(pl.len().alias("clusters")).sort("len")
    rows: dict[str, tuple[float]] = {}
    for low, high in ((1, 1), (2, 2), (3, 4), (5, 9), (10, 99), (100, 1 << 62)):
        found = int(spread.filter(pl.col("len").is_between(low, high))["clusters"].sum())
        if found:
            upper = " or more" if high > 99 else "" if low == high else f" to {high + 1}"
            rows[f"{low + 1}{upper} documents"] = (found,)
    blocks = [bar_chart("Clusters by size", rows, [Segment("clusters", 4)])]
    largest = sizes.head(_CLUSTERS)["cluster"].to_list()
    # Of each cluster the least similar copy: that is where a wrong match would show.
    pairs = [
        copies.filter(pl.col("cluster") == cluster).sort("value", "id").row(0, named=True)
        for cluster in largest
    ]
    lefts = _texts(kept, [pair["duplicate_of"] for pair in pairs])
    rights = _texts(dropped, [pair["id"] for pair in pairs])
    for cluster, pair in zip(largest, pairs, strict=True):
        left, right = lefts.get(pair["duplicate_of"]), rights[pair["id"]]
        if left is None:
            continue
        count = int((copies["cluster"] == cluster).sum()) + 1
        body = side_by_side(
            left["text"],
            right["text"],
            captions=(f"kept · {_origin(left)}", f"dropped · {_origin(right)}"),
        )
        summary = f"{count_text(count)} documents; least similar pair: {pair['value']:.3f}"
        blocks.append(fold(summary, body, opened=len(blocks) < 3))
    return Section(
        "Duplicates",
        stack(blocks),
        "The largest clusters: the kept document beside the least similar one that was dropped "
        "for it, differences marked. The figure is the Jaccard similarity of their shingles.",
    )


def _origin(row: dict[str, Any]) -> str:
    words = (row["source"], row["snapshot"], row["url"] or f"id {row['id'][:8]}…")
    return " · ".join(word for word in words if word)


def _rejected(where: RunFolder, run: dict[str, Any]) -> Section | None:
    if not run["rejected"] and not run["repaired"]:
        return None
    blocks = []
    if run["rejected"]:
        rows = [[r["file"], r["reason"], count_text(r["count"])] for r in run["rejected"]]
        blocks.append(table(["file", "reason", "count"], rows[:40], numbers=(2,)))
        if len(rows) > 40:
            blocks.append(paragraph(f"{len(rows) - 40} more rows are in run.json."))
    if run["faults"]:
        rows = [[f["file"], f["reason"], f["detail"]] for f in run["faults"][:40]]
        blocks.append(table(["file", "fault", "what was found"], rows, caption="Damaged files"))
    if run["repaired"]:
        rows = [[kind, count_text(count)] for kind, count in run["repaired"].items()]
        heads = ["repaired on reading", "documents"]
        blocks.append(table(heads, rows, numbers=(1,)))
    shown = []
    for shard in where.shards("rejected")[:1]:
        with shard.open("rb") as file:
            for line, _ in zip(file, range(_REJECTED), strict=False):
                entry = orjson.loads(line)
                address = f"{entry['file']} · line {entry['line']} · {entry['reason']}"
                raw = entry.get("raw") or entry.get("raw_base64", "")
                if entry["is_record"]:
                    shown.append(sample(raw, caption=f"{address} · {entry['detail']}", limit=200))
    if shown:
        blocks.append(fold("Examples", stack(shown)))
    return Section("Rejected input", stack(blocks))


def _settings(run: dict[str, Any]) -> Section:
    configuration = [[key, str(value)] for key, value in flat(run["configuration"]).items()]
    inputs = [
        [entry["name"], entry["source"] or "", bytes_text(entry["bytes"]), entry.get("error", "")]
        for entry in run["inputs"][:200]
    ]
    return Section(
        "Settings",
        stack(
            [
                fold("Configuration", table(["key", "value"], configuration)),
                fold("Inputs", table(["file", "source", "size", "error"], inputs, numbers=(2,))),
            ]
        ),
    )
