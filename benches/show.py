"""Rows as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["HEADINGS", "cells", "figure", "rich_table"]

HEADINGS = ("task", "ours", "peer", "ratio", "what ours gives", "what the peer gives")
# Of a side of a row; what else it holds is a figure about its result.
_NOT_FIGURES = {"name", "seconds", "speed", "memory_bytes", "versions"}


def figure(value: float) -> str:
    """Three digits, or all there are before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _quality(side: Mapping[str, Any], memory: bool) -> str:
    parts = [
        f"{key.replace('_', ' ')} {_plain(value)}"
        for key, value in side.items()
        if key not in _NOT_FIGURES
    ]
    if memory and side["memory_bytes"] is not None:
        parts.append(f"+{side['memory_bytes'] / 1e6:,.0f} MB")
    return ", ".join(parts)


def cells(row: Mapping[str, Any], *, memory: bool = True) -> tuple[str, ...]:
    """A row's cells under `HEADINGS`; `memory` adds by how much the process grew."""
    ours, peer, unit = row["ours"], row["peer"], row["unit"]
    memory = memory or row.get("compares_memory", False)
    return (
        row["task"],
        f"{figure(ours['speed'])} {unit}",
        f"{peer['name']}: {figure(peer['speed'])} {unit}",
        f"{figure(row['ratio'])}×",
        _quality(ours, memory),
        _quality(peer, memory),
    )


def rich_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A table to print."""
    table = Table(title=title, title_justify="left", show_lines=False)
    for heading in HEADINGS:
        number = heading in ("ours", "ratio")
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*cells(row))
    return table
