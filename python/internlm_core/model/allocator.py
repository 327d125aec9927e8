"""The C library's memory allocator, told not to hand large blocks back after every use.

On a CPU, torch takes each large tensor from malloc. By default glibc maps such a block afresh and
unmaps it when it is freed, so that every page of every logits chunk is faulted in again: about a
third of a small model's training step on a 2-core machine.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# glibc malloc.h: parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Keep freed memory in the process and use it again; True where the C library has the switch.

    For the whole process, and it can't be undone: the memory in use at the peak stays taken. No
    result depends on it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # musl has no mallopt.
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
