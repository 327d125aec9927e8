"""Triton kernels under the interpreter against fp64 references; run by ../test_interpreter.py.

Not collected on its own: TRITON_INTERPRET must be set before the kernels are imported.
"""

from __future__ import annotations

import pytest
import torch
from internlm_core.errors import KernelError
from internlm_core.kernels.attention import attention, attention_reference
from internlm_core.kernels.rms_norm import rms_norm, rms_norm_reference

# Largest error as a share of the largest true value. bf16 is loose: the interpreter truncates
# casts to bf16 instead of rounding them.
BOUND = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 3e-2}
TYPES = list(BOUND)


@pytest.fixture(autouse=True)
def nan_in_fresh_memory():
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory


def error(got: torch.Tensor, true: torch.Tensor) -> float:
    assert got.shape == true.shape
    if not true.numel():
        return 0.0
    got = got.detach().double()
    # True values near 0 (the gradient of a softmax over one key) leave rounding alone: floor of 1.
    worst = (got - true).abs().max() / true.abs().max().clamp_min(1.0)
    return float("inf") if worst.isnan() else float(worst)


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [x.detach().double().requires_grad_() for x in tensors]


def bounds(sizes: list[int]) -> torch.Tensor:
    return torch.tensor([0, *sizes]).cumsum(0).to(torch.int32)


def errors_of_attention(
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


def draw(*, batch=1, queries=70, keys=None, kv_heads=1, group=1, width=32, dtype=torch.float32):
    torch.manual_seed(1)
    keys = queries if keys is None else keys
    return [
        torch.randn(batch, length, heads, width).to(dtype).requires_grad_()
        for length, heads in ((queries, kv_heads * group), (keys, kv_heads), (keys, kv_heads))
    ]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("group", [1, 3, 4, 6])
def test_groups(dtype, group):
    tensors = draw(batch=2, queries=37, kv_heads=2, group=group, dtype=dtype)
    assert max(errors_of_attention(*tensors)) < BOUND[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [16, 40, 64, 96, 128])
def test_head_widths(dtype, width):
    tensors = draw(queries=37, group=2, width=width, dtype=dtype)
    assert max(errors_of_attention(*tensors)) < BOUND[dtype]


@pytest.mark.parametrize("tokens", [1, 2, 31, 63, 64, 65, 129])
def test_lengths_around_the_blocks(tokens):
    assert max(errors_of_attention(*draw(queries=tokens, group=3))) < BOUND[torch.float32]


@pytest.mark.parametrize("sizes", [[13, 0, 37, 20], [1, 1, 1], [64, 65], [90], [0, 5]])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_packed_documents(sizes, dtype):
    tensors = draw(queries=sum(sizes), kv_heads=2, group=3, dtype=dtype)
    assert max(errors_of_attention(*tensors, cu_seqlens=bounds(sizes))) < BOUND[dtype]


@pytest.mark.parametrize(("queries", "keys"), [(20, 50), (50, 20), (1, 33), (33, 65)])
@pytest.mark.parametrize("causal", [True, False])
def test_more_keys_than_queries_and_fewer(queries, keys, causal):
    tensors = draw(batch=2, queries=queries, keys=keys, group=2)
    assert max(errors_of_attention(*tensors, causal=causal)) < BOUND[torch.float32]


def test_queries_that_see_nothing_give_zeros_and_take_no_gradient():
    q, k, v = draw(queries=50, keys=20, group=2)
    out = attention(q, k, v)
    out.backward(torch.randn(out.shape))
    assert (out[:, :30] == 0).all()
    assert (q.grad[:, :30] == 0).all()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v))


def test_views_of_one_interleaved_projection():
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
    assert error(out, reference.detach()) < BOUND[torch.float32]
    assert error(qkv.grad, true.grad) < BOUND[torch.float32]


def test_large_scores_do_not_overflow():
    q, k, v = draw(queries=40, group=2, dtype=torch.float16)
    with torch.no_grad():
        q.mul_(60)
    assert max(errors_of_attention(q, k, v)) < 5 * BOUND[torch.float16]


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
def test_faults_show(fault, dtype):
    tensors = draw(queries=40, kv_heads=2, group=3, dtype=dtype)
    assert min(errors_of_attention(*tensors, **fault)) > 3 * BOUND[dtype]


def test_documents_that_see_each_other_show():
    tensors = draw(queries=60, group=2)
    torch.manual_seed(3)
    out = attention(*tensors)
    alone = attention_reference(*wide(*tensors), cu_seqlens=bounds([30, 30]))
    assert error(out[:, 30:], alone[:, 30:].detach()) > 0.1


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (5, 7, 100), (3, 256), (2, 1000), (0, 64)])
def test_rms_norm(dtype, shape):
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype).requires_grad_()
    weight = torch.randn(shape[-1:]).to(dtype).requires_grad_()
    grad = torch.randn(shape).to(dtype)
    y = rms_norm(x, weight, 1e-5)
    y.backward(grad)
    wide_x, wide_weight = wide(x, weight)
    true = rms_norm_reference(wide_x, wide_weight, 1e-5)
    true.backward(grad.double())
    if not x.numel():
        assert y.shape == x.shape
        assert (weight.grad == 0).all()
        return
    assert error(y, true.detach()) < BOUND[dtype]
    # One number a row: its gradient is zero but for eps.
    assert shape == (1, 1) or error(x.grad, wide_x.grad) < BOUND[dtype]
    assert error(weight.grad, wide_weight.grad) < BOUND[dtype]


def test_rms_norm_of_views_zeros_and_zero_weights():
    torch.manual_seed(0)
    base = torch.randn(6, 4, 20)
    for x in (base[:, 1], base.transpose(1, 2)[..., :3], base[..., ::2]):
        weight = torch.randn(x.shape[-1])
        true = rms_norm_reference(x.double(), weight.double(), 1e-5)
        assert error(rms_norm(x, weight, 1e-5), true) < BOUND[torch.float32]
    x = torch.zeros(2, 8, requires_grad=True)
    weight = torch.ones(8)
    weight[0] = 0
    weight.requires_grad_()
    rms_norm(x, weight, 1e-5).backward(torch.ones(2, 8))
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(weight.grad).all()


def test_a_dropped_weight_shows():
    x, weight = torch.randn(4, 64), torch.rand(64) + 1
    true = rms_norm_reference(x.double(), torch.ones(64).double(), 1e-5)
    assert error(rms_norm(x, weight, 1e-5), true) > 0.1


def test_whole_model_on_the_kernels_equals_the_reference(monkeypatch):
    from internlm_core.model import InternLM2, ModelConfig

    config = ModelConfig(
        vocab_size=50,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=40,
        initializer_range=0.2,
        dtype="float32",
    )
    model = InternLM2(config, seed=0)
    ids, cut = torch.randint(0, 50, (1, 60)), bounds([21, 39])
    results = []
    for kernels in ("triton", "reference"):
        monkeypatch.setenv("INTERNLM_KERNELS", kernels)
        model.zero_grad()
        total, _ = model.loss(ids, ids, cu_seqlens=cut)
        total.backward()
        results.append([total.detach(), *(p.grad.clone() for p in model.parameters())])
    for kernel, reference in zip(*results, strict=True):
        assert error(kernel, reference.double()) < 2e-5


def test_an_unknown_choice_of_kernels_is_named(monkeypatch):
    monkeypatch.setenv("INTERNLM_KERNELS", "cuda")
    with pytest.raises(KernelError, match=r"INTERNLM_KERNELS='cuda'.*reference.*triton"):
        rms_norm(torch.ones(2, 4), torch.ones(4), 1e-5)
