"""Pages and coloured text that show what a vocabulary does."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl
    from rich.text import Text

    from internlm_core.tokenizer.tokenize import Tokenizer

__all__ = ["coloured_html", "coloured_text", "comparison_page"]

_COLOURS = ("#fde2c4", "#cfe8d5", "#d3e0f5", "#f3d4dc", "#e7dcf3")
_TERMINAL = ("black on cyan", "black on green", "black on yellow", "black on magenta")


def comparison_page(table: pl.DataFrame, first: str = "first", second: str = "second") -> str:
    """The table of `compare` as bars, a self-contained HTML page."""
    columns = ("first", "second")
    most = max((float(v) for name in columns for v in table[name]), default=0.0) or 1.0
    rows = []
    for row in table.iter_rows(named=True):
        name = escape(row["text"] if row["by"] == "text" else f"{row['by']} {row['text']}")
        for column, label, colour in zip(columns, (first, second), _COLOURS[1:], strict=False):
            rows.append(
                f"<tr><td>{name}</td><td>{escape(label)}</td><td><div style='background:{colour};"
                f"width:{300 * row[column] / most:.0f}px'>{row[column]:.2f}</div></td></tr>"
            )
    body = f"<h1>Bytes a token</h1><table>{''.join(rows)}</table>"
    return f"<!doctype html><meta charset=utf-8><title>Bytes a token</title>{body}\n"


def _parts(tokenizer: Tokenizer, text: str) -> Iterator[tuple[int, str, int]]:
    """Each token, the text it adds, and its number among those that add some.

    A character of several tokens stands in the first of them.
    """
    ids, spans = tokenizer.encode_with_offsets(text)
    shown = number = 0
    for token, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True):
        piece = text[max(start, shown) : end]
        yield token, piece, number
        shown = max(shown, end)
        number += bool(piece)


def coloured_html(tokenizer: Tokenizer, text: str) -> str:
    """A text with a colour for each token and its id on hover, a self-contained HTML page."""
    parts = [
        f"<span style='background:{_COLOURS[number % len(_COLOURS)]}' title='{token}'>{escape(piece)}</span>"
        for token, piece, number in _parts(tokenizer, text)
    ]
    return (
        "<!doctype html><meta charset=utf-8><title>Tokens</title>"
        f"<pre style='white-space:pre-wrap'>{''.join(parts)}</pre>\n"
    )


def coloured_text(tokenizer: Tokenizer, text: str) -> Text:
    """The same for a terminal."""
    from rich.text import Text

    shown = Text()
    for _, piece, number in _parts(tokenizer, text):
        shown.append(piece, _TERMINAL[number % len(_TERMINAL)])
    return shown
