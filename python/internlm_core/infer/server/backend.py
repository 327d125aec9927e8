"""The engine as the server sees it: requests in, tokens out, from a thread of its own."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

from internlm_core.errors import InferError
from internlm_core.infer.sampling import Sampler, SamplingParams
from internlm_core.model import KVCache

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from internlm_core.infer.engine import Engine

__all__ = ["Backend", "EngineBackend", "Generation", "Options", "QueueFullError", "Token"]

_PREFILL_TOKENS = 2048
"""Most prompt tokens of one step: others' answers go on between."""


class QueueFullError(InferError):
    """No more requests may wait."""


@dataclass(frozen=True)
class Options:
    """How one answer is written.

    Attributes:
        sampling: Lengths, temperature, cuts and seed; stop texts are not the backend's.
        stop_ids: Ids that end it; they are given out as the last token.
        logit_bias: Id → what is added to its logit.
        presence_penalty: Taken from the logit of every id written before.
        frequency_penalty: The same, times how often.
        top_log_probs: How many of the likeliest ids come with each token.
    """

    sampling: SamplingParams
    stop_ids: frozenset[int]
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_log_probs: int = 0


@dataclass(frozen=True)
class Token:
    """One token of an answer.

    Attributes:
        id: The token.
        log_prob: log p under the model (temperature 1, no cuts), nats.
        top: The likeliest ids and their log p, likeliest first.
        finish_reason: None but with the last: `stop` or `length`.
    """

    id: int
    log_prob: float
    top: tuple[tuple[int, float], ...] = ()
    finish_reason: str | None = None


class Generation:
    """An answer being written: `async for token in generation`; `cancel` frees what it holds.

    Args:
        loop: Where it is read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tokens: asyncio.Queue[Token | Exception | None] = asyncio.Queue()
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        """Write no more; the place is free after the step that is being computed."""
        self.cancelled.set()

    def put(self, item: Token | Exception | None) -> None:
        """From the backend's thread: the next token, a failure, or the end."""
        try:
            self._loop.call_soon_threadsafe(self._tokens.put_nowait, item)
        except RuntimeError:
            # The loop is closed: nobody reads any more.
            self.cancel()

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Token:
        item = await self._tokens.get()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, Exception):
            raise item
        return item


class Backend(Protocol):
    """What the server needs of an engine."""

    max_waiting: int

    def submit(self, ids: Sequence[int], options: Options) -> Generation:
        """Have an answer written, from inside a running event loop.

        Raises:
            QueueFullError: Too many wait.
        """

    @property
    def running(self) -> int:
        """Answers being written."""

    @property
    def waiting(self) -> int:
        """Answers that wait for a place."""

    @property
    def cached_tokens(self) -> int:
        """Tokens that running answers hold in the cache."""

    def close(self) -> None:
        """End the thread; answers not finished end with an error."""


@dataclass
class _Running:
    generation: Generation
    options: Options
    sampler: Sampler
    cache: KVCache
    left: list[int]
    """Prompt tokens not yet read, or the last token written."""
    written: list[int] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)


