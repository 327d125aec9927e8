"""English words and sentences beside spaCy, whose rules they follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benches.harness import OURS, Contender, Task
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benches.corpus import Texts

__all__ = ["task"]


def task(texts: Texts) -> Task:
    """Strings of all words, and how many sentences."""
    return Task(
        room="filter",
        name="spaCy's English words",
        unit="MB/s",
        amount=texts.size / 1e6,
        ours=Contender(OURS, _ours, (texts.texts,), ("internlm-core", "polars")),
        peers=(Contender("spaCy", _theirs, (texts.texts,), ("spacy",)),),
        judge=_judge,
        facts=texts.facts(),
    )


def _judge(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    ours = results[OURS]
    return {
        name: {"words": sum(len(words) for words, _ in rows), "same": rows == ours}
        for name, rows in results.items()
    }


def _ours(texts: list[str]) -> Job:
    import polars as pl
    from internlm_core.data.compat import spacy_words

    series = pl.Series(texts)
    return Job(run=lambda _: spacy_words(series, threads=1), result=lambda table: table.rows())


def _theirs(texts: list[str]) -> Job:
    import spacy

    english = spacy.blank("en")
    english.add_pipe("sentencizer")

    def read(text: str) -> tuple[list[str], int]:
        document = english(text)
        words = [token.text for token in document if not token.is_space]
        return words, max(1, sum(1 for _ in document.sents))

    return Job(run=lambda _: [read(text) for text in texts])
