"""The loss: the same however a step is cut up, and no document sees another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from internlm_core._config import load_config
from internlm_core.model import InternLM2, ModelConfig
from internlm_core.tokenizer import Shard
from internlm_core.train import TrainConfig, evaluate
from internlm_core.train.backward import backward
from internlm_core.train.batches import micro_batches
from internlm_core.train.config import OptimizerConfig
from internlm_core.train.optim import Optimizer
from internlm_core.train.sources import open_sources
from internlm_core.train.stream import IGNORE, Row, to_arrays
from internlm_core.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Settings = Callable[..., dict[str, Any]]


def small_model(seed: int = 0) -> InternLM2:
    config = ModelConfig(
        vocab_size=128,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        initializer_range=0.2,
        max_position_embeddings=64,
        dtype="float32",
    )
    return InternLM2(config, seed=seed)


def gradients(trainer: Trainer, rows: list[Row]) -> tuple[float, dict[str, torch.Tensor]]:
    loss = backward(
        trainer.model,
        trainer.optimizer,
        trainer.ranks,
        rows,
        trainer.mixers[0],
        capacity=trainer.config.micro_batch_tokens,
    ).loss
    found = {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    return loss, found


def started(settings: Settings, shard: Path, out: Path, **changes: Any) -> Trainer:
    trainer = Trainer(load_config(TrainConfig, settings(**changes)), open_sources(shard), out)
    trainer.start(resume=True)
    return trainer


def test_micro_batches_give_the_gradient_of_one_batch(
    settings: Settings, shard: Path, tmp_path: Path
) -> None:
    one = started(settings, shard, tmp_path / "one", micro_batch_tokens=4096)
    many = started(settings, shard, tmp_path / "many", micro_batch_tokens=64)
    rows = [one.mixers[0].next() for _ in range(20)]
    assert len(micro_batches(rows, one.config.micro_batch_tokens)) == 1
    assert len(micro_batches(rows, many.config.micro_batch_tokens)) == 10
    loss, wanted = gradients(one, rows)
    other, found = gradients(many, rows)
    assert other == pytest.approx(loss, rel=1e-6)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_unequal_label_counts_are_weighted_by_tokens(
    settings: Settings, tmp_path: Path, write_shard: Callable[..., Path]
) -> None:
    """One micro-batch with 1 label, one with 31: the mean is over 32 labels, not over 2 means."""
    rng = np.random.default_rng(3)
    documents = [rng.integers(0, 97, 32), rng.integers(0, 97, 32)]
    flags = [np.eye(32, dtype=np.uint8)[20], np.ones(32, np.uint8)]
    shard = write_shard(tmp_path / "s", documents, flags)
    phase = {"name": "a", "epochs": 1, "sequence_length": 32, "batch_tokens": 64}
    trainer = started(settings, shard, tmp_path / "run", phases=[phase], micro_batch_tokens=32)
    rows = [trainer.mixers[0].next() for _ in range(2)]
    assert len(micro_batches(rows, 32)) == 2
    loss, _ = gradients(trainer, rows)
    sums, counts = [], []
    for row in rows:
        ids, labels, bounds = (
            torch.from_numpy(x) for x in to_arrays([row], trainer.mixers[0].shards)
        )
        nll, count = trainer.model.loss(ids[None], labels[None], cu_seqlens=bounds)
        sums.append(float(nll.detach()))
        counts.append(count)
    assert sorted(counts) == [1, 31]
    assert loss == pytest.approx(sum(sums) / 32, rel=1e-6)
    mean_of_means = sum(s / c for s, c in zip(sums, counts, strict=True)) / 2
    assert abs(loss - mean_of_means) > 1e-3  # the usual fault would show


def test_a_document_does_not_see_its_neighbours(
    tmp_path: Path, write_shard: Callable[..., Path]
) -> None:
    rng = np.random.default_rng(4)
    a, b, c = (rng.integers(0, 97, n) for n in (17, 9, 23))
    shard = Shard.open(write_shard(tmp_path / "s", [a, b, c]))
    pieces = np.array([[0, 0, 17, 17], [0, 17, 26, 26], [0, 26, 49, 49]])
    model = small_model()

    def loss(which: list[int], bounds: list[int] | None = None) -> float:
        ids, labels, cu = to_arrays([Row("s", pieces[which])], [shard])
        cu = cu if bounds is None else np.array(bounds, np.int32)
        inputs = torch.from_numpy(ids)[None], torch.from_numpy(labels)[None]
        return float(model.loss(*inputs, cu_seqlens=torch.from_numpy(cu))[0].detach())

    apart = loss([0]) + loss([1]) + loss([2])
    assert loss([0, 1, 2]) == pytest.approx(apart, rel=1e-5)
    assert loss([2, 0, 1]) == pytest.approx(apart, rel=1e-5)
    # Without the bounds the documents do see each other, and the loss tells.
    assert abs(loss([0, 1, 2], [0, 49]) - apart) > 0.1


def test_labels_are_the_next_token_of_the_same_document(
    tmp_path: Path, write_shard: Callable[..., Path]
) -> None:
    shard = Shard.open(write_shard(tmp_path / "s", [np.arange(10, 16), np.arange(20, 22)]))
    # The first document cut after four tokens: its label there is the fifth.
    row = Row("s", np.array([[0, 0, 4, 6], [0, 6, 8, 8], [0, 4, 6, 6]]))
    ids, labels, bounds = to_arrays([row], [shard])
    assert ids.tolist() == [10, 11, 12, 13, 20, 21, 14, 15]
    assert labels.tolist() == [11, 12, 13, 14, 21, IGNORE, 15, IGNORE]
    assert bounds.tolist() == [0, 4, 6, 8]


def test_evaluation_is_the_mean_over_tokens(
    tmp_path: Path, write_shard: Callable[..., Path], documents: list[np.ndarray]
) -> None:
    paths = {
        "x": write_shard(tmp_path / "x", documents[:7]),
        "y": write_shard(tmp_path / "y", documents[7:12]),
    }
    model = small_model()
    result = evaluate(model, paths, window=64, batch_tokens=100, buckets=4)
    losses: list[tuple[int, str, float]] = []  # (position, source, nll)
    for source, part in (("x", documents[:7]), ("y", documents[7:12])):
        for document in part:
            for first in range(0, len(document), 64):
                piece = document[first : first + 65]
                inputs = torch.from_numpy(piece[:64])[None]
                logits = model(inputs)[0].log_softmax(-1)
                losses += [
                    (i, source, -float(logits[i, piece[i + 1]].detach()))
                    for i in range(len(piece) - 1)
                ]
    values = np.array([nll for _, _, nll in losses])
    assert result.tokens == len(losses)
    assert result.loss == pytest.approx(values.mean(), rel=1e-5)
    for first, last, mean, count in result.by_position:
        there = np.array([first <= i < last for i, _, _ in losses])
        assert count == there.sum()
        assert mean == pytest.approx(values[there].mean(), rel=1e-5)
    for source, (mean, count) in result.by_source.items():
        there = np.array([s == source for _, s, _ in losses])
        assert (count, mean) == (there.sum(), pytest.approx(values[there].mean(), rel=1e-5))
    some = evaluate(model, paths, window=64, max_tokens=100)
    assert 64 <= some.tokens <= 128  # a piece of each source, the least there is


def test_bf16_master_weights_keep_what_bf16_would_lose() -> None:
    """Updates far below bf16's resolution add up in the masters."""
    model = torch.nn.Linear(4, 4, bias=False).to(torch.bfloat16)
    torch.nn.init.ones_(model.weight)
    optimizer = Optimizer(model, OptimizerConfig(weight_decay=0.0))
    for _ in range(100):
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.gather()
        optimizer.step(1e-4)
    # AdamW moves by lr a step while the gradient stays: 1 - 100 · 1e-4.
    torch.testing.assert_close(optimizer.master["weight"].detach(), torch.full((4, 4), 0.99))
    assert model.weight[0, 0].item() == pytest.approx(0.99, abs=4e-3)
    # bf16 alone would not have moved at all: 1 - 1e-4 rounds to 1.
    assert float(torch.tensor(1 - 1e-4, dtype=torch.bfloat16)) == 1.0


def test_clipping_bounds_the_gradient() -> None:
    model = torch.nn.Linear(3, 1, bias=False)
    optimizer = Optimizer(model, OptimizerConfig(weight_decay=0.0, clip_norm=1.0, betas=(0.0, 0.0)))
    model.weight.grad = torch.tensor([[3.0, 4.0, 0.0]])
    assert optimizer.step(0.1) == pytest.approx(5.0)
    moment = optimizer.tensors()["exp_avg", "weight"]
    torch.testing.assert_close(moment, torch.tensor([[0.6, 0.8, 0.0]]), rtol=1e-5, atol=1e-6)
