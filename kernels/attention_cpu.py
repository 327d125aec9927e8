"""Attention on the CPU over whole documents: matrix products in bf16, torch's fused kernel otherwise.

Shapes: B batch, T tokens, H query heads, K key/value heads (H = K·G), D head width.

torch's fused kernel widens bf16 operands one tile at a time and reaches a tenth of the speed of its own
batched products. So bf16 documents of usual lengths go through products over blocks of queries here: scores and their
gradients are fp32 as in the fused kernel, probabilities are rounded to bf16 before they meet the values
(Dao et al. 2022). A backward pass makes them again. Both directions are operators of their own, which
torch.compile takes as they are: how many documents a row has changes no program.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = ["document_attention", "prefers_products"]

# What scaled_dot_product_attention calls on the CPU; called directly, it can read and write slices.
_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001

_QUERIES = 64
"""Queries of a block: large enough for the products, small enough to skip most of the masked half."""
_TOKENS = range(16, 2049)
"""Lengths of documents that gain: shorter ones lose it to the calls, longer ones to the cache."""

_PRODUCTS_IN_BF16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def prefers_products(q: Tensor, tokens: int) -> bool:
    """Whether a document of so many tokens goes through matrix products."""
    return q.dtype == torch.bfloat16 and tokens in _TOKENS and _PRODUCTS_IN_BF16


@torch.library.custom_op("internlm_core::document_attention", mutates_args=())
def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v = _dense(q), _dense(k), _dense(v)
    out = torch.empty(q.shape, dtype=q.dtype)
    # Only the fused kernel's backward pass asks for the log-sums.
    log_sums = torch.empty(q.shape[0], q.shape[2], q.shape[1], dtype=_wide(q))
    for part in _documents(cu_seqlens, q.shape[1]):
        if prefers_products(q, part.stop - part.start):
            _products(q[:, part], k[:, part], v[:, part], out[:, part], causal, scale)
        else:
            mixed, log_sum = _forward(
                *(x[:, part].transpose(1, 2) for x in (q, k, v)), 0.0, causal, scale=scale
            )
            out[:, part] = mixed.transpose(1, 2)
            log_sums[:, :, part] = log_sum
    return out, log_sums


@_attention.register_fake
def _(q: Any, k: Any, v: Any, *rest: Any) -> Any:  # noqa: ARG001
    return q.new_empty(q.shape), q.new_empty((q.shape[0], q.shape[2], q.shape[1]), dtype=_wide(q))


@torch.library.custom_op("internlm_core::document_attention_backward", mutates_args=())
def _attention_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    log_sums: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grad, q, k, v = _dense(grad), _dense(q), _dense(k), _dense(v)
    grads = (torch.empty(q.shape, dtype=q.dtype), torch.empty(k.shape, dtype=k.dtype),
             torch.empty(v.shape, dtype=v.dtype))  # fmt: skip
    for part in _documents(cu_seqlens, q.shape[1]):
        parts = grads[0][:, part], grads[1][:, part], grads[2][:, part]
        if prefers_products(q, part.stop - part.start):
            _products_backward(
                grad[:, part], q[:, part], k[:, part], v[:, part], parts, causal, scale
            )
        else:
            found = _backward(
                *(x[:, part].transpose(1, 2) for x in (grad, q, k, v, out)),
                log_sums[:, :, part].contiguous(), 0.0, causal, scale=scale,
            )  # fmt: skip
            for whole, made in zip(parts, found, strict=True):
                whole.copy_(made.transpose(1, 2))
    return grads


@_attention_backward.register_fake
def _(grad: Any, q: Any, k: Any, v: Any, *rest: Any) -> Any:  # noqa: ARG001
    return tuple(x.new_empty(x.shape) for x in (q, k, v))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    q, k, v, cu_seqlens, ctx.causal, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, *output, cu_seqlens)


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, out, log_sums, cu_seqlens = ctx.saved_tensors
    found = _attention_backward(grad, q, k, v, out, log_sums, cu_seqlens, ctx.causal, ctx.scale)
    return *found, None, None, None


_attention.register_autograd(_gradients, setup_context=_keep)


def document_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor | None, causal: bool, scale: float
) -> Tensor:
    """Attention within each document of the only row, or within each row where there are no bounds.

    Args:
        q: `[B, T, H, D]`.
        k: `[B, T, K, D]`.
        v: `[B, T, K, D]`.
        cu_seqlens: Bounds of the documents, checked before; B is 1 then.
        causal: Whether a query sees no later key.
        scale: Factor on q·k.
    """
    result: Tensor = _attention(q, k, v, cu_seqlens, causal, scale)[0]
    return result


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _documents(cu_seqlens: Tensor | None, tokens: int) -> Iterator[slice]:
    bounds = [0, tokens] if cu_seqlens is None else cu_seqlens.tolist()
    return (slice(a, b) for a, b in pairwise(bounds) if a < b)


def _dense(x: Tensor) -> Tensor:
    """The fused kernel takes the last axis for contiguous."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _by_group(x: Tensor, kv_heads: int) -> Tensor:
    """`[B, T, H, D]` to `[B·K, G·T, D]`: the queries of a group below one another."""
    batch, tokens, _, width = x.shape
    return (
        x.reshape(batch, tokens, kv_heads, -1, width)
        .permute(0, 2, 3, 1, 4)
        .reshape(batch * kv_heads, -1, width)
    )