class EngineBackend:
    """Runs an engine's model in a thread, a step of each answer in turn.

    Every answer has its own cache, so that it is the one it would be alone, and ending it frees it.

    Args:
        engine: Its model and tokenizer are used.
        max_running: Answers written at the same time.
        max_waiting: Answers that may wait.
    """

    def __init__(self, engine: Engine, max_running: int = 16, max_waiting: int = 256) -> None:
        self._engine, self._max_running, self.max_waiting = engine, max_running, max_waiting
        known = engine.model.config.vocab_size
        # Ids that pad a vocabulary for the hardware stand for nothing: never drawn.
        self._known = known if engine.tokenizer is None else min(known, engine.tokenizer.vocab_size)
        self._inbox: queue.SimpleQueue[tuple[Generation, list[int], Options] | None]
        self._inbox = queue.SimpleQueue()
        self._waiting: deque[tuple[Generation, list[int], Options]] = deque()
        self._active: list[_Running] = []
        self._submitted = 0
        self._taken = 0
        self._thread = threading.Thread(target=self._loop, name="internlm-server", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Answers being written."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """Answers that wait for a place."""
        return max(0, self._submitted - self._taken)

    @property
    def cached_tokens(self) -> int:
        """Tokens that running answers hold in the cache."""
        return sum(int(run.cache.lengths[0]) for run in list(self._active))

    def submit(self, ids: Sequence[int], options: Options) -> Generation:
        """Queue one answer.

        Raises:
            QueueFullError: Too many wait.
        """
        if self.waiting >= self.max_waiting + max(0, self._max_running - self.running):
            raise QueueFullError(f"{self.waiting} requests are waiting; try again later")
        generation = Generation(asyncio.get_running_loop())
        self._submitted += 1
        self._inbox.put((generation, list(ids), options))
        return generation

    def close(self) -> None:
        """End the thread."""
        self._inbox.put(None)
        self._thread.join()

    # ---- in the thread ----

    @torch.no_grad()
    def _loop(self) -> None:
        while self._admit():
            for run in list(self._active):
                if run.generation.cancelled.is_set():
                    self._end(run)
                    continue
                try:
                    self._step(run)
                except Exception as error:  # noqa: BLE001  # one answer's failure is its own
                    run.generation.put(error)
                    self._end(run)
        for run in list(self._active):
            run.generation.put(InferError("the server is closing"))
        for generation, _, _ in self._waiting:
            generation.put(InferError("the server is closing"))
        self._active.clear()

    def _admit(self) -> bool:
        """Take what came and fill free places; waits where there is nothing to do."""
        idle = not self._active and not self._waiting
        while idle or not self._inbox.empty():
            item = self._inbox.get()
            if item is None:
                return False
            self._waiting.append(item)
            idle = False
        while self._waiting and len(self._active) < self._max_running:
            generation, ids, options = self._waiting.popleft()
            self._taken += 1
            if generation.cancelled.is_set():
                generation.put(None)
                continue
            model = self._engine.model
            try:
                cache = KVCache(
                    model.config,
                    1,
                    len(ids) + options.sampling.max_tokens,
                    dtype=model.dtype,
                    device=model.device,
                    session_length=self._engine.session_length,
                )
                sampler = Sampler(options.sampling)
            except Exception as error:  # noqa: BLE001  # no memory for this one
                generation.put(error)
                continue
            self._active.append(_Running(generation, options, sampler, cache, ids))
        return True

    def _end(self, run: _Running) -> None:
        self._active.remove(run)
        run.generation.put(None)

    def _step(self, run: _Running) -> None:
        model = self._engine.model
        part, run.left = run.left[:_PREFILL_TOKENS], run.left[_PREFILL_TOKENS:]
        ids = torch.tensor([part], device=model.device)
        hidden = model.hidden(ids, cache=run.cache)[:, -1]
        if run.left:
            return
        logits = model.logits(hidden)[0, : self._known].float()
        token = self._choose(run, logits)
        run.written.append(token.id)
        run.counts[token.id] = run.counts.get(token.id, 0) + 1
        run.left = [token.id]
        run.generation.put(token)
        if token.finish_reason is not None:
            self._end(run)

    def _choose(self, run: _Running, logits: Tensor) -> Token:
        options = run.options
        changed = logits
        if options.logit_bias or options.presence_penalty or options.frequency_penalty:
            changed = logits.clone()
            for token, bias in options.logit_bias.items():
                changed[token] += bias
            for token, count in run.counts.items():
                changed[token] -= options.presence_penalty + count * options.frequency_penalty
        chosen = run.sampler.pick(changed.cpu().numpy())
        log_sum = float(logits.logsumexp(-1))
        top: tuple[tuple[int, float], ...] = ()
        if options.top_log_probs:
            best = logits.topk(min(options.top_log_probs, len(logits)))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            top = tuple((i, value - log_sum) for i, value in pairs)
        finish = None
        if chosen in options.stop_ids:
            finish = "stop"
        elif len(run.written) + 1 >= options.sampling.max_tokens:
            finish = "length"
        return Token(chosen, float(logits[chosen]) - log_sum, top, finish)
