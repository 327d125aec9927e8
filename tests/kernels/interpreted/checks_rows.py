"""Norms, RoPE, SwiGLU and the loss in Triton under the interpreter against fp64.

Run by ../test_interpreter.py: TRITON_INTERPRET must be set before the kernels are imported.
"""

from __future__ import annotations

import functools

import pytest
import torch
import triton
import triton.language as tl
from internlm_core.errors import KernelError
from internlm_core.kernels import linear_cross_entropy_triton
from internlm_core.kernels.linear_cross_entropy import (
    linear_cross_entropy,
    linear_cross_entropy_reference,
)
from internlm_core.kernels.rms_norm import (
    add_rms_norm,
    add_rms_norm_reference,
    rms_norm,
    rms_norm_reference,
)
from internlm_core.kernels.rope import apply_rope, apply_rope_reference
from internlm_core.kernels.swiglu import swiglu, swiglu_reference

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def draw(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (5, 7, 100), (3, 256), (2, 1000), (0, 64)])
def test_rms_norm(error, wide, bound, dtype, shape):
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
    assert error(y, true.detach()) < bound[dtype]
    # One number a row: its gradient is zero but for eps.
    assert shape == (1, 1) or error(x.grad, wide_x.grad) < bound[dtype]
    assert error(weight.grad, wide_weight.grad) < bound[dtype]


def test_rms_norm_of_views_zeros_and_zero_weights(error, bound):
    torch.manual_seed(0)
    base = torch.randn(6, 4, 20)
    for x in (base[:, 1], base.transpose(1, 2)[..., :3], base[..., ::2]):
        weight = torch.randn(x.shape[-1])
        true = rms_norm_reference(x.double(), weight.double(), 1e-5)
        assert error(rms_norm(x, weight, 1e-5), true) < bound[torch.float32]
    x = torch.zeros(2, 8, requires_grad=True)
    weight = torch.ones(8)
    weight[0] = 0
    weight.requires_grad_()
    rms_norm(x, weight, 1e-5).backward(torch.ones(2, 8))
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(weight.grad).all()


def test_a_dropped_weight_shows(error):
    x, weight = torch.randn(4, 64), torch.rand(64) + 1
    true = rms_norm_reference(x.double(), torch.ones(64).double(), 1e-5)
    assert error(rms_norm(x, weight, 1e-5), true) > 0.1


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(5, 7, 100), (3, 256), (0, 64)])
def test_add_rms_norm(errors_both_ways, bound, dtype, shape):
    x, residual = draw(*shape, dtype=dtype), draw(*shape, dtype=dtype)
    weight = draw(shape[-1], dtype=dtype)

    def exact(x, residual, weight):
        # What is normalised is the sum as it is stored.
        total = residual + x
        stored = total + (total.to(dtype).double() - total).detach()
        return rms_norm_reference(stored, weight, 1e-5), total

    operation = functools.partial(add_rms_norm, eps=1e-5)
    assert max(errors_both_ways(operation, exact, x, residual, weight)) < bound[dtype]
    if x.numel():

        def dropped(x, residual, weight):
            return add_rms_norm_reference(x, 0 * residual, weight, 1e-5)

        assert max(errors_both_ways(operation, dropped, x, residual, weight)) > 0.1


def test_add_rms_norm_of_views(errors_both_ways, bound):
    base = draw(6, 4, 20)
    x, residual = base[:, 1], base.transpose(0, 1)[2]
    operation = functools.partial(add_rms_norm, eps=1e-5)
    reference = functools.partial(add_rms_norm_reference, eps=1e-5)
    assert max(errors_both_ways(operation, reference, x, residual, draw(20))) < bound[torch.float32]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("heads", [(), (3,), (2, 5), (1, 2, 9)], ids=str)
@pytest.mark.parametrize("width", [2, 12, 64])
def test_rope(errors_both_ways, bound, dtype, heads, width):
    angles = torch.rand(2, 3, width // 2) * 6
    for rows in (1, 2):
        cos, sin = angles[:rows].cos(), angles[:rows].sin()
        x = draw(2, 3, *heads, width, dtype=dtype)
        errors = errors_both_ways(
            lambda x, c=cos, s=sin: apply_rope(x, c, s),
            lambda x, c=cos, s=sin: apply_rope_reference(x, c.double(), s.double()),
            x,
        )
        assert max(errors) < bound[dtype]
        wrong = errors_both_ways(
            lambda x, c=cos, s=sin: apply_rope(x, c, s),
            lambda x, c=cos, s=sin: apply_rope_reference(x, c.double(), -s.double()),
            x,
        )
        assert min(wrong) > 3 * bound[dtype]


def test_rope_of_views(error, bound):
    qkv, angles = draw(2, 7, 2, 5, 16), torch.rand(1, 7, 8)
    cos, sin = angles.cos(), angles.sin()
    for x in (qkv[:, :, :, :-1], qkv[:, :, 0], qkv.transpose(2, 3), qkv[..., ::2]):
        c, s = (cos, sin) if x.shape[-1] == 16 else (cos[..., :4], sin[..., :4])
        true = apply_rope_reference(x.double(), c.double(), s.double())
        assert error(apply_rope(x, c, s), true) < bound[torch.float32]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 100), (2, 2, 1500), (0, 8)])
def test_swiglu(errors_both_ways, bound, dtype, shape):
    gate, up = draw(*shape, dtype=dtype), draw(*shape, dtype=dtype)
    assert max(errors_both_ways(swiglu, swiglu_reference, gate, up)) < bound[dtype]
    if gate.numel():
        swapped = errors_both_ways(swiglu, lambda g, u: swiglu_reference(u, g), gate, up)
        assert min(swapped) > 3 * bound[dtype]


