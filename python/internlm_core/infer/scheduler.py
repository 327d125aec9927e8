"""Which tokens are read in the next step, and in which blocks their keys and values go.

Continuous batching: each step takes one token of every answer being written and, with what is left
of its budget, parts of prompts. When blocks run out, the request that came last steps back: its
blocks are freed, and later its tokens are read again, which gives the same keys and values.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from internlm_core.infer.blocks import chain

if TYPE_CHECKING:
    from internlm_core.infer.blocks import BlockPool
    from internlm_core.infer.request import Handle, Sequence

__all__ = ["Part", "Scheduler", "Stats"]


@dataclass
class Stats:
    """Counts since the engine was made."""

    steps: int = 0
    prefill_tokens: int = 0
    """Prompt tokens that were read, those of requests that stepped back included."""
    cached_tokens: int = 0
    """Prompt tokens that were found in the cache instead."""
    decode_tokens: int = 0
    scored_tokens: int = 0
    preemptions: int = 0


@dataclass(frozen=True)
class Part:
    """Tokens `start` to `start + count` of a sequence, to be read in a step."""

    sequence: Sequence
    start: int
    count: int


class Scheduler:
    """Keeps the waiting and the running sequences.

    Args:
        pool: The cache's blocks.
        max_batch: Most sequences that run together.
        step_tokens: Most tokens of a step.
        prefix_cache: Look for known starts of prompts.
    """

    def __init__(
        self, pool: BlockPool, max_batch: int, step_tokens: int, *, prefix_cache: bool = True
    ) -> None:
        self.pool, self.stats = pool, Stats()
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._max_batch, self._step_tokens = max_batch, step_tokens
        self._prefix_cache = prefix_cache

    def plan(self) -> list[Part]:
        """Choose the tokens of the next step; their blocks are taken."""
        parts: dict[int, Part] = {}
        budget = self._step_tokens
        preempted = self.stats.preemptions
        # Answers first, so that long prompts don't hold them up; then by arrival.
        order = sorted(self.running, key=lambda s: len(s.tokens) - s.computed > 1)
        for sequence in order:
            count = min(len(sequence.tokens) - sequence.computed, budget)
            if count < 1 or sequence not in self.running:
                continue
            while not self._reserve(sequence, sequence.computed + count):
                last = self.running[-1]
                part = parts.pop(id(last), None)
                budget += part.count if part else 0
                self._preempt(last)
                if last is sequence:
                    break
            else:
                parts[id(sequence)] = Part(sequence, sequence.computed, count)
                budget -= count
        if self.stats.preemptions == preempted:
            self._admit(parts, budget)
        return list(parts.values())

    def _admit(self, parts: dict[int, Part], budget: int) -> None:
        held: list[Sequence] = []
        while self.waiting and budget > 0 and len(self.running) < self._max_batch:
            sequence = self.waiting.popleft()
            if self._prefix_cache:
                chain(sequence.digests, sequence.tokens, self.pool.size)
            if self._is_being_read(sequence):
                held.append(sequence)
                continue
            # The last token is always read: its logits are what is wanted.
            usable = (len(sequence.tokens) - 1) // self.pool.size
            looks = self._prefix_cache and sequence.score is None
            sequence.table = self.pool.find(sequence.digests[:usable]) if looks else []
            known = len(sequence.table) * self.pool.size
            count = min(len(sequence.tokens) - known, budget)
            missing = -(-len(sequence.tokens) // self.pool.size) - len(sequence.table)
            if self.pool.available < missing or not self._reserve(sequence, known + count):
                self._free(sequence)
                self.waiting.appendleft(sequence)
                break
            sequence.computed, sequence.filled = known, known // self.pool.size
            if sequence.preemptions == 0:
                sequence.cached = known
                self.stats.cached_tokens += known
            self.running.append(sequence)
            parts[id(sequence)] = Part(sequence, known, count)
            budget -= count
        self.waiting.extendleft(reversed(held))

    def _is_being_read(self, sequence: Sequence) -> bool:
        """Whether the next block it needs is being read by another: then it waits and shares it."""
        if not self._prefix_cache or sequence.score is not None:
            return False
        usable = (len(sequence.tokens) - 1) // self.pool.size
        digests = sequence.digests[:usable]
        at = next((i for i, d in enumerate(digests) if not self.pool.holds(d)), None)
        if at is None:
            return False
        return any(
            len(other.digests) > at and other.filled <= at and other.digests[at] == digests[at]
            for other in self.running
        )

    def _reserve(self, sequence: Sequence, tokens: int) -> bool:
        while len(sequence.table) * self.pool.size < tokens:
            block = self.pool.take()
            if block is None:
                return False
            sequence.table.append(block)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._free(sequence)
        sequence.preemptions += 1
        self.stats.preemptions += 1
        self.waiting.appendleft(sequence)

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.table)
        sequence.table, sequence.computed, sequence.filled = [], 0, 0

    def ran(self, part: Part) -> bool:
        """Note that a part was read; True when its sequence has no unread tokens."""
        sequence, size = part.sequence, self.pool.size
        if part.count == 1 and sequence.written:
            self.stats.decode_tokens += 1
        elif sequence.score is not None:
            self.stats.scored_tokens += part.count
        else:
            self.stats.prefill_tokens += part.count
        sequence.computed = part.start + part.count
        full = sequence.computed // size
        # Once a block, not once a token: a long answer's tokens are copied for it.
        if self._prefix_cache and full > sequence.filled:
            chain(sequence.digests, sequence.tokens[: sequence.computed], size)
            for at in range(sequence.filled, full):
                self.pool.fill(sequence.table[at], sequence.digests[at])
            sequence.filled = full
        return sequence.computed == len(sequence.tokens)

    def drop(self, sequence: Sequence) -> None:
        """Forget a sequence and free its blocks, wherever it stands."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._free(sequence)

    def drop_all(self, handle: Handle | None = None) -> list[Sequence]:
        """Drop every sequence, or those of one request; returns them."""
        known = [*self.running, *self.waiting]
        dropped = [s for s in known if handle is None or s.handle is handle]
        for sequence in dropped:
            self.drop(sequence)
        return dropped
