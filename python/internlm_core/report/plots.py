"""Plots with axes: histograms against a threshold, and curves.

The plot area is an SVG stretched to the space there is; labels are HTML beside it, so that they
stay readable at any width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from internlm_core.report.numbers import count_text, log_ticks, short_number, ticks
from internlm_core.report.rendering import percent, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Line", "Mark", "histogram", "line_chart"]

_MOST_POINTS = 600
"""Points of a curve that are drawn; more would not be seen."""
_LEAST_HEIGHT = 2.5
"""Of the 300 units of a plot's height."""


@dataclass(frozen=True)
class Mark:
    """A labelled vertical line, such as a threshold or the start of a phase."""

    value: float
    label: str


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: As the legend has it.
        x: Positions, ascending, shape (n,).
        y: Values, shape (n,); gaps where they are not finite.
        color: 1 to 6, or 0 for a quiet one.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    color: int = 1


class _Axis:
    """Maps values to [0, 1], linearly or by logarithm."""

    def __init__(self, low: float, high: float, *, log: bool) -> None:
        self.log = log and low > 0
        if not high > low:
            # A single value sits in the middle of the axis.
            low, high = (low / 2, low * 2) if self.log else (low - 0.5, low + 0.5)
        self.low, self.high = low, high

    def __call__(self, value: Any) -> Any:
        if self.log:
            span = math.log(self.high / self.low)
            return np.log(np.maximum(value, 1e-300) / self.low) / span
        return (np.asarray(value) - self.low) / (self.high - self.low)

    def ticks(self) -> list[dict[str, str]]:
        values = log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high)
        return [{"at": percent(float(self(v))), "label": short_number(v)} for v in values]

    def edges(self, bins: int) -> Floats:
        if self.log:
            return np.geomspace(self.low, self.high, bins + 1)
        return np.linspace(self.low, self.high, bins + 1)


