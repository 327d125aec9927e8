"""Bytes of a plain or compressed file, block by block; a damaged file gives what comes before."""

from __future__ import annotations

import zlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

__all__ = ["ReadMeter", "StreamFault", "read_blocks"]

_BLOCK = 1 << 20
# Smaller, so that what was read says how far one is.
_COMPRESSED_BLOCK = 1 << 18
_GZIP_BITE = 1 << 14
# Four bytes of zstd can stand for 128 KiB: small bites keep the output of a bomb small.
_ZSTD_BITE = 1 << 10
_ZSTD_BITE_OF_BOMB = 1 << 4
_PLAUSIBLE = 1 << 30
"""Bytes that may come out of a file whatever went in: only beyond them the ratio says `bomb`."""


class ReadMeter:
    """Counts the bytes of files, as they lie on disk, that the threads it is attached to read."""

    def __init__(self) -> None:
        self.bytes = 0

    def attach(self) -> None:
        """Count what `read_blocks` reads in this thread from now on."""
        _METER.set(self)


_METER: ContextVar[ReadMeter | None] = ContextVar("read_meter", default=None)


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    meter = _METER.get()
    if meter is not None:
        meter.bytes += len(data)
    return data


class StreamFault(Exception):  # noqa: N818 - a fault of the input, caught by every reader
    """The file can't be decompressed further; all bytes before the fault were given.

    Attributes:
        reason: `truncated_file`, `damaged_file`, `trailing_garbage`, or `expansion`.
        detail: What was found, and after how many decompressed bytes.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read_blocks(
    path: Path,
    compression: str | None = None,
    *,
    expansion: float = float("inf"),
    go_on: Callable[[StreamFault], None] | None = None,
    size: int = _BLOCK,
    start: int = 0,
) -> Iterator[bytes]:
    """Yield the decompressed bytes of `path` in blocks of bounded size.

    All members of a multi-member gzip file and all frames of a zstd file are read.

    Args:
        path: The file.
        compression: `"gzip"`, `"zstd"` or `None`.
        expansion: Most bytes that may come out for one that went in, once a GiB has come out.
        go_on: Called with the fault of a damaged member, after which reading goes on at the next;
            without it damage ends the file.
        size: Bytes of a block of a plain file.
        start: Where to begin in a plain file.

    Raises:
        OSError: The file can't be opened or read.
        StreamFault: The compressed data ends too early, is damaged, or is followed by something
            that is no compressed data.
    """
    if compression == "gzip":
        yield from _decompress(path, _GzipMember, expansion, go_on)
    elif compression == "zstd":
        yield from _decompress(path, _ZstdFrame, expansion, go_on)
    else:
        with path.open("rb") as file:
            if start:
                file.seek(start)
            while block := _read(file, size):
                yield block


class _GzipMember:
    """One member of a gzip file."""

    name = "gzip"
    magic = b"\x1f\x8b\x08"

    def __init__(self) -> None:
        self._engine = zlib.decompressobj(wbits=31)
        self._after = b""

    @staticmethod
    def starts(head: bytes) -> bool:
        return head.startswith(b"\x1f\x8b")

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _GZIP_BITE):
            bite = data[start : start + _GZIP_BITE]
            before = self._engine.copy()
            try:
                yield from self._bite(bite)
            except zlib.error:
                # The output of a failing call is lost: bytes one by one lose nothing.
                self._engine = before
                for index in range(len(bite)):
                    yield from self._bite(bite[index : index + 1])
            if self._engine.eof:
                self._after = data[start + _GZIP_BITE :]
                return

    def _bite(self, data: bytes) -> Iterator[bytes]:
        blocks = []
        while True:
            block = self._engine.decompress(data, _BLOCK)
            blocks.append(block)
            data = self._engine.unconsumed_tail
            # A full block may mean that more output is held back.
            if self._engine.eof or (not data and len(block) < _BLOCK):
                return iter(blocks)

    @property
    def rest(self) -> bytes | None:
        """What follows the member's end; `None` before the end."""
        return self._engine.unused_data + self._after if self._engine.eof else None


class _ZstdFrame:
    """One frame of a zstd file; skippable frames give no bytes."""

    name = "zstd"
    magic = b"\x28\xb5\x2f\xfd"

    def __init__(self) -> None:
        # 2 GiB: the widest window that `zstd --long=31` writes.
        self._engine = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        self._after = b""

    @staticmethod
    def starts(head: bytes) -> bool:
        skippable = head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F
        return skippable or head.startswith(b"\x28\xb5\x2f\xfd")

    def feed(self, data: bytes) -> Iterator[bytes]:
        start, bite = 0, _ZSTD_BITE
        while start < len(data):
            block = self._engine.decompress(data[start : start + bite])
            start += bite
            bite = _ZSTD_BITE if len(block) < _BLOCK else _ZSTD_BITE_OF_BOMB
            yield block
            if self._engine.eof:
                self._after = data[start:]
                return

    @property
    def rest(self) -> bytes | None:
        """What follows the frame's end; `None` before the end."""
        return self._engine.unused_data + self._after if self._engine.eof else None


def _decompress(
    path: Path,
    kind: type[_GzipMember | _ZstdFrame],
    expansion: float,
    go_on: Callable[[StreamFault], None] | None,
) -> Iterator[bytes]:
    given, taken, finished = 0, 0, 0
    with path.open("rb") as file:

        def more() -> bytes:
            nonlocal taken
            block = _read(file, _COMPRESSED_BLOCK)
            taken += len(block)
            return block

        part: _GzipMember | _ZstdFrame | None = None
        data = more()
        while data:
            fault = None
            if part is None:
                # Tapes and some downloaders pad with zeros, which gzip itself ignores too.
                data = data.lstrip(b"\0") if finished else data
                data += more() if 0 < len(data) < 4 else b""
                if not data:
                    data = more()
                    continue
                if kind.starts(data[:4]):
                    part = kind()
                else:
                    reason = "trailing_garbage" if finished else "damaged_file"
                    fault = StreamFault(reason, f"no {kind.name} data {_after(given)}")
            try:
                for block in part.feed(data) if part is not None else ():
                    given += len(block)
                    if block:
                        yield block
                    if given > max(_PLAUSIBLE, taken * expansion):
                        detail = f"over max_expansion = {expansion:g} {_after(given)}"
                        raise StreamFault("expansion", detail)
            except (zlib.error, zstandard.ZstdError) as error:
                fault = StreamFault("damaged_file", f"{error} {_after(given)}")
            if fault is not None:
                # What can't be gone on from ends the file; garbage at its end is noted as such.
                if go_on is None or not (rest := _next_part(data, kind.magic, more)):
                    raise fault
                go_on(fault)
                part, data = None, rest
                continue
            after = part.rest if part is not None else None
            if after is not None:
                part, finished = None, finished + 1
            data = after or more()
        if part is not None or not finished:
            raise StreamFault(
                "truncated_file", f"the {kind.name} data ends too early {_after(given)}"
            )


def _next_part(data: bytes, magic: bytes, more: Callable[[], bytes]) -> bytes:
    """What follows from the next place on that looks like the start of a member."""
    start = 1
    while (found := data.find(magic, start)) < 0:
        block = more()
        if not block:
            return b""
        data, start = data[-(len(magic) - 1) :] + block, 0
    return data[found:]


def _after(given: int) -> str:
    return f"after {given:,} decompressed bytes; what came before was read"
