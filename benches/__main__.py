"""`python -m benches [rooms]`: run the benchmarks and print their table."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benches import ROOMS, machine
from benches.harness import measure, write_rows
from benches.show import rich_table

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("rooms", nargs="*", metavar="room", help=f"{', '.join(ROOMS)}; default all")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each tool")
    parser.add_argument("--threads", type=int, default=1, help="cores that each tool may use")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="seconds that count; cpu is for one thread on a machine that others use too",
    )
    parser.add_argument("--out", type=Path, help=f"folder for the rows; default {RESULTS.name}/")
    parser.add_argument(
        "--quick", action="store_true", help="one round on little text, kept only with --out"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.rooms) - set(ROOMS))
    if options.clock == "cpu" and options.threads > 1:
        parser.error("--clock cpu: adds up the time of all threads, so it needs --threads 1")
    if unknown or options.rounds < 1:
        parser.error(f"unknown room {', '.join(unknown)}" if unknown else "--rounds: at least 1")
    try:
        machine.pin(options.threads)
    except ValueError as error:
        parser.error(str(error))
    screen, progress = Console(width=None if sys.stdout.isatty() else 180), Console(stderr=True)
    rounds = 1 if options.quick else options.rounds
    out = options.out or (None if options.quick else RESULTS)
    failures = 0
    with tempfile.TemporaryDirectory():
        for room in options.rooms or ROOMS:
            failures += _room(room, rounds, out, options, screen, progress)
    return 1 if failures else 0


def _room(
    room: str,
    rounds: int,
    out: Path | None,
    options: argparse.Namespace,
    screen: Console,
    progress: Console,
) -> int:
    rows, failed, missing = [], {}, {}
    module = importlib.import_module(f"benches.{room}")
    if reason := getattr(module, "skipped", lambda: None)():
        screen.print(f"{room}: {reason}\n")
        return 0
    for task in module.tasks(quick=options.quick):
        outcome = measure(
            task, rounds, lambda text: progress.print(text, style="dim"), options.clock
        )
        rows += outcome.rows
        failed |= {f"{task.name}: {name}": trace for name, trace in outcome.failed.items()}
        missing |= outcome.missing
    if rows or not hasattr(module, "report"):
        screen.print(rich_table(rows, room))
    for name, package in missing.items():
        screen.print(f"{name}: not measured, {package} is not installed (extra: peers)")
    for name, trace in failed.items():
        screen.print(f"{name} failed:\n{trace}", markup=False)
    if rows and out is not None:
        write_rows(out / f"{room}.json", rows)
        screen.print(f"Rows: {out / f'{room}.json'}\n")
    if hasattr(module, "report"):  # what stands beside no peer
        module.report(screen, out, quick=options.quick)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
