"""What a vocabulary holds and how well it fits texts; two vocabularies side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from internlm_core.tokenizer.tokenize import Tokenizer

    Texts = Mapping[str, str] | Iterable[pl.DataFrame]

__all__ = ["Description", "compare", "describe"]

_LABELS = ("file", "lang", "source")
_LONGEST = 20


@dataclass(frozen=True)
class Description:
    """Facts of a vocabulary.

    Attributes:
        unreachable: Ids of ordinary tokens that are text but whose text encodes to something else than
            one token.
        parts: Number of ordinary tokens that are a part of a character, which no text is alone.
        longest: Ids of the longest ordinary tokens, longest first.
        coverage: Share of the ordinary tokens that occur in the texts, 0 to 1.
        whole: Share of the texts' bytes that are written with tokens of whole characters, 0 to 1.
        texts: A row for each text, or for each `file`, `lang` and `source` of the records: `by`,
            `text`, `documents`, `bytes`, `tokens`, `bytes_per_token`.
    """

    unreachable: list[int]
    parts: int
    longest: list[int]
    coverage: float
    whole: float
    texts: pl.DataFrame


def describe(tokenizer: Tokenizer, texts: Texts = ()) -> Description:
    """Look through a vocabulary, and encode texts with it.

    Args:
        tokenizer: The vocabulary.
        texts: Texts by name; or frames of records with `text` and, where known, `lang` and `source`
            (and `file`), which are told apart.
    """
    special = set(tokenizer.special_tokens.values())
    pieces = {i: tokenizer.id_to_bytes(i) for i in range(tokenizer.vocab_size) if i not in special}
    pieces = {token: piece for token, piece in pieces.items() if piece}
    # Equal after a lossy reading: the bytes are text.
    read = {token: piece.decode("utf-8", "replace") for token, piece in pieces.items()}
    whole = {token: text for token, text in read.items() if text.encode() == pieces[token]}
    ids, offsets = tokenizer.encode_batch(list(whole.values()))
    # A byte of a byte-fallback vocabulary gives way to a character of the same bytes.
    firsts = np.append(ids, 0)[offsets[:-1]].tolist()
    same = [pieces.get(first) == pieces[token] for first, token in zip(firsts, whole, strict=True)]
    reached = (np.diff(offsets) == 1) & np.array(same, bool)
    table, counts = _measured(tokenizer, texts)
    lengths = np.array([len(pieces.get(i, b"")) for i in range(tokenizer.vocab_size)])
    is_part = np.array([i in pieces and i not in whole for i in range(tokenizer.vocab_size)], bool)
    written = counts * lengths
    return Description(
        unreachable=[token for token, found in zip(whole, reached, strict=True) if not found],
        parts=len(pieces) - len(whole),
        longest=sorted(pieces, key=lambda token: (-len(pieces[token]), token))[:_LONGEST],
        coverage=int(np.count_nonzero(counts[list(pieces)])) / max(1, len(pieces)),
        whole=1 - float(written[is_part].sum()) / max(1.0, float(written.sum())),
        texts=table,
    )


def compare(first: Tokenizer, second: Tokenizer, texts: Texts) -> pl.DataFrame:
    """Two vocabularies on the same texts, told apart as `describe` does.

    Returns:
        A row for each: `by`, `text`, `bytes`, `first` and `second` (bytes a token), `change` (the
        second's over the first's, 1.0 for equal).
    """
    # Read twice: frames may come from a generator.
    held = texts if isinstance(texts, Mapping) else list(texts)
    one, two = _measured(first, held)[0], _measured(second, held)[0]["bytes_per_token"]
    ours = one["bytes_per_token"]
    return one.select("by", "text", "bytes").with_columns(
        ours.alias("first"), two.alias("second"), (two / ours).alias("change")
    )


def _measured(tokenizer: Tokenizer, texts: Texts) -> tuple[pl.DataFrame, np.ndarray]:
    """The table of a description without `coverage`, and how often each id occurs."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    parts = []
    for frame in _frames(texts):
        ids, offsets = tokenizer.encode_batch(frame["text"])
        counts += np.bincount(ids, minlength=len(counts))
        sizes = frame.with_columns(
            pl.col("text").str.len_bytes().cast(pl.Int64).alias("bytes"),
            pl.Series("tokens", np.diff(offsets), pl.Int64),
        )
        for label in (name for name in ("text name", *_LABELS) if name in frame.columns):
            named = pl.col(label).cast(pl.String).fill_null("unknown").alias("name")
            groups = sizes.group_by(named, maintain_order=True)
            part = groups.agg(
                pl.len().cast(pl.Int64).alias("documents"), pl.col("bytes", "tokens").sum()
            )
            parts.append(part.with_columns(pl.lit(label.removesuffix(" name")).alias("by")))
    schema: dict[str, pl.DataType] = dict.fromkeys(("by", "text"), pl.String())
    schema |= dict.fromkeys(("documents", "bytes", "tokens"), pl.Int64())
    if not parts:
        return pl.DataFrame(schema={**schema, "bytes_per_token": pl.Float64()}), counts
    groups = pl.concat(parts).group_by("by", "name", maintain_order=True)
    table = groups.agg(pl.col("documents", "bytes", "tokens").sum()).rename({"name": "text"})
    ratio = pl.col("bytes") / pl.max_horizontal("tokens", pl.lit(1))
    order = ["text", *_LABELS]
    rank = pl.col("by").replace_strict(order, list(range(len(order))), return_dtype=pl.Int8)
    # In a fixed order, texts as they were given.
    table = table.sort(rank, maintain_order=True)
    return table.with_columns(ratio.alias("bytes_per_token")), counts


def _frames(texts: Texts) -> Iterable[pl.DataFrame]:
    if not isinstance(texts, Mapping):
        return texts
    schema = dict.fromkeys(("text name", "text"), pl.String)
    return (pl.DataFrame([(name, text)], schema, orient="row") for name, text in texts.items())
