"""What a vocabulary holds and how well it fits texts; two vocabularies side by side."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from internlm_core.tokenizer.tokenize import Tokenizer

__all__ = ["Description", "coloured_html", "compare", "comparison_page", "describe"]

_COLOURS = ("#fde2c4", "#cfe8d5", "#d3e0f5", "#f3d4dc", "#e7dcf3")


@dataclass(frozen=True)
class Description:
    """Facts of a vocabulary.

    Attributes:
        unreachable: Ids of ordinary tokens that are text but that their own text does not encode to.
        parts: Number of ordinary tokens that are a part of a character, which no text is alone.
        longest: Ids of the longest ordinary tokens, longest first.
        coverage: Share of the ordinary tokens that occur in the texts, 0 to 1.
        texts: A row for each text: `text`, `bytes`, `tokens`, `bytes_per_token`.
    """

    unreachable: list[int]
    parts: int
    longest: list[int]
    coverage: float
    texts: pl.DataFrame


def describe(tokenizer: Tokenizer, texts: Mapping[str, str] | None = None) -> Description:
    """Look through a vocabulary, and encode texts (by name: a language, a source) with it."""
    special = set(tokenizer.special_tokens.values())
    pieces = {i: tokenizer.id_to_bytes(i) for i in range(tokenizer.vocab_size) if i not in special}
    pieces = {token: piece for token, piece in pieces.items() if piece}
    # Equal after a lossy reading: the bytes are text.
    read = {token: piece.decode("utf-8", "replace") for token, piece in pieces.items()}
    whole = {token: text for token, text in read.items() if text.encode() == pieces[token]}
    unreachable = [t for t, text in whole.items() if tokenizer.encode(text).tolist() != [t]]
    used: set[int] = set()
    for text in (texts or {}).values():
        used.update(np.unique(tokenizer.encode(text)).tolist())
    return Description(
        unreachable=unreachable,
        parts=len(pieces) - len(whole),
        longest=sorted(pieces, key=lambda token: (-len(pieces[token]), token))[:20],
        coverage=len(used & pieces.keys()) / max(1, len(pieces)),
        texts=_measured(tokenizer, texts or {}),
    )


def _measured(tokenizer: Tokenizer, texts: Mapping[str, str]) -> pl.DataFrame:
    rows = []
    for name, text in texts.items():
        size, count = len(text.encode("utf-8", "replace")), tokenizer.count(text)
        rows.append((name, size, count, size / max(1, count)))
    schema = {"text": pl.String, "bytes": pl.Int64, "tokens": pl.Int64}
    return pl.DataFrame(rows, {**schema, "bytes_per_token": pl.Float64}, orient="row")


def compare(first: Tokenizer, second: Tokenizer, texts: Mapping[str, str]) -> pl.DataFrame:
    """Two vocabularies on the same texts, by name.

    Returns:
        A row for each text: `text`, `bytes`, `first` and `second` (bytes a token), `change` (the
        second's over the first's, 1.0 for equal).
    """
    one, two = _measured(first, texts), _measured(second, texts)["bytes_per_token"]
    ours = one["bytes_per_token"]
    return one.select("text", "bytes").with_columns(
        ours.alias("first"), two.alias("second"), (two / ours).alias("change")
    )


def comparison_page(table: pl.DataFrame, first: str = "first", second: str = "second") -> str:
    """The table of `compare` as bars, a self-contained HTML page."""
    columns = ("first", "second")
    most = max((float(v) for name in columns for v in table[name]), default=0.0) or 1.0
    rows = []
    for row in table.iter_rows(named=True):
        for name, label, colour in zip(columns, (first, second), _COLOURS[1:], strict=False):
            rows.append(
                f"<tr><td>{escape(row['text'])}</td><td>{escape(label)}</td><td><div style="
                f"'background:{colour};width:{300 * row[name] / most:.0f}px'>{row[name]:.2f}</div></td></tr>"
            )
    body = f"<h1>Bytes a token</h1><table>{''.join(rows)}</table>"
    return f"<!doctype html><meta charset=utf-8><title>Bytes a token</title>{body}\n"


def coloured_html(tokenizer: Tokenizer, text: str) -> str:
    """A text with a colour for each token and its id on hover, a self-contained HTML page.

    A character of several tokens stands in the first of them, and its other tokens are empty.
    """
    ids, spans = tokenizer.encode_with_offsets(text)
    parts, shown = [], 0
    for number, (token, (start, end)) in enumerate(zip(ids.tolist(), spans.tolist(), strict=True)):
        piece = escape(text[max(start, shown) : end])
        shown = max(shown, end)
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f"<span style='background:{colour}' title='{token}'>{piece}</span>")
    return (
        "<!doctype html><meta charset=utf-8><title>Tokens</title>"
        f"<pre style='white-space:pre-wrap'>{''.join(parts)}</pre>\n"
    )
