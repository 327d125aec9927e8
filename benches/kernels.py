"""The loss beside torch's on this CPU, and what the Triton kernels compile to for GPUs elsewhere.

The loss: head and cross-entropy, forward and backward, at InternLM2's vocabulary; by how much each
process grows is the point. The kernels: tensor-core instructions, shared memory beside the device's
limit, registers and spills of each, for devices that need not be here.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from internlm_core._files import write_json
from rich.table import Table

from benches.harness import OURS, Contender, Task
from benches.machine import version
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

__all__ = ["compiled", "report", "tasks"]

SEED, VOCABULARY, TOKENS, WIDTH = 20_240_326, 92_544, 2048, 256
COMPILED = "kernels_compiled.json"
_WIDTHS = (64, 96, 128, 256)


def tasks(*, quick: bool) -> Iterator[Task]:
    """The loss in fp32 and bf16."""
    tokens = 256 if quick else TOKENS
    for dtype in ("float32", "bfloat16"):
        arguments = (dtype, tokens)
        yield Task(
            room="kernels",
            name=f"Head and loss, {tokens:,} tokens, {VOCABULARY:,} words, {dtype}",
            unit="tokens/s",
            amount=float(tokens),
            ours=Contender(OURS, _ours, arguments, ("internlm-core", "torch")),
            peers=(Contender("torch, logits in full", _plain, arguments, ("torch",)),),
            judge=_judge,
            facts={"n": tokens, "shape": [tokens, WIDTH, VOCABULARY], "compares_memory": True},
        )


def _judge(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {"loss_per_token": loss, "gradient_norm": norm}
        for name, (loss, norm) in results.items()
    }


def _job(dtype: str, tokens: int, loss: Any) -> Job:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    hidden = torch.randn(tokens, WIDTH, generator=generator)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator) / WIDTH**0.5
    labels = torch.randint(0, VOCABULARY, (tokens,), generator=generator)
    hidden, weight = (x.to(getattr(torch, dtype)).requires_grad_() for x in (hidden, weight))

    def prepare() -> None:
        hidden.grad = weight.grad = None

    def run(_: None) -> Any:
        total = loss(hidden, weight, labels)
        total.backward()
        return total.detach()

    def result(total: Any) -> tuple[float, float]:
        grads = [x.grad.float().norm() for x in (hidden, weight) if x.grad is not None]
        return float(total) / tokens, float(torch.stack(grads).norm())

    return Job(run=run, prepare=prepare, result=result)


def _ours(dtype: str, tokens: int) -> Job:
    from internlm_core.kernels.linear_cross_entropy import linear_cross_entropy

    return _job(dtype, tokens, lambda *given: linear_cross_entropy(*given)[0])


def _plain(dtype: str, tokens: int) -> Job:
    from torch.nn import functional

    def loss(hidden: Any, weight: Any, labels: Any) -> Any:
        # fp32 for the softmax, as transformers' models do.
        logits = functional.linear(hidden, weight).float()
        return functional.cross_entropy(logits, labels, reduction="sum")

    return _job(dtype, tokens, loss)


def _variants(shared: int, widths: Sequence[int]) -> Iterator[tuple[str, Any]]:
    """Size and kernel, as they are launched on a device with `shared` bytes."""
    from internlm_core.kernels import (
        attention_triton,
        decode_attention_triton,
        linear_cross_entropy_triton,
        rms_norm_triton,
        rope_triton,
        swiglu_triton,
    )

    for width in widths:
        for variant in attention_triton.variants(shared, "bf16", width, 6):
            yield f"head {width}", variant
        for variant in decode_attention_triton.variants(shared, "bf16", width, 6):
            yield f"head {width}", variant
    for room in (rms_norm_triton, rope_triton, swiglu_triton, linear_cross_entropy_triton):
        for variant in room.variants("bf16"):
            yield "row 4096" if room is rms_norm_triton else "", variant


@functools.cache
def _compile(device_name: str, widths: tuple[int, ...]) -> list[dict[str, Any]]:
    from internlm_core.kernels.ahead_of_time import DEVICES, compile_variant

    device, rows = DEVICES[device_name], []
    for size, variant in _variants(device.shared, widths):
        made = compile_variant(variant, device)
        rows.append(
            {
                "kernel": variant.name,
                "size": size,
                "device": device_name,
                "type": "bf16",
                "tensor_core_instructions": made.tensor_cores,
                "multiplies": variant.multiplies,
                "shared_bytes": made.shared,
                "shared_limit": device.shared,
                "registers": made.registers,
                "spilled": made.spilled,
                "code_bytes": made.code_bytes,
                "triton": version("triton"),
            }
        )
    return rows


def compiled(*, quick: bool) -> list[dict[str, Any]]:
    """One row a kernel, size and device."""
    from internlm_core.kernels.ahead_of_time import DEVICES

    devices = ("sm_90",) if quick else tuple(DEVICES)
    widths = (128,) if quick else _WIDTHS
    return [row for device in devices for row in _compile(device, widths)]


def compiled_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Kernels down, devices across; a cell that breaks a limit ends in an exclamation mark."""
    devices = list(dict.fromkeys(row["device"] for row in rows))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        parts = [f"{row['shared_bytes'] / 1024:.0f}K", f"{row['registers']}r"]
        if row["multiplies"]:
            parts.insert(0, f"{row['tensor_core_instructions']}tc")
        bad = row["shared_bytes"] > row["shared_limit"] or row["spilled"] > 8
        bad = bad or (row["multiplies"] and not row["tensor_core_instructions"])
        text = " ".join(parts) + (f" {row['spilled']}s" if row["spilled"] else "")
        cells.setdefault((row["kernel"], row["size"]), {})[row["device"]] = text + "!" * bad
    title = "Triton kernels, bf16: tensor-core instructions, shared memory, registers, spilled"
    table = Table(title=title, title_justify="left")
    for heading in ("kernel", "size", *devices):
        table.add_column(heading, overflow="fold")
    for (kernel, size), found in cells.items():
        table.add_row(kernel, size, *(found.get(device, "") for device in devices))
    return table


def report(screen: Console, out: Path | None, *, quick: bool) -> None:
    """Compile, print, and write the rows."""
    try:
        rows = compiled(quick=quick)
    except ModuleNotFoundError as error:
        screen.print(f"kernels: not compiled, {error.name} is not installed")
        return
    screen.print(compiled_table(rows))
    if out is not None:
        write_json(out / COMPILED, rows)
        screen.print(f"Rows: {out / COMPILED}\n")
