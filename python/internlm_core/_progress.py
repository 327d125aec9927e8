"""Progress a person can watch: a live bar in a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Task", "console"]

console = Console(stderr=True, highlight=False)

_SECONDS_BETWEEN_LINES = 10.0


class Task:
    """One running task of known or unknown length, used as a context manager.

    Args:
        title: What is being done ("Reading", "Training phase 1").
        total: Steps in all, or `None` where that is not known.
        quiet: Print nothing at all.
    """

    def __init__(self, title: str, total: int | None = None, *, quiet: bool = False) -> None:
        self._title, self._total, self._quiet = title, total, quiet
        self._done, self._note, self._last_line = 0, "", time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if not self._quiet and console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                transient=False,
            )
            self._bar.start()
            self._id = self._bar.add_task(self._title, total=self._total, note="")
        return self

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count `steps` more as done; `note` is a short figure to show beside the bar."""
        self._done += steps
        self._note = self._note if note is None else note
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.update(self._id, advance=steps, note=self._note)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._line()

    def _line(self) -> None:
        self._last_line = time.monotonic()
        total = "" if self._total is None else f"/{self._total}"
        # A log keeps one line a line, however narrow a terminal it takes itself for.
        console.print(f"{self._title}: {self._done}{total} {self._note}".rstrip(), soft_wrap=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self._quiet:
            self._line()
