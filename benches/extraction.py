"""Main text of pages beside trafilatura and resiliparse as they come: F1 on gold pages, pages/s."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import corpus
from benches.harness import OURS, Contender, Task
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["f1_of_pages", "tasks"]

_TOKEN = re.compile(r"\w+")
_GRAM = 4
_PACKAGES = ("internlm-core", "resiliparse", "selectolax", "trafilatura")


def tasks(*, quick: bool) -> Iterator[Task]:
    """Each of our methods on the gold pages, one page after another."""
    pages, gold, other = _gold(20 if quick else None)
    if not pages:
        return
    facts = {
        "pages": len(pages),
        "bytes": sum(map(len, pages)),
        "digest": hashlib.sha256(b"".join(pages)).hexdigest()[:16],
    }
    peers = (
        Contender("trafilatura", _trafilatura, (pages, False), ("trafilatura",)),
        Contender("trafilatura, fast", _trafilatura, (pages, True), ("trafilatura",)),
        Contender("resiliparse", _resiliparse, (pages,), ("resiliparse",)),
    )
    against = {"hybrid": peers, "trafilatura": peers[:1], "resiliparse": peers[2:]}
    for method, others in against.items():
        yield Task(
            room="extraction",
            name=f"Main text of news pages, {method}",
            unit="pages/s",
            amount=len(pages),
            ours=Contender(OURS, _ours, (pages, method), _PACKAGES),
            peers=others,
            judge=lambda results: _judge(results, gold, other),
            facts=facts,
        )
    if len(os.sched_getaffinity(0)) < 2:
        return
    yield Task(
        room="extraction",
        name="Main text of news pages, hybrid, two processes",
        unit="pages/s",
        amount=len(pages),
        ours=Contender(OURS, _ours_parallel, (pages, 2), _PACKAGES),
        peers=(Contender("hybrid, one process", _ours_parallel, (pages, 1), _PACKAGES),),
        judge=lambda results: _judge(results, gold, other),
        facts=facts,
    )


def f1_of_pages(texts: Sequence[str], gold: Sequence[str]) -> float:
    """F1 of article-extraction-benchmark: of mean precision and mean recall of 4-grams.

    Grams are of words, counted as often as they occur; a text of fewer words is one gram.
    """
    scores = [_precision_recall(_grams(a), _grams(b)) for a, b in zip(texts, gold, strict=True)]
    precision = sum(p for p, _ in scores) / len(scores)
    recall = sum(r for _, r in scores) / len(scores)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _grams(text: str) -> Counter[tuple[str, ...]]:
    words = _TOKEN.findall(text)
    grams = (tuple(words[start : start + _GRAM]) for start in range(max(1, len(words) - _GRAM + 1)))
    return Counter(gram for gram in grams if gram)


def _precision_recall(found: Counter[Any], true: Counter[Any]) -> tuple[float, float]:
    hits = (found & true).total()
    # Nothing found where there is nothing is right.
    precision = hits / found.total() if found else float(not true)
    recall = hits / true.total() if true else float(not found)
    return precision, recall


def _judge(
    results: Mapping[str, Any], gold: Sequence[str], other: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """F1 on all pages, and on the half that the hybrid was not tuned on."""
    return {
        name: {
            "f1": f1_of_pages(texts, gold),
            "f1_of_held_out_half": f1_of_pages(
                [texts[number] for number in other], [gold[number] for number in other]
            ),
        }
        for name, texts in results.items()
    }


def _gold(count: int | None) -> tuple[list[bytes], list[str], list[int]]:
    """Pages, their texts, and which of them are held out: by the name's digest."""
    staged = corpus.staged_folder()
    folder = (staged or Path()) / "text" / "html" / "article-extraction"
    truth_file = folder / "ground-truth.json"
    if staged is None or not truth_file.is_file():
        return [], [], []
    truth = json.loads(truth_file.read_text("utf-8"))
    names = sorted(truth)[:count]
    pages = [gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()) for name in names]
    held = [n for n, name in enumerate(names) if hashlib.sha256(name.encode()).digest()[0] % 2]
    return pages, [truth[name]["articleBody"] for name in names], held


def _ours(pages: list[bytes], method: str) -> Job:
    from internlm_core.data.extraction import extract_html

    def run(_: None) -> list[str]:
        found = (extract_html(page, method=method) for page in pages)
        return [one.text if one else "" for one in found]

    return Job(run=run)


def _ours_parallel(pages: list[bytes], workers: int) -> Job:
    import multiprocessing

    from internlm_core.data.extraction import extract_pages

    # The harness's processes are daemons, which may have no children unless told so.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # noqa: SLF001

    def run(_: None) -> list[str]:
        found = extract_pages(pages, workers=workers)
        return [one.extracted.text if one.extracted else "" for one in found]

    return Job(run=run)


def _trafilatura(pages: list[bytes], fast: bool) -> Job:
    import trafilatura

    def run(_: None) -> list[str]:
        texts = [page.decode("utf-8", "replace") for page in pages]
        return [trafilatura.extract(t, fast=fast, include_comments=False) or "" for t in texts]

    return Job(run=run)


def _resiliparse(pages: list[bytes]) -> Job:
    from resiliparse.extract.html2text import extract_plain_text

    def run(_: None) -> list[str]:
        texts = [page.decode("utf-8", "replace") for page in pages]
        return [extract_plain_text(text, main_content=True) for text in texts]

    return Job(run=run)
