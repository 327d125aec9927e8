"""JSON lines to the columns that deduplication looks at: ordinary lines in the core, others with care."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import polars as pl

from internlm_core import _core
from internlm_core._streams import StreamFault, read_blocks
from internlm_core.data.readers.jsonl import read_jsonl
from internlm_core.data.records import TEXT_KEYS, Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from internlm_core.data.readers.dispatch import ReadLimits
    from internlm_core.data.readers.files import InputFile

__all__ = ["read_json_columns"]

_BLOCK = 4 << 20
"""Most bytes that are read at once: they are held beside the texts they give."""


def read_json_columns(
    file: InputFile, limits: ReadLimits, threads: int = 0, *, at_once: int | None = None
) -> Iterator[Batch]:
    """Batches as of `read_jsonl`, of the columns id, text, source, url and snapshot alone.

    Ordinary lines (see `_core.json_documents`) take a fifth of the time. Others, and those around
    them, are read by `read_jsonl`, so what is mended or rejected, and how, is the same: a part of a
    plain file; of a compressed one, all that is left.

    Args:
        file: The file.
        limits: As for `read_batches`.
        threads: 0 means all cores.
        at_once: Bytes of a plain file that the threads share out before they wait for each other;
            default: a batch. All of it is in memory.
    """
    lines = {
        "text_keys": [file.text_key] if file.text_key else list(TEXT_KEYS),
        "source": file.defaults.source,
        "snapshot": file.defaults.snapshot,
        "limit": limits.record_bytes,
    }
    offset, number, counted = 0, 1, 0
    while file.compression is None:
        # Threads read parts of the file, each its own; a part with any other line is read again.
        spans = _core.json_file_documents(
            str(file.path), offset, at_once or limits.batch_bytes, lines, threads
        )
        before = offset
        for table, start, end in spans:
            if start > offset:
                number += sum(block.count(b"\n") for block in _span(file, counted, offset))
                counted = offset
                yield from read_jsonl(
                    file,
                    limits.batch_bytes,
                    limits.record_bytes,
                    rest=(number, offset, _span(file, offset, start)),
                )
            yield Batch(pl.DataFrame(table))
            offset = end
        if offset == before:
            break
    size = min(_BLOCK, limits.batch_bytes)
    blocks = read_blocks(
        file.path, file.compression, expansion=limits.expansion, size=size, start=offset
    )
    source = _gathered(blocks, size)
    held = b""
    fault: StreamFault | OSError | None = None
    while True:
        try:
            block = next(source, None)
        except (StreamFault, OSError) as error:
            block, fault = None, error
        if block is None:
            break
        end = block.rfind(b"\n") + 1
        if not end:
            held += block
            if len(held) > limits.record_bytes:
                break
            continue
        first = block.find(b"\n") + 1 if held else 0
        head = held + block[:first] if held else b""
        parts = [(head, 0, len(head)), (block, first, end)]
        found = _core.json_documents(parts, lines, threads)
        if found is None:
            held += block
            break
        yield Batch(pl.DataFrame(found))
        offset, held = offset + len(held) + end, block[end:]
    if held or fault is not None:
        yield from read_jsonl(
            file,
            limits.batch_bytes,
            limits.record_bytes,
            limits.expansion,
            rest=(
                _line_at(offset, file, limits),
                offset,
                _before(fault, chain([held] if held else [], source)),
            ),
        )


def _span(file: InputFile, start: int, end: int) -> Iterator[bytes]:
    """Bytes of a plain file from one place to another."""
    for block in read_blocks(file.path, start=start):
        yield block[: end - start]
        start += len(block)
        if start >= end:
            return


def _gathered(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Blocks of at least this size: those of compressed files are small."""
    parts: list[bytes] = []
    try:
        for block in blocks:
            parts.append(block)
            if sum(map(len, parts)) >= size:
                whole, parts = b"".join(parts), []
                yield whole
    except (StreamFault, OSError):
        if parts:
            yield b"".join(parts)
        raise
    if parts:
        yield b"".join(parts)


def _line_at(offset: int, file: InputFile, limits: ReadLimits) -> int:
    """Number of the line that starts there, counted only now that it is needed."""
    number, left = 1, offset
    if not left:
        return number
    for block in read_blocks(file.path, file.compression, expansion=limits.expansion):
        number += block[:left].count(b"\n")
        left -= len(block)
        # Not a byte further: that may be where the file is damaged.
        if left <= 0:
            break
    return number


def _before(fault: StreamFault | OSError | None, blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield from blocks
    if fault is not None:
        raise fault
