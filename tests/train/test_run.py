"""Whole runs: killed anywhere they end bit-equal; bad data and altered checkpoints are named."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from internlm_core import model, train
from internlm_core._files import FolderBusyError, folder_lock
from internlm_core.cli import main
from internlm_core.errors import CheckpointError, ConfigError, InternlmError, TrainError
from internlm_core.train import checkpoint, trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

    Settings = Callable[..., dict[str, Any]]

# Processes forked from one that has torch loaded: a kill and a restart cost a fraction of a second.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["internlm_core.train.trainer"])


def spawn(config: dict[str, Any], shard: Path, out: Path, held_out: Path | None) -> BaseProcess:
    process = _PROCESSES.Process(
        target=trainer.run,
        args=(config, shard, out),
        kwargs={"held_out": held_out, "quiet": True},
    )
    process.start()
    return process


def outcome(out: Path) -> dict[str, Any]:
    """Everything that must not depend on how often a run was killed."""
    last = max(checkpoint.checkpoints(out))
    return {
        "files": json.loads((out / f"step-{last}" / "manifest.json").read_bytes()),
        "steps": sorted(checkpoint.checkpoints(out)),
        "metrics": (out / "metrics.jsonl").read_bytes(),
        "evaluations": (out / "evaluations.jsonl").read_bytes(),
    }


@pytest.mark.parametrize("dtype", [pytest.param("fp32", marks=pytest.mark.slow), "bf16"])
def test_killed_at_random_moments_a_run_ends_bit_equal(
    settings: Settings, shard: Path, held_out: Path, tmp_path: Path, dtype: str
) -> None:
    config = settings(dtype=dtype, checkpoint_every=2, evaluate_every=5)
    straight = spawn(config, shard, tmp_path / "straight", held_out)
    straight.join()
    assert straight.exitcode == 0
    wanted = outcome(tmp_path / "straight")
    lines = [json.loads(line) for line in wanted["metrics"].splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["phase"] == "long"
    assert max(line["epochs"].get("all", 0) for line in lines) == 2  # killed in later epochs, too

    rng, out = random.Random(dtype), tmp_path / "killed"
    kills = in_save = 0
    while True:
        process = spawn(config, shard, out, held_out)
        if kills < 6:
            _wait_for_progress(process, out, during_save=kills % 2 == 0, rng=rng)
            process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        in_save += any(out.glob(".partial-*"))
    assert kills >= 3
    assert in_save >= 1  # at least one kill fell into the writing of a checkpoint
    assert outcome(out) == wanted
    assert not list(out.glob(".partial-*"))


def _wait_for_progress(
    process: BaseProcess, out: Path, *, during_save: bool, rng: random.Random
) -> None:
    """Until a few steps further on, and then to a random moment or into a save."""
    metrics = out / "metrics.jsonl"
    size = metrics.stat().st_size if metrics.exists() else 0
    goal = size + rng.randrange(100, 700)
    deadline = time.monotonic() + 60
    while process.is_alive() and time.monotonic() < deadline:
        if metrics.exists() and metrics.stat().st_size >= goal:
            if not during_save or any(out.glob(".partial-*")):
                break
            continue
        time.sleep(0.001)
    if not during_save:
        time.sleep(rng.random() * 0.05)


def test_the_comparison_would_notice_a_lost_optimizer(
    settings: Settings, shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a resume that forgets the moments, or the place in the data, differs."""
    config = settings(phases=[settings()["phases"][0]])
    train.run(config, shard, tmp_path / "straight", quiet=True)
    for forget in (
        lambda m: m.setattr(trainer.Optimizer, "load", lambda self, read, masters: None),
        lambda m: m.setattr(trainer.Mixer, "load", lambda self, state: None),
    ):
        out = tmp_path / f"{id(forget)}"
        _stop_after(config, shard, out, 4, monkeypatch)
        with monkeypatch.context() as patch:
            forget(patch)
            train.run(config, shard, out, quiet=True)
        assert outcome(out)["files"] != outcome(tmp_path / "straight")["files"]
        assert outcome(out)["metrics"] != outcome(tmp_path / "straight")["metrics"]


