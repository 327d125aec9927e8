"""Near-duplicates beside rensa and datasketch: speed, recall and precision, from text to decision.

All work alike: words (runs of letters and digits, in lower case), 5-grams, 128 hash functions,
threshold 0.7. The peers take lists of tokens, so the cutting into words and 5-grams, which their
users write in Python, is part of their time as it is part of ours; a row "its 5-grams given" leaves
it out.

Recall: of all pairs with exact Jaccard ≥ 0.7, those of which one is removed. Precision: of the
removed documents, those that have a kept one with exact Jaccard ≥ 0.7. rensa's rho mode flags all
members of a group and does not say which to keep: its recall is of pairs with both flagged, its
precision of flagged documents that have any similar one.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

from benches import corpus
from benches.harness import OURS, Contender, Task
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["exact_pairs", "quality", "tasks"]

THRESHOLD, NGRAM, PERMUTATIONS = 0.7, 5, 128
_WORD = re.compile(r"[^\W_]+")
# Share of words changed in a planted copy; 3.8 % of words is where 5-grams fall to 0.7.
_MOST_CHANGED = 0.07


def tasks(*, quick: bool) -> Iterator[Task]:
    """One task: prose and code with planted copies, edited more and less."""
    texts = with_copies(2_000_000 if quick else 16_000_000)
    documents = texts.texts
    yield Task(
        room="dedup",
        name="Near-duplicates, MinHash 128/5/0.7",
        unit="MB/s",
        amount=texts.size / 1e6,
        ours=Contender(OURS, _ours, (documents,), ("internlm-core", "polars")),
        peers=(
            Contender("rensa", _rensa, (documents, False), ("rensa",)),
            Contender("rensa, its 5-grams given", _rensa, (documents, True), ("rensa",)),
            Contender("rensa rho, flags only", _rensa_rho, (documents,), ("rensa",)),
            Contender("datasketch", _datasketch, (documents,), ("datasketch", "numpy")),
        ),
        judge=lambda results: _judge(documents, results),
        facts=texts.facts(),
    )


def with_copies(size: int) -> corpus.Texts:
    """Pages of English and code; one in five stands there again with words changed."""
    english, code = corpus.english(size * 2 // 3), corpus.code(size // 3)
    rng = random.Random(corpus.SEED)
    pages = [
        text[start : start + 4_000]
        for text in (*english.texts, *code.texts)
        for start in range(0, len(text), 4_000)
    ]
    copies = [_edited(text, rng) for text in rng.sample(pages, len(pages) // 5)]
    pages += copies
    rng.shuffle(pages)
    return corpus.Texts(pages, f"{english.source}, {code.source}, a sixth of it edited copies")


def _edited(text: str, rng: random.Random) -> str:
    rate = rng.uniform(0, _MOST_CHANGED)
    return _WORD.sub(lambda m: f"w{rng.randrange(10**6)}" if rng.random() < rate else m[0], text)


def shingles(text: str) -> list[str]:
    """5-grams of words; a shorter text is one."""
    words = _WORD.findall(text.lower())
    last = max(1, len(words) - NGRAM + 1)
    return [" ".join(words[at : at + NGRAM]) for at in range(last)] if words else []


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


class Flags(list[bool]):
    """True for each document that has a duplicate, whichever is kept."""


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


def _ours(texts: list[str]) -> Job:
    import polars as pl
    from internlm_core.data.near_duplicates import dedup

    column = pl.Series(texts)
    return Job(
        run=lambda _: dedup(column, threshold=THRESHOLD, ngram=NGRAM, permutations=PERMUTATIONS),
        result=lambda table: table["keep"].to_list(),
    )


def _rensa(texts: list[str], given: bool) -> Job:
    """As its guide shows: a deduplicator with LSH, which checks candidates by their signatures."""
    import rensa

    def run(prepared: list[list[str]] | None) -> list[bool]:
        found = rensa.RMinHashDeduplicator(threshold=THRESHOLD, num_perm=PERMUTATIONS, use_lsh=True)
        cut = map(shingles, texts) if prepared is None else prepared
        return list(found.add_pairs((str(n), tokens) for n, tokens in enumerate(cut)))

    return Job(run=run, prepare=lambda: [shingles(text) for text in texts] if given else None)


def _rensa_rho(texts: list[str]) -> Job:
    """Its fastest way, which samples token positions."""
    import rensa

    def run(_: object) -> Flags:
        tokens = [shingles(text) for text in texts]
        matrix = rensa.RMinHash.digest_matrix_from_token_sets_rho(tokens, PERMUTATIONS, 42)
        index = rensa.RMinHashLSH(THRESHOLD, PERMUTATIONS, 16)
        return Flags(index.query_duplicate_flags_matrix_one_shot(matrix))

    return Job(run=run)


def _datasketch(texts: list[str]) -> Job:
    """As its guide shows: each document asks the index, and enters it if nothing is found."""
    from datasketch import MinHash, MinHashLSH

    def run(_: object) -> list[bool]:
        index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
        keep = []
        for number, text in enumerate(texts):
            signature = MinHash(num_perm=PERMUTATIONS)
            signature.update_batch([s.encode() for s in set(shingles(text))])
            keep.append(not index.query(signature))
            if keep[-1]:
                index.insert(number, signature)
        return keep

    return Job(run=run)
