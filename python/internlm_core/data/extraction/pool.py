"""Many pages over the machine's processors, in processes: the libraries hold the interpreter's lock.

A process that dies or hangs costs the page it was at; the pages that waited behind it start anew.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from internlm_core.data.extraction.page import METHODS, Extracted, extract
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.connection import Connection

__all__ = ["PageResult", "extract_pages"]

Page = bytes | str
_CHUNK_PAGES = 16
_CHUNK_BYTES = 4 << 20
_CHUNKS_AHEAD = 2


@dataclass(frozen=True)
class PageResult:
    """What became of a page.

    Attributes:
        extracted: The text, or None.
        reason: Why there is none: `empty_page`, `no_main_text`, `crash` (its process died),
            `timeout`, or `error`. Empty where there is a text.
        detail: What the error said.
    """

    extracted: Extracted | None
    reason: str = ""
    detail: str = ""


def extract_pages(
    pages: Iterable[bytes | str | tuple[bytes | str, str | None, str | None]],
    *,
    method: str = "hybrid",
    workers: int | None = None,
    timeout: float = 60.0,
) -> Iterator[PageResult]:
    """Extract many pages in parallel; one result a page, in the order of the pages.

    Args:
        pages: Pages, or triples of page, address and charset as `extract_html` takes them. Read as
            results are taken: memory holds a few dozen pages.
        method: As for `extract_html`.
        workers: Processes; as many as there are processors if not given. 0 works in this process,
            where a crash is not contained and nothing is timed.
        timeout: Seconds for one page, after which it is set aside as `timeout`.

    Raises:
        DataError: Unknown method, a negative number of workers or no time.
        MissingExtraError: The extra `data` is not installed.
    """
    if method not in METHODS:
        raise DataError(f"extraction method {method!r}: expected one of {', '.join(METHODS)}")
    if timeout <= 0:
        raise DataError(f"timeout = {timeout}: expected seconds above 0")
    count = len(os.sched_getaffinity(0)) if workers is None else workers
    if count < 0:
        raise DataError(f"workers = {workers}: expected 0 or more")
    if count and multiprocessing.current_process().daemon:
        raise DataError("a daemonic process can't start others; give workers=0")
    tasks = ((page if isinstance(page, tuple) else (page, None, None)) for page in pages)
    if count == 0:
        return (_extract_one(task, method) for task in tasks)
    return _in_processes(tasks, method, count, timeout)


def _extract_one(task: tuple[Any, ...], method: str) -> PageResult:
    html, url, charset = task
    try:
        found = extract(html, url=url, charset=charset, method=method)
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001
        # A library's fault on one page is that page's fate, not the run's.
        return PageResult(None, "error", f"{type(error).__name__}: {error}"[:500])
    if isinstance(found, Extracted):
        return PageResult(found)
    return PageResult(None, found.reason)


def _chunks(tasks: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    chunk: list[tuple[Any, ...]] = []
    size = 0
    for task in tasks:
        chunk.append(task)
        size += len(task[0])
        if len(chunk) == _CHUNK_PAGES or size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _Job:
    """A chunk and, when `done` is set, its results."""

    def __init__(self, tasks: list[tuple[Any, ...]]) -> None:
        self.tasks = tasks
        self.results: list[PageResult] = []
        self.error: BaseException | None = None
        self.done = threading.Event()


def _in_processes(
    tasks: Iterator[tuple[Any, ...]], method: str, count: int, timeout: float
) -> Iterator[PageResult]:
    jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_serve, args=(jobs, method, timeout), daemon=True)
        for _ in range(count)
    ]
    waiting: deque[_Job] = deque()
    chunks = _chunks(tasks)
    try:
        for thread in threads:
            thread.start()
        while True:
            while len(waiting) < count * _CHUNKS_AHEAD and (chunk := next(chunks, None)):
                waiting.append(_Job(chunk))
                jobs.put(waiting[-1])
            if not waiting:
                return
            job = waiting.popleft()
            job.done.wait()
            if job.error is not None:
                raise job.error
            yield from job.results
    finally:
        for job in waiting:
            job.tasks = []
        for _ in threads:
            jobs.put(None)
        for thread in threads:
            thread.join()


def _serve(jobs: queue.SimpleQueue[_Job | None], method: str, timeout: float) -> None:
    """Feed one process, and start another when it is lost."""
    worker: _Worker | None = None
    try:
        while (job := jobs.get()) is not None:
            try:
                while len(job.results) < len(job.tasks):
                    worker = worker or _Worker(method)
                    if not worker.work(job, timeout):
                        worker.close()
                        worker = None
            except BaseException as error:  # noqa: BLE001, PERF203
                job.error = error
            finally:
                job.done.set()
    finally:
        if worker is not None:
            worker.close()


class _Worker:
    """A process that extracts."""

    def __init__(self, method: str) -> None:
        # Not fork: the parent has threads.
        context = multiprocessing.get_context("spawn")
        self._end, other = context.Pipe()
        self._process = context.Process(target=_RUN, args=(other, method), daemon=True)
        self._process.start()
        other.close()
        self._ready = False

    def work(self, job: _Job, timeout: float) -> bool:
        """Do what is left of a job; False when the process can't go on."""
        left = job.tasks[len(job.results) :]
        try:
            if not self._ready:
                # Importing is no part of a page's time.
                error = self._end.recv()
                if error is not None:
                    raise error
                self._ready = True
            self._end.send(left)
            for _ in left:
                if not self._end.poll(timeout):
                    detail = f"no result after {timeout:g} s"
                    job.results.append(PageResult(None, "timeout", detail))
                    return False
                job.results.append(self._end.recv())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join(5)
            code = self._process.exitcode
            if not self._ready:
                raise DataError(
                    f"a process for extraction ended with code {code} before it began; "
                    "a script that calls this needs the guard: if __name__ == '__main__'"
                ) from None
            job.results.append(PageResult(None, "crash", f"its process ended with code {code}"))
            return False
        return True

    def close(self) -> None:
        """End the process, whatever it does."""
        self._end.close()
        self._process.kill()
        self._process.join()


def _run(end: Connection, method: str) -> None:
    try:
        # Loads the libraries and finds out what is missing.
        extract("<p>.</p>", method=method)
    except BaseException as error:  # noqa: BLE001
        end.send(error)
        return
    end.send(None)
    while True:
        try:
            tasks = end.recv()
        except (EOFError, KeyboardInterrupt):
            return
        for task in tasks:
            end.send(_extract_one(task, method))


# A name of its own, so that a test can put a faulty process in its place.
_RUN = _run
