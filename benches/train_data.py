"""Packing beside padding on ragged documents, and the memory of the loss over a large vocabulary.

Documents are as long as this package's own Python functions and Markdown sections are in words: real,
ragged, and on every machine. Their tokens are drawn, which changes no speed. Both sides train on the
same documents with the same batch size in tokens of the window; useful tokens are those of documents.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.harness import OURS, Contender, Task
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["document_lengths", "loss_task", "packing_task"]

_SEED, _WINDOW, _RATE = 20_240_326, 512, 1e-3
_ROOT = Path(__file__).resolve().parent.parent
# Vocabulary and width of the published 7B model's head; the width is cut to fit a laptop.
_VOCABULARY, _WIDTH, _POSITIONS = 92_544, 256, 4096


def document_lengths(most: int = 96) -> list[int]:
    """Words of functions and sections of this package, in the order of its files; at most `most`."""
    found: list[int] = []
    for path in sorted([*_ROOT.glob("python/**/*.py"), *_ROOT.glob("docs/*.md")]):
        pieces = re.split(r"^(?=def |class |## )", path.read_text("utf-8"), flags=re.MULTILINE)
        found += [min(_WINDOW, len(re.findall(r"\w+|[^\w\s]", piece))) for piece in pieces]
    step = max(1, len(found) // most)
    return [n for n in found[::step] if n > 1][:most]


def packing_task(folder: str, shape: Mapping[str, int]) -> Task:
    """A pass over the documents: ours packed, transformers' padded to the longest of each batch."""
    lengths = document_lengths()
    return Task(
        room="train",
        name=f"{len(lengths)} ragged documents, {sum(lengths):,} tokens, bf16",
        unit="tokens/s",
        amount=sum(lengths),
        ours=Contender(f"{OURS}, packed", _packed, (folder, lengths), ("internlm-core", "torch")),
        peers=(
            Contender(
                "transformers, padded", _padded, (folder, lengths), ("transformers", "torch")
            ),
        ),
        judge=lambda results: {name: {"loss_before": loss} for name, loss in results.items()},
        facts={"n": sum(lengths), "documents": len(lengths), "window": _WINDOW, "shape": shape},
        most_rounds=3,
    )


def _documents(lengths: list[int], vocabulary: int) -> list[Any]:
    import torch

    generator = torch.Generator().manual_seed(_SEED)
    return [torch.randint(0, vocabulary, (n,), generator=generator) for n in lengths]


def _packed(folder: str, lengths: list[int]) -> Job:
    import numpy as np
    import torch
    from internlm_core import model as room
    from internlm_core.model.allocator import keep_freed_memory
    from internlm_core.train import OptimizerConfig
    from internlm_core.train.optim import Optimizer
    from internlm_core.train.packing import best_fit

    keep_freed_memory()

    def prepare() -> Any:
        model = room.load(Path(folder) / "ours", dtype="bfloat16")
        model.set_rope(model.config.rope_theta, _WINDOW)
        model.train()
        documents = _documents(lengths, model.config.vocab_size)
        rows = [
            [documents[i] for i in row] for row in best_fit(np.array(lengths, np.int64), _WINDOW)
        ]
        # As many windows to a step as the padded side has rows.
        steps = [[d for row in rows[i : i + 8] for d in row] for i in range(0, len(rows), 8)]
        return model, Optimizer(model, OptimizerConfig()), [_row(step) for step in steps]

    def run(state: Any) -> float:
        model, optimizer, steps = state
        total, counted = 0.0, 0
        for ids, labels, bounds in steps:
            nll, count = model.loss(ids, labels, cu_seqlens=bounds)
            torch.autograd.backward(nll / count)
            optimizer.gather()
            optimizer.step(0.0)
            total, counted = total + float(nll.detach()), counted + count
        return total / counted

    return Job(prepare=prepare, run=run)


def _row(documents: list[Any]) -> tuple[Any, Any, Any]:
    import torch

    bounds = torch.tensor([0, *(len(d) for d in documents)]).cumsum(0).int()
    labels = torch.cat([torch.cat([d[1:], torch.tensor([-100])]) for d in documents])
    return torch.cat(documents)[None], labels[None], bounds


def _padded(folder: str, lengths: list[int]) -> Job:
    import torch
    from internlm_core.model.allocator import keep_freed_memory
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    keep_freed_memory()

    def prepare() -> Any:
        model = AutoModelForCausalLM.from_pretrained(Path(folder) / "llama", dtype=torch.bfloat16)
        model.train()
        documents = _documents(lengths, model.config.vocab_size)
        batches = [_batch(documents[i : i + 8]) for i in range(0, len(documents), 8)]
        return model, torch.optim.AdamW(model.parameters(), lr=0.0, fused=True), batches

    def run(state: Any) -> float:
        model, adam, batches = state
        total, counted = 0.0, 0
        for ids, mask, labels in batches:
            loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            adam.zero_grad(set_to_none=True)
            count = int((labels[:, 1:] != -100).sum())
            total, counted = total + float(loss.detach()) * count, counted + count
        return total / counted

    return Job(prepare=prepare, run=run)


def _batch(documents: list[Any]) -> tuple[Any, Any, Any]:
    import torch

    longest = max(map(len, documents))
    ids = torch.zeros(len(documents), longest, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, document in enumerate(documents):
        ids[row, : len(document)] = document
        mask[row, : len(document)] = 1
        labels[row, : len(document)] = document
    return ids, mask, labels


def loss_task(*, quick: bool) -> Task:
    """Loss and gradients of one head; the figure is the peak memory beyond inputs and gradients."""
    positions = 256 if quick else _POSITIONS
    return Task(
        room="train",
        name=f"Loss over {_VOCABULARY:,} entries, {positions:,} positions, bf16",
        unit="tokens/s",
        amount=positions,
        ours=Contender(OURS, _loss, (positions, True), ("internlm-core", "torch")),
        peers=(Contender("logits in full", _loss, (positions, False), ("torch",)),),
        judge=lambda results: {
            name: {"loss": value[0], "peak_mb_of_the_loss": value[1]}
            for name, value in results.items()
        },
        facts={"n": positions, "vocabulary": _VOCABULARY, "width": _WIDTH},
        most_rounds=3,
    )


def _loss(positions: int, ours: bool) -> Job:
    import torch
    from internlm_core.kernels.linear_cross_entropy import (
        linear_cross_entropy,
        linear_cross_entropy_reference,
    )

    def prepare() -> Any:
        generator = torch.Generator().manual_seed(_SEED)
        hidden = torch.randn(positions, _WIDTH, generator=generator).bfloat16().requires_grad_()
        weight = torch.randn(_VOCABULARY, _WIDTH, generator=generator).mul_(0.02).bfloat16()
        labels = torch.randint(0, _VOCABULARY, (positions,), generator=generator)
        return hidden, weight.requires_grad_(), labels

    def run(state: Any) -> Any:
        hidden, weight, labels = state
        hidden.grad = weight.grad = None
        if ours:
            nll, _ = linear_cross_entropy(hidden, weight, labels)
        else:
            nll = linear_cross_entropy_reference(hidden, weight, labels)
        (nll / positions).backward()
        return state, float(nll.detach()) / positions

    def result(outcome: Any) -> tuple[float, float]:
        state, loss = outcome
        return loss, _peak(lambda: run(state)) / 2**20

    return Job(prepare=prepare, run=run, result=result)


def _peak(work: Any) -> int:
    """Bytes that torch's CPU allocator held at most during `work`, beyond those before."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    held = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most
