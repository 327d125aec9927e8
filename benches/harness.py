"""Time ours and the peers in turn on the same input, compare what they give, write it down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from internlm_core._files import write_json

from benches.machine import describe_machine, version
from benches.worker import MissingError, Worker, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benches.worker import Job, Round

__all__ = ["Contender", "Outcome", "Task", "alternate", "measure", "write_rows"]

OURS = "internlm-core"


@dataclass(frozen=True)
class Contender:
    """A tool on a task.

    Args:
        name: As it stands in the table; ours is "internlm-core", perhaps with a setting.
        factory: Makes the job in the tool's own process.
        arguments: Of the factory; pickled.
        packages: Distributions whose versions are written down.
        python: Interpreter of the tool's own environment, where it has one.
    """

    name: str
    factory: Callable[..., Job]
    arguments: tuple[Any, ...] = ()
    packages: tuple[str, ...] = ()
    python: Path | None = None


@dataclass(frozen=True)
class Task:
    """Work that ours and the peers do on the same input.

    Args:
        room: Part of the package.
        name: What is done, and to what.
        unit: Of the speed, "MB/s" or "tokens/s".
        amount: Work of one round, in the unit times a second.
        ours: Our side.
        peers: The others.
        judge: Takes each tool's result by name; returns figures by name. A speed without them is
            no result.
        facts: What the input is: n, bytes, a digest, …; goes into every row.
        most_rounds: Timed rounds at most, for work that takes minutes.
    """

    room: str
    name: str
    unit: str
    amount: float
    ours: Contender
    peers: tuple[Contender, ...]
    judge: Callable[[Mapping[str, Any]], dict[str, dict[str, Any]]]
    facts: dict[str, Any] = field(default_factory=dict)
    most_rounds: int | None = None


@dataclass(frozen=True)
class Outcome:
    """Rows of one task, and what went wrong."""

    rows: list[dict[str, Any]]
    missing: dict[str, str]
    """Peer → module that is not installed."""
    failed: dict[str, str]
    """Tool → traceback."""


def alternate(
    workers: Mapping[str, Worker], rounds: int, failed: dict[str, str]
) -> dict[str, list[Round]]:
    """Every round runs each tool once; the order turns round each time, so that none always leads.

    Args:
        workers: Tools by name.
        rounds: How often each runs.
        failed: Tools in it are passed over; one that fails enters it, with its traceback.

    Returns:
        Rounds of those that never failed.
    """
    done: dict[str, list[Round]] = {name: [] for name in workers}
    for number in range(rounds):
        for name in list(workers)[:: 1 if number % 2 == 0 else -1]:
            if name not in failed:
                try:
                    done[name].append(workers[name].round())
                except WorkerError as error:
                    failed[name] = str(error)
    return {name: times for name, times in done.items() if name not in failed}


def measure(
    task: Task,
    rounds: int,
    tell: Callable[[str], None] = lambda _: None,
    clock: Literal["wall", "cpu"] = "wall",
) -> Outcome:
    """Run a task; a peer that is missing or fails costs its own row only.

    Args:
        task: What to run.
        rounds: Times each tool runs.
        tell: Is told what goes on.
        clock: Which seconds count; both are in the row. On a machine that others use too, wall
            time flatters what is short: it may fit between their turns.

    Returns:
        One row a peer. `ratio` is our best round's speed over the peer's best.
    """
    rounds = min(rounds, task.most_rounds or rounds)
    missing: dict[str, str] = {}
    failed: dict[str, str] = {}
    workers: dict[str, Worker] = {}
    try:
        for contender in (task.ours, *task.peers):
            tell(f"{task.name}: starting {contender.name}")
            try:
                workers[contender.name] = Worker(
                    contender.factory, contender.arguments, contender.python
                )
            except MissingError as error:
                missing[contender.name] = str(error)
            except WorkerError as error:
                failed[contender.name] = str(error)
        # A first round apart from the others, whose result is compared, finds what fails.
        tell(f"{task.name}: first round of {', '.join(workers)}")
        warm = alternate(workers, 1, failed)
        if task.ours.name not in warm:
            return Outcome([], missing, failed)
        tell(f"{task.name}: {rounds} rounds of {', '.join(warm)}")
        timed = alternate(workers, rounds, failed)
        if task.ours.name not in timed:
            return Outcome([], missing, failed)
        figures = task.judge({name: workers[name].result() for name in timed})
        # A tool that keeps its memory grows in its first round only.
        peaks = {name: _peak([*warm[name], *timed[name]]) for name in timed}
    finally:
        for worker in workers.values():
            worker.close()
    rows = [
        _row(task, peer, timed, peaks, figures, clock) for peer in task.peers if peer.name in timed
    ]
    return Outcome(rows, missing, failed)


def _peak(rounds: Sequence[Round]) -> int | None:
    return max((one.memory for one in rounds if one.memory is not None), default=None)


def _row(
    task: Task,
    peer: Contender,
    timed: Mapping[str, Sequence[Round]],
    peaks: Mapping[str, int | None],
    figures: Mapping[str, Mapping[str, Any]],
    clock: str,
) -> dict[str, Any]:
    def side(contender: Contender) -> dict[str, Any]:
        rounds = timed[contender.name]
        return {
            "name": contender.name,
            "seconds": {
                "wall": [one.wall for one in rounds],
                "cpu": [one.cpu for one in rounds],
            },
            "speed": task.amount / min(getattr(one, clock) for one in rounds),
            "memory_bytes": peaks[contender.name],
            "versions": {
                package: version(package, contender.python) for package in contender.packages
            },
            **figures.get(contender.name, {}),
        }

    ours, theirs = side(task.ours), side(peer)
    return {
        "room": task.room,
        "task": task.name,
        "unit": task.unit,
        "clock": clock,
        **task.facts,
        "ours": ours,
        "peer": theirs,
        "ratio": ours["speed"] / theirs["speed"],
        **describe_machine(),
    }


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as JSON; each stands alone, so files can be joined."""
    write_json(path, list(rows))
