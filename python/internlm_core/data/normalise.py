"""Repairs that come before any rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from internlm_core import _core
from internlm_core._optional import require
from internlm_core.data.line_rules import LineRules, load_line_rules
from internlm_core.data.statistics import constant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["Normaliser", "normalise", "normalise_texts"]

_CODE = "code"
"""The source whose texts are left alone but for line ends, byte-order marks and NULs."""


class Normaliser:
    """Repairs texts; made once, used on many batches.

    Args:
        form: `nfc`, or `nfkc`, which also folds width, ligatures and superscripts (not in code and
            formulas).
        mojibake: Repair UTF-8 that was read as another encoding, by ftfy, where a quick look
            suspects it.
        lines: Rules about boilerplate lines: the preset `boilerplate` or `c4`, a .toml file, rules,
            or `None` for none.
        citations: Take out citation marks such as `[1]` and `[citation needed]`.

    Raises:
        ConfigError: Wrong line rules.
        MissingExtraError: `mojibake` is asked for and ftfy is not installed.
    """

    def __init__(
        self,
        *,
        form: Literal["nfc", "nfkc"] = "nfc",
        mojibake: bool = True,
        lines: str | Path | Mapping[str, Any] | LineRules | None = "boilerplate",
        citations: bool = False,
    ) -> None:
        self._form, self._citations = form, citations
        rules = lines if isinstance(lines, LineRules) else load_line_rules(lines)
        self._reasons = [rule.reason for rule in rules.lines] if rules else []
        self._lines = rules.compiled() if rules else None
        self._fix: Callable[[str], str] | None = None
        if mojibake:
            # Its other repairs (quotation marks, entities, width) would change what is said.
            self._fix = require("ftfy", extra="data").fix_encoding

    def run(
        self, texts: pl.Series, source: pl.Series | str | None = None, *, threads: int = 0
    ) -> pl.DataFrame:
        """Repair texts; arguments and result as of `normalise`."""
        sources = source if isinstance(source, pl.Series) else constant(source, len(texts))
        edits = _Edits(len(texts))
        rows = np.arange(len(texts))
        fixed, clean = texts, texts
        while True:
            fixed = self._without_mojibake(fixed, sources, rows, edits, threads)
            repaired = self._repair(fixed, sources, rows, edits, threads)
            clean = clean.clone().scatter(rows, repaired) if len(rows) < len(texts) else repaired
            # What went may have parted the halves of a damaged character: once more where anything
            # changed, until nothing does. A text that ftfy mends gets shorter, so this ends.
            again = (
                self._damaged(repaired, sources, threads) & repaired.ne_missing(fixed).to_numpy()
            )
            if not again.any():
                return edits.frame(clean)
            rows, fixed, sources = rows[again], repaired.filter(again), sources.filter(again)

    def _damaged(self, texts: pl.Series, sources: pl.Series, threads: int) -> npt.NDArray[np.bool_]:
        if self._fix is None:
            return np.zeros(len(texts), bool)
        is_code = sources.eq_missing(pl.Series([_CODE])).to_numpy()
        damaged = _core.suspects_mojibake(texts, threads)
        damaged[is_code] = False
        return damaged

    def _without_mojibake(
        self,
        texts: pl.Series,
        sources: pl.Series,
        rows: npt.NDArray[np.intp],
        edits: _Edits,
        threads: int,
    ) -> pl.Series:
        suspected = np.flatnonzero(self._damaged(texts, sources, threads))
        if self._fix is None or not len(suspected):
            return texts
        mended: list[str] = []
        for place in suspected.tolist():
            text = texts[place]
            # Lines may come from different places; ftfy decides on a whole string.
            lines = text.split("\n")
            better = [line if line.isascii() else self._fix(line) for line in lines]
            count = sum(old != new for old, new in zip(lines, better, strict=True))
            mended.append("\n".join(better))
            if count:
                edits.add("mojibake", rows[[place]], [count], [len(text) - len(mended[-1])])
        return texts.clone().scatter(suspected, pl.Series(mended, dtype=pl.String))

    def _repair(
        self,
        texts: pl.Series,
        sources: pl.Series,
        rows: npt.NDArray[np.intp],
        edits: _Edits,
        threads: int,
    ) -> pl.Series:
        clean, counts, characters = _core.normalise_texts(
            texts, sources, self._form, self._citations, self._lines, threads
        )
        for kind, count in counts.items():
            name = f"line.{self._reasons[kind]}" if isinstance(kind, int) else kind
            edits.add(name, rows, count, characters[kind])
        return pl.Series(clean)


class _Edits:
    """Edits and the characters they took or replaced, by kind and row."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._counts: dict[str, npt.NDArray[np.uint32]] = {}
        self._characters: dict[str, npt.NDArray[np.uint32]] = {}

    def add(self, kind: str, rows: Any, counts: Any, characters: Any) -> None:
        for table, values in ((self._counts, counts), (self._characters, characters)):
            if kind not in table:
                table[kind] = np.zeros(self._height, np.uint32)
            table[kind][rows] += np.asarray(values, np.uint32)

    def frame(self, texts: pl.Series) -> pl.DataFrame:
        def struct(table: dict[str, npt.NDArray[np.uint32]]) -> pl.Series:
            return pl.DataFrame(
                {"mojibake": np.zeros(self._height, np.uint32), **table}
            ).to_struct()

        columns = {"text": texts, "edits": struct(self._counts)}
        return pl.DataFrame({**columns, "characters": struct(self._characters)})


def normalise(
    texts: pl.Series,
    source: pl.Series | str | None = None,
    *,
    form: Literal["nfc", "nfkc"] = "nfc",
    mojibake: bool = True,
    lines: str | Path | Mapping[str, Any] | LineRules | None = "boilerplate",
    citations: bool = False,
    threads: int = 0,
) -> pl.DataFrame:
    r"""Repair what is damaged, invisible, blank or not the page's own; twice is the same as once.

    In this order: mojibake; line ends become `\n`; byte-order marks, control and zero-width
    characters, soft hyphens and terminal colours go (not the joiners and marks of direction that
    scripts and emoji need); characters are composed; citation marks go if asked for; blanks at line
    ends go, but for two (a line break in Markdown); runs of blanks inside a line become one (not in
    fenced or indented blocks); boilerplate lines go (never in code, formulas or tables); of runs of
    blank lines two stay.

    Args:
        texts: Strings; null stays null.
        source: Source of all texts or of each; `code` gets line ends, byte-order marks and NULs
            repaired and nothing else.
        form: As of `Normaliser`, like the three that follow.
        mojibake: Needs the extra `data`.
        lines: Rules about boilerplate lines.
        citations: Whether citation marks go.
        threads: 0 means all cores; the result does not depend on it.

    Returns:
        `text`; `edits`, a struct of uint32: how often each kind of edit was made (`line.` and a
        reason for lines, where there were any); `characters`, the same of the characters that were
        taken out or replaced.

    Raises:
        ConfigError: Wrong line rules.
        MissingExtraError: `mojibake` is asked for and ftfy is not installed.
    """
    normaliser = Normaliser(form=form, mojibake=mojibake, lines=lines, citations=citations)
    return normaliser.run(texts, source, threads=threads)


def normalise_texts(
    texts: pl.Series, source: pl.Series | str | None = None, *, threads: int = 0, **settings: Any
) -> pl.Series:
    """The repaired texts alone; arguments and errors as of `normalise`."""
    return normalise(texts, source, threads=threads, **settings)["text"].alias(texts.name)
