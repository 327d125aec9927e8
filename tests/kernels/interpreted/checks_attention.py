"""Attention in Triton under the interpreter against fp64; run by ../test_interpreter.py.

Not collected on its own: TRITON_INTERPRET must be set before the kernels are imported.
"""

from __future__ import annotations

import pytest
import torch
from internlm_core.kernels.attention import attention, attention_reference

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def bounds(sizes: list[int]) -> torch.Tensor:
    return torch.tensor([0, *sizes]).cumsum(0).to(torch.int32)


@pytest.fixture
def errors_of_attention(error, wide):
    def measure(
        q, k, v, *, true_scale=None, true_causal=None, true_heads=None, **options
    ) -> list[float]:
        """Errors of the output and the three gradients; `true_…` falsify the reference."""
        torch.manual_seed(3)
        out = attention(q, k, v, **options)
        grad = torch.randn(out.shape).to(out.dtype)
        out.backward(grad)
        wq, wk, wv = wide(q, k, v)
        given = dict(options)
        if true_scale is not None:
            given["scale"] = true_scale
        if true_causal is not None:
            given["causal"] = true_causal
        used = wq if true_heads is None else wq[:, :, true_heads]
        reference = attention_reference(used, wk, wv, **given)
        if true_heads is not None:
            reference = reference[:, :, torch.argsort(torch.tensor(true_heads))]
        reference.backward(grad.double())
        return [
            error(a, b.detach())
            for a, b in ((out, reference), (q.grad, wq.grad), (k.grad, wk.grad), (v.grad, wv.grad))
        ]

    return measure


def draw(*, batch=1, queries=70, keys=None, kv_heads=1, group=1, width=32, dtype=torch.float32):
    torch.manual_seed(1)
    keys = queries if keys is None else keys
    return [
        torch.randn(batch, length, heads, width).to(dtype).requires_grad_()
        for length, heads in ((queries, kv_heads * group), (keys, kv_heads), (keys, kv_heads))
    ]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("group", [1, 2, 3, 4, 6, 16])
def test_groups(errors_of_attention, bound, dtype, group):
    few = 1 if group == 16 or dtype != torch.float32 else 2  # the interpreter is slow
    tensors = draw(batch=few, queries=37, kv_heads=few, group=group, dtype=dtype)
    assert max(errors_of_attention(*tensors)) < bound[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [16, 40, 64, 96, 128, 256])
def test_head_widths(errors_of_attention, bound, dtype, width):
    tensors = draw(queries=37, group=2, width=width, dtype=dtype)
    assert max(errors_of_attention(*tensors)) < bound[dtype]


@pytest.mark.parametrize("tokens", [1, 2, 31, 63, 64, 65, 129])
def test_lengths_around_the_blocks(errors_of_attention, bound, tokens):
    assert max(errors_of_attention(*draw(queries=tokens, group=3))) < bound[torch.float32]


@pytest.mark.parametrize("sizes", [[13, 0, 37, 20], [1, 1, 1], [64, 65], [90], [0, 5]])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_packed_documents(errors_of_attention, bound, sizes, dtype):
    kv_heads = 2 if dtype == torch.float32 else 1
    tensors = draw(queries=sum(sizes), kv_heads=kv_heads, group=3, dtype=dtype)
    assert max(errors_of_attention(*tensors, cu_seqlens=bounds(sizes))) < bound[dtype]


@pytest.mark.parametrize(("queries", "keys"), [(20, 50), (50, 20), (1, 33), (33, 65)])
@pytest.mark.parametrize("causal", [True, False])
def test_more_keys_than_queries_and_fewer(errors_of_attention, bound, queries, keys, causal):
    tensors = draw(batch=2, queries=queries, keys=keys, group=2)
    assert max(errors_of_attention(*tensors, causal=causal)) < bound[torch.float32]


def test_queries_that_see_nothing_give_zeros_and_take_no_gradient():
    q, k, v = draw(queries=50, keys=20, group=2)
    out = attention(q, k, v)
    out.backward(torch.randn(out.shape))
    assert (out[:, :30] == 0).all()
    assert (q.grad[:, :30] == 0).all()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v))


def test_views_of_one_interleaved_projection(error, wide, bound):
    torch.manual_seed(1)
    qkv = torch.randn(2, 45, 2, 5, 32, requires_grad=True)
    q, k, v = qkv[:, :, :, :3].flatten(2, 3), qkv[:, :, :, 3], qkv[:, :, :, 4]
    assert not k.is_contiguous()
    out = attention(q, k, v)
    grad = torch.randn_like(out.detach())
    out.backward(grad)
    (true,) = wide(qkv)
    q, k, v = true[:, :, :, :3].flatten(2, 3), true[:, :, :, 3], true[:, :, :, 4]
    reference = attention_reference(q, k, v)
    reference.backward(grad.double())
    assert error(out, reference.detach()) < bound[torch.float32]
    assert error(qkv.grad, true.grad) < bound[torch.float32]


def test_large_scores_do_not_overflow(errors_of_attention, bound):
    q, k, v = draw(queries=40, group=2, dtype=torch.float16)
    with torch.no_grad():
        q.mul_(60)
    assert max(errors_of_attention(q, k, v)) < 5 * bound[torch.float16]


def test_same_result_at_every_run():
    first = draw(queries=72, group=6)
    attention(*first).sum().backward()
    again = draw(queries=72, group=6)
    attention(*again).sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(first, again, strict=True))


# The comparison bites: each of these faults is far outside the bounds.
@pytest.mark.parametrize(
    "fault",
    [
        {"true_causal": False},
        {"true_scale": 1.0},
        {"true_heads": [0, 3, 1, 4, 2, 5]},  # heads dealt out instead of in blocks of a group
    ],
    ids=["no mask", "no scale", "wrong heads"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_faults_show(errors_of_attention, bound, fault, dtype):
    tensors = draw(queries=40, kv_heads=2, group=3, dtype=dtype)
    assert min(errors_of_attention(*tensors, **fault)) > 3 * bound[dtype]


def test_documents_that_see_each_other_show(error, wide):
    tensors = draw(queries=60, group=2)
    torch.manual_seed(3)
    out = attention(*tensors)
    alone = attention_reference(*wide(*tensors), cu_seqlens=bounds([30, 30]))
    assert error(out[:, 30:], alone[:, 30:].detach()) > 0.1


def test_heads_beyond_two_to_the_31_elements(sparse, error, bound):
    torch.manual_seed(1)
    near = torch.randn(1, 5, 3, 16).half()
    q = sparse.view(torch.float16).as_strided(near.shape, (0, 16, 1 << 30, 1))
    q.copy_(near)
    k = torch.randn(1, 5, 1, 16).half()
    true = attention_reference(near.double(), k.double(), k.double())
    assert error(attention(q, k, k), true) < bound[torch.float16]


def test_last_axis_may_have_any_stride(error, bound):
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, 9, 16, heads).transpose(2, 3) for heads in (4, 2, 2))
    true = attention_reference(q.double(), k.double(), v.double())
    assert error(attention(q, k, v), true) < bound[torch.float32]
