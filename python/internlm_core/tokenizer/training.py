"""Training a byte-level vocabulary on text."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import polars as pl

from internlm_core._core import BpeTrainer
from internlm_core._progress import Task
from internlm_core.tokenizer.tokenize import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["FIRST_SPECIAL", "LAST_SPECIAL", "columns", "train"]

# InternLM2's order: the three of SentencePiece first, the chat format's last.
FIRST_SPECIAL = ("<unk>", "<s>", "</s>")
LAST_SPECIAL = (
    "<|plugin|>",
    "<|interpreter|>",
    "<|action_end|>",
    "<|action_start|>",
    "<|im_end|>",
    "<|im_start|>",
)

_BATCH = 2_000


def train(
    texts: pl.Series | Iterable[str] | Iterable[pl.Series],
    *,
    vocab_size: int,
    first_special: Sequence[str] = FIRST_SPECIAL,
    last_special: Sequence[str] = LAST_SPECIAL,
    pattern: Literal["gpt2", "cl100k", "qwen", "o200k"] = "cl100k",
    min_frequency: int = 2,
    max_token_length: int = 0,
    max_memory: int = 0,
    threads: int = 0,
    quiet: bool = False,
) -> Tokenizer:
    """Learn a vocabulary; the same for any order of the texts and any number of threads.

    Args:
        texts: A string column, or an iterator over strings or over columns (counted as they come:
            memory holds the different pieces, not the text).
        vocab_size: Number of ids in all: special tokens, 256 bytes, learned tokens.
        first_special: Special tokens with the first ids.
        last_special: Special tokens with the last ids.
        pattern: How text is cut before counting; no token crosses a cut.
        min_frequency: A pair seen less often is not joined; the vocabulary may end up smaller.
        max_token_length: Longest token in bytes, 0 for no limit.
        max_memory: Bytes that counts may take while text is counted, 0 for no bound; beyond it they are
            put into sorted files in the system's temporary folder. The result is the same.
        threads: 0 means all cores.
        quiet: Show no progress.

    Raises:
        TokenizerError: There is no text, or `vocab_size` has no room for bytes and special tokens.
    """
    with TemporaryDirectory(prefix="internlm-counts-") as folder:
        trainer = BpeTrainer(pattern, max_memory, Path(folder) if max_memory else None)
        with Task("Counting pieces", quiet=quiet) as task:
            for column in columns(texts):
                trainer.add(column, threads)
                task.advance(len(column))
        merges = vocab_size - 256 - len(first_special) - len(last_special)
        with Task("Learning merges", max(merges, 0), quiet=quiet) as task:
            done = 0

            def progress(count: int) -> None:
                nonlocal done
                task.advance(count - done)
                done = count

            core = trainer.train(
                vocab_size,
                min_frequency,
                max_token_length,
                list(first_special),
                list(last_special),
                progress,
            )
            task.advance(core.n_merges - done)
        del trainer
    return Tokenizer(core, ("hf", core.to_hf(), "", "0"))


def columns(texts: pl.Series | Iterable[str] | Iterable[pl.Series]) -> Iterator[pl.Series]:
    """Columns of a few thousand strings, from whatever `train` takes."""
    if isinstance(texts, pl.Series):
        for start in range(0, len(texts), _BATCH):
            yield texts[start : start + _BATCH]
        return
    strings: list[str] = []
    for item in texts:
        if isinstance(item, pl.Series):
            yield from columns(item)
            continue
        strings.append(item)
        if len(strings) == _BATCH:
            yield pl.Series(strings, dtype=pl.String)
            strings = []
    if strings:
        yield pl.Series(strings, dtype=pl.String)
