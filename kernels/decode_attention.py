"""Attention of one new token a sequence over a key/value cache in pages.

Shapes: B sequences, H query heads, K key/value heads (H = K·G), D head width, P pages of `page`
slots each, N pages that a sequence may have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from internlm_core.errors import KernelError
from internlm_core.kernels._dispatch import use_triton
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["decode_attention", "decode_attention_reference"]


def decode_attention_reference(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    scale: float | None = None,
) -> Tensor:
    """The formula sequence by sequence, for any dtype."""
    batch, heads, width = q.shape
    page, kv_heads = k_pages.shape[1:3]
    scale = width**-0.5 if scale is None else scale
    out = torch.zeros_like(q)
    for row in range(batch):
        length = int(lengths[row])
        if length == 0:
            continue
        pages = page_table[row, : -(-length // page)].long()
        k, v = (x[pages].flatten(0, 1)[:length] for x in (k_pages, v_pages))
        k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
        weights = (torch.einsum("hd,shd->hs", q[row], k) * scale).softmax(-1)
        out[row] = torch.einsum("hs,shd->hd", weights, v)
    return out


def decode_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    *,
    scale: float | None = None,
    splits: int | None = None,
) -> Tensor:
    """Attention of each sequence's newest query over all its cached keys. Takes no gradient.

    Args:
        q: `[B, H, D]`; any strides.
        k_pages: `[P, page, K, D]`; any strides but for a contiguous last axis. The newest key is
            in it already.
        v_pages: Shaped as `k_pages`.
        page_table: `[B, N]` int32: which page holds a sequence's slots n·page to (n + 1)·page;
            entries beyond its length are not looked at.
        lengths: `[B]` int32: cached keys of each sequence. 0 gives zeros.
        scale: Factor on q·k; 1/√D when None.
        splits: Parts that the keys of a sequence are cut into, so that few long sequences fill a
            GPU; chosen from the shapes when None. The CPU path has no use for it.

    Returns:
        `[B, H, D]`.

    Raises:
        KernelError: Shapes that contradict each other; on the CPU also lengths beyond the table or
            pages that aren't there (a look at them would make a CUDA device wait).
    """
    _check(q, k_pages, v_pages, page_table, lengths)
    if q.numel() == 0:
        return torch.zeros_like(q)
    scale = float(q.shape[-1] ** -0.5) if scale is None else scale
    if use_triton(q):
        from internlm_core.kernels.decode_attention_triton import decode_attention_triton

        result: Tensor = decode_attention_triton(
            q, k_pages, v_pages, page_table, lengths, scale, splits
        )
        return result
    return _gathered(q, k_pages, v_pages, page_table, lengths, scale)


def _gathered(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, page_table: Tensor, lengths: Tensor, scale: float
) -> Tensor:
    """The pages of all sequences side by side, then torch's attention under a mask."""
    page, longest = k_pages.shape[1], int(lengths.max())
    count = max(-(-longest // page), 1)
    slots = torch.arange(count * page, device=q.device)
    seen = slots < lengths[:, None]  # [B, S]
    # Unused entries of the table may hold anything.
    used = torch.arange(count, device=q.device) * page < lengths[:, None]
    pages = page_table[:, :count].long() * used
    k, v = (x[pages].flatten(1, 2).transpose(1, 2) for x in (k_pages, v_pages))
    alive = seen.any(-1)
    mask = (seen | ~alive[:, None])[:, None, None, :]
    # What lies in slots that no sequence has written may be NaN, which a weight of 0 keeps.
    v = v.masked_fill(~seen[:, None, :, None], 0.0)
    k = k.masked_fill(~seen[:, None, :, None], 0.0)
    out = functional.scaled_dot_product_attention(
        q[:, :, None], k, v, attn_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out[:, :, 0] * alive[:, None, None].to(q.dtype)


def _check(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, page_table: Tensor, lengths: Tensor
) -> None:
    shapes = (
        f"q {tuple(q.shape)}, k_pages {tuple(k_pages.shape)}, v_pages {tuple(v_pages.shape)},"
        f" page_table {tuple(page_table.shape)}, lengths {tuple(lengths.shape)}"
    )
    if q.dim() != 3 or k_pages.dim() != 4 or k_pages.shape != v_pages.shape:
        raise KernelError(
            f"expected q [B, H, D] and k_pages, v_pages [P, page, K, D], got {shapes}"
        )
    if q.shape[2] != k_pages.shape[3] or q.shape[1] % k_pages.shape[2]:
        raise KernelError(f"head width or head counts don't fit: {shapes}")
    if page_table.dim() != 2 or page_table.shape[0] != q.shape[0] or lengths.shape != q.shape[:1]:
        raise KernelError(f"expected page_table [B, N] and lengths [B], got {shapes}")
    if page_table.dtype != torch.int32 or lengths.dtype != torch.int32:
        raise KernelError(
            f"page_table and lengths must be int32, got {page_table.dtype} and {lengths.dtype}"
        )
    if q.is_cuda or not q.numel():
        return
    page, room = k_pages.shape[1], page_table.shape[1] * k_pages.shape[1]
    if bool(((lengths < 0) | (lengths > room)).any()):
        raise KernelError(f"lengths {lengths.tolist()}: the page table has room for 0 to {room}")
    used = torch.arange(page_table.shape[1]) * page < lengths[:, None]
    if bool((used & ((page_table < 0) | (page_table >= k_pages.shape[0]))).any()):
        raise KernelError(f"the page table names a page outside 0 to {k_pages.shape[0] - 1}")
