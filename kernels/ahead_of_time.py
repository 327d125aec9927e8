"""Compile the Triton kernels for devices that need not be here, and look at what comes out.

Triton brings the assemblers of NVIDIA and AMD with it, so a machine without a GPU can prove that
every kernel compiles, uses tensor cores, fits the device's shared memory and spills no registers.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import triton
from internlm_core.errors import KernelError
from internlm_core.kernels._triton import INTERPRETING
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

if TYPE_CHECKING:
    from internlm_core.kernels._triton import Variant

__all__ = ["DEVICES", "Compiled", "Device", "compile_variant"]


@dataclass(frozen=True)
class Device:
    """A kind of GPU.

    Attributes:
        target: Triton's description of it.
        shared: Bytes of shared memory that one block may have (CUDA programming guide, table of
            technical specifications; AMD's CDNA guides: 64 KiB of LDS).
        tensor_core: Pattern of its matrix instruction in assembly.
    """

    target: GPUTarget
    shared: int
    tensor_core: str


DEVICES = {
    "sm_80": Device(GPUTarget("cuda", 80, 32), 163 << 10, r"\bmma\.sync"),
    "sm_120": Device(GPUTarget("cuda", 120, 32), 99 << 10, r"\bmma\.sync"),
    "sm_90": Device(GPUTarget("cuda", 90, 32), 227 << 10, r"\b(wgmma\.mma_async|mma\.sync)"),
    "sm_100": Device(GPUTarget("cuda", 100, 32), 227 << 10, r"\b(tcgen05\.mma|mma\.sync)"),
    "gfx942": Device(GPUTarget("hip", "gfx942", 64), 64 << 10, r"\bv_mfma_"),
    "gfx90a": Device(GPUTarget("hip", "gfx90a", 64), 64 << 10, r"\bv_mfma_"),
}


@dataclass(frozen=True)
class Compiled:
    """What a compilation shows.

    Attributes:
        shared: Bytes of shared memory a block takes.
        registers: Registers a thread takes.
        spilled: Bytes (NVIDIA) or registers (AMD) that went to local memory.
        tensor_cores: Matrix instructions in the code.
        code_bytes: Size of the binary.
    """

    shared: int
    registers: int
    spilled: int
    tensor_cores: int
    code_bytes: int


def compile_variant(variant: Variant, device: Device) -> Compiled:
    """Compile down to the device's binary.

    Raises:
        KernelError: Triton's interpreter is on in this process: it replaces the compiler.
    """
    if INTERPRETING:
        raise KernelError("unset TRITON_INTERPRET: under the interpreter nothing can be compiled")
    names = variant.function.arg_names
    signature = {name: variant.signature.get(name, "constexpr") for name in names}
    aligned = [n for n in names if signature[n].startswith("*") or n in variant.aligned]
    source = ASTSource(
        variant.function,
        signature,
        constexprs=dict(variant.constants),
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    made = triton.compile(source, target=device.target, options=variant.settings.options())
    if device.target.backend == "cuda":
        code, binary = made.asm["ptx"], made.asm["cubin"]
        registers, spilled = _resources(binary)
    else:
        code, binary = made.asm["amdgcn"], made.asm["hsaco"]
        registers = _figure(r"\.vgpr_count:\s+(\d+)", code)
        spilled = _figure(r"\.vgpr_spill_count:\s+(\d+)", code)
    found = len(re.findall(device.tensor_core, code))
    return Compiled(made.metadata.shared, registers, spilled, found, len(binary))


def _figure(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise KernelError(f"the compiler's output has no {pattern!r}: has Triton changed its form?")
    return int(found.group(1))


def _resources(binary: bytes) -> tuple[int, int]:
    """Registers and stack bytes of a cubin, by the cuobjdump that Triton brings."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(binary)
        told = subprocess.run(  # noqa: S603
            [tool, "--dump-resource-usage", file], capture_output=True, text=True, check=True
        ).stdout
    return _figure(r"REG:(\d+)", told), _figure(r"STACK:(\d+)", told)
