"""The harness: turns, the best round, what is said of tools that are missing or fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def _task(tool: Any, *peers: tuple[str, str, tuple[Any, ...]], ours: str = "sleeper") -> Any:
    from benches.harness import OURS, Contender, Task

    return Task(
        room="room",
        name="work",
        unit="MB/s",
        amount=3.0,
        ours=Contender(OURS, tool(ours), (0.01, "ours") if ours == "sleeper" else ()),
        peers=tuple(
            Contender(name, tool(factory), arguments) for name, factory, arguments in peers
        ),
        judge=lambda results: {name: {"gave": value} for name, value in results.items()},
        facts={"n": 5},
    )


def test_tools_take_turns_and_none_always_leads() -> None:
    from benches.harness import alternate

    order: list[str] = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def round(self) -> int:
            order.append(self.name)
            return len(order)

    done = alternate({"a": Fake("a"), "b": Fake("b")}, 3, {})
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert done == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_a_row_says_what_was_measured(tool: Any) -> None:
    from benches.harness import measure

    outcome = measure(_task(tool, ("slow", "sleeper", (0.04, "theirs"))), rounds=3)
    [row] = outcome.rows
    assert not outcome.failed
    assert not outcome.missing
    for side in ("ours", "peer"):
        seconds = row[side]["seconds"]
        assert [len(seconds[clock]) for clock in ("wall", "cpu")] == [3, 3]
        assert row[side]["speed"] == 3.0 / min(seconds["wall"])
        # It sleeps, which takes no processor.
        assert min(seconds["cpu"]) < min(seconds["wall"])
    assert row["ratio"] == row["ours"]["speed"] / row["peer"]["speed"]
    assert row["ratio"] > 1
    assert (row["ours"]["gave"], row["peer"]["gave"]) == ("ours", "theirs")
    assert row["n"] == 5
    assert {"cpu", "cores", "threads", "python", "commit", "date", "load"} <= set(row)


def test_processor_time_can_be_what_counts(tool: Any) -> None:
    from benches.harness import measure

    [row] = measure(_task(tool, ("busy", "spinner", (0.05,))), rounds=2, clock="cpu").rows
    assert row["clock"] == "cpu"
    assert row["peer"]["speed"] == 3.0 / min(row["peer"]["seconds"]["cpu"])
    assert min(row["peer"]["seconds"]["cpu"]) >= 0.05


def test_a_peer_that_is_missing_or_fails_costs_its_own_row_only(tool: Any) -> None:
    from benches.harness import measure

    outcome = measure(
        _task(
            tool,
            ("absent", "absent", ()),
            ("broken", "broken", ()),
            ("later", "broken_later", ()),
            ("mid-way", "broken_after", (2,)),
            ("dying", "dying", ()),
            ("sound", "sleeper", (0.01, 1)),
        ),
        rounds=2,
    )
    assert [row["peer"]["name"] for row in outcome.rows] == ["sound"]
    assert outcome.missing == {"absent": "no_such_package_anywhere"}
    assert "no such dialect" in outcome.failed["broken"]
    assert "ZeroDivisionError" in outcome.failed["later"]
    assert "IndexError" in outcome.failed["mid-way"]
    assert "ended with code 7" in outcome.failed["dying"]
    assert set(outcome.failed) == {"broken", "later", "mid-way", "dying"}


def test_without_ours_there_is_no_row(tool: Any) -> None:
    from benches.harness import OURS, measure

    outcome = measure(_task(tool, ("sound", "sleeper", (0.01, 1)), ours="broken"), rounds=1)
    assert outcome.rows == []
    assert OURS in outcome.failed


def test_preparing_is_not_timed_and_the_first_result_is_kept(tool: Any) -> None:
    from benches.worker import Worker

    worker = Worker(tool("prepared"))
    try:
        rounds = [worker.round() for _ in range(2)]
        assert worker.result() == ("prepare",)
    finally:
        worker.close()
    # Preparing sleeps for 0.2 s; running does nothing at all.
    assert min(one.wall for one in rounds) < 0.2


def test_memory_is_that_of_the_run(tool: Any) -> None:
    from benches.worker import Worker

    grown = {}
    for size in (1, 200_000_000):
        worker = Worker(tool("greedy"), (size,))
        try:
            grown[size] = worker.round().memory
        finally:
            worker.close()
    if None in grown.values():
        pytest.skip("this system does not tell a process's peak memory")
    assert grown[200_000_000] - grown[1] > 150_000_000


def test_tools_do_not_see_the_source_tree(tool: Any, root: Path) -> None:
    """`kernels/` there would pass for the package of that name."""
    from benches.worker import Worker

    worker = Worker(tool("search_path"))
    try:
        worker.round()
        seen = worker.result()
    finally:
        worker.close()
    assert str(root) in sys.path
    assert str(root) not in seen
    assert "" not in seen


def test_pinning_refuses_cores_that_are_not_there() -> None:
    from benches.machine import pin

    before = os.sched_getaffinity(0)
    for threads in (0, len(before) + 1):
        with pytest.raises(ValueError, match="lends 1 to"):
            pin(threads)
    assert os.sched_getaffinity(0) == before


def test_the_command_measures_and_writes_rows(root: Path, tmp_path: Path) -> None:
    """With what is installed here; text and vocabularies are found and made on the spot."""
    pytest.importorskip("tokenizers")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benches",
            "tokenizer",
            "training_bpe",
            "--quick",
            "--out",
            str(tmp_path),
        ],
        cwd=root,
        env={**os.environ, "INTERNLM_TEST_DATA": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rooms = ("tokenizer", "training_bpe")
    rows = [r for room in rooms for r in json.loads((tmp_path / f"{room}.json").read_text())]
    for row in rows:
        figures = row["peer"]
        if figures["name"] == "rustbpe":
            continue  # Takes equal pairs in another order.
        same = figures.get("same_ids") or figures["same_merges"]
        number, total = same.split(" of ")
        assert number == total, row["task"]
    assert any(row["task"].startswith("Train") for row in rows)
    assert rows[0]["task"] in done.stdout


def test_unknown_rooms_are_refused(root: Path) -> None:
    command = [sys.executable, "-m", "benches", "filters"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown room filters" in done.stderr
