"""What the Triton kernels compile to, for GPUs that need not be here.

Tensor-core instructions, shared memory beside the device's limit, registers and spills of each. The
loss's memory on a CPU is a row of the room `train`; speed on a GPU is the room `gpu`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from internlm_core._files import write_json
from rich.table import Table

from benches.machine import version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from benches.harness import Task

__all__ = ["compiled", "report", "tasks"]

COMPILED = "kernels_compiled.json"
_WIDTHS = (64, 96, 128, 256)


def tasks(*, quick: bool) -> Iterator[Task]:  # noqa: ARG001
    """No races: `report` has it all."""
    return iter(())


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
