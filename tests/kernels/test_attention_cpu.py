"""Attention on the CPU in bf16: products over blocks of queries, against fp64."""

from __future__ import annotations

import pytest
import torch
from internlm_core.kernels import attention_cpu
from internlm_core.kernels.attention import attention, attention_reference

# Shorter and longer than a block, on its borders, and too short for products.
SIZES = [1, 15, 16, 63, 64, 65, 200]
# bf16 rounds at 2**-9; the output is rounded once, a gradient passes through two products.
BOUND = 6e-3

needs_bf16 = pytest.mark.skipif(
    not attention_cpu._PRODUCTS_IN_BF16, reason="this processor has no products in bf16"
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def draw(batch: int, tokens: int, heads: int, kv_heads: int, width: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(heads + width)
    shapes = [(batch, tokens, n, width) for n in (heads, kv_heads, kv_heads, heads)]
    return [torch.randn(s, generator=generator).to(torch.bfloat16) for s in shapes]


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    difference = (found.double() - wanted).norm() / wanted.norm()
    return float(difference.detach())


def errors(
    inputs: list[torch.Tensor], cu_seqlens: torch.Tensor | None, causal: bool
) -> list[float]:
    """Relative errors of the output and of the gradients of q, k and v."""
    *arguments, grad = inputs
    narrow = [x.clone().requires_grad_() for x in arguments]
    wide = [x.double().requires_grad_() for x in arguments]
    out = attention(*narrow, causal=causal, cu_seqlens=cu_seqlens)
    wanted = attention_reference(*wide, causal=causal, cu_seqlens=cu_seqlens)
    assert out.dtype == torch.bfloat16
    found = [out, *torch.autograd.grad(out, narrow, grad)]
    exact = [wanted, *torch.autograd.grad(wanted, wide, grad.double())]
    return [error(a, b) for a, b in zip(found, exact, strict=True)]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "width"),
    [(2, 2, 64), (4, 2, 32), (6, 2, 64), (8, 2, 128), (6, 1, 96), (16, 1, 64)],
)
def test_packed_documents(heads: int, kv_heads: int, width: int, causal: bool) -> None:
    bounds = torch.tensor([0, *torch.tensor(SIZES).cumsum(0).tolist()], dtype=torch.int32)
    inputs = draw(1, sum(SIZES), heads, kv_heads, width)
    assert max(errors(inputs, bounds, causal)) < BOUND


@pytest.mark.parametrize("tokens", [16, 100, 300])
def test_batches(tokens: int) -> None:
    assert max(errors(draw(3, tokens, 6, 2, 64), None, True)) < BOUND


def test_slices_of_a_wider_tensor() -> None:
    """As the model calls it: key and value are strided views."""
    torch.manual_seed(0)
    whole = torch.randn(2, 90, 2, 5, 32).to(torch.bfloat16)
    q = whole[:, :, :, :3].reshape(2, 90, 6, 32)
    k, v = whole[:, :, :, 3], whole[:, :, :, 4]
    copies = [x.contiguous() for x in (q, k, v)]
    assert torch.equal(attention(q, k, v), attention(*copies))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bounds", [None, [0, 4, 100]])
def test_last_axis_may_have_any_stride(dtype: torch.dtype, bounds: list[int] | None) -> None:
    cu_seqlens = None if bounds is None else torch.tensor(bounds, dtype=torch.int32)
    torch.manual_seed(0)
    inputs = [torch.randn(1, 100, 32, heads).to(dtype).transpose(2, 3) for heads in (4, 2, 2)]
    found = []
    for tensors in (inputs, [x.contiguous() for x in inputs]):
        leaves = [x.detach().requires_grad_() for x in tensors]
        out = attention(*leaves, cu_seqlens=cu_seqlens)
        grad = torch.ones(1, 1, 1, 1, dtype=dtype).expand(out.shape)  # no stride at all
        found.append([out, *torch.autograd.grad(out, leaves, grad)])
    for strided, dense in zip(*found, strict=True):
        torch.testing.assert_close(strided, dense)


@needs_bf16
def test_long_documents_take_the_fused_kernel() -> None:
    q = torch.zeros(1, 1, 2, 32, dtype=torch.bfloat16)
    taken = [n for n in (15, 16, 2048, 2049) if attention_cpu.prefers_products(q, n)]
    assert taken == [16, 2048]
    assert not attention_cpu.prefers_products(q.float(), 64)


@needs_bf16
@pytest.mark.parametrize("fault", ["scores in bf16", "no mask", "no scale"])
def test_faults_show(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative controls: what a careless product would do is far outside the bound."""
    inputs = draw(1, 128, 4, 2, 64)
    inputs[0] *= 6  # large scores, which bf16 would round by whole units
    real = attention_cpu._probabilities
    assert max(errors(inputs, None, True)) < 2 * BOUND

    def wrong(
        q: torch.Tensor, k: torch.Tensor, first: int, last: int, causal: bool
    ) -> torch.Tensor:
        if fault == "scores in bf16":
            return torch.bmm(q.bfloat16(), k.bfloat16().mT).float().softmax(-1)
        if fault == "no mask":
            return real(q, k, first, last, False)
        return real(q * 8, k, first, last, causal)

    monkeypatch.setattr(attention_cpu, "_probabilities", wrong)
    assert max(errors(inputs, None, fault != "scores in bf16")) > 2 * BOUND


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("bounds", [None, [0, 5, 40, 80]])
def test_operators_keep_torchs_rules(dtype: torch.dtype, bounds: list[int] | None) -> None:
    """Schemas, shapes without values, and gradients, as torch.compile relies on them."""
    q, k, v, _ = (x.to(dtype).requires_grad_() for x in draw(1, 80, 4, 2, 32))
    cu_seqlens = None if bounds is None else torch.tensor(bounds, dtype=torch.int32)
    torch.library.opcheck(
        attention_cpu._attention,
        (q, k, v, cu_seqlens, True, 0.2),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )
