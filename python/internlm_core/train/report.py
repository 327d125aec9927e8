"""A run as one HTML page: loss, rate, gradient norm, speed, sources, held-out loss, alerts."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from internlm_core import report as drawing
from internlm_core._core import __version__
from internlm_core._files import atomic_path, read_json
from internlm_core.errors import TrainError

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["write_report"]

Lines = list[dict[str, Any]]


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Draw a run, finished or under way.

    Args:
        run: Run folder of `train.run`.
        out: The page; `report.html` in the folder when None.

    Returns:
        The page: self-contained, and equal for equal logs.

    Raises:
        TrainError: The folder holds no run, or one without a step.
    """
    run = Path(run)
    path = run / "report.html" if out is None else Path(out)
    if not (run / "run.json").is_file():
        raise TrainError(f"{run}: holds no training run (run.json)")
    metrics = _lines(run / "metrics.jsonl")
    if not metrics:
        raise TrainError(f"{run}: no step has been done yet")
    timing = _lines(run / "timing.jsonl")
    page = drawing.page(
        f"Training run {run.resolve().name}",
        [
            drawing.Section("Overview", _overview(run, metrics, timing)),
            drawing.Section("Loss", _loss(run, metrics)),
            drawing.Section("Rate and gradients", _optimisation(metrics)),
            drawing.Section("Speed", _speed(timing, metrics)),
            drawing.Section("Alerts", _alerts(_lines(run / "alerts.jsonl"))),
        ],
        footer=f"internlm-core {__version__}",
    )
    with atomic_path(path) as partial:
        partial.write_text(page, "utf-8")
    return path


def _lines(path: Path) -> Lines:
    """Complete lines of a log; a run under way may be writing the last one."""
    if not path.is_file():
        return []
    return [
        orjson.loads(line)
        for line in path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]


def _phases(metrics: Lines) -> list[drawing.Mark]:
    """Where each phase but the first starts."""
    marks = []
    for before, line in itertools.pairwise(metrics):
        if line["phase"] != before["phase"]:
            marks.append(drawing.Mark(line["tokens"], line["phase"]))
    return marks


def _overview(run: Path, metrics: Lines, timing: Lines) -> Markup:
    last, info = metrics[-1], read_json(run / "run.json")
    seconds = sum(line["seconds"] for line in timing)
    speed = sum(line["step_tokens"] for line in metrics[-len(timing) :]) / max(seconds, 1e-9)
    data = sum(shard["tokens"] for group in info["data"].values() for shard in group)
    return drawing.tiles(
        [
            drawing.Tile("Steps", drawing.count_text(last["step"]), last["phase"]),
            drawing.Tile("Tokens", drawing.count_text(last["tokens"]), f"{data:,} in the shards"),
            drawing.Tile("Loss", f"{last['loss']:.4f}", f"first {metrics[0]['loss']:.4f}"),
            drawing.Tile("Tokens/s", drawing.short_number(speed), f"{seconds / 3600:.2f} h"),
            drawing.Tile("Tokenizer", info["tokenizer"][:12], "fingerprint"),
        ]
    )


def _curve(title: str, metrics: Lines, key: str, *, label: str, log: bool = False) -> Markup:
    tokens = [line["tokens"] for line in metrics]
    values = [line[key] for line in metrics]
    return drawing.line_chart(
        title,
        [drawing.Line(title, tokens, values)],
        x_label="tokens",
        y_label=label,
        marks=_phases(metrics),
        log_y=log,
    )


def _loss(run: Path, metrics: Lines) -> Markup:
    blocks = [_curve("Training loss", metrics, "loss", label="nats a token")]
    blocks.append(
        _by_name(
            "Training loss by source",
            [(line["tokens"], line.get("sources", {})) for line in metrics],
            metrics,
        )
    )
    held_out = _lines(run / "evaluations.jsonl")
    if held_out:
        tokens = [line["trained_tokens"] for line in held_out]
        losses = [line["loss"] for line in held_out]
        blocks.append(
            drawing.line_chart(
                "Held-out loss",
                [drawing.Line("held-out", tokens, losses)],
                x_label="tokens",
                y_label="nats a token",
                marks=_phases(metrics),
            )
        )
        by_source = [(line["trained_tokens"], line["by_source"]) for line in held_out]
        blocks.append(_by_name("Held-out loss by source", by_source, metrics))
        blocks.append(_positions(held_out))
    return drawing.stack(blocks)


def _by_name(
    title: str, points: list[tuple[int, dict[str, list[float]]]], metrics: Lines
) -> Markup:
    """One curve a source; the first six, the others quiet."""
    names = sorted({name for _, values in points for name in values})
    lines = []
    for number, name in enumerate(names):
        there = [(x, values[name][0]) for x, values in points if name in values]
        x, y = zip(*there, strict=True)
        lines.append(drawing.Line(name, x, y, number + 1 if number < 6 else 0))
    return drawing.line_chart(
        title, lines, x_label="tokens", y_label="nats a token", marks=_phases(metrics)
    )


def _positions(held_out: Lines) -> Markup:
    """Held-out loss by position in the window, at the start and after each phase."""
    shown = [line for line in held_out if line["phase_end"] or line["step"] == 0]
    lines = []
    for number, line in enumerate(shown):
        middles = [(first + last) / 2 for first, last, _, _ in line["by_position"]]
        losses = [loss for _, _, loss, _ in line["by_position"]]
        name = f"after {line['phase_end']}" if line["phase_end"] else "at the start"
        lines.append(drawing.Line(name, middles, losses, number + 1 if number < 6 else 0))
    return drawing.line_chart(
        "Held-out loss by position", lines, x_label="position", y_label="nats a token"
    )


def _optimisation(metrics: Lines) -> Markup:
    return drawing.stack(
        [
            _curve("Learning rate", metrics, "lr", label="rate"),
            _curve("Gradient norm", metrics, "grad_norm", label="before clipping", log=True),
        ],
        columns=True,
    )


def _speed(timing: Lines, metrics: Lines) -> Markup:
    tokens = {line["step"]: line["tokens"] for line in metrics}
    known = [line for line in timing if line["step"] in tokens]
    x = [tokens[line["step"]] for line in known]
    charts = []
    for title, key, label, scale in (
        ("Throughput", "tokens_per_second", "tokens/s", 1.0),
        ("Model FLOPs used", "mfu", "% of the device's", 100.0),
        ("Memory", "memory", "GiB at the peak", 2.0**-30),
    ):
        # Runs of an earlier version tell less.
        y = [scale * line.get(key, float("nan")) for line in known]
        charts.append(
            drawing.line_chart(title, [drawing.Line(title, x, y)], x_label="tokens", y_label=label)
        )
    return drawing.stack(charts, columns=True)


def _alerts(alerts: Lines) -> Markup:
    if not alerts:
        return drawing.paragraph("None.")
    rows = [
        [
            line["step"],
            line["kind"].replace("_", " "),
            ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in line.items()
                if key not in ("step", "kind")
            ),
        ]
        for line in alerts
    ]
    return drawing.table(["step", "what", "details"], rows, numbers=[0])
