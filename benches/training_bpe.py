"""Training a vocabulary beside its peers, on two cores: speed, memory, the same merges.

All read one file, a text a line, and cut text by GPT-2's pattern, the one they have in common. What
is timed is everything from that file to the learned merges.
"""

from __future__ import annotations

import json
import os
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import corpus, machine
from benches.harness import OURS, Contender, Task
from benches.worker import Job, peak_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["tasks"]

_CORES = 2
_BLOCK = 1 << 20
_LINE_END = ord("\n")
# Published with GPT-2 (openai/gpt-2, src/encoder.py).
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def tasks(*, quick: bool) -> Iterator[Task]:
    """One task: a vocabulary of 32,000 on 60 MB."""
    size, vocab_size = (1_000_000, 2_000) if quick else (60_000_000, 32_000)
    lines, source = _lines(size)
    with tempfile.TemporaryDirectory() as folder, _two_cores():
        path = Path(folder) / "lines.txt"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        texts = corpus.Texts(lines, source)
        arguments = (str(path), vocab_size)
        yield Task(
            room="training_bpe",
            name=f"Train a vocabulary of {vocab_size:,}, {len(os.sched_getaffinity(0))} threads",
            unit="MB/s",
            amount=texts.size / 1e6,
            ours=Contender(OURS, _ours, arguments, ("internlm-core", "polars", "pyarrow")),
            peers=(
                Contender("tokenizers BpeTrainer", _tokenizers, arguments, ("tokenizers",)),
                Contender("gigabpe", _gigabpe, arguments, ("gigabpe",)),
                Contender("rustbpe", _rustbpe, arguments, ("rustbpe",)),
            ),
            judge=_judge,
            facts=texts.facts(),
            # A round of the slowest takes half a minute.
            most_rounds=2,
        )


class _two_cores:  # noqa: N801 - used as a function
    """What is started inside has two cores, however many this process had."""

    def __enter__(self) -> None:
        self._before = os.sched_getaffinity(0)
        # Cores that this process may not have are left out by the kernel.
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        machine.pin(min(_CORES, len(os.sched_getaffinity(0))))

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self._before)
        machine.pin(len(self._before))


def _lines(size: int) -> tuple[list[str], str]:
    """Prose and code, half and half by bytes as far as there is enough prose, line by line."""
    parts = [corpus.english(size * 7 // 12), corpus.chinese(size * 5 // 24)]
    texts = [text for part in parts for text in part.texts]
    folders = {sysconfig.get_paths()[name] for name in ("stdlib", "purelib")}
    room = size - sum(part.size for part in parts)
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.py")):
        if room <= 0:
            break
        text = path.read_text("utf-8", errors="replace")
        texts.append(text)
        room -= len(text.encode())
    # Only what ends a line for all of the tools.
    lines = [line for text in texts for line in text.replace("\r", "\n").split("\n") if line]
    return lines, ", ".join([*(part.source for part in parts if part.texts), "Python sources"])


def _judge(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    ours = results[OURS]
    tokens = {left + right for left, right in ours["merges"]}
    figures: dict[str, dict[str, Any]] = {}
    for name, theirs in results.items():
        figure: dict[str, Any] = {"merges": len(theirs["merges"])}
        if name == "rustbpe":
            # It gives tokens, not merges, and takes equal pairs in another order.
            same = len(tokens & set(theirs["tokens"]))
            figure = {"same_tokens": f"{same} of {len(theirs['tokens'])}"}
        elif name != OURS:
            # Each may leave out bytes that never occur, and have room for as many merges more.
            pairs = list(zip(ours["merges"], theirs["merges"], strict=False))
            figure = {"same_merges": f"{sum(a == b for a, b in pairs)} of {len(pairs)}"}
        figures[name] = {**figure, "peak_MiB": theirs["peak"] >> 20}
    return figures


def _pairs(text: str) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(text)["model"]["merges"]]


def _read(path: str) -> Iterator[str]:
    """Lines with their ends, as `gigabpe` counts them."""
    with Path(path).open(encoding="utf-8", newline="\n") as file:
        yield from file


def _columns(path: str) -> Iterator[Any]:
    """The same as columns of a MiB, cut where the bytes say so: no text is made of them first."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    def column(block: bytes, ends: Any) -> Any:
        offsets = np.concatenate([[0], ends]).astype(np.int64)
        buffers = pa.py_buffer(offsets), pa.py_buffer(block)
        return pl.Series(pa.LargeStringArray.from_buffers(len(ends), *buffers))

    rest = b""
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            block = rest + block
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _LINE_END) + 1
            rest = block[int(ends[-1]) if len(ends) else 0 :]
            yield column(block, ends)
    if rest:
        yield column(rest, [len(rest)])


def _ours(path: str, vocab_size: int) -> Job:
    from internlm_core.tokenizer import train

    def run(_: object) -> tuple[Any, int]:
        options: dict[str, Any] = {"first_special": (), "last_special": (), "quiet": True}
        return train(
            _columns(path), vocab_size=vocab_size, pattern="gpt2", **options
        ), peak_memory()

    return Job(run=run, result=lambda r: {"merges": _pairs(r[0].to_json()), "peak": r[1]})


def _tokenizers(path: str, vocab_size: int) -> Job:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def run(_: object) -> tuple[Any, int]:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        tokenizer.train_from_iterator(_read(path), trainer)
        return tokenizer, peak_memory()

    return Job(run=run, result=lambda r: {"merges": _pairs(r[0].to_str()), "peak": r[1]})


def _gigabpe(path: str, vocab_size: int) -> Job:
    from gigabpe import train_bpe

    def run(_: object) -> tuple[Any, int]:
        threads = len(os.sched_getaffinity(0))
        options = {"special_tokens": [], "min_frequency": 2, "pretokenizer": "bytelevel"}
        _, merges = train_bpe([path], vocab_size, threads=threads, **options)
        return merges, peak_memory()

    return Job(run=run, result=lambda r: {"merges": [tuple(p) for p in r[0]], "peak": r[1]})


def _rustbpe(path: str, vocab_size: int) -> Job:
    from rustbpe import Tokenizer

    def run(_: object) -> tuple[Any, int]:
        tokenizer = Tokenizer()
        tokenizer.train_from_iterator(_read(path), vocab_size, pattern=GPT2)
        return tokenizer, peak_memory()

    def result(made: tuple[Any, int]) -> dict[str, Any]:
        tokens = [_written(token) for token, _ in made[0].get_mergeable_ranks()[256:]]
        return {"merges": [], "tokens": tokens, "peak": made[1]}

    return Job(run=run, result=result)


# Bytes as the characters that stand for them in merges (openai/gpt-2, src/encoder.py).
_PLAIN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PLAIN]
_TABLE = {byte: chr(byte) for byte in _PLAIN} | {b: chr(256 + n) for n, b in enumerate(_OTHERS)}


def _written(token: bytes) -> str:
    return "".join(_TABLE[byte] for byte in bytes(token))
