"""Every kernel compiles for devices that aren't here, on tensor cores, within their limits."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET", "0") == "1":
    pytest.skip("the interpreter replaces the compiler", allow_module_level=True)

from internlm_core.kernels import attention_triton, rms_norm_triton
from internlm_core.kernels.ahead_of_time import DEVICES, compile_variant


def check(device_name, *, element, width, group, varlen=True, causal=True):
    device = DEVICES[device_name]
    for variant in attention_triton.variants(
        device.shared, element, width, group, causal=causal, varlen=varlen
    ):
        made = compile_variant(variant, device)
        told = f"{device_name} {variant.name} {element} D={width} G={group}: {made}"
        assert made.shared <= device.shared, told
        assert made.spilled <= 8, told  # ptxas reserves 8 bytes now and then without a spill
        assert made.registers > 0, told
        assert made.code_bytes > 0, told
        if element != "fp32":
            assert made.tensor_cores > 0, told


@pytest.mark.parametrize("device", ["sm_80", "sm_90", "gfx942"])
def test_attention_of_the_published_models(device):
    check(device, element="bf16", width=128, group=4)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [64, 96, 128, 256])
@pytest.mark.parametrize("element", ["fp16", "bf16", "fp32"])
def test_attention_everywhere(device, width, element):
    check(device, element=element, width=width, group=6)
    if width == 128:
        check(device, element=element, width=width, group=1, varlen=False, causal=False)


@pytest.mark.parametrize("device", ["sm_80", "sm_90", "gfx942"])
@pytest.mark.parametrize("width", [2048, 6144])
def test_rms_norm(device, width):
    for variant in rms_norm_triton.variants(width=width):
        made = compile_variant(variant, DEVICES[device])
        assert made.shared <= DEVICES[device].shared
        assert made.spilled == 0


def test_a_block_that_is_too_large_shows():
    """The limits bite: four times the keys a block and the tile no longer fits an A100."""
    from dataclasses import replace

    device = DEVICES["sm_80"]
    variant = attention_triton.variants(device.shared)[1]
    larger = {**variant.constants, "BLOCK_N": 256}
    made = compile_variant(replace(variant, constants=larger), device)
    assert made.shared > device.shared or made.spilled > 0
