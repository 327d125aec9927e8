"""Every kernel compiles for devices that aren't here, on tensor cores, within their limits."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET", "0") == "1":
    pytest.skip("the interpreter replaces the compiler", allow_module_level=True)

from internlm_core.kernels import (
    attention_triton,
    decode_attention_triton,
    linear_cross_entropy_triton,
    rms_norm_triton,
    rope_triton,
    swiglu_triton,
)
from internlm_core.kernels.ahead_of_time import DEVICES, compile_variant


def check(device_name, variants, element="bf16"):
    device = DEVICES[device_name]
    for variant in variants:
        made = compile_variant(variant, device)
        told = f"{device_name} {variant.name} {element} {variant.constants}: {made}"
        assert made.shared <= device.shared, told
        assert made.spilled <= 8, told  # ptxas reserves 8 bytes now and then without a spill
        assert made.registers > 0, told
        assert made.code_bytes > 0, told
        # AMD multiplies fp32 in its matrix units too; NVIDIA's round it to 10 bits.
        if variant.multiplies and element != "fp32":
            assert made.tensor_cores > 0, told


def attention(device, element, width, group, **options):
    shared = DEVICES[device].shared
    return attention_triton.variants(shared, element, width, group, **options)


def decode(device, element, width, group):
    return decode_attention_triton.variants(DEVICES[device].shared, element, width, group)


@pytest.mark.parametrize("device", ["sm_80", "sm_90", "gfx942"])
def test_attention_of_the_published_models(device):
    check(device, attention(device, "bf16", 128, 4))


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [64, 96, 128, 256])
@pytest.mark.parametrize("element", ["fp16", "bf16", "fp32"])
def test_attention_everywhere(device, width, element):
    check(device, attention(device, element, width, 6), element)
    check(device, decode(device, element, width, 16), element)
    if width == 128:
        check(device, attention(device, element, width, 1, varlen=False, causal=False), element)


@pytest.mark.parametrize("device", ["sm_90", "gfx90a"])
def test_decode_attention(device):
    check(device, decode(device, "bf16", 128, 6))


def rows(element, width):
    return [
        *rms_norm_triton.variants(element, width),
        *rope_triton.variants(element),
        *swiglu_triton.variants(element),
        *linear_cross_entropy_triton.variants(element),
    ]


@pytest.mark.parametrize("device", ["sm_90", "gfx90a"])
def test_row_kernels(device):
    check(device, rows("bf16", 4096))


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [2048, 6144])
@pytest.mark.parametrize("element", ["fp16", "bf16", "fp32"])
def test_row_kernels_everywhere(device, width, element):
    check(device, rows(element, width), element)


def test_a_block_that_is_too_large_shows():
    """The limits bite: four times the keys a block and the tile no longer fits an A100."""
    from dataclasses import replace

    device = DEVICES["sm_80"]
    variant = attention_triton.variants(device.shared)[1]
    larger = {**variant.constants, "BLOCK_N": 256}
    made = compile_variant(replace(variant, constants=larger), device)
    assert made.shared > device.shared or made.spilled > 0