def test_swiglu_of_halves_of_one_projection(errors_both_ways, bound):
    both = draw(4, 5, 60)
    gate, up = both[..., :30], both[..., 30:]
    assert max(errors_both_ways(swiglu, swiglu_reference, gate, up)) < bound[torch.float32]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 40])
def test_loss(monkeypatch, errors_both_ways, bound, dtype, rows):
    monkeypatch.setattr(linear_cross_entropy_triton, "chunk_rows", lambda *_: 16)
    hidden, weight = draw(rows, 24, dtype=dtype), draw(777, 24, dtype=dtype) / 4
    labels = torch.randint(0, 777, (rows,))
    labels[2::5] = -100

    def operation(hidden, weight):
        return linear_cross_entropy(hidden, weight, labels)[0]

    def reference(hidden, weight):
        return linear_cross_entropy_reference(hidden, weight, labels)

    assert max(errors_both_ways(operation, reference, hidden, weight)) < bound[dtype]
    off = labels.clone()
    off[labels >= 0] = (off[labels >= 0] + 1) % 777

    def wrong(hidden, weight):
        return linear_cross_entropy_reference(hidden, weight, off)

    assert max(errors_both_ways(operation, wrong, hidden, weight)) > 3 * bound[dtype]


def test_loss_without_labels_or_without_gradients():
    hidden, weight = draw(4, 8), draw(10, 8)
    assert linear_cross_entropy(hidden, weight, torch.full((4,), -100)) == (0.0, 0)
    labels = torch.zeros(4, dtype=torch.int64)
    total, count = linear_cross_entropy(hidden, weight, labels)
    torch.testing.assert_close(total, linear_cross_entropy_reference(hidden, weight, labels))
    assert count == 4
    assert not total.requires_grad


def test_loss_of_large_logits_does_not_overflow(errors_both_ways, bound):
    hidden, weight = 50 * draw(6, 16), 20 * draw(600, 16)
    labels = torch.randint(0, 600, (6,))
    errors = errors_both_ways(
        lambda h, w: linear_cross_entropy(h, w, labels)[0],
        lambda h, w: linear_cross_entropy_reference(h, w, labels),
        hidden,
        weight,
    )
    assert max(errors) < 3 * bound[torch.float32]


def test_chunks_never_hold_all_rows():
    for rows, vocabulary, size in ((16_384, 92_544, 2), (4096, 92_544, 4), (10**6, 300, 2)):
        chunk = linear_cross_entropy_triton.chunk_rows(rows, vocabulary, size)
        assert chunk <= rows / 8 + 1
        assert chunk * vocabulary * size <= 512 << 20


# Rows whose offsets pass 2^31 elements. A row's stride fits int32; the product does not.
STRIDE, ROWS = 1 << 28, 8


def far(sparse, dtype):
    """`[8 + 1, 16]`, the last row 2^31 elements from the first (2-byte types)."""
    return sparse.view(dtype).as_strided((ROWS + 1, 16), (STRIDE, 1))


def test_rows_beyond_two_to_the_31_elements(sparse, error, bound):
    x = far(sparse, torch.float16)
    x.copy_(draw(*x.shape, dtype=torch.float16))
    weight, near = torch.ones(16, dtype=torch.float16), x.contiguous()
    for got, true in (
        (rms_norm(x, weight, 1e-5), rms_norm_reference(near.double(), weight.double(), 1e-5)),
        (add_rms_norm(x, x, weight, 1e-5)[1], 2 * near.double()),
        (swiglu(x, x), swiglu_reference(near.double(), near.double())),
    ):
        assert error(got, true) < bound[torch.float16]
    cos, sin = torch.ones(1, ROWS + 1, 8), torch.zeros(1, ROWS + 1, 8)
    assert torch.equal(apply_rope(x[None], cos, sin)[0], near)


@triton.jit
def _copy(X, Y, stride, WIDE: tl.constexpr):  # noqa: N803
    row = tl.program_id(0)
    if WIDE:
        row = row.to(tl.int64)
    tl.store(Y + row, tl.load(X + row * stride))


@pytest.mark.filterwarnings("ignore:overflow")
def test_int32_offsets_show(sparse):
    """The rows above bite: int32 lands 2^31 below the start, which here is memory of ours."""
    middle = sparse[1 << 31 :]
    sparse[0], middle[0], middle[ROWS * STRIDE] = 1, 2, 3
    read = {}
    for wide in (True, False):
        y = torch.zeros(ROWS + 1, dtype=torch.uint8)
        _copy[(ROWS + 1,)](middle, y, STRIDE, WIDE=wide)
        read[wide] = int(y[ROWS])
    assert read == {True: 3, False: 1}


def test_whole_model_on_the_kernels_equals_the_reference(error, monkeypatch):
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
    ids, cut = torch.randint(0, 50, (1, 60)), torch.tensor([0, 21, 60], dtype=torch.int32)
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


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (rms_norm, [(2, 4), (5,), 1e-5]),
        (add_rms_norm, [(2, 4), (3, 4), (4,), 1e-5]),
        (swiglu, [(2, 4), (2, 5)]),
        (apply_rope, [(1, 3, 2, 8), (1, 3, 8), (1, 3, 8)]),
        (apply_rope, [(1, 3, 2, 8), (1, 2, 4), (1, 2, 4)]),
        (apply_rope, [(1, 3, 2, 7), (1, 3, 3), (1, 3, 3)]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(operation, arguments):
    with pytest.raises(KernelError):
        operation(*(torch.ones(a) if isinstance(a, tuple) else a for a in arguments))
