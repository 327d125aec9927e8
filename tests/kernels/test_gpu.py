"""The compiled kernels on a CUDA device, against fp64 on the same device."""

from __future__ import annotations

import pytest
import torch
from internlm_core.kernels.attention import attention, attention_reference
from internlm_core.kernels.rms_norm import rms_norm, rms_norm_reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
# Largest error as a share of the largest true value.
BOUND = {torch.float32: 5e-6, torch.float16: 3e-3, torch.bfloat16: 2e-2}


def error(got, true):
    assert torch.isfinite(got).all()
    worst = (got.detach().double() - true).abs().max() / true.abs().max().clamp_min(1.0)
    return float(worst)


def wide(*tensors):
    return [x.detach().double().requires_grad_() for x in tensors]


@pytest.mark.parametrize("dtype", list(BOUND), ids=str)
@pytest.mark.parametrize("width", [64, 96, 128, 256])
@pytest.mark.parametrize("group", [1, 3, 4, 6, 16])
@pytest.mark.parametrize("sizes", [None, [200, 1, 0, 57, 259]])
def test_attention(dtype, width, group, sizes):
    torch.manual_seed(0)
    batch, tokens = (2, 300) if sizes is None else (1, 517)
    q, k, v = (
        torch.randn(batch, tokens, heads, width, device="cuda", dtype=dtype, requires_grad=True)
        for heads in (2 * group, 2, 2)
    )
    cut = None
    if sizes is not None:
        cut = torch.tensor([0, *sizes]).cumsum(0).to(torch.int32).cuda()
    out = attention(q, k, v, cu_seqlens=cut)
    grad = torch.randn_like(out)
    out.backward(grad)
    true = wide(q, k, v)
    reference = attention_reference(*true, cu_seqlens=cut)
    reference.backward(grad.double())
    assert error(out, reference.detach()) < BOUND[dtype]
    for ours, theirs in zip((q, k, v), true, strict=True):
        assert error(ours.grad, theirs.grad) < BOUND[dtype]


def test_attention_is_the_same_at_every_run():
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(1, 1000, heads, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for heads in (12, 2, 2)
    )
    runs = []
    for _ in range(3):
        out = attention(q, k, v)
        runs.append((out, *torch.autograd.grad(out.sum(), (q, k, v))))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


@pytest.mark.parametrize("dtype", list(BOUND), ids=str)
@pytest.mark.parametrize("shape", [(1, 100), (517, 4096), (64, 6144)])
def test_rms_norm(dtype, shape):
    torch.manual_seed(0)
    x = torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True)
    weight = torch.randn(shape[-1], device="cuda", dtype=dtype, requires_grad=True)
    y = rms_norm(x, weight, 1e-5)
    grad = torch.randn_like(y)
    y.backward(grad)
    wide_x, wide_weight = wide(x, weight)
    true = rms_norm_reference(wide_x, wide_weight, 1e-5)
    true.backward(grad.double())
    for ours, theirs in (
        (y, true.detach()),
        (x.grad, wide_x.grad),
        (weight.grad, wide_weight.grad),
    ):
        assert error(ours, theirs) < BOUND[dtype]


def test_rows_beyond_two_to_the_31_elements():
    x = torch.randn(2**23 + 16, 256, device="cuda", dtype=torch.bfloat16)
    weight = torch.ones(256, device="cuda", dtype=torch.bfloat16)
    last = rms_norm(x, weight, 1e-5)[-16:]
    torch.testing.assert_close(last, rms_norm_reference(x[-16:], weight, 1e-5))


def test_model_on_the_device_equals_the_cpu():
    from internlm_core.model import InternLM2, ModelConfig

    config = ModelConfig(
        vocab_size=500,
        hidden_size=384,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=512,
    )
    model = InternLM2(config)
    ids = torch.randint(0, 500, (1, 300))
    cut = torch.tensor([0, 100, 300], dtype=torch.int32)
    cpu = model(ids, cu_seqlens=cut)
    gpu = model.cuda()(ids.cuda(), cu_seqlens=cut.cuda())
    torch.testing.assert_close(gpu.cpu(), cpu, atol=1e-3, rtol=1e-3)
