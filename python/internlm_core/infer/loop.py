"""The thread that owns the model: takes requests, runs steps, tells their owners."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from internlm_core.errors import InferError
from internlm_core.infer.request import Event
from internlm_core.infer.runner import Batch, Segment

if TYPE_CHECKING:
    import numpy as np

    from internlm_core.infer.request import Handle, Sequence
    from internlm_core.infer.runner import Runner
    from internlm_core.infer.scheduler import Part, Scheduler, Stats

__all__ = ["Loop"]


class Loop:
    """Runs the scheduler's steps in a thread of its own while there is work.

    Args:
        runner: Computes; no one else may use it.
        scheduler: Chooses; likewise.
        known: Ids from this one on only pad the vocabulary and are never drawn.
    """

    def __init__(self, runner: Runner, scheduler: Scheduler, known: int) -> None:
        self._runner, self._scheduler, self._known = runner, scheduler, known
        self._arrived: deque[Sequence] = deque()
        self._cancelled: deque[Handle] = deque()
        self._changed = threading.Condition()
        self._paused = 0
        self._stopped = False
        self._thread: threading.Thread | None = None

    @property
    def stats(self) -> Stats:
        """Counts so far."""
        return self._scheduler.stats

    @property
    def load(self) -> tuple[int, int, int]:
        """Requests running, requests waiting, blocks in use."""
        scheduler = self._scheduler
        waiting = len(scheduler.waiting) + len(self._arrived)
        return len(scheduler.running), waiting, scheduler.pool.used

    def submit(self, sequences: list[Sequence]) -> None:
        """Add work.

        Raises:
            InferError: The loop was stopped.
        """
        with self._changed:
            if self._stopped:
                raise InferError("the engine was closed: make a new one")
            self._arrived.extend(sequences)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="internlm-core engine", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def cancel(self, handle: Handle) -> None:
        """End a request before the next step."""
        with self._changed:
            self._cancelled.append(handle)
            self._changed.notify_all()

    def stop(self) -> None:
        """End all requests and the thread; waits for the step under way."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        scheduler = self._scheduler
        while True:
            with self._changed:
                while not (
                    self._arrived
                    or self._cancelled
                    or self._stopped
                    or scheduler.running
                    or scheduler.waiting
                ):
                    self._changed.wait()
                scheduler.waiting.extend(self._arrived)
                self._arrived.clear()
                cancelled, stopped = list(self._cancelled), self._stopped
                self._cancelled.clear()
            for handle in cancelled:
                self._end(handle)
            if stopped:
                self._fail(InferError("the engine was closed"))
                return
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - whatever it was, its owners must hear of it
                self._fail(error)

    def _end(self, handle: Handle) -> None:
        for sequence in self._scheduler.drop_all(handle):
            handle.put(sequence.cancelled())

    def _fail(self, error: Exception) -> None:
        # Blocks may hold half a step: nothing in them is to be found again.
        for sequence in self._scheduler.drop_all():
            if not sequence.handle.done:
                failure = error if isinstance(error, InferError) else InferError(f"step: {error!r}")
                failure.__cause__ = None if failure is error else error
                sequence.handle.fail(failure)

    def _step(self) -> None:
        parts = self._scheduler.plan()
        if not parts:
            return
        batch = Batch()
        for part in parts:
            sequence, first, end = part.sequence, len(batch.ids), part.start + part.count
            batch.ids.extend(sequence.tokens[part.start : end])
            batch.segments.append(Segment(part.start, part.count, sequence.table))
            if sequence.score is not None:
                following = sequence.tokens[part.start + 1 : end + 1]
                batch.scored.extend(range(first, first + len(following)))
                batch.labels.extend(following)
            elif end == len(sequence.tokens):
                batch.rows.append(len(batch.ids) - 1)
        result = self._runner.step(batch)
        self._scheduler.stats.steps += 1
        row = place = 0
        for part in parts:
            if part.sequence.score is not None:
                count = min(part.count, len(part.sequence.tokens) - 1 - part.start)
                part.sequence.score[part.start : part.start + count] = result.scores[
                    place : place + count
                ]
                place += count
            whole = self._scheduler.ran(part)
            if not whole:
                continue
            if part.sequence.score is not None:
                self._finish(part, Event(part.sequence.handle.request_id, finish_reason="scored"))
            else:
                self._draw(part, result.logits[row], float(result.log_sums[row]))
                row += 1

    def _draw(self, part: Part, logits: np.ndarray, log_sum: float) -> None:
        sequence = part.sequence
        try:
            event = sequence.take(logits[: self._known], log_sum)
        except InferError as error:
            # Of this request alone: the others go on.
            self._scheduler.drop_all(sequence.handle)
            sequence.handle.fail(error)
            return
        if event.finish_reason is None:
            sequence.handle.put(event)
        else:
            self._finish(part, event)

    def _finish(self, part: Part, event: Event) -> None:
        # Blocks first: who reads the last event finds them free.
        self._scheduler.drop(part.sequence)
        part.sequence.handle.put(event)
