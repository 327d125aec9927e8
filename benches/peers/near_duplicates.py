"""Near-duplicate finders from a file of JSON lines (id, text) to what is kept, on one core.

128 hash functions, 5-grams of words, threshold 0.7; bands, checks and grouping as each tool's own
guide has them. Those that take tokens get `shingles`, so characters where a script writes no blanks;
those that cut texts themselves do it their way.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Flags", "daft", "datasketch", "datatrove", "gaoya", "rensa", "rensa_rho", "shingles",
           "text_dedup"]  # fmt: skip

THRESHOLD, NGRAM, PERMUTATIONS = 0.7, 5, 128
# Kana, Han and Hangul stand alone; else runs of letters and digits.
_ALONE = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7ff\uf900-\ufaff"
)
UNIT = re.compile(f"[{_ALONE}]|[^\\W_{_ALONE}]+")


def shingles(text: str) -> list[str]:
    """5-grams of words and of characters written without blanks; a shorter text is one."""
    units = UNIT.findall(text.lower())
    last = max(1, len(units) - NGRAM + 1)
    return [" ".join(units[at : at + NGRAM]) for at in range(last)] if units else []


class Flags(list[bool]):
    """True for each document that has a duplicate, whichever is kept."""


def _texts(path: str) -> list[str]:
    import orjson

    with Path(path).open("rb") as file:
        return [orjson.loads(line)["text"] for line in file]


def _firsts(count: int, groups: Iterable[Iterable[int]]) -> list[bool]:
    """What stays where the members of groups are joined and the first of each set is kept."""
    above = list(range(count))

    def root(number: int) -> int:
        while above[number] != number:
            above[number] = number = above[above[number]]
        return number

    for group in groups:
        first, *others = sorted(group)
        for other in others:
            one, two = root(first), root(other)
            above[max(one, two)] = min(one, two)
    return [above[number] == number for number in range(count)]


def _fresh_folders() -> Callable[[], Path]:
    """Makes a new folder each time, and takes the one before away."""
    last: list[tempfile.TemporaryDirectory[str]] = []

    def fresh() -> Path:
        last[:] = [tempfile.TemporaryDirectory()]
        return Path(last[0].name)

    return fresh


def rensa(path: str) -> Job:
    """A deduplicator with LSH, which checks candidates by their signatures."""
    import rensa

    def run(_: object) -> list[bool]:
        found = rensa.RMinHashDeduplicator(threshold=THRESHOLD, num_perm=PERMUTATIONS, use_lsh=True)
        cut = map(shingles, _texts(path))
        return list(found.add_pairs((str(n), tokens) for n, tokens in enumerate(cut)))

    return Job(run=run)


def rensa_rho(path: str) -> Job:
    """Its fastest way, which samples token positions."""
    import rensa

    def run(_: object) -> Flags:
        tokens = [shingles(text) for text in _texts(path)]
        matrix = rensa.RMinHash.digest_matrix_from_token_sets_rho(tokens, PERMUTATIONS, 42)
        index = rensa.RMinHashLSH(THRESHOLD, PERMUTATIONS, 16)
        return Flags(index.query_duplicate_flags_matrix_one_shot(matrix))

    return Job(run=run)


def datasketch(path: str) -> Job:
    """Each document asks the index, and enters it if nothing is found."""
    from datasketch import MinHash, MinHashLSH

    def run(_: object) -> list[bool]:
        index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
        keep = []
        for number, text in enumerate(_texts(path)):
            signature = MinHash(num_perm=PERMUTATIONS)
            signature.update_batch([s.encode() for s in set(shingles(text))])
            keep.append(not index.query(signature))
            if keep[-1]:
                index.insert(number, signature)
        return keep

    return Job(run=run)


def gaoya(path: str) -> Job:
    """All enter its index, which cuts texts itself; then each asks who is like it."""
    from gaoya.minhash import MinHashStringIndex

    def run(_: object) -> list[bool]:
        texts = _texts(path)
        index = MinHashStringIndex(
            32, THRESHOLD, None, None, PERMUTATIONS, "word", True, (NGRAM, NGRAM)
        )
        index.par_bulk_insert_docs(list(range(len(texts))), texts)
        found = index.par_bulk_query(texts)
        return _firsts(len(texts), ({n, *like} for n, like in enumerate(found)))

    return Job(run=run)


def daft(path: str) -> Job:
    """Its expressions for signatures and bands, its groups of equal bands, joined."""
    import daft
    from daft import col

    bands, rows = 16, 8

    def run(_: object) -> list[bool]:
        frame = daft.read_json(path)
        text = col("text").normalize(
            remove_punct=True, lowercase=True, nfd_unicode=True, white_space=True
        )
        signature = text.minhash(num_hashes=PERMUTATIONS, ngram_size=NGRAM, seed=42)
        frame = frame.select(
            col("id"),
            signature.chunk(rows).alias("band"),
            daft.lit(list(range(bands))).alias("place"),
        )
        bands_of_all = frame.explode("band", "place")
        groups = bands_of_all.groupby("place", "band").agg(col("id").list_agg().alias("ids"))
        groups = groups.where(col("ids").list_count() > 1).select("ids").to_pydict()["ids"]
        return _firsts(_lines(path), ([int(number) for number in group] for group in groups))

    return Job(run=run)


def _lines(path: str) -> int:
    with Path(path).open("rb") as file:
        return sum(1 for _ in file)


def _kept(count: int, ids: Iterable[int]) -> list[bool]:
    keep = [False] * count
    for number in ids:
        keep[number] = True
    return keep


def text_dedup(path: str) -> Job:
    """Its command, run in this process; each round has a cache of its own."""
    import datasets
    from text_dedup import minhash

    datasets.disable_progress_bars()
    logging.disable(logging.INFO)

    def run(folder: Path) -> list[bool]:
        options = {
            "path": "json",
            "data_files": path,
            "split": "train",
            "cache_dir": folder / "cache",
            "output": folder / "kept",
            "column": "text",
            "ngram": NGRAM,
            "num_perm": PERMUTATIONS,
            "threshold": THRESHOLD,
            "num_proc": 1,
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        minhash.main(arguments, standalone_mode=False)
        ids = datasets.load_from_disk(str(folder / "kept"))["id"]
        return _kept(_lines(path), map(int, ids))

    return Job(run=run, prepare=_fresh_folders())


def datatrove(path: str) -> Job:
    """Its four stages, each over one file, one process, no check."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline import dedup as stages
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    def run(folder: Path) -> list[bool]:
        config = MinhashConfig(n_grams=NGRAM)
        source = Path(path)

        def reader() -> Any:
            return JsonlReader(str(source.parent), glob_pattern=source.name)

        def stage(name: str, steps: list[Any], tasks: int = 1) -> None:
            logs = str(folder / "logs" / name)
            # Each stage sets its log to the standard error anew.
            with contextlib.redirect_stderr(io.StringIO()):
                LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=logs).run()

        signatures, buckets, removed, kept = (
            str(folder / name) for name in ("signatures", "buckets", "removed", "kept")
        )
        stage("1", [reader(), stages.MinhashDedupSignature(signatures, config)])
        bands = config.num_buckets
        stage("2", [stages.MinhashDedupBuckets(signatures, buckets, config=config)], bands)
        stage("3", [stages.MinhashDedupCluster(buckets, removed, config=config)])
        writer = JsonlWriter(kept, compression=None)
        stage("4", [reader(), stages.MinhashDedupFilter(removed), writer])
        lines = [
            line for part in Path(kept).glob("*.jsonl") for line in part.read_bytes().splitlines()
        ]
        return _kept(_lines(path), (int(json.loads(line)["id"]) for line in lines))

    return Job(run=run, prepare=_fresh_folders())
