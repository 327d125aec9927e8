"""`/v1/completions`: a text or ids, continued."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from internlm_core.infer.server.answering import Answer, Piece
from internlm_core.infer.server.call import Call
from internlm_core.infer.server.errors import ApiError
from internlm_core.infer.server.prompts import sampling_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from internlm_core.infer.server.protocol import CompletionRequest
    from internlm_core.infer.server.service import Service

__all__ = ["CompletionCall"]

_MAX_TOKENS = 16
"""OpenAI's default for this route."""


class CompletionCall:
    """One request, from its fields to the answers.

    Args:
        service: The served model.
        request: What the client sent.

    Raises:
        ApiError: It can't be served.
    """

    def __init__(self, service: Service, request: CompletionRequest) -> None:
        self._service, self._request = service, request
        service.check_model(request.model)
        settings, tokenizer = service.settings, service.tokenizer
        prompts = [self._ids(prompt) for prompt in _each(request.prompt)]
        count = request.n or 1
        if len(prompts) * count > 64:
            raise ApiError(400, "more than 64 answers in one request", "invalid_value", "n")
        jobs = [
            (
                ids,
                sampling_of(
                    request,
                    settings,
                    prompt_tokens=len(ids),
                    session=service.session,
                    max_tokens=request.max_tokens or _MAX_TOKENS,
                    vocab_size=tokenizer.vocab_size,
                    number=number,
                    logprobs=request.logprobs,
                ),
            )
            for ids in prompts
            for number in range(count)
        ]
        generations = service.submit(jobs)
        answers = [
            Answer(
                generation,
                tokenizer,
                stops=request.stops,
                log_probs=request.logprobs is not None,
            )
            for generation in generations
        ]
        self._echoes = [
            self._text(prompt) if request.echo else ""
            for prompt in _each(request.prompt)
            for _ in range(count)
        ]
        self._call = Call(service, request, sum(map(len, prompts)), generations, answers)
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": settings.model_name,
        }

    def _ids(self, prompt: str | list[int]) -> list[int]:
        service = self._service
        if isinstance(prompt, str):
            text: list[int] = service.tokenizer.encode_ordinary(prompt).tolist()
            ids = text if service.bos is None else [service.bos, *text]
        else:
            ids = prompt
            if any(not 0 <= i < service.tokenizer.vocab_size for i in ids):
                raise ApiError(400, "an id is outside the vocabulary", "invalid_value", "prompt")
        if not ids:
            raise ApiError(400, "the prompt is empty", "invalid_value", "prompt")
        return ids

    def _text(self, prompt: str | list[int]) -> str:
        return prompt if isinstance(prompt, str) else self._service.tokenizer.decode(prompt)

    async def complete(self, connection: Request) -> dict[str, Any]:
        """The whole answer."""
        wholes = await self._call.wholes(connection)
        choices = [
            self._choice(index, echo + piece.text, piece, len(echo))
            for index, (echo, piece) in enumerate(zip(self._echoes, wholes, strict=True))
        ]
        return {**self._head, "choices": choices, "usage": self._call.usage()}

    def _choice(self, index: int, text: str, piece: Piece, offset: int) -> dict[str, Any]:
        log_probs = None
        if self._request.logprobs is not None:
            log_probs = _legacy(piece.log_probs, offset)
        return {
            "index": index,
            "text": text,
            "logprobs": log_probs,
            "finish_reason": piece.finish_reason,
        }

    def stream(self) -> AsyncIterator[bytes]:
        """Server-sent events; a failure on the way is an event with `error`, then the end."""
        offsets = [len(echo) for echo in self._echoes]

        def choice(index: int, piece: Piece) -> dict[str, Any]:
            offset = offsets[index]
            offsets[index] += len(piece.text)
            return self._choice(index, piece.text, piece, offset)

        opening = [
            self._choice(index, echo, Piece(), 0) for index, echo in enumerate(self._echoes) if echo
        ]
        return self._call.events(self._head, opening, choice)


def _each(prompt: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    return [prompt] if isinstance(prompt[0], int) else list(prompt)


def _legacy(entries: list[dict[str, Any]], offset: int) -> dict[str, Any]:
    """OpenAI's older form of log-probabilities."""
    offsets = []
    for entry in entries:
        offsets.append(offset)
        offset += len(entry["token"])
    return {
        "tokens": [entry["token"] for entry in entries],
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [
            {top["token"]: top["logprob"] for top in entry["top_logprobs"]} for entry in entries
        ],
        "text_offset": offsets,
    }
