"""Runs of two processes, killed in a step and in a save, end bit-equal to one that was never stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from internlm_core.train import checkpoint, trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    Settings = Callable[..., dict[str, Any]]

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["internlm_core.train.trainer", "torch.distributed.tensor.parallel", "torch.distributed.fsdp"]
)


def _process(
    rank: int, store: str, config: dict[str, Any], shard: Path, out: Path, victim: str
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    if victim:
        place, number = victim.split()
        _PLACES[place](rank == int(number))
    trainer.run(config, shard, out, quiet=True)
    dist.destroy_process_group()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _in_step(mine: bool) -> None:
    """Die within the fifth step, after a checkpoint of the fourth, its gradients half summed."""
    one_step = trainer.Trainer._one_step

    def killed(self: trainer.Trainer, *arguments: Any) -> Any:
        if mine and self.step == 4:
            trainer.Optimizer.step = lambda *_: _die()  # type: ignore[method-assign,assign,return-value]
        return one_step(self, *arguments)

    trainer.Trainer._one_step = killed  # type: ignore[method-assign]


def _in_save(mine: bool) -> None:
    """Die with some files of the checkpoint of step 6 written and others not."""
    real = checkpoint._own_part

    def killed(folder: Path, *arguments: Any) -> None:
        if mine and "step-6" in folder.name:
            _die()
        real(folder, *arguments)

    checkpoint._own_part = killed


_PLACES = {"step": _in_step, "save": _in_save}


def together(store: Path, *arguments: Any, victim: str = "") -> list[int | None]:
    """Train in two processes; returns their exit codes, once both are over."""
    processes = [
        _PROCESSES.Process(target=_process, args=(rank, str(store), *arguments, victim))
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    if victim:
        # The one that is left can't go on; a launcher would end it.
        dead, other = processes[int(victim.split()[1])], processes[1 - int(victim.split()[1])]
        dead.join(120)
        other.kill()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def outcome(out: Path) -> dict[str, Any]:
    """Everything that must not depend on how often a run was killed."""
    found = checkpoint.checkpoints(out)
    return {
        "files": json.loads((found[max(found)] / "manifest.json").read_bytes()),
        "steps": sorted(found),
        "metrics": (out / "metrics.jsonl").read_bytes(),
    }


@pytest.fixture
def config(settings: Settings) -> dict[str, Any]:
    """Nine steps of two windows and RoPE bases, in bf16 with fp32 masters."""
    phases = settings()["phases"]
    phases[0] = {"name": "short", "tokens": 1800, "sequence_length": 32, "batch_tokens": 300}
    phases[1] |= {"tokens": 3 * 512}
    return settings(phases=phases, micro_batch_tokens=64, checkpoint_every=2, dtype="bf16")


@pytest.mark.parametrize(
    ("plan", "victims"),
    [
        pytest.param({"shard": "full"}, ("step 1", "save 0"), id="full"),
        pytest.param(
            {"tensor": 2}, ("step 0", "save 1", "save 0"), id="tensor", marks=pytest.mark.slow
        ),
    ],
)
def test_killed_ranks_go_on_bit_equal(
    config: dict[str, Any],
    shard: Path,
    tmp_path: Path,
    plan: dict[str, Any],
    victims: tuple[str, ...],
) -> None:
    config |= {"parallel": plan}
    straight, out = tmp_path / "straight", tmp_path / "killed"
    assert together(tmp_path / "s", config, shard, straight) == [0, 0]
    for number, victim in enumerate(victims):
        codes = together(tmp_path / f"k{number}", config, shard, out, victim=victim)
        assert codes[int(victim[-1])] == -signal.SIGKILL
        if "save" in victim:
            assert max(checkpoint.checkpoints(out)) == 4  # what was half written is none
    assert list(out.glob(".partial-*"))  # the main rank died with the folder open
    assert together(tmp_path / "last", config, shard, out) == [0, 0]
    assert outcome(out) == outcome(straight)
    assert not list(out.glob(".partial-*"))


def _launched(config: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
        "-m", "internlm_core", "train", "pretrain", "--config", str(config),
        "--out", str(out),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        command, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_torchrun_goes_on_bit_equal(
    config: dict[str, Any],
    shard: Path,
    tmp_path: Path,
    write_toml: Callable[[Path, dict[str, Any]], None],
) -> None:
    """The whole process group dies by SIGKILL: while it trains, and as soon as a save is seen."""
    path = tmp_path / "run.toml"
    values = config | {"shards": str(shard)}
    values["phases"][0]["tokens"] = 12_000
    write_toml(path, values)
    straight, out = tmp_path / "straight", tmp_path / "killed"
    assert _launched(path, straight).wait(240) == 0
    metrics = out / "metrics.jsonl"
    for during_save in (False, True):
        process = _launched(path, out)
        began = len(metrics.read_bytes().splitlines()) if metrics.exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            lines = len(metrics.read_bytes().splitlines()) if metrics.exists() else 0
            if lines >= began + 3 and (not during_save or list(out.glob(".partial-*"))):
                break
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        _end_workers(path)
        assert process.wait() == -signal.SIGKILL, "the run was over before it was killed"
    assert _launched(path, out).wait(240) == 0
    assert outcome(out) == outcome(straight)


def _end_workers(config: Path) -> None:
    """Kill the launcher's processes, which have sessions of their own."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(config).encode() in words:
                os.kill(int(entry.name), signal.SIGKILL)
