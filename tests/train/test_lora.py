"""Adapters: nothing changes at the start, merging is exact, and a run with them resumes exactly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from internlm_core import model, train
from internlm_core.errors import ConfigError, TrainError
from internlm_core.train import LoRAConfig, checkpoint, trainer
from internlm_core.train.lora import adapters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Settings = Callable[..., dict[str, Any]]


def small(**more: Any) -> model.InternLM2:
    config = model.ModelConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=48, initializer_range=0.2, **more,
    )  # fmt: skip
    return model.InternLM2(config, seed=0)


@pytest.mark.parametrize("bias", [False, True])
def test_merge_and_unmerge_are_exact(bias: bool) -> None:
    torch.manual_seed(0)
    plain = small(bias=bias)
    ids = torch.randint(0, 64, (2, 17))
    before = plain(ids).detach()
    adapted = train.add_lora(plain, LoRAConfig(rank=4, alpha=8))
    assert len(list(adapters(adapted))) == 10
    assert torch.equal(adapted(ids), before)  # B is zero
    trained = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert all(name.endswith((".lora_a", ".lora_b")) for name in trained)
    assert len(trained) == 20
    for _, layer in adapters(adapted):
        torch.nn.init.normal_(layer.lora_b, std=0.3)
    weights = {n: p.clone() for n, p in adapted.named_parameters()}
    wanted = adapted(ids).detach()
    assert (wanted - before).abs().max() > 0.1
    train.merge(adapted)
    torch.testing.assert_close(adapted(ids), wanted, rtol=1e-5, atol=1e-5)
    train.merge(adapted)  # a second time does nothing
    torch.testing.assert_close(adapted(ids), wanted, rtol=1e-5, atol=1e-5)
    train.unmerge(adapted)
    torch.testing.assert_close(adapted(ids), wanted, rtol=1e-5, atol=1e-5)
    for name, parameter in adapted.named_parameters():
        torch.testing.assert_close(parameter, weights[name], rtol=1e-5, atol=1e-5)
    with pytest.raises(TrainError, match="adapters already"):
        train.add_lora(adapted, LoRAConfig())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_run_with_adapters_learns_saves_merged_and_resumes_exactly(
    settings: Settings, shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    phase = {"name": "a", "epochs": 1, "sequence_length": 32, "batch_tokens": 512}
    # A frozen head of small weights could not be told anything.
    shape = settings()["model"] | {"initializer_range": 0.2}
    first_run = settings(phases=[phase], dtype=dtype, model=shape)
    base = train.run(first_run, shard, tmp_path / "base", quiet=True)
    tuned = settings(
        phases=[phase | {"epochs": 4}],
        dtype=dtype,
        init_from=str(base),
        lora={"rank": 4, "dropout": 0.1},
        schedule={"peak_lr": 1e-2},
    )
    straight = train.run(tuned, shard, tmp_path / "straight", quiet=True)
    losses = [json.loads(s)["loss"] for s in
              (tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()]  # fmt: skip
    assert losses[-1] < losses[0] - 0.1
    # A plain model, its weights changed; the base as it was is kept for going on.
    loaded, first = model.load(straight), model.load(base)
    state = checkpoint.tensors_of(straight)
    for name, parameter in loaded.named_parameters():
        changed = name.split(".")[-2] in ("wqkv", "wo", "w1", "w2", "w3")
        assert torch.equal(parameter, dict(first.named_parameters())[name]) != changed
        assert torch.equal(state.read(f"frozen.{name}"), dict(first.named_parameters())[name])
    # Stopped and gone on, dropout and all.
    one_step = trainer.Trainer._one_step

    def and_stop(self: trainer.Trainer, number: int, signals: Any, monitor: Any) -> Any:
        signals.stopped = signals.stopped or self.step == 4
        return one_step(self, number, signals, monitor)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_one_step", and_stop)
        with pytest.raises(KeyboardInterrupt):
            train.run(tuned, shard, tmp_path / "stopped", quiet=True)
    again = train.run(tuned, shard, tmp_path / "stopped", quiet=True)
    manifests = [json.loads((f / "manifest.json").read_bytes()) for f in (straight, again)]
    assert manifests[0] == manifests[1]


def test_adapters_need_a_base_and_no_split_matrices(
    settings: Settings, shard: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="lora needs init_from"):
        train.run(settings(lora={}), shard, tmp_path / "run", quiet=True)
    split = settings(lora={}, init_from="x", parallel={"tensor": 2})
    with pytest.raises(ConfigError, match=r"does not work with parallel\.tensor"):
        train.run(split, shard, tmp_path / "run", quiet=True)
