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
    english = corpus.english(4_000_000 // scale)
    yield _task("Gopher rules, English", english, _GOPHER, blanks_only=False)
    yield _task("Gopher and FineWeb rules, English", english, _FINEWEB, blanks_only=False)
    chinese = corpus.chinese(4_000_000 // scale)
    if chinese.texts:
        # datatrove's Chinese splitter needs a package of its own; over blanks both do the same work.
        yield _task("Gopher rules, Chinese", chinese, _GOPHER, blanks_only=True)


def _task(name: str, texts: corpus.Texts, filters: tuple[str, ...], *, blanks_only: bool) -> Task:
    peers = [
        Contender(
            "datatrove, words by blanks", _theirs, (texts.texts, filters, True), ("datatrove",)
        )
    ]
    if not blanks_only:
        stock = Contender(
            "datatrove", _theirs, (texts.texts, filters, False), ("datatrove", "spacy")
        )
        peers.insert(0, stock)
    return Task(
        room="filter",
        name=name,
        unit="MB/s",
        amount=texts.size / 1e6,
        ours=Contender(OURS, _ours, (texts.texts, filters), ("internlm-core", "polars")),
        peers=tuple(peers),
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


def _ours(texts: list[str], filters: tuple[str, ...]) -> Job:
    import polars as pl
    from internlm_core.data.rules import RuleSet, filter_frame, load_rules

    frame = pl.DataFrame({"text": texts})
    fineweb = [r for r in load_rules("fineweb").words if r.reason.startswith("fineweb.")]
    rules = [*load_rules("gopher").words, *(fineweb if "fineweb" in filters else [])]
    chosen = RuleSet(words=tuple(rules))
    return Job(
        run=lambda _: filter_frame(frame, chosen, compat=True, threads=0),
        result=lambda decisions: decisions["keep"].to_list(),
    )


def _theirs(texts: list[str], filters: tuple[str, ...], blanks: bool) -> Job:
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
    judges = []
    for name in filters:
        module: Any = import_module(f"datatrove.pipeline.filters.{names[name][0]}")
        if blanks:
            module.split_into_words = lambda text, language=None: text.split()  # noqa: ARG005
        judges.append(getattr(module, names[name][1])().filter)

    def keep(document: Document) -> bool:
        try:
            return all(judge(document) is True for judge in judges)
        except ZeroDivisionError:
            # It divides by the number of words or lines; such a text is dropped.
            return False

    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    return Job(run=lambda _: [keep(document) for document in documents])
