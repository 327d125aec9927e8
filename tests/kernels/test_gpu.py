"""The compiled kernels on a CUDA device, against fp64 on the same device."""

from __future__ import annotations

import pytest
import torch
from internlm_core.kernels.attention import attention, attention_reference
from internlm_core.kernels.decode_attention import decode_attention, decode_attention_reference
from internlm_core.kernels.linear_cross_entropy import (
    linear_cross_entropy,
    linear_cross_entropy_reference,
)
from internlm_core.kernels.rms_norm import add_rms_norm, rms_norm, rms_norm_reference
from internlm_core.kernels.rope import apply_rope, apply_rope_reference
from internlm_core.kernels.swiglu import swiglu, swiglu_reference

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


def test_more_documents_than_a_grid_has_rows():
    """Documents times heads pass 65,535, where the second axis of a grid ends."""
    torch.manual_seed(0)
    documents = 6000
    q, k, v = (torch.randn(1, 2 * documents, heads, 64, device="cuda") for heads in (12, 2, 2))
    cut = torch.arange(0, 2 * documents + 1, 2, dtype=torch.int32, device="cuda")
    out = attention(q, k, v, cu_seqlens=cut)
    last = attention_reference(*(x[:, -2:].double() for x in (q, k, v)))
    assert error(out[:, -2:], last) < BOUND[torch.float32]


@pytest.mark.parametrize("dtype", list(BOUND), ids=str)
@pytest.mark.parametrize("width", [64, 96, 128, 256])
@pytest.mark.parametrize("group", [1, 3, 6, 16])
@pytest.mark.parametrize("splits", [None, 1, 7])
def test_decode_attention(dtype, width, group, splits):
    torch.manual_seed(0)
    lengths = torch.tensor([700, 1, 0, 333], dtype=torch.int32, device="cuda")
    k, v = (torch.randn(200, 16, 2, width, device="cuda", dtype=dtype) for _ in "kv")
    table = torch.randperm(200, device="cuda")[:176].view(4, 44).to(torch.int32)
    q = torch.randn(4, 2 * group, width, device="cuda", dtype=dtype)
    got = decode_attention(q, k, v, table, lengths, splits=splits)
    true = decode_attention_reference(q.double(), k.double(), v.double(), table, lengths)
    assert error(got, true) < BOUND[dtype]
    assert (got[2] == 0).all()


def both_ways(operation, reference, dtype, *tensors):
    given = [x.detach().requires_grad_() for x in tensors]
    true = wide(*tensors)
    ours, exact = operation(*given), reference(*true)
    grad = torch.randn_like(ours)
    ours.backward(grad)
    exact.backward(grad.double())
    assert error(ours, exact.detach()) < BOUND[dtype]
    for a, b in zip(given, true, strict=True):
        assert error(a.grad, b.grad) < BOUND[dtype]


@pytest.mark.parametrize("dtype", list(BOUND), ids=str)
def test_rope_and_swiglu(dtype):
    torch.manual_seed(0)
    qkv = torch.randn(2, 70, 2, 8, 128, device="cuda", dtype=dtype)
    angles = torch.rand(1, 70, 64, device="cuda") * 6
    cos, sin = angles.cos(), angles.sin()
    both_ways(
        lambda x: apply_rope(x, cos, sin),
        lambda x: apply_rope_reference(x, cos.double(), sin.double()),
        dtype,
        qkv[:, :, :, :-1],
    )
    both = torch.randn(33, 3000, device="cuda", dtype=dtype)
    both_ways(swiglu, swiglu_reference, dtype, both[:, :1500], both[:, 1500:])


@pytest.mark.parametrize("dtype", list(BOUND), ids=str)
def test_add_rms_norm(dtype):
    torch.manual_seed(0)
    x, residual = (torch.randn(100, 4096, device="cuda", dtype=dtype) for _ in "xr")
    weight = torch.randn(4096, device="cuda", dtype=dtype)
    normal, total = add_rms_norm(x, residual, weight, 1e-5)
    assert torch.equal(total, residual + x)
    assert error(normal, rms_norm_reference(total.double(), weight.double(), 1e-5)) < BOUND[dtype]


@pytest.mark.parametrize("dtype", list(BOUND), ids=str)
def test_loss(dtype):
    torch.manual_seed(0)
    labels = torch.randint(0, 92_544, (700,), device="cuda")
    labels[::5] = -100
    both_ways(
        lambda h, w: linear_cross_entropy(h, w, labels)[0] / 700,
        lambda h, w: linear_cross_entropy_reference(h, w, labels) / 700,
        dtype,
        torch.randn(700, 256, device="cuda", dtype=dtype),
        torch.randn(92_544, 256, device="cuda", dtype=dtype) / 16,
    )


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
