"""`/v1/chat/completions`."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from internlm_core.infer.server.answering import Answer
from internlm_core.infer.server.call import Call
from internlm_core.infer.server.errors import ApiError
from internlm_core.infer.server.prompts import chat_prompt, sampling_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from internlm_core.infer.server.answering import Piece
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
        self._request = request
        service.check_model(request.model)
        settings, tokenizer = service.settings, service.tokenizer
        if request.top_logprobs is not None and not request.logprobs:
            raise ApiError(
                400, "top_logprobs needs logprobs: true", "invalid_value", "top_logprobs"
            )
        prompt = chat_prompt(request, tokenizer, service.dialect)
        limit = request.max_completion_tokens or request.max_tokens or settings.max_tokens
        generations = service.submit(
            [
                (
                    prompt.ids,
                    sampling_of(
                        request,
                        settings,
                        prompt_tokens=len(prompt.ids),
                        session=service.session,
                        max_tokens=limit,
                        vocab_size=tokenizer.vocab_size,
                        number=number,
                        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
                        schema=prompt.schema,
                    ),
                )
                for number in range(request.n or 1)
            ]
        )
        answers = [
            Answer(
                generation,
                tokenizer,
                stops=request.stops,
                tools=prompt.tools,
                interpreter=prompt.interpreter,
                parallel=request.parallel_tool_calls is not False,
                forced=prompt.forced,
                closing=prompt.closing,
                as_written=bool(request.stream and prompt.forced and prompt.schema),
                log_probs=bool(request.logprobs),
            )
            for generation in generations
        ]
        self._call = Call(service, request, len(prompt.ids), generations, answers)
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": settings.model_name,
            "system_fingerprint": f"{service.dialect.name}-{tokenizer.fingerprint[:12]}",
        }

    async def complete(self, connection: Request) -> dict[str, Any]:
        """The whole answer."""
        wholes = await self._call.wholes(connection)
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [
                {"index": number, **self._choice(whole)} for number, whole in enumerate(wholes)
            ],
            "usage": self._call.usage(),
        }

    def _choice(self, whole: Piece) -> dict[str, Any]:
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
        return {
            "message": message,
            "logprobs": self._log_probs(whole),
            "finish_reason": whole.finish_reason,
        }

    def stream(self) -> AsyncIterator[bytes]:
        """Server-sent events; a failure on the way is an event with `error`, then the end."""

        def choice(index: int, piece: Piece) -> dict[str, Any]:
            delta = {
                "content": piece.text,
                "tool_calls": piece.calls,
                "interpreter_calls": piece.interpreter_calls,
                "warnings": piece.warnings,
            }
            return {
                "index": index,
                "delta": {name: value for name, value in delta.items() if value},
                "logprobs": self._log_probs(piece),
                "finish_reason": piece.finish_reason,
            }

        opening = [
            {
                "index": index,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
            for index in range(self._request.n or 1)
        ]
        head = {**self._head, "object": "chat.completion.chunk"}
        return self._call.events(head, opening, choice)

    def _log_probs(self, piece: Piece) -> dict[str, Any] | None:
        return {"content": piece.log_probs, "refusal": None} if self._request.logprobs else None