def _stop_after(
    config: dict[str, Any], shard: Path, out: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run and send SIGTERM to ourselves in the step after `steps`."""
    one_step = trainer.Trainer._one_step

    def and_stop(self: trainer.Trainer, *arguments: Any) -> Any:
        if self.step == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return one_step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_one_step", and_stop)
        with pytest.raises(KeyboardInterrupt):
            train.run(config, shard, out, quiet=True)


def test_a_stop_signal_saves_first(
    settings: Settings, shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    config = settings(checkpoint_every=1000)
    _stop_after(config, shard, tmp_path / "run", 4, monkeypatch)
    assert sorted(checkpoint.checkpoints(tmp_path / "run")) == [5]
    assert len((tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines()) == 5
    assert signal.getsignal(signal.SIGTERM) == before
    train.run(config, shard, tmp_path / "run", quiet=True)
    train.run(config, shard, tmp_path / "straight", quiet=True)
    assert outcome(tmp_path / "run")["files"] == outcome(tmp_path / "straight")["files"]
    assert outcome(tmp_path / "run")["metrics"] == outcome(tmp_path / "straight")["metrics"]


def test_training_learns_and_the_folder_has_its_parts(
    settings: Settings, shard: Path, held_out: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    folder = train.run(settings(keep=1), shard, out, held_out=held_out, quiet=True)
    evaluations = [json.loads(s) for s in (out / "evaluations.jsonl").read_text().splitlines()]
    assert [e["phase_end"] for e in evaluations] == [None, "short", "long"]
    assert evaluations[0]["loss"] > evaluations[1]["loss"] > evaluations[2]["loss"]
    metrics = [json.loads(s) for s in (out / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["tokens"] == sum(line["step_tokens"] for line in metrics)
    assert len((out / "timing.jsonl").read_text().splitlines()) == len(metrics)
    # Only the ends of phases stay, and the last one is a model that loads, RoPE as in its phase.
    ends = [e["step"] for e in evaluations[1:]]
    assert sorted(checkpoint.checkpoints(out)) == ends
    assert folder == out / f"step-{ends[-1]}"
    loaded = model.load(folder)
    assert (loaded.config.rope_theta, loaded.config.max_position_embeddings) == (1e6, 64)
    assert train.evaluate(loaded, held_out, window=64).loss == pytest.approx(evaluations[2]["loss"])
    # The optimizer went through both phases: it has counted all steps.
    counted = checkpoint.tensors_of(folder).read("step.norm.weight")
    assert int(counted) == ends[-1] > ends[0]
    # A second call finds the run finished.
    before = outcome(out)
    assert train.run(settings(keep=1), shard, out, held_out=held_out, quiet=True) == folder
    assert outcome(out) == before


def test_phase_borders_are_at_their_tokens(settings: Settings, shard: Path, tmp_path: Path) -> None:
    phases = [
        {"name": "a", "tokens": 1000, "sequence_length": 32, "batch_tokens": 256},
        {"name": "b", "tokens": 600, "sequence_length": 32, "batch_tokens": 200},
    ]
    train.run(settings(phases=phases), shard, tmp_path / "run", quiet=True)
    lines = [json.loads(s) for s in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["a"] * 4 + ["b"] * 3
    # A step ends with the row that reaches its share: less than a window beyond.
    targets = [256, 512, 768, 1000]
    for line, target in zip(lines, targets, strict=False):
        assert 0 <= line["tokens"] - target < 32
    assert 0 <= lines[-1]["tokens"] - lines[3]["tokens"] - 600 < 32


def test_bad_data_is_named(
    settings: Settings, shard: Path, tmp_path: Path, write_shard: Callable[..., Path]
) -> None:
    def refuse(words: str, shards: Any = shard, **changes: Any) -> None:
        with pytest.raises(InternlmError, match=words):
            train.run(settings(**changes), shards, tmp_path / "run", quiet=True)

    refuse("no token shards", tmp_path / "nothing")
    phase = {"name": "a", "tokens": 9000, "sequence_length": 32, "batch_tokens": 8000}
    refuse("fewer than one batch of 8,000", phases=[phase])
    refuse(
        "64 vocabulary entries, the shards' tokenizer 128",
        model=settings()["model"] | {"vocab_size": 64},
    )
    refuse("num_key_value_heads", model=settings()["model"] | {"num_key_value_heads": 3})
    other = write_shard(tmp_path / "other", [np.arange(50)] * 12, fingerprint="0" * 64)
    refuse("different tokenizers", {"a": shard, "b": other})
    with pytest.raises(TrainError, match="held-out shards were made with another tokenizer"):
        train.run(settings(), shard, tmp_path / "run", held_out=other, quiet=True)
    assert not checkpoint.checkpoints(tmp_path / "run")
    # Weights know the vocabulary they were trained with.
    phase = settings()["phases"][1]
    base = train.run(settings(phases=[phase]), shard, tmp_path / "base", quiet=True)
    refuse("was trained with another tokenizer", other, phases=[phase], init_from=str(base))


def test_ids_beyond_the_vocabulary_are_named(
    settings: Settings, tmp_path: Path, write_shard: Callable[..., Path]
) -> None:
    path = write_shard(tmp_path / "s", [np.arange(60) % 97] * 20)
    tokens = np.load(path / "tokens.npy")
    tokens[:] = 500
    np.save(path / "tokens.npy", tokens)
    with pytest.raises(TrainError, match="token id 500, the model has 128"):
        train.run(settings(phases=settings()["phases"][:1]), path, tmp_path / "run", quiet=True)


def test_an_altered_checkpoint_is_refused_and_an_older_one_named(
    settings: Settings, shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    _stop_after(settings(), shard, out, 6, monkeypatch)
    assert sorted(checkpoint.checkpoints(out)) == [6, 7]
    weights = out / "step-7" / "trainer" / "optimizer.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"altered.*Remove .*step-7 to go on from step-6"):
        train.run(settings(), shard, out, quiet=True)
    weights.write_bytes(data[:-5])
    with pytest.raises(CheckpointError, match="cut or was replaced"):
        train.run(settings(), shard, out, quiet=True)
    # Without its manifest a folder counts as never completed.
    (out / "step-7" / "manifest.json").unlink()
    assert checkpoint.newest(out) == out / "step-6"
    assert train.run(settings(), shard, out, quiet=True).exists()


def test_a_full_disk_leaves_the_last_checkpoint(
    settings: Settings, shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "run", checkpoint.write_manifest

    def full(folder: Path) -> None:
        if "step-6" in Path(folder).name:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        real(folder)

    monkeypatch.setattr(checkpoint, "write_manifest", full)
    with pytest.raises(CheckpointError, match=r"no space left .* step-3 is untouched"):
        train.run(settings(), shard, out, quiet=True)
    assert sorted(checkpoint.checkpoints(out)) == [3]
    assert not list(out.glob(".partial-*"))
    monkeypatch.undo()
    assert train.run(settings(), shard, out, quiet=True).exists()


def test_another_configuration_or_a_second_process_is_refused(
    settings: Settings, shard: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    config = settings(phases=[settings()["phases"][1]])
    train.run(config, shard, out, quiet=True)
    with pytest.raises(ConfigError, match=r"seed \(1024 → 7\)"):
        train.run(config | {"seed": 7}, shard, out, quiet=True)
    with pytest.raises(ConfigError, match="holds a run"):
        train.run(config, shard, out, resume=False, quiet=True)
    train.run(config | {"keep": 1, "checkpoint_every": 9}, shard, out, quiet=True)
    with folder_lock(out), pytest.raises(FolderBusyError):
        train.run(config, shard, out, quiet=True)


def test_a_source_that_ends_stops_the_phase(
    settings: Settings, shard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phase = settings()["phases"][0] | {"epochs": 3, "on_exhausted": "stop"}
    train.run(settings(phases=[phase]), shard, tmp_path / "run", quiet=True)
    tokens = int(np.load(shard / "offsets.npy")[-1])
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["tokens"] == tokens
    assert f"ends after {tokens:,} of" in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_the_run(
    settings: Settings, shard: Path, tmp_path: Path
) -> None:
    config = settings(schedule={"peak_lr": 1e30, "warmup_share": 0})
    with pytest.raises(TrainError, match="lower the learning rate"):
        train.run(config, shard, tmp_path / "run", quiet=True)


def test_command_line(shard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "train",
        "pretrain",
        "--config",
        "demo",
        "--shards",
        str(shard),
        "--out",
        str(tmp_path / "run"),
    ]
    small = ["hidden_size=48", "intermediate_size=32", "num_hidden_layers=1"]
    sets = [f"model.{part}" for part in small]
    sets += ["total_tokens=2000", "dtype=fp32", "micro_batch_tokens=1024", "threads=1"]
    wrong = [*arguments, "--set", "sede=1"]
    assert main(wrong) == 2
    assert "sede" in capsys.readouterr().err
    sets += ["phases=[{tokens=600, sequence_length=16, batch_tokens=128}]"]
    for item in sets:
        arguments += ["--set", item]
    assert main(arguments) == 0
    assert checkpoint.checkpoints(tmp_path / "run")
    assert main([*arguments, "--no-resume"]) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch looks at it while compiling
def test_compiled_layers_train_alike(settings: Settings, shard: Path, tmp_path: Path) -> None:
    """Packed rows of ever other documents, two windows: no program a row, and the same losses."""
    from torch._dynamo.utils import counters

    train.run(settings(), shard, tmp_path / "eager", quiet=True)
    counters.clear()
    train.run(settings(compile=True), shard, tmp_path / "compiled", quiet=True)
    assert 0 < counters["stats"]["unique_graphs"] < 20
    assert not counters["graph_break"]  # attention is in the layer's program
    pair = [
        [json.loads(s) for s in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("eager", "compiled")
    ]
    for one, other in zip(*pair, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
