"""Lines of a byte stream with their addresses, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Line", "split_lines"]


class Line(NamedTuple):
    """One physical line.

    Attributes:
        number: Counted from 1.
        offset: Where it starts, in bytes.
        data: Its bytes without the line end; only the start of it where it is over the limit.
        size: Its length in bytes.
        ended: Whether a line end was seen; false for the last line of a file without one.
    """

    number: int
    offset: int
    data: bytes
    size: int
    ended: bool


def split_lines(
    blocks: Iterable[bytes], limit: int, number: int = 1, offset: int = 0
) -> Iterator[Line]:
    r"""Split at `\n`; of a line over the limit only the start is held, so memory stays bounded.

    Args:
        blocks: The bytes, in pieces of any size.
        limit: Longest line that is given whole, in bytes; of a longer one, `limit + 1` are given.
        number: Of the first line.
        offset: Of its first byte.
    """
    held: list[bytes] = []
    kept = size = 0
    for block in blocks:
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            data = block[start:end]
            if size:
                data = b"".join([*held, data]) if kept <= limit else b"".join(held)
            size += end - start
            yield Line(number, offset, data[: limit + 1], size, ended=True)
            number, offset, start = number + 1, offset + size + 1, end + 1
            held, kept, size = [], 0, 0
        if start < len(block):
            size += len(block) - start
            if kept <= limit:
                held.append(block[start:])
                kept += len(block) - start
    if size:
        yield Line(number, offset, b"".join(held)[: limit + 1], size, ended=False)
