"""dolma's taggers and Data-Juicer's operators on a list of texts."""

from __future__ import annotations

import importlib
from typing import Any

from benches.worker import Job

__all__ = ["OPERATORS", "data_juicer", "dolma"]

# The five of its operators that its published recipes for web text use most.
OPERATORS = {
    "alphanumeric_filter": "AlphanumericFilter",
    "character_repetition_filter": "CharacterRepetitionFilter",
    "special_characters_filter": "SpecialCharactersFilter",
    "words_num_filter": "WordsNumFilter",
    "word_repetition_filter": "WordRepetitionFilter",
}
_BATCH = 1000


def dolma(texts: list[str]) -> Job:
    """Its Gopher and C4 taggers; the result is the number of statistics and the sum of words."""
    importlib.import_module("dolma.taggers")
    registry: Any = importlib.import_module("dolma.core.registry").TaggerRegistry
    types: Any = importlib.import_module("dolma.core.data_types")
    taggers = [registry.get(name)() for name in ("gopher_v1", "c4_v1")]
    documents = [
        types.Document(source="", id=str(number), text=text, version="")
        for number, text in enumerate(texts)
    ]

    def summary(results: list[list[Any]]) -> dict[str, Any]:
        spans = [span for result in results for part in result for span in part.spans]
        words = [span.score for span in spans if span.type == "word_count"]
        return {"statistics": len({span.type for span in spans}), "words": int(sum(words))}

    return Job(
        run=lambda _: [[tagger.predict(document) for tagger in taggers] for document in documents],
        result=summary,
    )


def data_juicer(texts: list[str]) -> Job:
    """`OPERATORS`, by batches as it runs them; the result as of `dolma`."""
    loaded = [
        getattr(importlib.import_module(f"data_juicer.ops.filter.{module}"), name)()
        for module, name in OPERATORS.items()
    ]

    def run(_: None) -> list[dict[str, Any]]:
        statistics: list[dict[str, Any]] = []
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            samples: dict[str, Any] = {"text": batch, "__dj__stats__": [{} for _ in batch]}
            for operator in loaded:
                samples = operator.compute_stats_batched(samples)
            statistics += samples["__dj__stats__"]
        return statistics

    def summary(statistics: list[dict[str, Any]]) -> dict[str, Any]:
        words = sum(int(one.get("num_words", 0)) for one in statistics)
        return {"statistics": len({name for one in statistics for name in one}), "words": words}

    return Job(run=run, result=summary)
