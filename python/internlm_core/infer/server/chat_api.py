"""`/v1/chat/completions`."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any

from internlm_core.infer.server.answering import Answer, Piece, usage_of
from internlm_core.infer.server.errors import ApiError
from internlm_core.infer.server.prompts import chat_prompt, sampling_of
from internlm_core.infer.server.streaming import merged, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from internlm_core.infer.server.protocol import ChatRequest
    from internlm_core.infer.server.service import Service

__all__ = ["ChatCall"]


class ChatCall:
    """One chat request, from its fields to the answers.

    Args:
        service: The served model.
        request: What the client sent.

    Raises:
        ApiError: It can't be served.
        DataError: A message can't be rendered.
    """

    def __init__(self, service: Service, request: ChatRequest) -> None:
        self._service, self._request = service, request
        service.check_model(request.model)
        settings, tokenizer = service.settings, service.tokenizer
        if request.top_logprobs is not None and not request.logprobs:
            raise ApiError(
                400, "top_logprobs needs logprobs: true", "invalid_value", "top_logprobs"
            )
        self._prompt = chat_prompt(request, tokenizer, settings.dialect)
        limit = request.max_completion_tokens or request.max_tokens or settings.max_tokens
        self.generations = service.submit(
            [
                (
                    self._prompt.ids,
                    sampling_of(
                        request,
                        settings,
                        prompt_tokens=len(self._prompt.ids),
                        session=service.session,
                        max_tokens=limit,
                        vocab_size=tokenizer.vocab_size,
                        number=number,
                        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
                        schema=self._prompt.schema,
                    ),
                )
                for number in range(request.n or 1)
            ]
        )
        self._answers = [
            Answer(
                generation,
                tokenizer,
                stops=request.stops,
                tools=self._prompt.tools,
                interpreter=self._prompt.interpreter,
                parallel=request.parallel_tool_calls is not False,
                forced=self._prompt.forced,
                closing=self._prompt.closing,
                log_probs=bool(request.logprobs),
            )
            for generation in self.generations
        ]
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": settings.model_name,
            "system_fingerprint": f"{settings.dialect}-{tokenizer.fingerprint[:12]}",
        }

    def usage(self) -> dict[str, Any]:
        """Tokens read and written so far."""
        return usage_of(len(self._prompt.ids), self._answers)

    async def complete(self, connection: Request) -> dict[str, Any]:
        """The whole answer."""
        wholes = asyncio.gather(*(self._whole(answer) for answer in self._answers))

        async def all_of() -> list[dict[str, Any]]:
            return await wholes

        choices = await self._service.while_connected(connection, all_of(), self.generations)
        usage = self.usage()
        self._service.metrics.completion_tokens.inc(usage["completion_tokens"])
        for number, choice in enumerate(choices):
            choice["index"] = number
        return {
            **self._head,
            "object": "chat.completion",
            "choices": choices,
            "usage": usage,
        }

    async def _whole(self, answer: Answer) -> dict[str, Any]:
        whole = Piece()
        async for piece in answer.pieces():
            whole.text += piece.text
            whole.calls += piece.calls
            whole.interpreter_calls += piece.interpreter_calls
            whole.warnings += piece.warnings
            whole.log_probs += piece.log_probs
            whole.finish_reason = piece.finish_reason
        message: dict[str, Any] = {
            "role": "assistant",
            "content": whole.text if whole.text or not whole.calls else None,
            "refusal": None,
        }
        if whole.calls:
            message["tool_calls"] = [
                {key: value for key, value in call.items() if key != "index"}
                for call in whole.calls
            ]
        if whole.interpreter_calls:
            message["interpreter_calls"] = whole.interpreter_calls
        if whole.warnings:
            message["warnings"] = whole.warnings
        log_probs = {"content": whole.log_probs, "refusal": None}
        return {
            "message": message,
            "logprobs": log_probs if self._request.logprobs else None,
            "finish_reason": whole.finish_reason,
        }

    async def stream(self) -> AsyncIterator[bytes]:
        """Server-sent events; a failure on the way is an event with `error`, then the end."""
        with_usage = bool(
            self._request.stream_options and self._request.stream_options.include_usage
        )
        usage = {"usage": None} if with_usage else {}
        head = {**self._head, "object": "chat.completion.chunk"}

        def chunk(index: int, delta: dict[str, Any], piece: Piece | None) -> bytes:
            choice: dict[str, Any] = {
                "index": index,
                "delta": delta,
                "logprobs": None,
                "finish_reason": None if piece is None else piece.finish_reason,
            }
            if piece is not None and self._request.logprobs:
                choice["logprobs"] = {"content": piece.log_probs, "refusal": None}
            return sse({**head, "choices": [choice], **usage})

        for index in range(len(self._answers)):
            yield chunk(index, {"role": "assistant", "content": ""}, None)
        async for index, piece in merged(
            self._service, [answer.pieces() for answer in self._answers], self.generations
        ):
            if isinstance(piece, ApiError):
                yield sse(piece.body())
                return
            delta: dict[str, Any] = {}
            if piece.text:
                delta["content"] = piece.text
            if piece.calls:
                delta["tool_calls"] = piece.calls
            if piece.interpreter_calls:
                delta["interpreter_calls"] = piece.interpreter_calls
            if piece.warnings:
                delta["warnings"] = piece.warnings
            yield chunk(index, delta, piece)
        self._service.metrics.completion_tokens.inc(self.usage()["completion_tokens"])
        if with_usage:
            yield sse({**head, "choices": [], "usage": self.usage()})
        yield b"data: [DONE]\n\n"
