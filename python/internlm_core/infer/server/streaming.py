"""Several answers as one stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from internlm_core.infer.server.errors import ApiError, as_api_error
from internlm_core.infer.server.service import as_engine_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from internlm_core.infer.server.answering import Piece
    from internlm_core.infer.server.backend import Generation
    from internlm_core.infer.server.service import Service

__all__ = ["merged", "sse"]


def sse(value: Any) -> bytes:
    """One event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


async def merged(
    service: Service, streams: Sequence[AsyncIterator[Piece]], generations: Sequence[Generation]
) -> AsyncIterator[tuple[int, Piece | ApiError]]:
    """Pieces of all streams as they come, with their number.

    A failure or the deadline comes as one last `ApiError`. When the reader stops reading, because its
    client has gone, all generations are cancelled.
    """
    items: asyncio.Queue[tuple[int, Piece | ApiError | None]] = asyncio.Queue()

    async def pump(number: int, stream: AsyncIterator[Piece]) -> None:
        try:
            async for piece in stream:
                items.put_nowait((number, piece))
        except Exception as error:  # noqa: BLE001  # told to the client
            items.put_nowait((number, as_api_error(as_engine_error(error))))
            return
        items.put_nowait((number, None))

    # One timer for all: a time limit on each wait would make a task of each.
    deadline = asyncio.get_running_loop().call_later(
        service.settings.deadline, items.put_nowait, (-1, None)
    )
    tasks = [asyncio.ensure_future(pump(n, stream)) for n, stream in enumerate(streams)]
    left, whole = len(tasks), False
    try:
        while left:
            number, item = await items.get()
            if number < 0:
                number, item = 0, service.too_late()
            if item is None:
                left -= 1
                continue
            yield number, item
            if isinstance(item, ApiError):
                whole = True
                return
        whole = True
    finally:
        if not whole:
            service.metrics.cancelled.inc()
        deadline.cancel()
        for generation in generations:
            generation.cancel()
        for task in tasks:
            task.cancel()