def histogram(
    title: str,
    groups: Mapping[str, ArrayLike],
    *,
    marks: Sequence[Mark] = (),
    bins: int = 40,
    colors: Sequence[int] = (1, 2, 3, 4, 5, 6),
    log: bool | None = None,
) -> Markup:
    """How values are spread, groups on top of each other.

    Args:
        title: What is measured.
        groups: Name → values, shape (n,); values that are not finite are left out.
        marks: Thresholds; the axis always shows them.
        bins: Number of bars.
        colors: One a group, 1 to 6, or 0 for a quiet one.
        log: Logarithmic axis; by default for positive values that span a factor of 50.

    The axis runs from the 0.5th to the 99.5th percentile; what is beyond counts in the end bars.
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in groups.items()}
    arrays = {name: values[np.isfinite(values)] for name, values in arrays.items()}
    everything = np.concatenate([*arrays.values(), np.empty(0)])
    if not len(everything):
        return render("empty.html", title=title, text="no values")
    lower, upper = (float(q) for q in np.percentile(everything, [0.5, 99.5]))
    shown = [mark for mark in marks if math.isfinite(mark.value)]
    points = [lower, upper, *(mark.value for mark in shown)]
    if log is None:
        log = min(points) > 0 and max(points) / min(points) > 50
    axis = _Axis(min(points), max(points), log=log)
    edges = axis.edges(bins)
    # The last bar is closed above, so integer values don't need care.
    stacks = [np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] for v in arrays.values()]
    highest = max(int(np.sum(stacks, axis=0).max()), 1)
    rectangles = []
    base = np.zeros(bins)
    for name, color, counts in zip(arrays, colors, stacks, strict=False):
        for index in np.flatnonzero(counts):
            # A single document among thousands is still seen.
            height = max(300 * counts[index] / highest, _LEAST_HEIGHT)
            low, high = short_number(edges[index]), short_number(edges[index + 1])
            rectangles.append(
                {
                    "x": f"{1000 * index / bins:.2f}",
                    "width": f"{1000 / bins - 1.5:.2f}",
                    "y": f"{300 - base[index] - height:.2f}",
                    "height": f"{height:.2f}",
                    "color": color,
                    "hint": f"{low} to {high}: {count_text(counts[index])} {name}",
                }
            )
            base[index] += height
    return render(
        "plot.html",
        title=title,
        rectangles=rectangles,
        paths=[],
        legend=_legend(zip(arrays, colors, strict=False)),
        marks=_marks(shown, axis),
        x_ticks=axis.ticks(),
        y_ticks=_Axis(0, highest, log=False).ticks(),
        x_label="",
        y_label="documents",
        summary=f"{title}: histogram of {count_text(len(everything))} values",
    )


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str = "",
    y_label: str = "",
    marks: Sequence[Mark] = (),
    log_y: bool = False,
) -> Markup:
    """Curves over a common axis.

    Args:
        title: What is drawn.
        lines: The curves.
        x_label: Name and unit of the positions.
        y_label: Name and unit of the values.
        marks: Vertical lines, such as the start of a phase.
        log_y: Logarithmic value axis; values ≤ 0 become gaps.
    """
    curves = []
    for line in lines:
        x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
        if x.shape != y.shape or x.ndim != 1:
            raise ValueError(f"{line.name}: x has shape {x.shape}, y {y.shape}; expected (n,) both")
        good = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not log_y))
        curves.append((line, x, np.where(good, y, np.nan)))
    seen = [y[np.isfinite(y)] for _, _, y in curves]
    if not sum(map(len, seen)):
        return render("empty.html", title=title, text="no values")
    positions = np.concatenate([x[np.isfinite(y)] for _, x, y in curves])
    values = np.concatenate(seen)
    x_axis = _Axis(float(positions.min()), float(positions.max()), log=False)
    low, high = float(values.min()), float(values.max())
    margin = 0.0 if log_y else 0.05 * (high - low)
    y_axis = _Axis(low - margin, high + margin, log=log_y)
    paths = [
        {"d": _path(x_axis(x), y_axis(y)), "color": line.color, "name": line.name}
        for line, x, y in curves
    ]
    return render(
        "plot.html",
        title=title,
        rectangles=[],
        paths=paths,
        legend=_legend((line.name, line.color) for line in lines),
        marks=_marks([m for m in marks if x_axis.low <= m.value <= x_axis.high], x_axis),
        x_ticks=x_axis.ticks(),
        y_ticks=y_axis.ticks(),
        x_label=x_label,
        y_label=y_label,
        summary=f"{title}: {', '.join(line.name for line in lines)}",
    )


def _legend(entries: Any) -> list[dict[str, Any]]:
    found = [{"name": name, "color": color} for name, color in entries]
    return found if len(found) > 1 else []


def _marks(marks: Sequence[Mark], axis: _Axis) -> list[dict[str, Any]]:
    placed = []
    for mark in marks:
        at = float(np.clip(axis(mark.value), 0, 1))
        placed.append({"at": percent(at), "x": f"{1000 * at:.2f}", "left": at > 0.5,
                       "label": mark.label})  # fmt: skip
    return placed


def _path(x: Floats, y: Floats) -> str:
    """SVG path in a box of 1000 × 300; gaps at NaN; lowest and highest of each stretch survive."""
    if len(x) > _MOST_POINTS:
        keep: set[int] = {0, len(x) - 1}
        for part in np.array_split(np.arange(len(x)), _MOST_POINTS // 2):
            inside = y[part]
            if np.isfinite(inside).any():
                keep |= {int(part[np.nanargmin(inside)]), int(part[np.nanargmax(inside)])}
            else:
                keep.add(int(part[0]))
        order = sorted(keep)
        x, y = x[order], y[order]
    words, pen_down = [], False
    for at, value in zip(1000 * x, 300 - 300 * y, strict=True):
        if math.isfinite(value):
            words.append(f"{'L' if pen_down else 'M'}{at:.1f} {value:.1f}")
        pen_down = math.isfinite(value)
    return " ".join(words)
