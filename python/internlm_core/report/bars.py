"""Horizontal bars: one row a label, made of segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from internlm_core.report.numbers import count_text, share_text
from internlm_core.report.rendering import percent, render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from markupsafe import Markup

__all__ = ["Segment", "bar_chart", "funnel"]


@dataclass(frozen=True)
class Segment:
    """Name and colour of the n-th segment of every bar.

    Attributes:
        name: As the legend has it.
        color: 1 to 6, the colours of series; 0 for a quiet one.
    """

    name: str
    color: int = 1


def bar_chart(
    title: str,
    rows: Mapping[str, Sequence[float]],
    segments: Sequence[Segment],
    *,
    number: Callable[[float], str] = count_text,
    shares: bool = False,
    notes: Mapping[str, str] | None = None,
) -> Markup:
    """Bars made of segments.

    Args:
        title: What is counted.
        rows: Label → one value a segment, all ≥ 0.
        segments: The segments in order; a legend is drawn when there are two or more.
        number: How values read.
        shares: Stretch each bar to full width, so that bars of unlike size can be compared.
        notes: Text at the end of a row instead of the sum of its values.
    """
    longest = max((sum(values) for values in rows.values()), default=0) or 1
    bars = []
    for label, values in rows.items():
        total = sum(values)
        whole = (total if shares else longest) or 1
        parts = [
            {
                "color": segment.color,
                "width": percent(value / whole),
                "hint": f"{segment.name}: {number(value)} ({share_text(value, total)})",
            }
            for segment, value in zip(segments, values, strict=True)
            if value
        ]
        note = (notes or {}).get(label, number(total))
        bars.append({"label": label, "parts": parts, "note": note})
    return render("bars.html", title=title, bars=bars, segments=segments)


def funnel(
    title: str,
    steps: Sequence[tuple[str, float]],
    *,
    number: Callable[[float], str] = count_text,
) -> Markup:
    """What is left after each step, and what the step took.

    Args:
        title: What is counted.
        steps: (label, what is left) from the first, whole amount on; amounts don't grow.
        number: How amounts read.
    """
    rows, notes, before = {}, {}, steps[0][1] if steps else 0.0
    first = before
    for label, left in steps:
        rows[label] = (left, before - left)
        removed = f", −{number(before - left)}" if before - left else ""
        notes[label] = f"{number(left)} ({share_text(left, first)}{removed})"
        before = left
    segments = [Segment("left", 1), Segment("removed by this step", 2)]
    return bar_chart(title, rows, segments, number=number, notes=notes)
