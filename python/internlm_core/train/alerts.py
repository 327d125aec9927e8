"""What a person should look at: spikes, stalls, sources that ran out; one JSON line each."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from internlm_core._progress import console

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Self

    from internlm_core.train.logs import StepLog

__all__ = ["Alerts", "Spikes"]

_HISTORY = 50
"""Steps a value is compared with; ours."""
_LEAST = 10
"""Steps before anything is compared."""
_SLOW = 10.0
"""Times the median that make a step slow, or a stall; ours."""


class Spikes:
    """Values far above those of the last steps.

    A loss is far above when it exceeds their median by `factor` robust standard deviations
    (1.4826 · median absolute deviation, at least 1 % of the median); a gradient norm, when it is
    `factor` times their median. A step with a spike isn't compared with later on.

    Args:
        factor: How far.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._losses: deque[float] = deque(maxlen=_HISTORY)
        self._norms: deque[float] = deque(maxlen=_HISTORY)

    def look(self, loss: float, norm: float) -> list[dict[str, Any]]:
        """Spikes of this step: kind, value, and the median it was compared with."""
        found = []
        if len(self._losses) >= _LEAST:
            middle = statistics.median(self._losses)
            spread = 1.4826 * statistics.median(abs(x - middle) for x in self._losses)
            if loss > middle + self._factor * max(spread, 0.01 * abs(middle)):
                found.append({"kind": "loss_spike", "value": loss, "median": middle})
            middle = statistics.median(self._norms)
            if norm > self._factor * middle:
                found.append({"kind": "grad_norm_spike", "value": norm, "median": middle})
        if not found:
            self._losses.append(loss)
            self._norms.append(norm)
        return found


class Alerts:
    """Writes `alerts.jsonl`, and watches the clock while entered.

    Args:
        log: The file; None on ranks that keep none.
        factor: As in `Spikes`.
        stall_seconds: A step that takes longer, and ten times the median too, is a stall.
        before: Lines of `metrics.jsonl` up to the step the run goes on from.
        quiet: Say nothing on the console.
    """

    def __init__(
        self,
        log: StepLog | None,
        *,
        factor: float,
        stall_seconds: float,
        before: Iterable[Mapping[str, Any]] = (),
        quiet: bool = False,
    ) -> None:
        self._log, self._quiet, self._stall_seconds = log, quiet, stall_seconds
        self._spikes = Spikes(factor)
        self._epochs: dict[tuple[str, str], int] = {}
        for line in before:
            self._spikes.look(line["loss"], line["grad_norm"])
            self._epochs |= {(line["phase"], n): e for n, e in line["epochs"].items()}
        self._times: deque[float] = deque(maxlen=_HISTORY)
        self._lock, self._over = threading.Lock(), threading.Event()
        self._step, self._began, self._told = 0, time.monotonic(), True
        self._watcher: threading.Thread | None = None

    def begin(self, step: int) -> None:
        """Step number `step` begins."""
        with self._lock:
            self._step, self._began, self._told = step, time.monotonic(), False

    def end(self, line: Mapping[str, Any], seconds: float) -> None:
        """A step is done; `line` is its line of `metrics.jsonl`."""
        for spike in self._spikes.look(line["loss"], line["grad_norm"]):
            self.add(line["step"], phase=line["phase"], **spike)
        for name, epoch in line["epochs"].items():
            key = (line["phase"], name)
            if epoch > self._epochs.get(key, 0):
                self.add(line["step"], kind="source_repeats", source=name, epoch=epoch + 1)
            self._epochs[key] = epoch
        with self._lock:
            usual = statistics.median(self._times) if len(self._times) >= _LEAST else None
            told, self._told = self._told, True
            self._times.append(seconds)
        if usual is not None and not told and seconds > max(1.0, _SLOW * usual):
            self.add(line["step"], kind="slow_step", value=seconds, median=usual)

    def add(self, step: int, **fields: Any) -> None:
        """Write an alert, and say it."""
        if self._log is None:
            return
        with self._lock:
            self._log.add(step=step, **fields)
        if not self._quiet:
            console.print(f"Alert at step {step}: {_words(fields)}")

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self._stall_seconds / 4)):
            with self._lock:
                waited, step = time.monotonic() - self._began, self._step
                usual = statistics.median(self._times) if self._times else 0.0
                stalled = not self._told and waited > max(self._stall_seconds, _SLOW * usual)
                self._told = self._told or stalled
            if stalled:
                self.add(step, kind="stall", value=waited, median=usual)

    def __enter__(self) -> Self:
        if self._log is not None:
            self._watcher = threading.Thread(target=self._watch, name="stalls", daemon=True)
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._watcher is not None:
            self._watcher.join()


def _words(fields: Mapping[str, Any]) -> str:
    kind = str(fields["kind"]).replace("_", " ")
    if "source" in fields:
        return f"source {fields['source']} ran out and starts over (pass {fields['epoch']})"
    if "median" not in fields:
        return kind
    return f"{kind}: {fields['value']:.4g}, usually {fields['median']:.4g}"