def _ungroup(x: Tensor, like: Tensor) -> Tensor:
    """The way back, to the shape of `like`."""
    batch, tokens, heads, width = like.shape
    kv_heads = x.shape[0] // batch
    return (
        x.view(batch, kv_heads, -1, tokens, width)
        .permute(0, 3, 1, 2, 4)
        .reshape(batch, tokens, heads, width)
    )


def _blocks(tokens: int, causal: bool) -> Iterator[tuple[int, int, int]]:
    """First query, one past the last, and how many keys they see."""
    for first in range(0, tokens, _QUERIES):
        last = min(tokens, first + _QUERIES)
        yield first, last, last if causal else tokens


def _probabilities(q: Tensor, k: Tensor, first: int, last: int, causal: bool) -> Tensor:
    """Softmax of the scores `[B·K, G·t, s]` of a block of queries, in fp32; `q` is scaled."""
    scores = torch.bmm(q, k.mT)
    if causal:
        size = last - first
        hidden = torch.full((size, size), float("-inf")).triu_(1)
        scores.view(len(q), -1, size, scores.shape[-1])[..., first:].add_(hidden)
    return scores.softmax(-1)


def _products(q: Tensor, k: Tensor, v: Tensor, out: Tensor, causal: bool, scale: float) -> None:
    kv_heads = k.shape[2]
    keys, values = _by_group(k, kv_heads).float(), _by_group(v, kv_heads)
    for first, last, seen in _blocks(q.shape[1], causal):
        block = q[:, first:last]
        queries = _by_group(block, kv_heads).float().mul_(scale)
        weights = _probabilities(queries, keys[:, :seen], first, last, causal)
        mixed = torch.bmm(weights.to(v.dtype), values[:, :seen])
        out[:, first:last] = _ungroup(mixed, block)


def _products_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor,
    into: tuple[Tensor, Tensor, Tensor], causal: bool, scale: float,
) -> None:  # fmt: skip
    grad_q, grad_k, grad_v = into
    kv_heads, kind = k.shape[2], q.dtype
    keys, values = _by_group(k, kv_heads), _by_group(v, kv_heads)
    wide_keys, wide_values = keys.float(), values.float()
    # Summed over blocks in fp32: bf16 would lose the small terms.
    sum_k, sum_v = torch.zeros_like(wide_keys), torch.zeros_like(wide_values)
    for first, last, seen in _blocks(q.shape[1], causal):
        block = q[:, first:last]
        queries = _by_group(block, kv_heads)
        arriving = _by_group(grad[:, first:last], kv_heads)
        scaled = queries.float().mul_(scale)
        weights = _probabilities(scaled, wide_keys[:, :seen], first, last, causal)
        sum_v[:, :seen] += torch.bmm(weights.to(kind).mT, arriving)
        of_weights = torch.bmm(arriving.float(), wide_values[:, :seen].mT)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, torch.float32)  # noqa: SLF001
        narrow = of_scores.mul_(scale).to(kind)
        grad_q[:, first:last] = _ungroup(torch.bmm(narrow, keys[:, :seen]), block)
        sum_k[:, :seen] += torch.bmm(narrow.mT, queries)
    grad_k.copy_(_ungroup(sum_k, k))
    grad_v.copy_(_ungroup(sum_v, v))
