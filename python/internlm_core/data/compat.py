"""datatrove's words, for decisions that must be its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import polars as pl

from internlm_core import _core
from internlm_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Compat", "c4_lines", "c4_paragraphs", "spacy_words", "words_of"]

Compat: TypeAlias = bool | Literal["spacy", "blanks"]
"""Whether to decide as datatrove 0.10 does, and over whose words: True is `spacy`."""


def words_of(compat: object) -> str | None:
    """The words that a `compat` setting counts: `spacy`, `blanks`, or None where it is off.

    Raises:
        ConfigError: Any other value, the languages of datatrove's other word cutters among them.
    """
    if isinstance(compat, bool):
        return "spacy" if compat else None
    if compat in ("spacy", "blanks"):
        return str(compat)
    raise ConfigError(
        f"compat {compat!r}: expected true or 'spacy' (English words as spaCy cuts them, what "
        "datatrove's filters count unless told otherwise), 'blanks' (words parted by blanks) or "
        "false; datatrove's words for other languages (jieba for cmn, spaCy's other languages, stanza, "
        "…) are not reproduced"
    )


def spacy_words(texts: pl.Series | Sequence[str], threads: int = 0) -> pl.DataFrame:
    """English words and sentences as spaCy 3.8 cuts them (`spacy.blank("en")`, sentencizer).

    Args:
        texts: Strings; null counts as empty.
        threads: 0 means all cores; the result does not depend on it.

    Returns:
        One row a text: `words`, its tokens in order without those that are blanks, and `sentences`,
        how many the rule-based sentencizer finds (1 for an empty text, as datatrove counts).
    """
    rows = _core.spacy_words(pl.Series(texts, dtype=pl.String), threads)
    return pl.DataFrame(
        {"words": [row[0] for row in rows], "sentences": [row[1] for row in rows]},
        schema={"words": pl.List(pl.String), "sentences": pl.UInt32},
    )


def c4_lines(
    texts: pl.Series | Sequence[str],
    *,
    split_paragraph: bool = True,
    remove_citations: bool = True,
    filter_no_terminal_punct: bool = True,
    min_num_sentences: int = 5,
    min_words_per_line: int = 3,
    max_word_length: int = 1000,
    filter_lorem_ipsum: bool = True,
    filter_javascript: bool = True,
    filter_curly_bracket: bool = True,
    filter_policy: bool = True,
    threads: int = 0,
) -> pl.DataFrame:
    """C4's filter of lines (Raffel et al. 2020, section 2.2) as datatrove 0.10 runs it.

    The arguments, their names and their defaults are those of datatrove's `C4QualityFilter`; FineWeb
    set `filter_no_terminal_punct` to False. Sentences are spaCy's English ones.

    Args:
        texts: Strings; null counts as empty.
        split_paragraph: Judge lines; False judges sentences.
        remove_citations: Take out `[1]`, `[edit]` and `[citation needed]`.
        filter_no_terminal_punct: Drop lines that don't end with `.`, `?`, `!`, `"` or `'`, and those that
            end with `...`.
        min_num_sentences: Sentences that must stay; -1 asks for none.
        min_words_per_line: Words (between blanks) that a line must have; -1 asks for none.
        max_word_length: Characters that no word of a line may pass; -1 sets no bound.
        filter_lorem_ipsum: Drop pages with "lorem ipsum" on a line that would stay.
        filter_javascript: Drop lines that mention JavaScript.
        filter_curly_bracket: Drop pages with `{` on a line that would stay.
        filter_policy: Drop lines about cookies, privacy and terms of use.
        threads: 0 means all cores; the result does not depend on it.

    Returns:
        One row a text: `keep`, `reason` (`lorem_ipsum`, `curly_bracket`, `too_few_sentences`; null where
        it is kept), `text` (the lines that stay; null where it is dropped), `sentences`, and how many
        lines there were by fate (`lines`, `kept`, `no_terminal_punctuation`, …), up to the line that
        drops the page.
    """
    kept, reasons, sentences, lines = _core.c4_filter(
        pl.Series(texts, dtype=pl.String),
        split_paragraph,
        remove_citations,
        filter_no_terminal_punct,
        (min_num_sentences, min_words_per_line, max_word_length),
        (filter_lorem_ipsum, filter_javascript, filter_curly_bracket, filter_policy),
        threads,
    )
    reason = pl.Series("reason", reasons, dtype=pl.String)
    return pl.DataFrame(
        {
            "keep": reason.is_null(),
            "reason": reason,
            "text": pl.Series("text", kept, dtype=pl.String),
            "sentences": sentences,
            **lines,
        }
    )


def c4_paragraphs(texts: pl.Series | Sequence[str]) -> pl.Series:
    """Whether each text has three lines of 200 characters or more, as datatrove's `C4ParagraphFilter`.

    Lines are parted by line feeds; null counts as empty.
    """
    lines = pl.Series("keep", texts, dtype=pl.String).fill_null("").to_frame()
    long = pl.col("keep").str.split("\n").list.eval(pl.element().str.len_chars() >= 200).list.sum()
    return lines.select(long >= 3).to_series()
