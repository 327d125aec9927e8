"""Read the next item in a thread while the last one is worked on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["read_ahead"]

T = TypeVar("T")


def read_ahead(items: Iterator[T], begin: Callable[[], None] | None = None) -> Iterator[T]:
    """The same items in the same order, each taken from `items` before it is asked for.

    Args:
        items: Anything that reads when it is asked for the next item.
        begin: Called in the reading thread before it takes the first item.
    """
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead", initializer=begin) as pool:
        pending = pool.submit(next, items, end)
        while (item := pending.result()) is not end:
            pending = pool.submit(next, items, end)
            yield item
            # Let go of it, or the last item would stay while the next is awaited.
            del item
