"""What chat and completion requests share: waiting for whole answers, and streaming them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from internlm_core.infer.server.answering import usage_of
from internlm_core.infer.server.errors import ApiError
from internlm_core.infer.server.streaming import merged, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from starlette.requests import Request

    from internlm_core.infer.server.answering import Answer, Piece
    from internlm_core.infer.server.backend import Generation
    from internlm_core.infer.server.protocol import ChatRequest, CompletionRequest
    from internlm_core.infer.server.service import Service

__all__ = ["Call"]


class Call:
    """The answers of one request.

    Args:
        service: The served model.
        request: What the client sent.
        prompt_tokens: Of all its prompts.
        generations: Being written.
        answers: What reads them, one each.
    """

    def __init__(
        self,
        service: Service,
        request: ChatRequest | CompletionRequest,
        prompt_tokens: int,
        generations: Sequence[Generation],
        answers: Sequence[Answer],
    ) -> None:
        self._service, self._prompt_tokens = service, prompt_tokens
        self._generations, self._answers = generations, answers
        options = request.stream_options
        self._with_usage = bool(options and options.include_usage)

    def usage(self) -> dict[str, Any]:
        """Tokens read and written so far."""
        return usage_of(self._prompt_tokens, self._answers)

    async def wholes(self, connection: Request) -> list[Piece]:
        """All answers, as long as the client waits for them."""

        async def all_of() -> list[Piece]:
            return list(await asyncio.gather(*(answer.whole() for answer in self._answers)))

        found = await self._service.while_connected(connection, all_of(), self._generations)
        self._count()
        return found

    async def events(
        self,
        head: dict[str, Any],
        opening: Iterable[dict[str, Any]],
        choice: Callable[[int, Piece], dict[str, Any]],
    ) -> AsyncIterator[bytes]:
        """Server-sent events; a failure on the way is an event with `error`, then the end.

        Args:
            head: What every event says.
            opening: Choices that come before anything was written.
            choice: Makes a choice of an answer's number and a piece of it.
        """
        usage = {"usage": None} if self._with_usage else {}
        for first in opening:
            yield sse({**head, "choices": [first], **usage})
        pieces = [answer.pieces() for answer in self._answers]
        async for index, piece in merged(self._service, pieces, self._generations):
            if isinstance(piece, ApiError):
                yield sse(piece.body())
                return
            yield sse({**head, "choices": [choice(index, piece)], **usage})
        self._count()
        if self._with_usage:
            yield sse({**head, "choices": [], "usage": self.usage()})
        yield b"data: [DONE]\n\n"

    def _count(self) -> None:
        self._service.metrics.completion_tokens.inc(self.usage()["completion_tokens"])
