"""The engine as the server sees it: a prompt in, tokens out, and a queue with an end."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from internlm_core.errors import InferError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from internlm_core.infer.engine import Engine
    from internlm_core.infer.request import Handle
    from internlm_core.infer.sampling import SamplingParams

__all__ = ["Backend", "EngineBackend", "Generation", "QueueFullError", "Token"]


class QueueFullError(InferError):
    """No more requests may wait."""


@dataclass(frozen=True)
class Token:
    """One token of an answer.

    Attributes:
        id: The token.
        log_prob: log p under the model (temperature 1, no cuts), nats.
        top: The likeliest ids and their log p, likeliest first.
        finish_reason: None but with the last: `stop` or `length`.
        end: Whether it is an end id, which is no part of the text.
        cached_tokens: With the last: tokens of the prompt that were found in the cache.
    """

    id: int
    log_prob: float
    top: tuple[tuple[int, float], ...] = ()
    finish_reason: str | None = None
    end: bool = False
    cached_tokens: int = 0


class Generation(Protocol):
    """An answer being written: `async for token in generation`."""

    def __aiter__(self) -> AsyncIterator[Token]:
        """Its tokens."""

    def cancel(self) -> None:
        """Write no more, and free what it holds; nothing happens to one that has ended."""


class Backend(Protocol):
    """What the server needs of an engine."""

    def submit(self, ids: Sequence[int], sampling: SamplingParams) -> Generation:
        """Have one answer written.

        Raises:
            QueueFullError: Too many wait.
            InferError: The request can't be served.
        """

    def gauges(self) -> Mapping[str, float]:
        """Figures for `/metrics`; `running` and `waiting` are among them."""

    def close(self) -> None:
        """End all answers, those not finished with an error."""


class _FromHandle:
    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def __aiter__(self) -> AsyncIterator[Token]:
        async for event in self._handle:
            for number, token in enumerate(event.token_ids):
                last = number == len(event.token_ids) - 1
                scored = event.logprobs[number] if event.logprobs else None
                yield Token(
                    token,
                    0.0 if scored is None else scored.log_prob,
                    () if scored is None else scored.top,
                    event.finish_reason if last else None,
                    end=last and event.stop == token and isinstance(event.stop, int),
                    cached_tokens=event.cached_tokens,
                )

    def cancel(self) -> None:
        if not self._handle.done:
            self._handle.cancel()


class EngineBackend:
    """An engine, with a limit of how many may wait.

    Args:
        engine: Writes.
        limit: Most answers that run or wait.
    """

    def __init__(self, engine: Engine, limit: int) -> None:
        self._engine, self._limit = engine, limit
        # Requests come from several threads: those on their way in count, so none slips past the limit.
        self._entering, self._lock = 0, threading.Lock()

    def submit(self, ids: Sequence[int], sampling: SamplingParams) -> Generation:
        """Queue one answer.

        Raises:
            QueueFullError: Too many wait.
            InferError: The engine refuses it.
        """
        with self._lock:
            load = self._engine.load
            if load["running"] + load["waiting"] + self._entering >= self._limit:
                raise QueueFullError(f"{load['waiting']} requests are waiting: try again later")
            self._entering += 1
        try:
            return _FromHandle(self._engine.submit(list(ids), sampling))
        finally:
            with self._lock:
                self._entering -= 1

    def gauges(self) -> Mapping[str, float]:
        """Load, and what was done since the start."""
        load, stats = self._engine.load, self._engine.stats
        return {
            "running": load["running"],
            "waiting": load["waiting"],
            "cache_blocks_used": load["used"],
            "cache_blocks": load["blocks"],
            "prefill_tokens": stats.prefill_tokens,
            "prefix_cached_tokens": stats.cached_tokens,
            "preemptions": stats.preemptions,
        }

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
