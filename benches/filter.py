"""Heuristic filters beside datatrove: speed, and whether the decisions are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benches import corpus
from benches.harness import OURS, Contender, Task
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["tasks"]

_GOPHER = ("quality", "repetition")
_FINEWEB = (*_GOPHER, "fineweb")


def tasks(*, quick: bool) -> Iterator[Task]:
    """Gopher's rules on English and Chinese, and with FineWeb's on English."""
    scale = 20 if quick else 1
    english, chinese = corpus.english(4_000_000 // scale), corpus.chinese(4_000_000 // scale)
    for name, filters in (("Gopher", _GOPHER), ("Gopher and FineWeb", _FINEWEB)):
        stock = Contender(
            "datatrove", _theirs, (english.texts, filters, None), ("datatrove", "spacy")
        )
        blanks = Contender(
            "datatrove, words by blanks",
            _theirs,
            (english.texts, filters, "blanks"),
            ("datatrove",),
        )
        yield _task(f"{name} rules, English", english, (filters, True), stock, blanks)
    if chinese.texts:
        characters = Contender(
            "datatrove, characters as words",
            _theirs,
            (chinese.texts, _GOPHER, "characters"),
            ("datatrove",),
        )
        yield _task("Gopher rules, Chinese", chinese, (_GOPHER, False), characters)


def _task(
    name: str, texts: corpus.Texts, how: tuple[tuple[str, ...], bool], *peers: Contender
) -> Task:
    return Task(
        room="filter",
        name=name,
        unit="MB/s",
        amount=texts.size / 1e6,
        ours=Contender(OURS, _ours, (texts.texts, *how), ("internlm-core", "polars")),
        peers=peers,
        judge=_judge,
        facts=texts.facts(),
    )


def _judge(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    ours = results[OURS]
    figures: dict[str, dict[str, Any]] = {}
    for name, kept in results.items():
        figures[name] = {"kept": f"{sum(kept)} of {len(kept)}"}
        if name != OURS:
            same = sum(a == b for a, b in zip(ours, kept, strict=True))
            figures[name]["same_decisions"] = f"{same} of {len(kept)}"
    return figures


def _ours(texts: list[str], filters: tuple[str, ...], compat: bool) -> Job:
    import polars as pl
    from internlm_core.data.rules import RuleSet, filter_frame, load_rules

    frame = pl.DataFrame({"text": texts})
    gopher, fineweb = load_rules("gopher"), load_rules("fineweb")
    own = [r for r in fineweb.words if r.reason.startswith("fineweb.") and "fineweb" in filters]
    rules = RuleSet(words=(*gopher.words, *own), characters=gopher.characters)
    return Job(
        run=lambda _: filter_frame(frame, rules, compat=compat),
        result=lambda decisions: decisions["keep"].to_list(),
    )


def _theirs(texts: list[str], filters: tuple[str, ...], words: str | None) -> Job:
    """As its pipeline runs them: one after another, up to the first that drops the document."""
    import logging
    from importlib import import_module

    from datatrove.data import Document

    logging.disable(logging.WARNING)
    names = {
        "quality": ("gopher_quality_filter", "GopherQualityFilter"),
        "repetition": ("gopher_repetition_filter", "GopherRepetitionFilter"),
        "fineweb": ("fineweb_quality_filter", "FineWebQualityFilter"),
    }
    splitters = {
        "blanks": lambda text, language=None: text.split(),  # noqa: ARG005
        "characters": lambda text, language=None: [c for c in text if not c.isspace()],  # noqa: ARG005
    }
    # English stop words and the length of English words would drop every Chinese text at once.
    without = {"min_stop_words": None, "min_avg_word_length": None} if words == "characters" else {}
    judges = []
    for name in filters:
        module: Any = import_module(f"datatrove.pipeline.filters.{names[name][0]}")
        if words is not None:
            module.split_into_words = splitters[words]
        settings = without if name == "quality" else {}
        judges.append(getattr(module, names[name][1])(**settings).filter)

    def keep(document: Document) -> bool:
        try:
            return all(judge(document) is True for judge in judges)
        except ZeroDivisionError:
            # It divides by the number of words or lines; such a text is dropped.
            return False

    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    return Job(run=lambda _: [keep(document) for document in documents])
