"""Stop signals that wait for the end of a step, so that the run can save first."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["StopSignals"]

_CAUGHT = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While entered, SIGTERM and SIGINT set `stopped` instead of ending the process.

    A second signal takes its usual effect at once. Outside the main thread nothing is caught.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in _CAUGHT}
        return self

    def _note(self, *_: object) -> None:
        self.stopped = True
        self._restore()

    def _restore(self) -> None:
        for caught, handler in self._before.items():
            signal.signal(caught, handler)
        self._before = {}

    def __exit__(self, *_: object) -> None:
        self._restore()
