"""Records of a WARC file; a damaged one is set aside and reading goes on at the next.

Source: the WARC formats 1.0 and 1.1 (ISO 28500). A record is a version line, named fields, a blank
line, `Content-Length` bytes, and two line ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DamagedRecord", "WarcRecord", "parse_fields", "read_warc_records"]

_VERSION = re.compile(rb"WARC/\d\.\d{1,2}[ \t]{0,8}\r?\n")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"\d{1,18}")
_LONGEST_HEADER = 1 << 16
_LINE_ENDS = b"\r\n"


@dataclass(frozen=True)
class WarcRecord:
    """One record.

    Attributes:
        offset: Where its version line starts, in bytes of the decompressed file.
        fields: Named fields, names in lower case; of repeated ones the first.
        block: Its content; where `too_large`, only the first bytes, over the limit by one.
        size: Length of the content.
        too_large: Whether the content is longer than the limit.
    """

    offset: int
    fields: dict[str, str]
    block: bytes
    size: int
    too_large: bool = False


@dataclass(frozen=True)
class DamagedRecord:
    """Bytes that are no whole record.

    Attributes:
        offset: Where they start, in bytes of the decompressed file.
        reason: `truncated_record`, `wrong_length`, or `no_warc_record`.
        detail: What was found.
        raw: The bytes, or the first of them.
        size: How many they are, up to where reading goes on.
    """

    offset: int
    reason: str
    detail: str
    raw: bytes
    size: int


class _Window:
    """A view on a stream of bytes of which only what is looked at is held."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.held = bytearray()
        self.offset = 0
        """Of the first byte held."""
        self.ended = False

    def fill(self, size: int) -> bool:
        """Hold at least `size` bytes; false where the stream ends before."""
        while len(self.held) < size and not self.ended:
            block = next(self._blocks, None)
            if block is None:
                self.ended = True
            else:
                self.held += block
        return len(self.held) >= size

    def take(self, start: int, end: int) -> bytes:
        """A copy of some of the bytes held."""
        with memoryview(self.held) as view:
            return bytes(view[start:end])

    def drop(self, size: int) -> None:
        """Go forward by `size` of the bytes held."""
        del self.held[:size]
        self.offset += size

    def drop_line_ends(self) -> None:
        while self.fill(1):
            rest = self.held.lstrip(_LINE_ENDS)
            self.drop(len(self.held) - len(rest))
            if rest:
                return


def parse_fields(lines: bytes) -> dict[str, str]:
    """Named fields of WARC and HTTP headers, names in lower case, continued lines joined."""
    fields: dict[str, str] = {}
    last = ""
    for line in lines.splitlines():
        if line[:1] in (b" ", b"\t") and last:
            fields[last] += " " + _text(line)
            continue
        name, colon, value = line.partition(b":")
        last = _text(name).lower() if colon else ""
        if last in fields:
            last = ""
        elif last:
            fields[last] = _text(value)
    return fields


def _text(raw: bytes) -> str:
    raw = raw.strip()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def read_warc_records(
    blocks: Iterator[bytes], record_bytes: int
) -> Iterator[WarcRecord | DamagedRecord]:
    """Yield the records of a WARC file in order.

    A record whose length is wrong is found by what follows it: no line ends and no version line. Then
    reading goes on at the next version line, wherever that is. Memory holds one record, at most
    `record_bytes` of it and two blocks, whatever length it states.

    Args:
        blocks: The decompressed file in pieces of any size.
        record_bytes: Longest content that is given whole.
    """
    window = _Window(blocks)
    while True:
        window.drop_line_ends()
        if not window.held:
            return
        yield _next_record(window, record_bytes)


def _next_record(window: _Window, limit: int) -> WarcRecord | DamagedRecord:
    header = _header_at(window)
    if header is None:
        detail = "no WARC/1.x line and fields here"
        cut = window.ended and window.held.startswith(b"WARC/")
        return _damaged(window, 1, "no_warc_record", detail, limit, whole=not cut)
    length, fields = header
    stated = fields.get("content-length", "")
    if not _LENGTH.fullmatch(stated.encode()):
        detail = f"Content-Length is {stated[:40]!r}" if stated else "no Content-Length"
        return _damaged(window, length, "wrong_length", detail, limit)
    size = int(stated)
    end = length + size
    if size > limit:
        return _too_large(window, length, fields, size, limit)
    whole = window.fill(end)
    if whole and _ends_here(window, end):
        record = WarcRecord(window.offset, fields, window.take(length, end), size)
        window.drop(end)
        return record
    detail = f"Content-Length is {size:,} but the record ends elsewhere"
    return _damaged(window, length, "wrong_length", detail, limit, whole=whole)


