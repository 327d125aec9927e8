"""Heuristic filters beside the peers: speed, memory, and whether the decisions are the same."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from benches import corpus, english_words
from benches.harness import OURS, Contender, Task
from benches.peers import taggers
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["tasks"]

_GOPHER = ("quality", "repetition")
_FINEWEB = (*_GOPHER, "fineweb")
_ALL = (*_FINEWEB, "c4")
_ENVIRONMENTS = Path(__file__).resolve().parent.parent / ".venv-peers"
# Of a process that keeps one core; the row on two threads takes the others back.
_ONE_THREAD = "internlm-core, one thread"
_ENGLISH = "internlm-core, English"


def tasks(*, quick: bool) -> Iterator[Task]:
    """Rules as datatrove decides, then all statistics, then the way from files to files."""
    scale = 20 if quick else 1
    english, chinese = corpus.english(4_000_000 // scale), corpus.chinese(4_000_000 // scale)
    # Every other document where the peers take longest.
    some, some_chinese = english.halves()[0], chinese.halves()[0]
    for name, filters in (("Gopher", _GOPHER), ("Gopher and FineWeb", _FINEWEB), ("All", _ALL)):
        peers = [
            Contender("datatrove", _theirs, (some.texts, filters, None), ("datatrove", "spacy"))
        ]
        if filters is not _ALL:
            # C4's filter cuts sentences with spaCy in any case.
            name_of_words = "datatrove, words by blanks"
            blanks = (some.texts, filters, "blanks")
            peers.append(Contender(name_of_words, _theirs, blanks, ("datatrove",)))
        yield _task(f"{name} rules, English", some, (filters, True), *peers)
    if chinese.texts:
        characters = Contender(
            "datatrove, characters as words",
            _theirs,
            (some_chinese.texts, _GOPHER, "characters"),
            ("datatrove",),
        )
        yield _task("Gopher rules, Chinese", some_chinese, (_GOPHER, False), characters)
    yield _statistics("All statistics, English", english, english.texts)
    if chinese.texts:
        yield _statistics("All statistics, Chinese", chinese, chinese.texts, "characters")
        yield _ourselves("All statistics, Chinese beside English", chinese, 1, _ENGLISH, english)
    yield _ourselves("All statistics, two threads", english, 2, _ONE_THREAD, english)
    yield english_words.task(some)
    yield _pipeline(english)


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


def _statistics(
    name: str, texts: corpus.Texts, all_texts: list[str], words: str | None = None
) -> Task:
    """Nobody stops at the first rule that fails: everything is measured on every document."""

    def elsewhere(name: str, factory: Callable[..., Job], package: str) -> Contender:
        python = _ENVIRONMENTS / package.removeprefix("py-") / "bin" / "python"
        return Contender(name, factory, (all_texts,), (package,), python)

    stock = (
        Contender(
            "datatrove, all filters", _measure_all, (all_texts, words), ("datatrove", "spacy")
        ),
    )
    others = (
        elsewhere("dolma, Gopher and C4 taggers", taggers.dolma, "dolma"),
        elsewhere("Data-Juicer, five operators", taggers.data_juicer, "py-data-juicer"),
    )
    return Task(
        room="filter",
        name=name,
        unit="MB/s",
        amount=texts.size / 1e6,
        ours=Contender(OURS, _measure, (all_texts, 1), ("internlm-core", "polars")),
        peers=(*stock, *others) if words is None else stock,
        judge=dict,
        facts={**texts.facts(), "compares_memory": True},
    )


def _ourselves(
    name: str, texts: corpus.Texts, threads: int, other: str, others: corpus.Texts
) -> Task:
    """Ours in two settings; the texts are of (nearly) the same size."""
    packages = ("internlm-core", "polars")
    return Task(
        room="filter",
        name=name,
        unit="MB/s",
        amount=texts.size / 1e6,
        ours=Contender(OURS, _measure, (texts.texts, threads), packages),
        peers=(Contender(other, _measure, (others.texts, 1), packages),),
        judge=dict,
        facts=texts.facts(),
    )


def _pipeline(texts: corpus.Texts) -> Task:
    return Task(
        room="filter",
        name="JSONL.gz to Parquet with Gopher's and FineWeb's rules",
        unit="MB/s",
        amount=texts.size / 1e6,
        ours=Contender(OURS, _our_pipeline, (texts.texts,), ("internlm-core", "polars")),
        peers=(Contender("datatrove", _their_pipeline, (texts.texts,), ("datatrove", "pyarrow")),),
        judge=_judge_kept,
        facts={**texts.facts(), "compares_memory": True},
    )


def _judge_kept(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"kept": kept} for name, kept in results.items()}


def _measure(texts: list[str], threads: int) -> Job:
    import polars as pl
    from internlm_core.data import METRICS, metrics

    if threads > 1:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    series = pl.Series(texts)
    return Job(
        run=lambda _: metrics(series, "en", threads=threads),
        result=lambda table: {"statistics": len(METRICS) - 1, "words": int(table["words"].sum())},
    )


def _measure_all(texts: list[str], words: str | None) -> Job:
    from datatrove.data import Document

    filters = _their_filters(_ALL, words)

    def documents() -> list[Document]:
        # Anew for each round: C4's filter cuts their texts.
        return [Document(text=text, id=str(number)) for number, text in enumerate(texts)]

    def verdicts(document: Document) -> list[bool]:
        found = []
        for one in filters:
            try:
                found.append(one(document) is True)
            except ZeroDivisionError:  # noqa: PERF203  (they fail one by one)
                found.append(False)
        return found

    return Job(
        prepare=documents,
        run=lambda made: [verdicts(document) for document in made],
        result=lambda found: {"filters": len(filters), "kept": sum(map(all, found))},
    )


def _our_pipeline(texts: list[str]) -> Job:
    from internlm_core.data import Pipeline, PipelineConfig

    folder = _write(texts)
    config = PipelineConfig.model_validate(
        {
            "sources": [{"path": "in", "source": "webpages", "lang": "en"}],
            "normalise": {"enabled": False},
            "language": {"enabled": False},
            "filter": {"preset": "fineweb", "compat": True},
            "dedup": {"enabled": False},
            "threads": 1,
        }
    )
    pipeline = Pipeline(config, folder.name)

    def run(out: str) -> int:
        return pipeline.run(out, quiet=True).kept

    return Job(prepare=lambda: tempfile.mkdtemp(dir=folder.name), run=run)


def _their_pipeline(texts: list[str]) -> Job:
    """Its steps one after the other, as its local executor runs one task."""
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import ParquetWriter

    folder = _write(texts)
    filters = _their_steps(_FINEWEB)

    def run(out: str) -> int:
        stream: Any = JsonlReader(str(Path(folder.name) / "in")).run(None, 0, 1)
        for step in filters:
            stream = step.run(stream, 0, 1)
        writer = ParquetWriter(out)
        return sum(1 for _ in writer.run(stream, 0, 1))

    return Job(prepare=lambda: tempfile.mkdtemp(dir=folder.name), run=run)


def _write(texts: list[str]) -> tempfile.TemporaryDirectory[str]:
    """A folder with `in/part.jsonl.gz`."""
    folder = tempfile.TemporaryDirectory()
    source = Path(folder.name) / "in"
    source.mkdir()
    lines = (orjson.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts))
    (source / "part.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines) + b"\n", 6))
    return folder


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
    gopher, fineweb, c4 = (load_rules(name) for name in ("gopher", "fineweb", "c4"))
    own = [r for r in fineweb.words if r.reason.startswith("fineweb.") and "fineweb" in filters]
    last = c4.words if "c4" in filters else ()
    rules = RuleSet(words=(*gopher.words, *own, *last), characters=gopher.characters)
    return Job(
        run=lambda _: filter_frame(frame, rules, compat=compat),
        result=lambda decisions: decisions["keep"].to_list(),
    )


def _their_steps(names: tuple[str, ...], words: str | None = None) -> list[Any]:
    """Its filters by name, over its own words, `blanks` or `characters`."""
    import logging
    from importlib import import_module

    logging.disable(logging.WARNING)
    classes = {
        "quality": ("gopher_quality_filter", "GopherQualityFilter"),
        "repetition": ("gopher_repetition_filter", "GopherRepetitionFilter"),
        "fineweb": ("fineweb_quality_filter", "FineWebQualityFilter"),
        "c4": ("c4_filters", "C4QualityFilter"),
    }
    splitters = {
        "blanks": lambda text, language=None: text.split(),  # noqa: ARG005
        "characters": lambda text, language=None: [c for c in text if not c.isspace()],  # noqa: ARG005
    }
    # English stop words and the length of English words would drop every Chinese text at once.
    without = {"min_stop_words": None, "min_avg_word_length": None} if words == "characters" else {}
    steps = []
    for name in names:
        module: Any = import_module(f"datatrove.pipeline.filters.{classes[name][0]}")
        if words is not None:
            module.split_into_words = splitters[words]
        settings = without if name == "quality" else {}
        steps.append(getattr(module, classes[name][1])(**settings))
    return steps


def _their_filters(names: tuple[str, ...], words: str | None) -> list[Callable[[Any], Any]]:
    return [step.filter for step in _their_steps(names, words)]


def _theirs(texts: list[str], filters: tuple[str, ...], words: str | None) -> Job:
    """As its pipeline runs them: one after another, up to the first that drops the document."""
    from datatrove.data import Document

    judges = _their_filters(filters, words)

    def keep(document: Document) -> bool:
        try:
            return all(judge(document) is True for judge in judges)
        except ZeroDivisionError:
            # It divides by the number of words or lines; such a text is dropped.
            return False

    def documents() -> list[Document]:
        return [Document(text=text, id=str(number)) for number, text in enumerate(texts)]

    return Job(prepare=documents, run=lambda made: [keep(document) for document in made])
