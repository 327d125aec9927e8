"""Records to token shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from internlm_core._files import file_digest
from internlm_core._progress import Task
from internlm_core._read_ahead import read_ahead
from internlm_core.errors import DataError
from internlm_core.tokenizer.reading import SetAside, find_texts, frames_of
from internlm_core.tokenizer.shards import Shard, ShardWriter

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from internlm_core.tokenizer.tokenize import Tokenizer

__all__ = ["pack"]


def pack(
    records: Iterable[pl.DataFrame | str | Path],
    tokenizer: Tokenizer,
    out: str | Path,
    *,
    bos: str | None = "<s>",
    eos: str | None = "</s>",
    threads: int = 0,
    quiet: bool = False,
) -> Shard:
    """Encode records into one shard; memory holds a few thousand records at a time.

    A shard that lies at `out` already is returned as it is, if the same tokenizer made it with the
    same marks from the same files: a rerun packs only what is missing. Frames leave no such
    trace; they are always packed.

    Args:
        records: Frames with `text` and optionally `id`; or paths of Parquet, JSON lines (plain, gzip,
            zstd) and text files, each of which is one document, or of folders with them.
        tokenizer: Encodes; its fingerprint goes into the shard.
        out: Folder to make.
        bos: Special token put before each document, if the vocabulary has it.
        eos: Special token put after each document, if the vocabulary has it.
        threads: 0 means all cores; the result does not depend on it.
        quiet: Show no progress.

    Raises:
        DataError: A record file without a `text` column, or that can't be read; or the shard at
            `out` is damaged or was made with another tokenizer. Single lines without a text are
            counted and listed in `shard.json` (`set_aside`).
    """
    out = Path(out)
    special = tokenizer.special_tokens
    before = np.array([special[bos]] if bos in special else [], np.uint32)
    after = np.array([special[eos]] if eos in special else [], np.uint32)
    sources: dict[str, Any] = {"before": before.tolist(), "after": after.tolist()}
    if isinstance(records, Sequence) and not any(isinstance(r, pl.DataFrame) for r in records):
        files = [file for path in records for file in find_texts([str(path)])]
        for file in files:
            if file.kind == "shard":
                raise DataError(
                    f"{file.path}: a token shard already; give the records it came from"
                )
        sources["files"] = [_identity(file.path) for file in files]
        if (out / "shard.json").exists():
            shard = Shard.open(out, fingerprint=tokenizer.fingerprint)
            if shard.info.get("sources") == sources:
                return shard
    writer = ShardWriter(
        out,
        fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        sources=sources,
    )
    aside = SetAside()
    with Task("Packing", quiet=quiet) as task, writer:

        def encoded(frame: pl.DataFrame) -> tuple[pl.DataFrame, Any, Any]:
            return frame, *tokenizer.encode_batch(frame["text"], threads=threads)

        # Reading, encoding and writing go on side by side.
        frames = read_ahead(frames_of(records, tokenizer=tokenizer, aside=aside))
        for frame, ids, offsets in read_ahead(map(encoded, frames)):
            tokens, ends = _wrapped(ids, offsets, before, after)
            names = frame["id"].to_list() if "id" in frame.columns else []
            writer.add(tokens, ends, ids=names)
            task.advance(frame.height)
        if aside.count:
            writer.note(set_aside={"count": aside.count, "first": aside.first})
    return Shard.open(out)


def _identity(path: Path) -> dict[str, Any]:
    try:
        return {"name": path.name, "sha256": file_digest(path)}
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from None


def _wrapped(
    ids: npt.NDArray[np.uint32],
    offsets: npt.NDArray[np.int64],
    before: npt.NDArray[np.uint32],
    after: npt.NDArray[np.uint32],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Each document with its marks around it, in one pass."""
    extra = len(before) + len(after)
    if not extra:
        return ids, offsets
    documents = len(offsets) - 1
    starts = offsets[:-1] + extra * np.arange(documents)
    wrapped = np.empty(len(ids) + extra * documents, np.uint32)
    inside = np.ones(len(wrapped), bool)
    ends = starts + np.diff(offsets) + len(before)
    for at, value in enumerate(before):
        inside[starts + at] = False
        wrapped[starts + at] = value
    for at, value in enumerate(after):
        inside[ends + at] = False
        wrapped[ends + at] = value
    wrapped[inside] = ids
    return wrapped, offsets + extra * np.arange(documents + 1)
