"""Grouped-query attention, causal or not, over batches, packed documents or a masked cache.

Shapes: B batch, T queries, S keys, H query heads, K key/value heads (H = K·G), D head width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from internlm_core.errors import KernelError
from internlm_core.kernels._dispatch import use_triton
from internlm_core.kernels.attention_cpu import document_attention, prefers_products
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["attention", "attention_reference", "check_cu_seqlens"]


def attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    scale: float | None = None,
    cu_seqlens: Tensor | None = None,
) -> Tensor:
    """Softmax(q·kᵀ·scale)·v written out, for any dtype; the scores are held in full."""
    heads, kv_heads = q.shape[2], k.shape[2]
    k = k.repeat_interleave(heads // kv_heads, dim=2)
    v = v.repeat_interleave(heads // kv_heads, dim=2)
    scores = torch.einsum("bthd,bshd->bhts", q, k) * _scale(q, scale)
    t, s = scores.shape[-2:]
    allowed = torch.ones(t, s, dtype=torch.bool, device=q.device)
    if causal:
        allowed = allowed.tril(s - t)
    if cu_seqlens is not None:
        document = torch.searchsorted(
            cu_seqlens[1:].long(), torch.arange(t, device=q.device), right=True
        )
        allowed = allowed & (document[:, None] == document[None, :])
    alive = allowed.any(-1, keepdim=True)  # a query that sees nothing gives zeros
    weights = scores.masked_fill(~allowed & alive, float("-inf")).softmax(-1) * alive
    return torch.einsum("bhts,bshd->bthd", weights, v)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    scale: float | None = None,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention of `q` over `k` and `v`, each query head over the key head of its group.

    Args:
        q: `[B, T, H, D]`; strides are free but for a contiguous last axis.
        k: `[B, S, K, D]` with H a multiple of K.
        v: `[B, S, K, D]`.
        causal: Query t sees key s when s − (S − T) ≤ t.
        scale: Factor on q·k; 1/√D when None.
        cu_seqlens: `[n + 1]` int32 bounds of the documents in the only row (B = 1, T = S);
            documents don't see each other.
        max_seqlen: Longest document of `cu_seqlens`, which spares CUDA a look at it.
        mask: `[B or 1, T, S]` bool, True where the query sees the key; replaces `causal`. A query
            that sees nothing gives zeros and takes no gradient.

    Returns:
        `[B, T, H, D]`.

    Raises:
        KernelError: Shapes or cumulative lengths that contradict each other.
    """
    _check(q, k, v, cu_seqlens, mask)
    if q.numel() == 0:
        return torch.zeros_like(q)
    if mask is not None:
        return _masked(q, k, v, mask, scale)
    if use_triton(q):
        from internlm_core.kernels.attention_triton import attention_triton

        fused: Tensor = attention_triton(q, k, v, causal, _scale(q, scale), cu_seqlens, max_seqlen)
        return fused
    if q.device.type == "cpu" and (
        cu_seqlens is not None or (q.shape[1] == k.shape[1] and prefers_products(q, q.shape[1]))
    ):
        return document_attention(q, k, v, cu_seqlens, causal, _scale(q, scale))
    if cu_seqlens is not None:  # the reference, on another device
        parts = [slice(a, b) for a, b in pairwise(cu_seqlens.tolist()) if a < b]
        return torch.cat([_sdpa(q[:, p], k[:, p], v[:, p], None, causal, scale) for p in parts], 1)
    if causal and q.shape[1] not in (1, k.shape[1]):
        # torch aligns its causal mask to the first key, ours to the last.
        ones = torch.ones(1, q.shape[1], k.shape[1], dtype=torch.bool, device=q.device)
        return _masked(q, k, v, ones.tril(k.shape[1] - q.shape[1]), scale)
    return _sdpa(q, k, v, None, causal and q.shape[1] > 1, scale)


def check_cu_seqlens(cu_seqlens: Tensor, tokens: int) -> list[int]:
    """Validate the bounds of packed documents against the row's length, and return them.

    Raises:
        KernelError: Not int32, not one axis, not rising from 0 to `tokens`.
    """
    if cu_seqlens.dim() != 1 or cu_seqlens.numel() < 2 or cu_seqlens.dtype != torch.int32:
        raise KernelError(
            f"cu_seqlens must be int32 [n + 1], got {cu_seqlens.dtype} {tuple(cu_seqlens.shape)}"
        )
    bounds: list[int] = cu_seqlens.tolist()
    if bounds[0] != 0 or bounds[-1] != tokens or any(a > b for a, b in pairwise(bounds)):
        raise KernelError(f"cu_seqlens must rise from 0 to {tokens} tokens, got {bounds}")
    return bounds


def _scale(q: Tensor, scale: float | None) -> float:
    return float(q.shape[-1] ** -0.5) if scale is None else scale


def _check(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor | None, mask: Tensor | None) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if q.dim() != 4 or k.dim() != 4 or k.shape != v.shape:
        raise KernelError(f"expected q [B, T, H, D] and k, v [B, S, K, D], got {shapes}")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or q.shape[2] % k.shape[2]:
        raise KernelError(f"batch, head width or head counts don't fit: {shapes}")
    if cu_seqlens is not None:
        if q.shape[0] != 1 or q.shape[1] != k.shape[1] or mask is not None:
            raise KernelError(f"cu_seqlens needs one row, T = S and no mask, got {shapes}")
        if cu_seqlens.device != q.device:
            raise KernelError(f"cu_seqlens is on {cu_seqlens.device}, q on {q.device}")
        # A look at the values would make a CUDA device wait, and break a compiled layer in two; the
        # model has looked.
        if not (cu_seqlens.is_cuda or torch.compiler.is_compiling()):
            check_cu_seqlens(cu_seqlens, q.shape[1])
    if mask is not None and (mask.dtype != torch.bool or mask.dim() != 3):
        raise KernelError(f"mask must be bool [B, T, S], got {mask.dtype} {tuple(mask.shape)}")


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> Tensor:
    result = functional.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal,
        scale=scale,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return result.transpose(1, 2)


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None) -> Tensor:
    # A row without keys is softmax of -inf (NaN in some backends): let it see all, then drop it.
    alive = mask.any(-1, keepdim=True)
    result = _sdpa(q, k, v, (mask | ~alive).unsqueeze(1), False, scale)
    return result * alive.unsqueeze(-1).to(q.dtype)
