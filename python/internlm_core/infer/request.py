"""Requests, what comes of them, and the handle their owner holds."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import numpy.typing as npt

    from internlm_core.errors import InferError
    from internlm_core.infer.sampling import Sampler, SamplingParams
    from internlm_core.infer.text import TextWriter

__all__ = ["Chunk", "Completion", "Event", "Handle", "Sequence", "TokenLogProb"]


@dataclass(frozen=True)
class TokenLogProb:
    """How likely a written token was, and what else was.

    Attributes:
        id: The token.
        log_prob: log p under the model (temperature 1, no cuts, penalties or bias), nats.
        top: The likeliest ids with theirs, likeliest first, as many as were asked for.
    """

    id: int
    log_prob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Event:
    """A step of one answer.

    Attributes:
        request_id: Of the request.
        index: Which of its `n` answers.
        token_ids: New ids, control and end ids included.
        text: What can be shown now: whole characters, no control tokens, no part of a stop text.
            Often empty while an id completes no character or a stop text may be coming.
        logprobs: One a new id, if they were asked for.
        finish_reason: In the last event of an answer: `stop`, `length` or `cancelled`.
        prompt_tokens: In that event: length of the prompt.
        cached_tokens: In that event: how many of them were found in the cache.
        stop: In that event: the stop text or id that ended it.
    """

    request_id: str
    index: int = 0
    token_ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[TokenLogProb, ...] | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    stop: str | int | None = None


@dataclass(frozen=True)
class Completion:
    """One finished answer.

    Attributes:
        text: What was written, without control tokens and stop text.
        ids: The generated ids, the stop id included when one came.
        log_probs: log p of each of them under the model (temperature 1, no cuts), nats.
        finish_reason: `stop` (a stop id or text), `length` or `cancelled`.
        prompt_tokens: Length of the prompt.
        cached_tokens: How many of them were found in the cache.
        index: Which of the request's `n` answers.
        logprobs: One an id, if they were asked for.
    """

    text: str
    ids: tuple[int, ...]
    log_probs: npt.NDArray[np.float32]
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int = 0
    index: int = 0
    logprobs: tuple[TokenLogProb, ...] | None = None


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer being written.

    Attributes:
        text: Whole characters; empty only in the last chunk.
        finish_reason: None but in the last chunk.
        ids: Ids that came since the last chunk.
        logprobs: Theirs, if they were asked for.
    """

    text: str
    finish_reason: str | None = None
    ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogProb, ...] = ()


class Handle:
    """A submitted request: its events, in order, and a way to end it.

    Iterate (`for` or `async for`) until every answer has finished; each event comes once. Safe to
    use from any thread.

    Args:
        request_id: Its name.
        answers: How many there will be.
        cancel: Ends it.
    """

    def __init__(self, request_id: str, answers: int, cancel: Callable[[Handle], None]) -> None:
        self.request_id = request_id
        self._left = answers
        self._cancel = cancel
        self._events: deque[Event] = deque()
        self._error: InferError | None = None
        self._changed = threading.Condition()
        self._wake: Callable[[], None] | None = None

    def cancel(self) -> None:
        """End it: what is unfinished finishes as `cancelled` and its cache is freed. No wait."""
        self._cancel(self)

    @property
    def done(self) -> bool:
        """Whether every answer has finished, read or not."""
        return self._left == 0 or self._error is not None

    def put(self, event: Event) -> None:
        """Add an event; for the engine."""
        with self._changed:
            self._events.append(event)
            if event.finish_reason is not None:
                self._left -= 1
            self._notify()

    def fail(self, error: InferError) -> None:
        """End it with an error, which the reader gets after the events; for the engine."""
        with self._changed:
            self._error = error
            self._notify()

    def _notify(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()

    def _next(self) -> Event | None:
        """The next event if there is one; StopIteration's stand-in is `_ended`."""
        return self._events.popleft() if self._events else None

    def _ended(self) -> bool:
        if self._error is not None:
            raise self._error
        return self._left == 0

    def __iter__(self) -> Iterator[Event]:
        while True:
            with self._changed:
                event = self._next()
                while event is None and not self._ended():
                    self._changed.wait()
                    event = self._next()
            if event is None:
                return
            yield event

    async def __aiter__(self) -> AsyncIterator[Event]:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(ready.set)
            except RuntimeError:  # the reader's loop was closed: nobody listens any more
                self._wake = None

        with self._changed:
            self._wake = wake
        try:
            while True:
                with self._changed:
                    ready.clear()
                    event = self._next()
                    ended = event is None and self._ended()
                if event is not None:
                    yield event
                elif ended:
                    return
                else:
                    await ready.wait()
        finally:
            with self._changed:
                self._wake = None


@dataclass(eq=False)
class Sequence:
    """One answer being written, or one list of ids being scored; for scheduler and loop."""

    handle: Handle
    prompt: list[int]
    params: SamplingParams
    index: int = 0
    sampler: Sampler | None = None
    writer: TextWriter | None = None
    stop_ids: frozenset[int] = frozenset()
    limit: int = 0
    score: npt.NDArray[np.float32] | None = None
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    cached: int = 0
    preemptions: int = 0
    table: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    filled: int = 0
    finish_reason: str | None = None

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)

    @property
    def written(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - len(self.prompt)

    def take(self, logits: npt.NDArray[np.float32], log_sum: float) -> Event:
        """Draw the next token; returns what to tell the owner."""
        assert self.sampler is not None
        assert self.writer is not None
        token = self.sampler.pick(logits)
        self.tokens.append(token)
        shown, stop = "", None
        if token in self.stop_ids:
            self.finish_reason, stop = "stop", token
        else:
            shown = self.writer.push(token)
            if self.writer.stop is not None or self.sampler.complete:
                self.finish_reason = "stop"
            elif self.written >= self.limit:
                self.finish_reason = "length"
        if self.finish_reason is not None:
            shown += self.writer.finish()
        ended: dict[str, Any] = {}
        if self.finish_reason is not None:
            ended = {
                "prompt_tokens": len(self.prompt),
                "cached_tokens": self.cached,
                "stop": self.writer.stop if stop is None else stop,
            }
        return Event(
            self.handle.request_id,
            self.index,
            (token,),
            shown,
            (_log_prob(logits, log_sum, token, self.params.logprobs or 0),),
            self.finish_reason,
            **ended,
        )

    def cancelled(self) -> Event:
        """The last event of an answer that was ended from outside."""
        self.finish_reason = "cancelled"
        return Event(
            self.handle.request_id,
            self.index,
            text="" if self.writer is None else self.writer.finish(),
            finish_reason="cancelled",
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached,
        )


def _log_prob(
    logits: npt.NDArray[np.float32], log_sum: float, token: int, top: int
) -> TokenLogProb:
    best: tuple[tuple[int, float], ...] = ()
    if top:
        top = min(top, len(logits))
        ids = np.argpartition(logits, len(logits) - top)[len(logits) - top :]
        ids = ids[np.lexsort((ids, -logits[ids]))]
        best = tuple((int(i), float(logits[i]) - log_sum) for i in ids)
    return TokenLogProb(token, float(logits[token]) - log_sum, best)
