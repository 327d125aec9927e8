"""Training a vocabulary on text: over bytes, or over characters with byte fallback."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from internlm_core._core import BpeTrainer
from internlm_core._progress import Task
from internlm_core._read_ahead import read_ahead
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer.tokenize import Tokenizer, clean_text
from internlm_core.tokenizer.training_state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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

# Characters counted at once: enough for all cores, little beside what is counted.
_BATCH = 4 << 20
_ROWS = 100_000


def train(
    texts: pl.Series | Iterable[str] | Iterable[pl.Series],
    *,
    vocab_size: int,
    first_special: Sequence[str] = FIRST_SPECIAL,
    last_special: Sequence[str] = LAST_SPECIAL,
    pattern: Literal["gpt2", "cl100k", "qwen", "o200k"] = "cl100k",
    byte_fallback: bool = False,
    coverage: float = 0.9995,
    digits: int = 0,
    one_script: bool = False,
    script_limits: Mapping[str, int] | None = None,
    min_frequency: int = 2,
    max_token_length: int = 0,
    max_memory: int = 0,
    state: str | Path | None = None,
    save_every: float = 60.0,
    threads: int = 0,
    quiet: bool = False,
) -> Tokenizer:
    """Learn a vocabulary; the same for any order of the texts and any number of threads.

    Args:
        texts: A string column, or an iterator over strings or over columns (counted as they come, and
            fetched in a thread of its own: memory holds the different pieces, not the text).
        vocab_size: Number of ids in all: special tokens, 256 bytes, characters, learned tokens.
        first_special: Special tokens with the first ids.
        last_special: Special tokens with the last ids. No text becomes a special token.
        pattern: How text is cut before counting; no token crosses a cut. A vocabulary over bytes cuts
            so when it encodes, too; one over characters needs no pattern then.
        byte_fallback: A vocabulary over characters with a token `<0xNN>` for each byte and `▁` for the
            space, as SentencePiece's and InternLM2's, instead of one over bytes.
        coverage: With `byte_fallback`: share of the text's characters that get a token, the most
            frequent ones first; the others are written as bytes. SentencePiece's default.
        digits: Most digits in a token, which then holds nothing else: 1 splits numbers into digits, 3
            into groups of up to three; 0 leaves it to the pattern.
        one_script: Whether a token keeps to one script of Unicode. Punctuation and other common
            characters go with any; Hiragana and Katakana count as Han, as in SentencePiece.
        script_limits: How many learned tokens a script may have, by Unicode's name ("Han": 30_000).
        min_frequency: A pair seen less often is not joined; the vocabulary may end up smaller.
        max_token_length: Longest token in bytes, 0 for no limit.
        max_memory: Bytes that counts may take while text is counted, 0 for no bound; beyond it they are
            put into sorted files in `state` or the system's temporary folder. The result is the same.
        state: Folder that is kept up to date, so that the same call goes on after a crash: the texts
            must come again in the same order, those counted are only read. It is removed at the end.
        save_every: Seconds between two updates of it.
        threads: 0 means all cores.
        quiet: Show no progress.

    Raises:
        TokenizerError: There is no text; `vocab_size` has no room for bytes, characters and special
            tokens; an option has no meaning; or `state` belongs to another training.
    """
    _refuse(digits=digits, max_token_length=max_token_length, max_memory=max_memory)
    learning = {
        "vocab_size": vocab_size,
        "min_frequency": min_frequency,
        "max_token_length": max_token_length,
        "script_limits": sorted((script_limits or {}).items()),
        "coverage": float(coverage) if byte_fallback else None,
        "first_special": list(first_special),
        "last_special": list(last_special),
    }
    _refuse(vocab_size=vocab_size, min_frequency=min_frequency, **dict(script_limits or {}))
    BpeTrainer.check(learning)
    counting = {"pattern": pattern, "digits": digits, "one_script": one_script}
    with ExitStack() as stack:
        kept: TrainingState | None = None
        if state is not None:
            kept = stack.enter_context(TrainingState(state, {**counting, **learning}, save_every))
            folder, runs = kept.folder, kept.runs
        else:
            temporary = TemporaryDirectory(prefix="internlm-counts-")
            folder, runs = Path(stack.enter_context(temporary)), None
        bounded = folder if max_memory or kept else None
        trainer = BpeTrainer(pattern, max_memory, bounded, digits, one_script, runs)
        if kept is None or not kept.counted:
            _count(trainer, columns(texts), kept, threads, quiet=quiet)
        fixed = 256 + len(first_special) + len(last_special)
        core = _learn(trainer, learning, max(vocab_size - fixed, 0), kept, quiet=quiet)
        del trainer
        if kept is not None:
            kept.remove()
    return Tokenizer(core, ("hf", core.to_hf(), "", "0"))


def _refuse(**sizes: int) -> None:
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise TokenizerError(f"{name}={value!r}: expected a whole number, 0 or more")


def _count(
    trainer: BpeTrainer,
    texts: Iterator[pl.Series],
    state: TrainingState | None,
    threads: int,
    *,
    quiet: bool,
) -> None:
    with Task("Counting pieces", quiet=quiet) as task:
        # The next texts are fetched while these are counted.
        for column in read_ahead(texts):
            if state is None:
                trainer.add(column, threads)
            elif not state.skips(column):
                trainer.add(column, threads)
                state.add(trainer, column)
            task.advance(len(column))
    if state is not None:
        state.finish_counting(trainer)


def _learn(
    trainer: BpeTrainer,
    learning: dict[str, Any],
    merges: int,
    state: TrainingState | None,
    *,
    quiet: bool,
) -> Any:
    with Task("Learning merges", merges, quiet=quiet) as task:
        done, began, at_start = 0, time.monotonic(), 0

        def progress(count: int) -> bool:
            nonlocal done, at_start
            # Merges of an interrupted run come at once, and are no speed.
            at_start = at_start or count
            seconds = time.monotonic() - began
            task.advance(count - done, f"{(count - at_start) / max(seconds, 1e-9):,.0f} merges/s")
            done = count
            return state is not None and state.is_due()

        file = state.folder / "merging" if state is not None else None
        core = trainer.train(learning, progress, file)
        task.advance(core.n_merges - done)
    return core


def columns(texts: pl.Series | Iterable[str] | Iterable[pl.Series]) -> Iterator[pl.Series]:
    """Columns of some million characters, from whatever `train` takes.

    Raises:
        TokenizerError: Something that is no text; a lone surrogate in a string is U+FFFD.
    """
    if isinstance(texts, pl.Series):
        if texts.dtype != pl.String:
            raise TokenizerError(f"a column of {texts.dtype}: expected strings")
        size = int(texts.str.len_bytes().sum() or 0)
        rows = min(_ROWS, max(1, len(texts) * _BATCH // max(size, 1)))
        for start in range(0, len(texts), rows):
            yield texts[start : start + rows]
        return
    if isinstance(texts, str):
        raise TokenizerError("one string: expected a list of texts")
    strings: list[str | None] = []
    size = 0
    for item in texts:
        if isinstance(item, pl.Series):
            yield from columns(item)
            continue
        if isinstance(item, str):
            size += len(item)
            strings.append(item if item.isascii() else clean_text(item))
        elif item is None:
            strings.append(None)
        else:
            raise TokenizerError(f"{type(item).__name__} among the texts: expected strings")
        if size >= _BATCH or len(strings) == _ROWS:
            yield pl.Series(strings, dtype=pl.String)
            strings, size = [], 0
    if strings:
        yield pl.Series(strings, dtype=pl.String)
