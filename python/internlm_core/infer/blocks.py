"""Blocks of the paged cache: who has which, which are free, and which prefixes they hold.

A block holds the keys and values of `size` tokens. A full one is known by the digest of all tokens up
to its end, so a request that starts alike finds it. Blocks that nobody uses any more keep their
content until the room is needed; the least recently used goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BlockPool", "chain"]


def chain(digests: list[bytes], ids: Sequence[int], size: int) -> None:
    """Add the digests of the full blocks of `ids` that `digests` doesn't have yet.

    Each covers its block and, through the one before, all earlier tokens (BLAKE2b, 128 bits).
    """
    while (len(digests) + 1) * size <= len(ids):
        first = len(digests) * size
        block = np.asarray(ids[first : first + size], np.uint32).tobytes()
        before = digests[-1] if digests else b""
        digests.append(blake2b(before + block, digest_size=16).digest())


class BlockPool:
    """Counts who uses each block.

    Args:
        count: Blocks.
        size: Tokens a block.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        # Popped from the end: low numbers first, so that untouched memory stays untouched.
        self._free = list(range(count - 1, -1, -1))
        self._users = [0] * count
        self._digests: dict[int, bytes] = {}
        self._known: dict[bytes, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that can be taken now."""
        return len(self._free) + len(self._idle)

    @property
    def used(self) -> int:
        """Blocks that requests hold."""
        return self.count - self.available

    def take(self) -> int | None:
        """A block for one user, or None when all are in use."""
        if self._free:
            block = self._free.pop()
        elif self._idle:
            block, _ = self._idle.popitem(last=False)
            del self._known[self._digests.pop(block)]
        else:
            return None
        self._users[block] = 1
        return block

    def find(self, digests: Sequence[bytes]) -> list[int]:
        """Blocks that hold the longest start of the chain; each gets one more user."""
        found = []
        for digest in digests:
            block = self._known.get(digest)
            if block is None:
                break
            self._users[block] += 1
            self._idle.pop(block, None)
            found.append(block)
        return found

    def holds(self, digest: bytes) -> bool:
        """Whether a block of this digest is there."""
        return digest in self._known

    def fill(self, block: int, digest: bytes) -> None:
        """Say what a block holds now. A second block of the same content stays its user's alone."""
        if digest not in self._known and block not in self._digests:
            self._known[digest] = block
            self._digests[block] = digest

    def release(self, blocks: Sequence[int]) -> None:
        """Take one user from each; the last block of a sequence is forgotten first."""
        for block in reversed(blocks):
            self._users[block] -= 1
            assert self._users[block] >= 0, f"block {block} was released twice"
            if self._users[block] == 0:
                if block in self._digests:
                    self._idle[block] = None
                else:
                    self._free.append(block)
