"""Grouped-query attention, forward and backward, in blocks that never hold the scores in full.

FlashAttention-2's scheme (Dao 2023): the forward pass keeps the base-2 log of each query's sum of
exponentials; the backward pass rebuilds the probabilities from it, once by query block (dq) and
once by key block (dk, dv). A key block's program walks all G query heads of its group, so any G
works without atomics and the result is the same at every run.

Rows of a batch and packed documents are one thing here: a sequence starts at a pointer and has a
length. Tile legend: M queries, N keys, D head width (padded to a power of two).
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: E741, N803, N806
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from internlm_core.errors import KernelError
from internlm_core.kernels._triton import INTERPRETING, Settings, Variant, dot, shared_memory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["attention_triton", "variants"]

_LOG2E = math.log2(math.e)  # exponentials are taken in base 2, which the hardware has
LOG2E = tl.constexpr(_LOG2E)


@triton.jit
def _span(CU, sequence, T, S, VARLEN: tl.constexpr):
    """First row, queries and keys of a sequence."""
    if VARLEN:
        first = tl.load(CU + sequence)
        length = tl.load(CU + sequence + 1) - first
        return first.to(tl.int64), length, length
    return tl.full([], 0, tl.int64), T, S


@triton.jit
def _which(pair, heads):
    """Sequence and head of a program; the head in int64, since head · stride passes 2^31."""
    return pair // heads, (pair % heads).to(tl.int64)


@triton.jit
def _tile(base, first, rows, columns, stride, limit, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Rows `first + rows` of a head, zeros beyond `limit` rows and WIDTH columns."""
    pointers = base + tl.cast(first, tl.int64) * stride + rows[:, None] * stride + columns[None, :]
    inside = (first + rows)[:, None] < limit
    if PADDED:
        inside = inside & (columns[None, :] < WIDTH)
    return tl.load(pointers, mask=inside, other=0.0)


@triton.jit
def _store(
    base, first, rows, columns, stride, limit, tile, WIDTH: tl.constexpr, PADDED: tl.constexpr
):
    pointers = base + tl.cast(first, tl.int64) * stride + rows[:, None] * stride + columns[None, :]
    inside = (first + rows)[:, None] < limit
    if PADDED:
        inside = inside & (columns[None, :] < WIDTH)
    tl.store(pointers, tile.to(base.dtype.element_ty), mask=inside)


