"""Near-duplicates beside the peers: speed, recall and precision, from JSON lines to decisions.

All read the same file (`id`, `text`) and work alike: 5-grams of words, 128 hash functions, threshold
0.7 (`benches.peers.near_duplicates` has each). Slow peers get a smaller file, ours the same one.

Recall: of all pairs with exact Jaccard ≥ 0.7, those of which one is removed. Precision: of the
removed documents, those that have a kept one with exact Jaccard ≥ 0.7. rensa's rho mode flags all
members of a group and does not say which to keep: its recall is of pairs with both flagged, its
precision of flagged documents that have any similar one.

Then ours alone: two threads beside one, Chinese beside English of as many bytes, and the largest
memory of the process at 100,000 documents.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import corpus
from benches.harness import OURS, Contender, Task
from benches.peers import near_duplicates as peers
from benches.peers.near_duplicates import NGRAM, PERMUTATIONS, THRESHOLD, UNIT, Flags, shingles
from benches.worker import ROOT, Job, peak_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["exact_pairs", "flag_quality", "quality", "tasks"]

_PACKAGES = ("internlm-core", "polars")
# Share of words changed in a planted copy; 3.8 % of words is where 5-grams fall to 0.7.
_MOST_CHANGED = 0.07


def tasks(*, quick: bool) -> Iterator[Task]:
    """Beside the peers on English and code, then with Chinese; then ours alone."""
    size = 2_000_000 if quick else 16_000_000
    quickest = (
        _elsewhere("daft", peers.daft),
        Contender("gaoya", peers.gaoya, packages=("gaoya",)),
        Contender("rensa", peers.rensa, packages=("rensa",)),
    )
    others = (
        Contender("rensa rho, flags only", peers.rensa_rho, packages=("rensa",)),
        Contender("datasketch", peers.datasketch, packages=("datasketch", "numpy")),
    )
    slow = (
        _elsewhere("text-dedup", peers.text_dedup),
        Contender("datatrove", peers.datatrove, packages=("datatrove",)),
    )
    english, code = corpus.english(size * 2 // 3), corpus.code(size // 3)
    prose, mixed = (
        with_copies(english, code),
        with_copies(corpus.english(size // 4), corpus.chinese(size // 4), corpus.code(size // 4)),
    )
    few = corpus.Texts(prose.texts[: max(200, len(prose.texts) // 8)], prose.source)
    with tempfile.TemporaryDirectory() as folder:
        for name, texts, contenders in (
            ("English and code", prose, quickest + others),
            # gaoya takes a Chinese page for a word or two, and all such pages for alike: for minutes.
            ("English, Chinese, code", mixed, (quickest[0], quickest[2], others[1])),
            (f"{len(few.texts):,} of them", few, slow),
        ):
            yield _beside(name, texts, contenders, Path(folder))
        yield from _alone(Path(folder), prose, size, quick)


def _elsewhere(name: str, factory: Any) -> Contender:
    """A peer with an environment of its own."""
    python = ROOT / ".venv-peers" / name / "bin" / "python"
    return Contender(name, factory, packages=(name,), python=python)


def _beside(name: str, texts: corpus.Texts, contenders: Iterable[Contender], folder: Path) -> Task:
    path = _written(folder, texts.texts)
    return Task(
        room="dedup",
        name=f"JSONL to decisions, {name}, 128/5/0.7",
        unit="MB/s",
        amount=texts.size / 1e6,
        ours=Contender(OURS, _ours, (path,), _PACKAGES),
        peers=tuple(replace(one, arguments=(path,)) for one in contenders),
        judge=lambda results: _judge(texts.texts, results),
        facts=texts.facts(),
    )


def _alone(folder: Path, prose: corpus.Texts, size: int, quick: bool) -> Iterator[Task]:
    """What must hold of ours alone; the ratio is the first side's speed to the second's."""
    if (os.cpu_count() or 1) > 1:
        path = _written(folder, prose.texts * 4)
        yield Task(
            room="dedup",
            name="JSONL to decisions, two threads and one",
            unit="MB/s",
            amount=prose.size * 4 / 1e6,
            ours=Contender(f"{OURS}, 2 threads", _ours, (path, 2), _PACKAGES),
            peers=(Contender(f"{OURS}, 1 thread", _ours, (path, 1), _PACKAGES),),
            judge=_same_decisions,
            facts=prose.facts(),
        )
    sides = [corpus.english(size // 2), corpus.chinese(size // 2)]
    bytes_each = min(texts.size for texts in sides)
    english, chinese = (_first_bytes(texts, bytes_each) for texts in sides)
    yield Task(
        room="dedup",
        name="JSONL to decisions, English beside as many bytes of Chinese",
        unit="MB/s",
        amount=bytes_each / 1e6,
        ours=Contender(f"{OURS}, English", _ours, (_written(folder, english.texts),), _PACKAGES),
        peers=(
            Contender(f"{OURS}, Chinese", _ours, (_written(folder, chinese.texts),), _PACKAGES),
        ),
        judge=lambda results: {name: {"kept": sum(keep)} for name, keep in results.items()},
        facts=english.facts(),
    )
    count = 2_000 if quick else 100_000
    path, written = _many(folder, prose, count)
    yield Task(
        room="dedup",
        name=f"Largest memory of the process, {count:,} documents",
        unit="MB/s",
        amount=written / 1e6,
        ours=Contender(OURS, _peak_of_ours, (path,), _PACKAGES),
        peers=(Contender("gaoya", _peak_of_gaoya, (path,), ("gaoya",)),),
        judge=lambda results: {name: {"peak_gb": peak / 1e9} for name, peak in results.items()},
        facts={"n": count, "bytes": written, "source": f"words of {prose.source}"},
    )


def _written(folder: Path, texts: Iterable[str]) -> str:
    """A file of JSON lines; ids are row numbers."""
    path = folder / f"{len(list(folder.iterdir()))}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            line = json.dumps({"id": str(number), "text": text}, ensure_ascii=False)
            file.write(line + "\n")
    return str(path)


def _first_bytes(texts: corpus.Texts, size: int) -> corpus.Texts:
    chosen: list[str] = []
    for text in texts.texts:
        if size <= 0:
            break
        chosen.append(text.encode()[:size].decode(errors="ignore"))
        size -= len(text.encode())
    return corpus.Texts(chosen, texts.source)


def _many(folder: Path, prose: corpus.Texts, count: int) -> tuple[str, int]:
    """Documents of the lengths and words of pages, in an order of their own: none is like another."""
    import numpy as np

    rng = np.random.default_rng(corpus.SEED)
    pages = [np.array(text.split(), dtype=object) for text in prose.texts]
    size = 0

    def documents() -> Iterator[str]:
        nonlocal size
        for number in range(count):
            text = " ".join(rng.permutation(pages[number % len(pages)]))
            size += len(text.encode())
            yield text

    return _written(folder, documents()), size


def with_copies(*parts: corpus.Texts) -> corpus.Texts:
    """Pages of texts; one in five stands there again with words changed."""
    rng = random.Random(corpus.SEED)
    pages = [
        text[start : start + 4_000]
        for part in parts
        for text in part.texts
        for start in range(0, len(text), 4_000)
    ]
    pages += [_edited(text, rng) for text in rng.sample(pages, len(pages) // 5)]
    rng.shuffle(pages)
    source = ", ".join(part.source for part in parts)
    return corpus.Texts(pages, f"{source}, a sixth of it edited copies")


def _edited(text: str, rng: random.Random) -> str:
    rate = rng.uniform(0, _MOST_CHANGED)
    return UNIT.sub(lambda m: f"w{rng.randrange(10**6)}" if rng.random() < rate else m[0], text)


def exact_pairs(texts: Sequence[str], threshold: float = THRESHOLD) -> list[tuple[int, int]]:
    """All pairs whose sets of 5-grams have a Jaccard similarity of at least `threshold`.

    Every pair that shares a 5-gram is looked at: entry (i, j) of M·Mᵀ, M documents by 5-grams, is
    the size of the intersection.
    """
    import numpy as np
    from scipy import sparse

    numbers: dict[str, int] = {}
    sets = [{numbers.setdefault(s, len(numbers)) for s in shingles(text)} for text in texts]
    sizes = np.array([len(one) for one in sets])
    matrix = sparse.csr_matrix(
        (
            np.ones(sizes.sum(), np.int32),
            np.fromiter((s for one in sets for s in one), np.int64),
            np.concatenate(([0], sizes.cumsum())),
        ),
        shape=(len(sets), max(1, len(numbers))),
    )
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(sets), 500):
        shared = (matrix[start : start + 500] @ matrix.T).tocoo()
        left, right = shared.row + start, shared.col
        similar = shared.data >= threshold * (sizes[left] + sizes[right] - shared.data)
        found = similar & (left < right)
        pairs += zip(left[found].tolist(), right[found].tolist(), strict=True)
    return pairs


def quality(pairs: Sequence[tuple[int, int]], keep: Sequence[bool]) -> dict[str, float | int]:
    """Recall and precision of a decision; see the module."""
    alike: dict[int, list[int]] = {}
    for a, b in pairs:
        alike.setdefault(a, []).append(b)
        alike.setdefault(b, []).append(a)
    settled = sum(not (keep[a] and keep[b]) for a, b in pairs)
    removed = [number for number, kept in enumerate(keep) if not kept]
    sound = sum(any(keep[other] for other in alike.get(number, ())) for number in removed)
    return {
        "removed": len(removed),
        "recall": settled / len(pairs) if pairs else 1.0,
        "precision": sound / len(removed) if removed else 1.0,
    }


def flag_quality(pairs: Sequence[tuple[int, int]], flags: Flags) -> dict[str, float | int]:
    """The same for flags, which remove nothing."""
    alike = {number for pair in pairs for number in pair}
    found = sum(flags[a] and flags[b] for a, b in pairs)
    flagged = [number for number, flag in enumerate(flags) if flag]
    return {
        "flagged": len(flagged),
        "recall": found / len(pairs) if pairs else 1.0,
        "precision": len(alike.intersection(flagged)) / len(flagged) if flagged else 1.0,
    }


def _judge(texts: Sequence[str], results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    pairs = exact_pairs(texts)
    return {
        name: (flag_quality if isinstance(given, Flags) else quality)(pairs, given)
        for name, given in results.items()
    }


def _same_decisions(results: Mapping[str, list[bool]]) -> dict[str, dict[str, Any]]:
    first = next(iter(results.values()))
    return {name: {"same_decisions": keep == first} for name, keep in results.items()}


def _ours(path: str, threads: int = 1) -> Job:
    if threads > 1:
        # The harness keeps all it starts to one core.
        os.sched_setaffinity(0, range(threads))
    from internlm_core.data.near_duplicates import dedup

    settings = {"threshold": THRESHOLD, "ngram": NGRAM, "permutations": PERMUTATIONS}
    return Job(
        run=lambda _: dedup(path, threads=threads, **settings),
        result=lambda table: table["keep"].to_list(),
    )


def _peak_of_ours(path: str) -> Job:
    return Job(run=_ours(path).run, result=_peak)


def _peak_of_gaoya(path: str) -> Job:
    return Job(run=peers.gaoya(path).run, result=_peak)


def _peak(_: object) -> int:
    return peak_memory()
