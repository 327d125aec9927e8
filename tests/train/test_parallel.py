"""Two processes train as one does, whatever the plan; what one plan saved, another reads."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from internlm_core import model, train
from internlm_core._config import load_config
from internlm_core.errors import ConfigError
from internlm_core.model import ModelConfig
from internlm_core.train import TrainConfig, checkpoint, trainer
from internlm_core.train.config import ParallelConfig
from internlm_core.train.exchange import gather_tokens, scatter_tokens
from internlm_core.train.parallel import check_plan
from internlm_core.train.ranks import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Settings = Callable[..., dict[str, Any]]

# Processes forked from one that has torch loaded.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["internlm_core.train.trainer", "torch.distributed.tensor.parallel", "torch.distributed.fsdp"]
)

PLANS: dict[str, dict[str, Any]] = {
    "full": {"shard": "full"},
    "partial": {"shard": "partial", "shard_size": 2, "keep_gathered": True},
    "none": {"shard": "none"},
    "tensor": {"tensor": 2},
    "sequence": {"sequence": 2},
}


def _process(rank: int, world: int, store: str, work: Callable[..., Any], *arguments: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    work(*arguments)
    dist.destroy_process_group()


def together(
    store: Path, work: Callable[..., Any], *arguments: Any, world: int = 2
) -> list[int | None]:
    """Call `work` in several processes of one group; returns their exit codes."""
    processes = [
        _PROCESSES.Process(target=_process, args=(rank, world, str(store), work, *arguments))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
    return [process.exitcode for process in processes]


def run(config: dict[str, Any], shard: Path, out: Path, held_out: Path | None = None) -> None:
    trainer.run(config, shard, out, held_out=held_out, quiet=True)


def lines(out: Path, name: str = "metrics") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]


@pytest.fixture
def twenty(settings: Settings) -> dict[str, Any]:
    """20 steps, the last 4 of them with another window and RoPE base; micro-batches of two rows."""
    phases = settings()["phases"]
    phases[0] |= {"tokens": 16 * 250, "batch_tokens": 250}
    del phases[0]["epochs"]
    phases[1] |= {"tokens": 4 * 512}
    return settings(phases=phases, micro_batch_tokens=64, checkpoint_every=8)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "partial")) for n in PLANS]
)
def test_two_processes_train_as_one(
    twenty: dict[str, Any], shard: Path, held_out: Path, tmp_path: Path, name: str
) -> None:
    run(twenty, shard, tmp_path / "one", held_out)
    two = twenty | {"parallel": PLANS[name]}
    assert together(tmp_path / "store", run, two, shard, tmp_path / "two", held_out) == [0, 0]
    wanted, found = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert len(wanted) == len(found) == 20
    for one, other in zip(wanted, found, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
        same = ("step", "phase", "tokens", "step_tokens", "labels", "lr", "epochs")
        assert {key: other[key] for key in same} == {key: one[key] for key in same}
        assert other["sources"]["all"][1] == one["sources"]["all"][1]
    # The held-out losses, too, by position and by source.
    for one, other in zip(
        *(lines(tmp_path / n, "evaluations") for n in ("one", "two")), strict=True
    ):
        assert other["tokens"] == one["tokens"]
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        for a, b in zip(one["by_position"], other["by_position"], strict=True):
            assert b == pytest.approx(a, rel=1e-4)
    # Whole tensors, under the same names and shapes, near those of one process.
    last = [max(checkpoint.checkpoints(tmp_path / n)) for n in ("one", "two")]
    files = [checkpoint.tensors_of(tmp_path / n / f"step-{s}") for n, s in
             zip(("one", "two"), last, strict=True)]  # fmt: skip
    assert sorted(files[0]) == sorted(files[1])
    for key in files[0]:
        if key != "rng.cpu":
            torch.testing.assert_close(files[1].read(key), files[0].read(key), rtol=1e-2, atol=1e-4)
    weights = [dict(model.load(tmp_path / n / f"step-{last[0]}").named_parameters())
               for n in ("one", "two")]  # fmt: skip
    for key, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][key], tensor, rtol=1e-2, atol=1e-4)


@pytest.mark.slow
def test_bf16_ranks_keep_fp32_masters(twenty: dict[str, Any], shard: Path, tmp_path: Path) -> None:
    config = twenty | {"dtype": "bf16"}
    run(config, shard, tmp_path / "one")
    two = config | {"parallel": {"shard": "full"}}
    assert together(tmp_path / "store", run, two, shard, tmp_path / "two") == [0, 0]
    for one, other in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=3e-3)  # bf16 rounds at 4e-3
    state = checkpoint.tensors_of(tmp_path / "two" / "step-20")
    saved = model.load(tmp_path / "two" / "step-20")
    assert saved.dtype == torch.bfloat16
    for name, parameter in saved.named_parameters():
        master = state.read(f"master.{name}")
        assert master.dtype == torch.float32
        assert torch.equal(master.to(torch.bfloat16), parameter)


def _stopped(config: dict[str, Any], shard: Path, out: Path, at: int) -> None:
    """Run, one of the processes being asked to stop in a step; all of them save and leave."""
    one_step = trainer.Trainer._one_step

    def and_stop(self: trainer.Trainer, *arguments: Any) -> Any:
        if self.step == at and self.ranks.rank == self.ranks.world - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return one_step(self, *arguments)

    trainer.Trainer._one_step = and_stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(config, shard, out)


def test_a_run_goes_on_under_another_plan(
    twenty: dict[str, Any], shard: Path, tmp_path: Path
) -> None:
    """Saved under tensor parallel 2 by a stop signal, on under 1, and on under 2 data ranks."""
    out = tmp_path / "run"
    run(twenty, shard, tmp_path / "one")
    tensor = twenty | {"parallel": {"tensor": 2}}
    assert together(tmp_path / "a", _stopped, tensor, shard, out, 5) == [0, 0]
    assert sorted(checkpoint.checkpoints(out)) == [6]
    # Tensor parallel 2 to 1: the whole weights, not halves side by side.
    first = lines(out)
    loaded = train.evaluate(model.load(out / "step-6"), shard, window=32).loss
    assert loaded == pytest.approx(first[-1]["loss"], abs=0.3)
    _in_one(twenty, shard, out, 11)
    assert together(tmp_path / "b", run, twenty, shard, out) == [0, 0]
    wanted, found = lines(tmp_path / "one"), lines(out)
    assert [line["tokens"] for line in found] == [line["tokens"] for line in wanted]
    for one, other in zip(wanted, found, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)


def _in_one(config: dict[str, Any], shard: Path, out: Path, at: int) -> None:
    process = _PROCESSES.Process(target=_stopped, args=(config, shard, out, at))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.slow
def test_a_naive_split_would_be_noticed(
    twenty: dict[str, Any], shard: Path, tmp_path: Path
) -> None:
    """Negative control: q, k and v cut as three blocks, not by KV group."""
    run(twenty, shard, tmp_path / "one")
    two = twenty | {"parallel": {"tensor": 2}}
    assert together(tmp_path / "store", _naive, two, shard, tmp_path / "two") == [0, 0]
    first = [lines(tmp_path / name)[0]["loss"] for name in ("one", "two")]
    assert abs(first[0] - first[1]) > 1e-4


def _naive(config: dict[str, Any], shard: Path, out: Path) -> None:
    from internlm_core.train import building

    real = building._drawn

    def blocks(built: Any, seed: int) -> Any:
        value = real(built, seed)

        def wrong(name: str, bounds: tuple[slice, ...]) -> torch.Tensor:
            if not name.endswith("wqkv.weight"):
                return value(name, bounds)
            whole = value(name, (slice(None), slice(None)))
            return whole[torch.arange(len(whole)).view(2, -1).T.flatten()][bounds]

        return wrong

    building._drawn = blocks
    run(config, shard, out)


def _exchanged() -> None:
    """[B, T, C] of all ranks, known from a formula: what arrives, and that it goes back."""
    rank, group = dist.get_rank(), dist.group.WORLD
    assert group is not None
    whole = torch.arange(3 * 8 * 6, dtype=torch.float64).view(3, 8, 6)
    own = whole.chunk(2, dim=1)[rank].clone().requires_grad_()
    gathered = gather_tokens(own, group)
    assert torch.equal(gathered, whole.chunk(2, dim=2)[rank])
    back = scatter_tokens(gathered, group)
    assert torch.equal(back, own)
    weights = torch.arange(float(gathered.numel())).view_as(gathered).double() * (rank + 1)
    (gathered * weights).sum().backward()
    full = torch.cat([torch.arange(float(gathered.numel())).view_as(gathered).double() * (r + 1)
                      for r in range(2)], dim=2)  # fmt: skip
    assert torch.equal(own.grad, full.chunk(2, dim=1)[rank])


def test_the_exchange_is_its_own_inverse_and_has_its_gradient(tmp_path: Path) -> None:
    assert together(tmp_path / "store", _exchanged) == [0, 0]


def test_shapes_of_plans() -> None:
    assert shape_of(ParallelConfig(), 8) == (1, 8, 1)
    assert shape_of(ParallelConfig(shard="none"), 8) == (8, 1, 1)
    assert shape_of(ParallelConfig(shard="partial", shard_size=2), 8) == (4, 2, 1)
    assert shape_of(ParallelConfig(tensor=2, sequence=2), 8) == (1, 4, 2)


@pytest.mark.parametrize(
    ("plan", "world", "words"),
    [
        ({"tensor": 2}, 3, "multiple of 2 processes, there are 3"),
        ({"tensor": 2, "sequence": 2}, 2, "multiple of 4"),
        ({"shard": "partial", "shard_size": 3}, 8, "shard_size=3 must divide the 8 ranks"),
    ],
)
def test_plans_that_do_not_fit_the_processes(plan: dict[str, Any], world: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        shape_of(ParallelConfig(**plan), world)


@pytest.mark.parametrize(
    ("plan", "change", "words"),
    [
        ({"tensor": 4}, {}, "must divide num_key_value_heads=2: wqkv is split by KV group"),
        ({"sequence": 4}, {}, "must divide num_key_value_heads=2"),
        ({"tensor": 2}, {"vocab_size": 127}, "tensor=2 must divide vocab_size=127"),
        ({"tensor": 2}, {"intermediate_size": 65}, "must divide intermediate_size=65"),
        ({"tensor": 2}, {"bias": True}, "does not work with biases"),
    ],
)
def test_plans_that_do_not_fit_the_model(
    settings: Settings, plan: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    config = load_config(TrainConfig, settings())
    shape = load_config(ModelConfig, dict(config.model) | change)
    with pytest.raises(ConfigError, match=words):
        check_plan(ParallelConfig(**plan), shape)


def test_one_process_cannot_run_a_plan_for_two(
    settings: Settings, shard: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="start them with torchrun"):
        train.run(settings(parallel={"tensor": 2}), shard, tmp_path / "run", quiet=True)


def test_adapters_train_alike_over_ranks(settings: Settings, shard: Path, tmp_path: Path) -> None:
    phase = {"name": "a", "tokens": 1500, "sequence_length": 32, "batch_tokens": 250}
    base = train.run(settings(phases=[phase]), shard, tmp_path / "base", quiet=True)
    tuned = settings(phases=[phase], init_from=str(base), lora={"rank": 4})
    run(tuned, shard, tmp_path / "one")
    assert together(tmp_path / "store", run, tuned, shard, tmp_path / "two") == [0, 0]
    for one, other in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    # The merged model that two ranks saved is the one that one saved.
    pair = [model.load(checkpoint.newest(tmp_path / n)) for n in ("one", "two")]
    for one, other in zip(*(m.state_dict().values() for m in pair), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_torchrun_is_the_launcher(
    settings: Settings,
    shard: Path,
    tmp_path: Path,
    write_toml: Callable[[Path, dict[str, Any]], None],
) -> None:
    """The command as a person types it."""
    out = tmp_path / "run"
    phase = {"name": "a", "tokens": 1000, "sequence_length": 32, "batch_tokens": 250}
    config = settings(phases=[phase], shards=str(shard), out=str(out), parallel={"tensor": 2})
    path = tmp_path / "run.toml"
    write_toml(path, config)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
        "-m", "internlm_core", "train", "pretrain", "--config", str(path),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Model:" in done.stderr
    assert len(lines(out)) == 4
    run(config | {"parallel": {}}, shard, tmp_path / "one")
    for one, other in zip(lines(tmp_path / "one"), lines(out), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
