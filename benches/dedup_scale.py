"""Near-duplicates beyond memory: what it takes, and how it compares with the run in memory.

By hand, for it takes minutes and tens of gigabytes of disk:

    python -m benches.dedup_scale signatures --documents 20000000 --memory 3GB --folder /big/disk
    python -m benches.dedup_scale corpus --megabytes 2560 --memory 256MB --folder /big/disk

`signatures` groups synthetic signatures, a fifth of them near-copies that are known, and checks the
outcome. `corpus` writes Parquet files of synthetic text and deduplicates them in memory and on disk,
each in a process of its own, alternating; outcomes must be equal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from internlm_core import _core
from internlm_core.data.dedup_on_disk import ParquetTexts, find_on_disk
from internlm_core.data.near_duplicates import DedupConfig, find_duplicates
from pydantic import ByteSize, TypeAdapter

from benches.worker import ROOT, peak_memory

CHUNK = 200_000


def mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64 of numbers."""
    z = values * np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    return z


def synthetic(first: int, rows: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Signatures, and the document that each is a near-copy of (itself for four of five)."""
    number = np.arange(first, first + rows, dtype=np.uint64)
    copy = (number % np.uint64(5) == 4) & (number > 10)
    # An earlier document that is no copy.
    base = np.where(copy, mixed(number) % np.maximum(number // np.uint64(5), 1) * 5, number)
    base = base.astype(np.uint64)
    slot = np.arange(slots, dtype=np.uint64)
    signature = (mixed(base[:, None] * np.uint64(slots) + slot) >> np.uint64(16)).astype(np.uint32)
    edit = mixed(number[:, None] * np.uint64(977) + slot)
    # A tenth of the slots of a copy are its own.
    own = copy[:, None] & (edit % np.uint64(10) == 0)
    return np.where(own, (edit >> np.uint64(8)).astype(np.uint32), signature), base


def signatures(documents: int, memory: int, folder: Path) -> dict[str, Any]:
    """Group synthetic signatures; the outcome must be the one they were made for."""
    config = DedupConfig(verify="signature")
    start, before = time.perf_counter(), peak_memory()
    work = _core.DedupWork(str(folder), config.options(), memory, 1)
    making = 0.0
    rows = min(CHUNK, memory // 8 // (24 * config.bands + 256 + 8 * config.permutations))
    done = dict(work.signed())
    for first in range(0, documents, rows):
        if first not in done:
            made = time.perf_counter()
            values = synthetic(first, min(rows, documents - first), config.permutations)[0]
            making += time.perf_counter() - made
            work.sign_signatures(first, values)
    signed = time.perf_counter()
    parts = work.group()
    grouped = time.perf_counter()
    firsts = work.firsts()
    for part in range(parts):
        work.decide(part, firsts)
    keep, duplicate_of, _, effort = work.outcome()
    end = time.perf_counter()
    wrong = missed = copies = 0
    for first in range(0, documents, 50 * rows):
        count = min(rows, documents - first)
        base = synthetic(first, count, 1)[1]
        found = duplicate_of[first : first + count]
        number = np.arange(first, first + count)
        copies += int((base != number).sum())
        missed += int(((base != number) & (found == number)).sum())
        wrong += int(((found != number) & (found != base)).sum())
    return {
        "documents": documents,
        "kept": int(keep.sum()),
        "copies_in_sample": copies,
        "missed_in_sample": missed,
        "wrong_in_sample": wrong,
        "comparisons": effort[2],
        "parts": parts,
        "seconds_making_signatures": round(making),
        "seconds_sorting_and_writing": round(signed - start - making),
        "seconds_grouping": round(grouped - signed),
        "seconds_deciding": round(end - grouped),
        "peak_gb": round(peak_memory() / 1e9, 3),
        "peak_before_gb": round(before / 1e9, 3),
        "disk_gb": round(sum(p.stat().st_size for p in folder.iterdir()) / 1e9, 1),
    }


def write_corpus(folder: Path, megabytes: int) -> None:
    """Parquet files of about 4 MB of text: words drawn as in speech, a fifth edited copies."""
    rng = np.random.default_rng(5)
    vocabulary = np.array([f"{'bcdfghklmnprstvw'[i % 16]}o{i:x}" for i in range(60_000)])
    ranks = 1 / np.arange(20, 60_020)
    chances = np.cumsum(ranks / ranks.sum())
    earlier: list[list[str]] = []
    written = number = documents = 0
    while written < megabytes * 1_000_000:
        texts, size = [], 0
        while size < 4_000_000:
            if len(earlier) > 2_000 and rng.random() < 0.2:
                words = list(earlier[rng.integers(len(earlier))])
                for place in rng.integers(len(words), size=rng.integers(1, 6)):
                    words[place] = vocabulary[rng.integers(60_000)]
            else:
                drawn = np.searchsorted(chances, rng.random(rng.integers(100, 700)))
                words = vocabulary[drawn].tolist()
                if len(earlier) < 20_000:
                    earlier.append(words)
                else:
                    earlier[rng.integers(20_000)] = words
            texts.append(" ".join(words))
            size += len(texts[-1])
        ids = [f"{documents + row:032x}" for row in range(len(texts))]
        pl.DataFrame({"id": ids, "text": texts}).write_parquet(
            folder / f"part-{number:05}.parquet", compression="zstd", compression_level=3
        )
        written, number, documents = written + size, number + 1, documents + len(texts)


def one_run(way: str, folder: Path, memory: int, threads: int) -> dict[str, Any]:
    """Deduplicate the files of a folder; in memory, or on disk within `memory`."""
    paths = sorted((folder / "corpus").glob("*.parquet"))
    start, before = time.perf_counter(), peak_memory()
    if way == "memory":
        frame = pl.concat([pl.read_parquet(path) for path in paths])
        found = find_duplicates(frame, DedupConfig(), threads)
        digest = found.select("id", "duplicate_of", "jaccard")
        size = int(frame["text"].str.len_bytes().cast(pl.Int64).sum())
    else:
        texts = [ParquetTexts(path) for path in paths]
        decisions = find_on_disk(
            texts, DedupConfig(), folder / "runs", memory=memory, threads=threads
        )
        decisions.name_targets(texts)
        seconds, most, size = time.perf_counter() - start, peak_memory(), 0
        ids = pl.concat([source.read(["id"])["id"] for source in texts])
        digest = decisions.slice(0, len(ids)).select(ids, "duplicate_of", "jaccard")
    if way == "memory":
        seconds, most = time.perf_counter() - start, peak_memory()
    return {
        "way": way,
        "seconds": round(seconds, 2),
        "peak_gb": round(most / 1e9, 3),
        "peak_before_gb": round(before / 1e9, 3),
        "text_bytes": size,
        "documents": digest.height,
        "removed": digest["duplicate_of"].count(),
        "digest": int(digest.hash_rows(seed=1).sum()),
    }


def compare(megabytes: int, memory: int, folder: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Both ways in turn; the quickest of each counts."""
    corpus = folder / "corpus"
    if not corpus.exists():
        corpus.mkdir(parents=True)
        write_corpus(corpus, megabytes)
    runs: dict[str, list[dict[str, Any]]] = {"memory": [], "disk": []}
    for _ in range(rounds):
        for way, rows in runs.items():
            command = [
                sys.executable, "-m", "benches.dedup_scale", "run", "--way", way, "--folder", str(folder.resolve()),
                "--memory", str(memory), "--threads", str(threads),
            ]  # fmt: skip
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            rows.append(json.loads(done.stdout))
            for path in (folder / "runs").glob("*"):
                path.unlink()
    first = runs["memory"][0]
    assert all(row["digest"] == first["digest"] for rows in runs.values() for row in rows)
    best = {way: min(row["seconds"] for row in rows) for way, rows in runs.items()}
    return {
        "text_mb": round(first["text_bytes"] / 1e6),
        "documents": first["documents"],
        "removed": first["removed"],
        "memory_seconds": best["memory"],
        "disk_seconds": best["disk"],
        "speed_of_disk_to_memory": round(best["memory"] / best["disk"], 3),
        "memory_peak_gb": max(row["peak_gb"] for row in runs["memory"]),
        "disk_peak_gb": max(row["peak_gb"] for row in runs["disk"]),
        "peak_before_gb": first["peak_before_gb"],
        "threads": threads,
        "equal": True,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["signatures", "corpus", "run"])
    parser.add_argument("--documents", type=int, default=20_000_000)
    parser.add_argument("--megabytes", type=int, default=2_560)
    parser.add_argument("--memory", default="256MB")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--way", choices=["memory", "disk"])
    options = parser.parse_args()
    memory = int(TypeAdapter(ByteSize).validate_python(options.memory))
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.what == "signatures":
        row = signatures(options.documents, memory, options.folder)
    elif options.what == "corpus":
        row = compare(options.megabytes, memory, options.folder, options.rounds, options.threads)
    else:
        row = one_run(options.way, options.folder, memory, options.threads)
    print(json.dumps(row, indent=None if options.what == "run" else 2))


if __name__ == "__main__":
    main()
