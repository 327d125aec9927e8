"""A training step beside transformers: the same shape, weights, batch and optimizer settings.

A step is forward, backward, clipping to norm 1 and AdamW. Both sides start from the same weights
and see the same batch each step, so the losses after a few steps tell whether they did the same.
In bf16 ours keeps fp32 master weights; so does transformers' Trainer with bf16=True, by autocast.
Another row has transformers hold weights and moments in bf16 alone, which is less work and loses
small updates. Our compiled layers are measured beside transformers as it comes and compiled whole. Our trainer tells the C library's allocator to keep freed memory; that speeds up any
torch program, so transformers is measured without it, as it comes, and with it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.harness import OURS, Contender, Task
from benches.train_data import loss_task, packing_task
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["tasks"]

SEED, STEPS, RATE, DECAY = 20_240_326, 2, 1e-3, 0.1
SHAPE = {
    "hidden_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1408,
    "vocab_size": 8192,
    "max_position_embeddings": 256,
}
_BATCH = (4, 256)


def tasks(*, quick: bool) -> Iterator[Task]:
    """A step in fp32, bf16 and compiled; ragged documents; the loss over a large vocabulary."""
    shape = {**SHAPE, "num_hidden_layers": 2, "vocab_size": 2_048} if quick else SHAPE
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("fp32", "bf16"):
            arguments = (folder, shape, dtype)
            kinds = [
                ("transformers", True, False),
                ("transformers, our allocator setting", True, True),
            ]
            if dtype == "bf16":
                kinds.append(("transformers, bf16 weights, our allocator setting", False, True))
            needs = ("transformers", "torch")
            peers = [
                Contender(name, _theirs, (*arguments, masters, keeps), needs)
                for name, masters, keeps in kinds
            ]
            _write_weights(Path(folder), shape)
            ours = Contender(OURS, _ours, arguments, ("internlm-core", "torch"))
            yield _step_task(shape, dtype, "", ours, peers)
        fused = Contender(
            f"{OURS}, compiled", _ours, (folder, shape, "bf16", True), ("internlm-core", "torch")
        )
        theirs = Contender(
            "transformers, compiled, our allocator setting",
            _theirs, (folder, shape, "bf16", True, True, True), needs,
        )  # fmt: skip
        yield _step_task(shape, "bf16", ", compiled", fused, [*peers, theirs])
        yield packing_task(folder, shape)
    yield loss_task(quick=quick)


def _step_task(
    shape: Mapping[str, int], dtype: str, more: str, ours: Contender, peers: list[Contender]
) -> Task:
    return Task(
        room="train",
        name=f"Training step, {_millions(shape)} M parameters, {dtype}{more}",
        unit="tokens/s",
        amount=STEPS * _BATCH[0] * _BATCH[1],
        ours=ours,
        peers=tuple(peers),
        judge=_judge,
        facts={"n": STEPS * _BATCH[0] * _BATCH[1], "shape": shape, "batch": _BATCH},
    )


def _millions(shape: Mapping[str, int]) -> float:
    from internlm_core._config import load_config
    from internlm_core.model import ModelConfig

    return round(load_config(ModelConfig, shape).parameter_count / 1e6, 1)


def _write_weights(folder: Path, shape: Mapping[str, int]) -> None:
    """One draw of weights under both names, for all sides."""
    from internlm_core import model as room
    from internlm_core._config import load_config

    if not (folder / "ours").exists():
        drawn = room.InternLM2(load_config(room.ModelConfig, shape), seed=SEED)
        room.save(drawn, folder / "ours")
        room.save(drawn, folder / "llama", naming="llama")


def _batch(shape: Mapping[str, int]) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(0, shape["vocab_size"], (_BATCH[0], _BATCH[1] + 1), generator=generator)
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def _judge(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {f"loss_after_{STEPS + 1}_steps": loss} for name, loss in results.items()}


def _steps(step: Callable[[Any], None], loss: Callable[[Any], float]) -> dict[str, Any]:
    """The timed steps; `prepare` has done one before, which makes the optimizer's moments."""

    def run(state: Any) -> Any:
        for _ in range(STEPS):
            step(state)
        return state

    return {"run": run, "result": loss}


def _ours(folder: str, shape: Mapping[str, int], dtype: str, fused: bool = False) -> Job:
    import torch
    from internlm_core import model as room
    from internlm_core.model.allocator import keep_freed_memory
    from internlm_core.train import OptimizerConfig
    from internlm_core.train.compiling import compile_layers
    from internlm_core.train.optim import Optimizer

    # As `train.run` does.
    keep_freed_memory()
    ids, labels = _batch(shape)

    def prepare() -> Any:
        name = {"fp32": "float32", "bf16": "bfloat16"}[dtype]
        model = room.load(Path(folder) / "ours", dtype=name)
        model.train()
        if fused:
            compile_layers(model)
        settings = OptimizerConfig(weight_decay=DECAY, clip_norm=1.0)
        state = model, Optimizer(model, settings)
        step(state)
        return state

    def step(state: Any) -> None:
        model, optimizer = state
        nll, count = model.loss(ids, labels)
        torch.autograd.backward(nll / count)
        optimizer.gather()
        optimizer.step(RATE)

    def loss(state: Any) -> float:
        with torch.no_grad():
            nll, count = state[0].loss(ids, labels)
        return float(nll) / count

    return Job(prepare=prepare, **_steps(step, loss))


def _theirs(
    folder: str,
    shape: Mapping[str, int],
    dtype: str,
    masters: bool,
    keeps: bool,
    fused: bool = False,
) -> Job:
    import torch
    from internlm_core.model.allocator import keep_freed_memory
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if keeps:
        keep_freed_memory()
    ids, labels = _batch(shape)
    autocast = dtype == "bf16" and masters

    def forward(model: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return model(input_ids=ids, shift_labels=labels, labels=labels, use_cache=False).loss

    def prepare() -> Any:
        kind = torch.float32 if masters else torch.bfloat16
        model = AutoModelForCausalLM.from_pretrained(Path(folder) / "llama", dtype=kind)
        model.train()
        if fused:
            model.compile()
        groups = [
            {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": DECAY},
            {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
        ]
        adam = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-8, fused=True)
        state = model, adam
        step(state)
        return state

    def step(state: Any) -> None:
        model, adam = state
        forward(model).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)

    def loss(state: Any) -> float:
        with torch.no_grad():
            return float(forward(state[0]))

    return Job(prepare=prepare, **_steps(step, loss))