def _header_at(window: _Window) -> tuple[int, dict[str, str]] | None:
    """Length of the header that starts here, with the blank line, and its fields."""
    step = 4096
    while True:
        window.fill(step)
        if not _VERSION.match(window.held):
            return None
        end = _BLANK_LINE.search(window.held, 0, _LONGEST_HEADER)
        if end is not None:
            break
        if window.ended or step >= _LONGEST_HEADER:
            return None
        step *= 4
    first = window.held.index(b"\n") + 1
    fields = parse_fields(bytes(window.held[first : end.start()]))
    return (end.end(), fields) if fields else None


def _ends_here(window: _Window, end: int) -> bool:
    """Whether a record can end here: a blank line, another version line or nothing follows."""
    window.fill(end + 16)
    after = bytes(window.held[end : end + 16])
    if after.startswith((b"\r\n\r\n", b"\n\n")):
        return True
    rest = after.lstrip(_LINE_ENDS)
    return rest.startswith(b"WARC/") or (not rest and window.ended)


def _damaged(
    window: _Window, start: int, reason: str, detail: str, limit: int, *, whole: bool = True
) -> DamagedRecord:
    """Go on to the next record after `start`, or to the end; what is passed is damaged."""
    offset, raw = window.offset, window.take(0, limit)
    found, passed = _skip_to_record(window, start)
    if not found and not whole:
        reason, detail = "truncated_record", "the file ends within this record"
    return DamagedRecord(offset, reason, detail, raw[:passed], passed)


def _skip_to_record(window: _Window, start: int, until: int | None = None) -> tuple[bool, int]:
    """Drop bytes up to the next record's version line, from `start` on.

    Returns whether there is one before `until` (in bytes from here; default: the end of the file),
    and how many bytes were dropped; without one, they go up to `until`.
    """
    passed = 0
    while True:
        window.fill(start + (1 << 20))
        stop = len(window.held) if until is None else min(len(window.held), until - passed)
        found = window.held.find(b"WARC/", start, stop)
        while found >= 0:
            if _is_record(window, found):
                window.drop(found)
                return True, passed + found
            found = window.held.find(b"WARC/", found + 1, stop)
        if (until is not None and passed + stop >= until) or window.ended:
            window.drop(stop)
            return False, passed + stop
        # A version line may be cut by the end of what is held.
        keep = max(start, stop - 32)
        # What begins the window counts as the begin of a line: let it be one, or no version line.
        keep -= window.held[keep - 1 : keep] == b"\n"
        window.drop(keep)
        passed, start = passed + keep, int(window.held[:1] != b"\n")


def _is_record(window: _Window, start: int) -> bool:
    """Whether a record starts here: a version line, and the fields that every record has."""
    held = window.held
    if (start and held[start - 1] != 10) or not _VERSION.match(held, start):
        return False
    window.fill(start + _LONGEST_HEADER)
    end = _BLANK_LINE.search(window.held, start, start + _LONGEST_HEADER)
    if end is None:
        return False
    fields = bytes(window.held[start : end.start()]).lower()
    return b"\nwarc-type:" in fields and b"\ncontent-length:" in fields


def _too_large(
    window: _Window, length: int, fields: dict[str, str], size: int, limit: int
) -> WarcRecord | DamagedRecord:
    """Pass over a record that is, or says that it is, longer than what is held."""
    offset = window.offset
    window.fill(length + limit + 1)
    block = window.take(length, length + limit + 1)
    # A record that begins within what this one claims shows that the claim is wrong.
    found, passed = _skip_to_record(window, length, length + size)
    if not found and passed == length + size:
        return WarcRecord(offset, fields, block, size, too_large=True)
    reason = "wrong_length" if found else "truncated_record"
    what = "another record begins" if found else "the file ends"
    detail = f"Content-Length is {size:,}, but {what} after {passed - length:,} bytes"
    return DamagedRecord(offset, reason, detail, block, passed)