@triton.jit
def _forward(
    Q, K, V, O, LSE, CU,
    scale, T, S, heads, blocks, lse_stride,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head, o_batch, o_row, o_head,
    GROUP: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, VARLEN: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    # The last queries see most keys: their blocks go first, so that no long one is left at the end.
    first_m = (blocks - 1 - tl.program_id(0) % blocks) * BLOCK_M
    sequence, head = _which(tl.program_id(0) // blocks, heads)
    start, queries, keys = _span(CU, sequence, T, S, VARLEN)
    if first_m >= queries:
        return
    PADDED: tl.constexpr = COLUMNS != WIDTH
    batch = sequence.to(tl.int64)
    if VARLEN:
        batch = batch * 0
    q_base = Q + batch * q_batch + start * q_row + head * q_head
    k_base = K + batch * k_batch + start * k_row + (head // GROUP) * k_head
    v_base = V + batch * v_batch + start * v_row + (head // GROUP) * v_head
    rows, others, columns = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, COLUMNS)
    q = _tile(q_base, first_m, rows, columns, q_row, queries, WIDTH, PADDED)
    shift = keys - queries  # query t sees keys up to t + shift
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    out = tl.zeros([BLOCK_M, COLUMNS], tl.float32)
    end = keys
    if CAUSAL:
        end = tl.minimum(keys, first_m + BLOCK_M + shift)
    for first_n in range(0, end, BLOCK_N):
        k = _tile(k_base, first_n, others, columns, k_row, keys, WIDTH, PADDED)
        scores = dot(q, tl.trans(k), tl.zeros([BLOCK_M, BLOCK_N], tl.float32), UPCAST) * scale
        at = first_n + others
        scores = tl.where(at[None, :] < keys, scores, float("-inf"))
        if CAUSAL:
            seen = at[None, :] <= (first_m + rows + shift)[:, None]
            scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        # A row that has seen nothing yet has no maximum: keep -inf - -inf out of the exponent.
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        p = tl.exp2(scores - safe[:, None])
        fade = tl.exp2(top - safe)
        total = total * fade + tl.sum(p, 1)
        v = _tile(v_base, first_n, others, columns, v_row, keys, WIDTH, PADDED)
        out = dot(p, v, out * fade[:, None], UPCAST)
        top = higher
    empty = total == 0.0
    out = out / tl.where(empty, 1.0, total)[:, None]
    lse = tl.where(empty, float("-inf"), top + tl.log2(tl.where(empty, 1.0, total)))
    o_base = O + batch * o_batch + start * o_row + head * o_head
    _store(o_base, first_m, rows, columns, o_row, queries, out, WIDTH, PADDED)
    lse_base = LSE + (batch * heads + head) * lse_stride + start + first_m
    tl.store(lse_base + rows, lse, mask=first_m + rows < queries)


@triton.jit
def _backward_q(
    Q, K, V, O, DO, LSE, DELTA, DQ, CU,
    scale, T, S, heads, blocks, lse_stride,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head, o_batch, o_row, o_head,
    GROUP: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, VARLEN: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    # The last queries see most keys: their blocks go first, so that no long one is left at the end.
    first_m = (blocks - 1 - tl.program_id(0) % blocks) * BLOCK_M
    sequence, head = _which(tl.program_id(0) // blocks, heads)
    start, queries, keys = _span(CU, sequence, T, S, VARLEN)
    if first_m >= queries:
        return
    PADDED: tl.constexpr = COLUMNS != WIDTH
    batch = sequence.to(tl.int64)
    if VARLEN:
        batch = batch * 0
    q_base = Q + batch * q_batch + start * q_row + head * q_head
    k_base = K + batch * k_batch + start * k_row + (head // GROUP) * k_head
    v_base = V + batch * v_batch + start * v_row + (head // GROUP) * v_head
    # O, DO and DQ share one contiguous layout.
    o_offset = batch * o_batch + start * o_row + head * o_head
    rows, others, columns = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, COLUMNS)
    q = _tile(q_base, first_m, rows, columns, q_row, queries, WIDTH, PADDED)
    do = _tile(DO + o_offset, first_m, rows, columns, o_row, queries, WIDTH, PADDED)
    o = _tile(O + o_offset, first_m, rows, columns, o_row, queries, WIDTH, PADDED)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    side = (batch * heads + head) * lse_stride + start + first_m
    real = first_m + rows < queries
    tl.store(DELTA + side + rows, delta, mask=real)
    lse = tl.load(LSE + side + rows, mask=real, other=0.0)
    lse = tl.where(lse == float("-inf"), 0.0, lse)
    shift = keys - queries
    dq = tl.zeros([BLOCK_M, COLUMNS], tl.float32)
    end = keys
    if CAUSAL:
        end = tl.minimum(keys, first_m + BLOCK_M + shift)
    for first_n in range(0, end, BLOCK_N):
        k = _tile(k_base, first_n, others, columns, k_row, keys, WIDTH, PADDED)
        v = _tile(v_base, first_n, others, columns, v_row, keys, WIDTH, PADDED)
        scores = dot(q, tl.trans(k), tl.zeros([BLOCK_M, BLOCK_N], tl.float32), UPCAST)
        at = first_n + others
        power = scores * (scale * LOG2E) - lse[:, None]
        power = tl.where(at[None, :] < keys, power, float("-inf"))
        if CAUSAL:
            seen = at[None, :] <= (first_m + rows + shift)[:, None]
            power = tl.where(seen, power, float("-inf"))
        p = tl.exp2(power)
        dp = dot(do, tl.trans(v), tl.zeros([BLOCK_M, BLOCK_N], tl.float32), UPCAST)
        dq = dot(p * (dp - delta[:, None]), k, dq, UPCAST)
    _store(DQ + o_offset, first_m, rows, columns, o_row, queries, dq * scale, WIDTH, PADDED)


@triton.jit
def _backward_kv(
    Q, K, V, DO, LSE, DELTA, DK, DV, CU,
    scale, T, S, heads, blocks, lse_stride,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head, o_batch, o_row, o_head,
    d_batch, d_row, d_head,
    GROUP: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, VARLEN: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    first_n = tl.program_id(0) % blocks * BLOCK_N
    sequence, kv_head = _which(tl.program_id(0) // blocks, heads // GROUP)
    start, queries, keys = _span(CU, sequence, T, S, VARLEN)
    if first_n >= keys:
        return
    PADDED: tl.constexpr = COLUMNS != WIDTH
    batch = sequence.to(tl.int64)
    if VARLEN:
        batch = batch * 0
    k_base = K + batch * k_batch + start * k_row + kv_head * k_head
    v_base = V + batch * v_batch + start * v_row + kv_head * v_head
    rows, others, columns = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, COLUMNS)
    k = _tile(k_base, first_n, others, columns, k_row, keys, WIDTH, PADDED)
    v = _tile(v_base, first_n, others, columns, v_row, keys, WIDTH, PADDED)
    shift = keys - queries
    begin = 0
    if CAUSAL:  # the first query that sees this block's first key, down to a block's start
        begin = tl.maximum(first_n - shift, 0) // BLOCK_M * BLOCK_M
    dk = tl.zeros([BLOCK_N, COLUMNS], tl.float32)
    dv = tl.zeros([BLOCK_N, COLUMNS], tl.float32)
    for member in range(GROUP):
        head = kv_head * GROUP + member
        q_base = Q + batch * q_batch + start * q_row + head * q_head
        do_base = DO + batch * o_batch + start * o_row + head * o_head
        side = (batch * heads + head) * lse_stride + start
        for first_m in range(begin, queries, BLOCK_M):
            q = _tile(q_base, first_m, rows, columns, q_row, queries, WIDTH, PADDED)
            do = _tile(do_base, first_m, rows, columns, o_row, queries, WIDTH, PADDED)
            real = first_m + rows < queries
            lse = tl.load(LSE + side + first_m + rows, mask=real, other=0.0)
            lse = tl.where(lse == float("-inf"), 0.0, lse)
            delta = tl.load(DELTA + side + first_m + rows, mask=real, other=0.0)
            # Transposed scores: keys down, queries across.
            scores = dot(k, tl.trans(q), tl.zeros([BLOCK_N, BLOCK_M], tl.float32), UPCAST)
            power = scores * (scale * LOG2E) - lse[None, :]
            # Queries beyond the end have do = 0 and add nothing; keys beyond it aren't stored.
            if CAUSAL:
                seen = (first_n + others)[:, None] <= (first_m + rows + shift)[None, :]
                power = tl.where(seen, power, float("-inf"))
            p = tl.exp2(power)
            dv = dot(p, do, dv, UPCAST)
            dp = dot(v, tl.trans(do), tl.zeros([BLOCK_N, BLOCK_M], tl.float32), UPCAST)
            dk = dot(p * (dp - delta[None, :]), q, dk, UPCAST)
    d_offset = batch * d_batch + start * d_row + kv_head * d_head
    _store(DK + d_offset, first_n, others, columns, d_row, keys, dk * scale, WIDTH, PADDED)
    _store(DV + d_offset, first_n, others, columns, d_row, keys, dv, WIDTH, PADDED)


# Found by compiling ahead of time: the largest blocks that fit and spill no registers.
# (kernel, padded head width) → queries, keys, warps, stages; 2-byte types on NVIDIA.
_TABLE = {
    ("forward", 64): (128, 64, 8, 2),
    ("forward", 128): (128, 64, 8, 2),
    ("forward", 256): (64, 32, 8, 3),
    ("backward_q", 64): (128, 64, 8, 2),
    ("backward_q", 128): (128, 64, 8, 2),
    ("backward_q", 256): (64, 32, 8, 2),
    ("backward_kv", 64): (32, 128, 8, 2),
    ("backward_kv", 128): (32, 64, 8, 2),
    ("backward_kv", 256): (32, 32, 8, 2),
}
# Instead of those, below 200 KiB of shared memory (sm_80) …
_NARROW = {("backward_q", 128): (128, 32, 8, 2)}
# … and below 128 KiB (sm_86, sm_89, sm_120).
_NARROWER = {
    ("forward", 128): (64, 64, 8, 2),
    ("forward", 256): (64, 32, 8, 2),
    ("backward_q", 128): (128, 32, 8, 2),
    ("backward_q", 256): (64, 32, 8, 1),
}


def settings(kernel: str, width: int, element_bytes: int, limit: int) -> Settings:
    """Blocks, warps and stages for a kernel.

    Args:
        kernel: "forward", "backward_q" or "backward_kv".
        width: Head width, up to 256.
        element_bytes: Bytes of one number of q, k and v.
        limit: Shared memory that one block may have; 64 KiB means AMD.

    Raises:
        KernelError: The heads are wider.
    """
    if width > 256:
        raise KernelError(
            f"head width {width}: the kernels reach 256; set INTERNLM_KERNELS=reference"
        )
    columns = max(64, triton.next_power_of_2(width))
    amd = limit <= 64 << 10
    if INTERPRETING:
        m, n, warps, stages = (32, 64, 4, 1) if kernel == "backward_kv" else (64, 32, 4, 1)
    elif element_bytes == 4:  # without tensor cores: all registers
        m, n, warps, stages = (32, 32, 8, 2) if columns == 64 else (16, 32, 8, 2)
        # One stage on an sm_80: with two, ptxas settles on few registers and spills some.
        stages = 1 if kernel == "backward_kv" and limit < 200 << 10 else stages
        warps, stages = (4, 1) if amd else (warps, stages)
    elif amd:
        wide = (64, 32, 4, 1) if kernel == "forward" or columns < 256 else (32, 32, 4, 1)
        m, n, warps, stages = (32, min(wide[0], 64), 4, 1) if kernel == "backward_kv" else wide
    else:
        instead = _NARROWER if limit < 128 << 10 else _NARROW if limit < 200 << 10 else {}
        m, n, warps, stages = instead.get((kernel, columns), _TABLE[kernel, columns])
    return Settings({"BLOCK_M": m, "BLOCK_N": n}, warps, stages)


def _strides(x: Tensor) -> tuple[int, int, int]:
    return x.stride(0), x.stride(1), x.stride(2)


def _shapes(q: Tensor, k: Tensor) -> dict[str, int]:
    width = q.shape[3]
    return {
        "GROUP": q.shape[2] // k.shape[2],
        "WIDTH": width,
        "COLUMNS": max(16, triton.next_power_of_2(width)),
    }


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        causal: bool,
        scale: float,
        cu_seqlens: Tensor | None,
        longest: int,
    ) -> Tensor:
        batch, tokens, heads, width = q.shape
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        lse = torch.empty((batch, heads, tokens), dtype=torch.float32, device=q.device)
        sequences = batch if cu_seqlens is None else cu_seqlens.numel() - 1
        limit = shared_memory(q.device)
        chosen = settings("forward", width, q.element_size(), limit)
        flags = {"CAUSAL": causal, "VARLEN": cu_seqlens is not None, "UPCAST": INTERPRETING}
        blocks = triton.cdiv(longest, chosen.blocks["BLOCK_M"])
        # One axis: the second of a grid ends at 65,535, which packed documents times heads pass.
        _forward[(blocks * sequences * heads,)](
            q, k, v, out, lse, cu_seqlens,
            scale * _LOG2E, tokens, k.shape[1], heads, blocks, tokens,
            *_strides(q), *_strides(k), *_strides(v), *_strides(out),
            **_shapes(q, k), **chosen.blocks, **flags, **chosen.options(),
        )  # fmt: skip
        ctx.save_for_backward(q, k, v, out, lse, cu_seqlens)
        ctx.scale, ctx.longest, ctx.sequences, ctx.flags = scale, longest, sequences, flags
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, cu_seqlens = ctx.saved_tensors
        tokens, heads, width = q.shape[1:]
        grad = grad.contiguous()
        dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        dk = torch.empty(k.shape, dtype=k.dtype, device=k.device)
        dv = torch.empty(v.shape, dtype=v.dtype, device=v.device)
        delta = torch.empty_like(lse)
        limit = shared_memory(q.device)
        sizes = (ctx.scale, tokens, k.shape[1], heads)
        strides = (*_strides(q), *_strides(k), *_strides(v), *_strides(out))
        chosen = settings("backward_q", width, q.element_size(), limit)
        blocks = triton.cdiv(ctx.longest, chosen.blocks["BLOCK_M"])
        _backward_q[(blocks * ctx.sequences * heads,)](
            q, k, v, out, grad, lse, delta, dq, cu_seqlens,
            *sizes, blocks, tokens, *strides,
            **_shapes(q, k), **chosen.blocks, **ctx.flags, **chosen.options(),
        )  # fmt: skip
        chosen = settings("backward_kv", width, q.element_size(), limit)
        longest = ctx.longest if ctx.flags["VARLEN"] else k.shape[1]
        blocks = triton.cdiv(longest, chosen.blocks["BLOCK_N"])
        _backward_kv[(blocks * ctx.sequences * k.shape[2],)](
            q, k, v, grad, lse, delta, dk, dv, cu_seqlens,
            *sizes, blocks, tokens, *strides, *_strides(dk),
            **_shapes(q, k), **chosen.blocks, **ctx.flags, **chosen.options(),
        )  # fmt: skip
        return dq, dk, dv, None, None, None, None


def _addressable(x: Tensor) -> bool:
    """Heads lie dense, and a block of up to 128 rows is reached by int32 offsets."""
    return x.stride(-1) == 1 and x.stride(1) < 1 << 23


def attention_triton(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool,
    scale: float,
    cu_seqlens: Tensor | None,
    max_seqlen: int | None,
) -> Tensor:
    """As `attention` without a mask, on a device that Triton compiles for."""
    q, k, v = (x if _addressable(x) else x.contiguous() for x in (q, k, v))
    longest = q.shape[1]
    if cu_seqlens is not None:
        longest = int(cu_seqlens.diff().max()) if max_seqlen is None else max_seqlen
    result: Tensor = _Attention.apply(q, k, v, causal, scale, cu_seqlens, longest)
    return result


def variants(
    limit: int,
    element: str = "bf16",
    width: int = 128,
    group: int = 4,
    *,
    causal: bool = True,
    varlen: bool = True,
) -> list[Variant]:
    """The kernels as they are launched on a device with `limit` bytes of shared memory."""
    pointer = f"*{element}"
    sizes = {"scale": "fp32"} | dict.fromkeys(("T", "S", "heads", "blocks", "lse_stride"), "i32")
    steps = {f"{x}_{axis}": "i32" for x in "qkvo" for axis in ("batch", "row", "head")}
    inner = {f"d_{axis}": "i32" for axis in ("batch", "row", "head")}
    tensors = {
        "forward": (_forward, "Q K V O", "LSE", ""),
        "backward_q": (_backward_q, "Q K V O DO", "LSE DELTA", "DQ"),
        "backward_kv": (_backward_kv, "Q K V DO", "LSE DELTA", "DK DV"),
    }
    found = []
    for name, (function, before, wide, after) in tensors.items():
        signature = dict.fromkeys(before.split(), pointer) | dict.fromkeys(wide.split(), "*fp32")
        signature |= dict.fromkeys(after.split(), pointer)
        signature |= {"CU": "*i32"} | sizes | steps | (inner if name == "backward_kv" else {})
        chosen = settings(name, width, 4 if element == "fp32" else 2, limit)
        constants: dict[str, Any] = {
            "GROUP": group,
            "WIDTH": width,
            "COLUMNS": triton.next_power_of_2(width),
        }
        constants |= {"CAUSAL": causal, "VARLEN": varlen, "UPCAST": False} | dict(chosen.blocks)
        aligned = (*steps, *(inner if name == "backward_kv" else ()))
        found.append(
            Variant(f"attention {name}", function, signature, constants, chosen, True, aligned)
        )
    return found
