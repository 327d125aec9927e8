"""What a person sees: the live line, alerts, the report, memory before a run starts."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from internlm_core import train
from internlm_core._config import load_config
from internlm_core.cli import main
from internlm_core.errors import ConfigError, TrainError
from internlm_core.model import InternLM2, ModelConfig
from internlm_core.train import TrainConfig, estimate_memory
from internlm_core.train.alerts import Alerts, Spikes
from internlm_core.train.logs import StepLog
from internlm_core.train.throughput import Speed, step_flops

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Settings = Callable[..., dict[str, Any]]


def test_spikes_are_named_and_ordinary_steps_are_not() -> None:
    spikes = Spikes(4.0)
    falling = [5.0 - 0.02 * i + 0.01 * (i % 3) for i in range(60)]
    assert not any(spikes.look(loss, 1.0 + 0.1 * (i % 5)) for i, loss in enumerate(falling))
    [alert] = spikes.look(6.0, 1.0)
    assert alert["kind"] == "loss_spike"
    assert alert["value"] == 6.0
    assert alert["median"] == pytest.approx(4.3, abs=0.1)
    [alert] = spikes.look(3.8, 9.0)
    assert (alert["kind"], alert["value"]) == ("grad_norm_spike", 9.0)
    assert not spikes.look(3.8, 1.0)  # neither spike has become what is usual


def test_alerts_file(tmp_path: Path) -> None:
    def line(step: int, loss: float = 2.0, epoch: int = 0) -> dict[str, Any]:
        return {"step": step, "phase": "a", "loss": loss, "grad_norm": 1.0, "epochs": {"s": epoch}}

    path = tmp_path / "alerts.jsonl"
    before = [line(n) for n in range(1, 13)]
    with (
        StepLog(path, 12) as log,
        Alerts(log, factor=4, stall_seconds=0.05, before=before, quiet=True) as alerts,
    ):
        alerts.begin(13)
        alerts.end(line(13, loss=9.0), 0.01)  # compared with the steps before the resumption
        alerts.begin(14)
        deadline = time.monotonic() + 20
        while not path.read_text().count("stall") and time.monotonic() < deadline:
            time.sleep(0.01)
        alerts.end(line(14, epoch=1), 0.3)
    found = [json.loads(s) for s in path.read_text().splitlines()]
    assert [(a["step"], a["kind"]) for a in found] == [
        (13, "loss_spike"), (14, "stall"), (14, "source_repeats"),
    ]  # fmt: skip
    assert found[1]["value"] >= 0.05
    assert found[2] | {"source": "s", "epoch": 2} == found[2]
    # A run that goes on from before the stall takes it back.
    with StepLog(path, 13):
        pass
    assert len(path.read_text().splitlines()) == 1


def test_a_run_shows_itself_and_draws_its_report(
    settings: Settings, shard: Path, held_out: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "<run>"
    config = settings(evaluate_every=4)
    config["phases"][1]["mixture"] = {"shard": 1.0}
    train.run(config, {"shard": shard}, out, held_out=held_out)
    said = " ".join(capsys.readouterr().err.split())  # the console wraps
    pattern = (
        r"long loss \d\.\d{3} lr \d\.\d\de-0\d [\d,]+ tokens/s MFU \d+% ETA 0:00:00 \d+\.\d GiB"
    )
    assert re.search(pattern, said)
    assert "source all ran out and starts over (pass 2)" in said
    timing = [json.loads(s) for s in (out / "timing.jsonl").read_text().splitlines()]
    assert all(0 < line["mfu"] < 1 and line["memory"] > 1e7 for line in timing)
    metrics = [json.loads(s) for s in (out / "metrics.jsonl").read_text().splitlines()]
    assert [set(m["sources"]) for m in metrics[:1] + metrics[-1:]] == [{"all"}, {"shard"}]
    page = train.write_report(out).read_text("utf-8")
    for words in ("Training loss", "Training loss by source", "Gradient norm", "Learning rate",
                  "Throughput", "Held-out loss by source", "source repeats", "&lt;run&gt;"):  # fmt: skip
        assert words in page
    assert "<run>" not in page
    assert not re.search(r"https?:|<script", page)  # loads nothing, runs nothing
    assert main(["train", "report", str(out), "--out", str(tmp_path / "r.html")]) == 0
    assert (tmp_path / "r.html").read_text("utf-8") == page
    with pytest.raises(TrainError, match="holds no training run"):
        train.write_report(tmp_path)


def test_the_loss_of_each_source_adds_up(
    settings: Settings, tmp_path: Path, write_shard: Callable[..., Path], documents: Any
) -> None:
    shards = {"x": write_shard(tmp_path / "x", documents[:30]),
              "y": write_shard(tmp_path / "y", documents[30:])}  # fmt: skip
    phase = {"name": "a", "tokens": 2000, "sequence_length": 32, "batch_tokens": 500}
    phase |= {"mixture": {"x": 0.7, "y": 0.3}, "short_fraction": 0.5, "short_length": 16}
    train.run(settings(phases=[phase]), shards, tmp_path / "run", quiet=True)
    for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        assert set(line["sources"]) == {"x", "y"}
        assert sum(n for _, n in line["sources"].values()) == line["labels"]
        total = sum(loss * n for loss, n in line["sources"].values())
        assert total / line["labels"] == pytest.approx(line["loss"], rel=1e-12)


def test_tensorboard_events_are_optional(settings: Settings, shard: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = settings(phases=[settings()["phases"][1]], tensorboard=True)
    train.run(config, shard, tmp_path / "run", quiet=True)
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))


def test_flops_and_time_left() -> None:
    config = ModelConfig(
        vocab_size=100, hidden_size=8, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=16,
    )  # fmt: skip
    # A layer by hand: wqkv 8·16, wo 8·8, three of 8·16; two norms of 8, one at the end; the head.
    matrices = 3 * (8 * 16 + 8 * 8 + 3 * 8 * 16 + 2 * 8) + 8 + 100 * 8
    assert step_flops(config, [10, 4]) == 6 * matrices * 14 + 6 * 3 * 8 * (100 + 16)
    speed = Speed(peak=1e6, tokens=1000)
    facts = speed.step(2.0, 100, 1e6)
    assert facts == {"seconds": 2.0, "tokens_per_second": 50.0, "mfu": 0.5}
    assert speed.seconds_left(500) == 10.0


SHAPE = {
    "vocab_size": 4000, "hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 6,
    "num_key_value_heads": 2, "intermediate_size": 512,
}  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_estimate_of_activations_is_what_autograd_keeps(share: float, dtype: str) -> None:
    config = load_config(TrainConfig, _config(activation_checkpointing=share, dtype=dtype))
    shape = load_config(ModelConfig, SHAPE)
    model = InternLM2(shape).to({"fp32": torch.float32, "bf16": torch.bfloat16}[dtype])
    model.activation_checkpointing = share
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    ids = torch.arange(512)[None] % 4000
    bounds = torch.tensor([0, 200, 512], dtype=torch.int32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(ids, ids, cu_seqlens=bounds)
    found = sum(storage.nbytes() for storage in kept.values())
    need = estimate_memory(config, shape)
    # What autograd holds has the head's gradients in it, but not the layer to be recomputed.
    half = 4 if dtype == "fp32" else 2
    head = 4 * shape.vocab_size * 192 + half * 192 * 512
    whole = estimate_memory(load_config(TrainConfig, _config(dtype=dtype)), shape)
    recomputed = (whole.activations - 2 * 192 * 512 * half) // 6
    wanted = need.activations + head - (recomputed if share else 0)
    assert found == pytest.approx(wanted, rel=0.1)


def _config(**more: Any) -> dict[str, Any]:
    phase = {"tokens": 4096, "sequence_length": 512, "batch_tokens": 4096}
    return {"phases": [phase], "micro_batch_tokens": 512, "model": dict(SHAPE)} | more


def test_the_estimate_of_weights_and_state() -> None:
    shape = load_config(ModelConfig, SHAPE)
    count = shape.parameter_count
    one = estimate_memory(load_config(TrainConfig, _config(dtype="fp32")), shape)
    assert (one.parameters, one.gradients, one.moments) == (4 * count, 4 * count, 8 * count)
    mixed = estimate_memory(load_config(TrainConfig, _config()), shape)
    assert mixed.parameters == 6 * count  # masters, and the copy in bf16
    four = estimate_memory(load_config(TrainConfig, _config()), shape, 4)
    assert four.moments == pytest.approx(2 * count, abs=8)
    copies = load_config(TrainConfig, _config(parallel={"shard": "none"}))
    assert estimate_memory(copies, shape, 4).moments == 8 * count
    split = load_config(TrainConfig, _config(parallel={"tensor": 2, "sequence": 2}))
    halves = estimate_memory(split, shape, 4)
    assert halves.moments == pytest.approx(2 * count, rel=0.01)
    assert halves.activations < 0.4 * four.activations


def test_a_plan_that_cannot_fit_is_refused_before_it_starts(
    settings: Settings, shard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"needs .* GiB a rank .* and a rank has 0\.00 GiB"):
        train.run(settings(memory_limit=1e-4), shard, tmp_path / "run", quiet=True)
    plan = ["train", "plan", "--config", "7b", "--set", "memory_limit=80", "--ranks"]
    assert main([*plan, "8"]) == 0
    assert "8 ranks: 1 copies of the parameters, each over 8 ranks" in capsys.readouterr().out
    assert main([*plan, "1"]) == 2
    assert "a rank has 80.00 GiB" in capsys.readouterr().err
    assert main([*plan, "8", "--set", "parallel.tensor=3"]) == 2
    assert "needs a multiple of 3 processes" in capsys.readouterr().err
