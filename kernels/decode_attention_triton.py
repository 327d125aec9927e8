"""Decode attention over pages, keys split between programs (Flash-Decoding, Dao et al. 2023).

A program takes one sequence, one key head with all G query heads of its group (rows padded to 16,
the least that tensor cores take), and one part of the keys. A second kernel weighs the parts by
their log-sum-exp. A part without keys has -inf there and adds nothing.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from internlm_core.errors import KernelError
from internlm_core.kernels._triton import (
    INTERPRETING,
    Settings,
    Variant,
    dot,
    processors,
    shared_memory,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["decode_attention_triton", "variants"]

_LOG2E = math.log2(math.e)


@triton.jit
def _part(
    Q, K, V, TABLE, LENGTHS, OUT, LSE,
    scale, kv_heads, splits, page,
    q_batch, q_head, k_page, k_slot, k_head, v_page, v_slot, v_head, table_batch,
    GROUP: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK_N: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    split = tl.program_id(0) % splits
    pair = tl.program_id(0) // splits
    batch, kv_head = (pair // kv_heads).to(tl.int64), (pair % kv_heads).to(tl.int64)
    length = tl.load(LENGTHS + batch)
    share = tl.cdiv(tl.cdiv(length, splits), BLOCK_N) * BLOCK_N
    begin = split * share
    end = tl.minimum(begin + share, length)
    rows, others, columns = tl.arange(0, ROWS), tl.arange(0, BLOCK_N), tl.arange(0, COLUMNS)
    real = rows < GROUP
    wide = columns < WIDTH
    head = kv_head * GROUP + rows
    q = tl.load(
        Q + batch * q_batch + head[:, None] * q_head + columns[None, :],
        mask=real[:, None] & wide[None, :],
        other=0.0,
    )
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    out = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(begin, end, BLOCK_N):
        at = first + others
        inside = at < end
        number = tl.load(TABLE + batch * table_batch + at // page, mask=inside, other=0)
        number, slot = number.to(tl.int64), (at % page).to(tl.int64)
        seen = inside[:, None] & wide[None, :]
        k_at = K + (number * k_page + slot * k_slot + kv_head * k_head)[:, None] + columns[None, :]
        k = tl.load(k_at, mask=seen, other=0.0)
        scores = dot(q, tl.trans(k), tl.zeros([ROWS, BLOCK_N], tl.float32), UPCAST) * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))  # finite: every block holds a key
        p = tl.exp2(scores - higher[:, None])
        fade = tl.exp2(top - higher)
        total = total * fade + tl.sum(p, 1)
        v_at = V + (number * v_page + slot * v_slot + kv_head * v_head)[:, None] + columns[None, :]
        v = tl.load(v_at, mask=seen, other=0.0)
        out = dot(p, v, out * fade[:, None], UPCAST)
        top = higher
    empty = total == 0.0
    out = out / tl.where(empty, 1.0, total)[:, None]
    lse = tl.where(empty, float("-inf"), top + tl.log2(tl.where(empty, 1.0, total)))
    place = (batch * kv_heads * GROUP + head) * splits + split
    out_at = OUT + place[:, None] * WIDTH + columns[None, :]
    tl.store(out_at, out, mask=real[:, None] & wide[None, :])
    tl.store(LSE + place, lse, mask=real)


@triton.jit
def _join(
    OUT, LSE, Y, splits,
    WIDTH: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # of batch and query head
    parts, columns = tl.arange(0, BLOCK_S), tl.arange(0, COLUMNS)
    lse = tl.load(LSE + row * splits + parts, mask=parts < splits, other=float("-inf"))
    top = tl.max(lse, 0)
    # A sequence without keys: keep -inf - -inf out of the exponent.
    weight = tl.exp2(lse - tl.where(top == float("-inf"), 0.0, top))
    inside = (parts[:, None] < splits) & (columns[None, :] < WIDTH)
    out = tl.load(OUT + (row * splits + parts[:, None]) * WIDTH + columns, mask=inside, other=0.0)
    total = tl.sum(weight, 0)
    y = tl.sum(out * weight[:, None], 0) / tl.where(total == 0.0, 1.0, total)
    tl.store(Y + row * WIDTH + columns, y.to(Y.dtype.element_ty), mask=columns < WIDTH)


def settings(width: int, element_bytes: int, limit: int) -> Settings:
    """Keys a block, warps and stages; `limit`: shared memory that one block may have."""
    if width > 256:
        raise KernelError(
            f"head width {width}: the kernels reach 256; set INTERNLM_KERNELS=reference"
        )
    if INTERPRETING:
        return Settings({"BLOCK_N": 32}, warps=4, stages=1)
    amd = limit <= 64 << 10
    if element_bytes == 4:  # without tensor cores on NVIDIA: all registers
        wide = width > 128 and not amd
        return Settings({"BLOCK_N": 16 if wide else 32}, warps=8 if wide else 4, stages=1)
    return Settings({"BLOCK_N": 32 if width > 128 or amd else 64}, 4, stages=1 if amd else 2)


def _splits(batch: int, kv_heads: int, longest: int, device: torch.device) -> int:
    """Enough parts for two programs a processor, but none below 256 keys, and at most 64."""
    wanted = -(-2 * processors(device) // (batch * kv_heads))
    return max(1, min(wanted, -(-longest // 256), 64))


def _shapes(width: int, group: int) -> dict[str, int]:
    return {
        "GROUP": group,
        "ROWS": max(16, triton.next_power_of_2(group)),
        "WIDTH": width,
        "COLUMNS": max(16, triton.next_power_of_2(width)),
    }


def decode_attention_triton(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    scale: float,
    splits: int | None,
) -> Tensor:
    """As `decode_attention`, on a device that Triton compiles for."""
    if k_pages.stride(-1) != 1 or v_pages.stride(-1) != 1:
        raise KernelError("the last axis of k_pages and v_pages must be contiguous")
    batch, heads, width = q.shape
    page, kv_heads = k_pages.shape[1:3]
    q = q if q.stride(-1) == 1 else q.contiguous()
    page_table = page_table if page_table.stride(-1) == 1 else page_table.contiguous()
    if splits is None:
        splits = _splits(batch, kv_heads, page_table.shape[1] * page, q.device)
    parts = torch.empty((batch, heads, splits, width), dtype=torch.float32, device=q.device)
    lse = torch.empty((batch, heads, splits), dtype=torch.float32, device=q.device)
    y = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    chosen = settings(width, q.element_size(), shared_memory(q.device))
    shapes = _shapes(width, heads // kv_heads)
    _part[(batch * kv_heads * splits,)](
        q, k_pages, v_pages, page_table, lengths.contiguous(), parts, lse,
        scale * _LOG2E, kv_heads, splits, page,
        q.stride(0), q.stride(1), *k_pages.stride()[:3], *v_pages.stride()[:3],
        page_table.stride(0),
        **shapes, UPCAST=INTERPRETING, **chosen.blocks, **chosen.options(),
    )  # fmt: skip
    _join[(batch * heads,)](
        parts, lse, y, splits,
        WIDTH=width, COLUMNS=shapes["COLUMNS"], BLOCK_S=triton.next_power_of_2(splits),
        num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return y


def variants(limit: int, element: str = "bf16", width: int = 128, group: int = 4) -> list[Variant]:
    """The kernels as they are launched on a device with `limit` bytes of shared memory."""
    pointer, chosen = f"*{element}", settings(width, 4 if element == "fp32" else 2, limit)
    strides = ("q_batch", "q_head", "k_page", "k_slot", "k_head", "v_page", "v_slot", "v_head")
    part = dict.fromkeys(("Q", "K", "V"), pointer) | {"TABLE": "*i32", "LENGTHS": "*i32"}
    part |= {"OUT": "*fp32", "LSE": "*fp32", "scale": "fp32"}
    part |= dict.fromkeys(("kv_heads", "splits", "page", *strides, "table_batch"), "i32")
    shapes = _shapes(width, group)
    constants: dict[str, Any] = {**shapes, "UPCAST": False, **chosen.blocks}
    join = {"OUT": "*fp32", "LSE": "*fp32", "Y": pointer, "splits": "i32"}
    joined = {"WIDTH": width, "COLUMNS": shapes["COLUMNS"], "BLOCK_S": 64}
    return [
        Variant("decode_attention part", _part, part, constants, chosen, True, strides),
        Variant("decode_attention join", _join, join, joined, Settings({}, 4, 1), False),
    ]
