"""Numbers as people read them, and round positions for the ticks of an axis."""

from __future__ import annotations

import math

__all__ = [
    "bytes_text",
    "count_of",
    "count_text",
    "log_ticks",
    "share_text",
    "short_number",
    "ticks",
]


def count_text(value: float) -> str:
    """A count with thousands apart: `12,345`."""
    return f"{value:,.0f}"


def count_of(count: int, noun: str) -> str:
    """A count with its noun: `1 document`, `12,345 documents`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def bytes_text(value: float) -> str:
    """A size in decimal units: `1.2 MB`."""
    size = float(value)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 1000 or unit == "TB":
            return f"{size:,.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def share_text(part: float, whole: float) -> str:
    """A share in percent; a part that is not nothing never reads as 0 %."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %" if percent < 99.95 or part >= whole else "> 99.9 %"


def short_number(value: float) -> str:
    """A number for an axis: `0.25`, `1,200`, `3.5M`."""
    size = abs(value)
    if size >= 1e9:
        return f"{value / 1e9:.4g}G"
    if size >= 1e6:
        return f"{value / 1e6:.4g}M"
    if size >= 1e3:
        return f"{value:,.0f}"
    if size and size < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.4g}"


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers within [low, high], about `wanted` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high] (both > 0), thinned to eight; else two round numbers."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = list(range(first, last + 1))
    thin = -(-len(powers) // 8) if powers else 1
    if len(powers) >= 2:
        return [10.0**power for power in powers[::thin]]
    return [value for value in ticks(low, high, 4) if value > 0]
