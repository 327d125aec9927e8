"""Sequence parallelism by all-to-all (Jacobs et al. 2023, DeepSpeed-Ulysses).

Outside attention each rank holds T/S of the tokens and all heads; inside it holds all tokens and 1/S
of the heads. wqkv's rows lie KV group by KV group, so one exchange moves queries, keys and values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

    from internlm_core.model import InternLM2
    from internlm_core.train.ranks import Ranks

__all__ = ["gather_tokens", "scatter_tokens", "split_sequence"]


def gather_tokens(x: Tensor, group: ProcessGroup) -> Tensor:
    """`[B, T/S, C]` of all channels to `[B, T, C/S]` of all tokens; differentiable."""
    result: Tensor = _Exchange.apply(x, group, True)
    return result


def scatter_tokens(x: Tensor, group: ProcessGroup) -> Tensor:
    """`[B, T, C/S]` back to `[B, T/S, C]`; the inverse of `gather_tokens`."""
    result: Tensor = _Exchange.apply(x, group, False)
    return result


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup, gather: bool) -> Tensor:
        ctx.group, ctx.gather = group, gather
        return _swap(x, group, gather)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _swap(grad, ctx.group, not ctx.gather), None, None


def _swap(x: Tensor, group: ProcessGroup, gather: bool) -> Tensor:
    size = dist.get_world_size(group)
    batch, tokens, channels = x.shape
    # The axis that is cut goes first: part i is for rank i.
    if gather:
        parts = x.view(batch, tokens, size, channels // size).permute(2, 0, 1, 3).contiguous()
    else:
        parts = x.view(batch, size, tokens // size, channels).transpose(0, 1).contiguous()
    received = torch.empty_like(parts)
    dist.all_to_all_single(received, parts, group=group)
    if gather:
        return received.transpose(0, 1).reshape(batch, size * tokens, channels // size)
    return received.permute(1, 2, 0, 3).reshape(batch, tokens // size, size * channels)


def split_sequence(model: InternLM2, ranks: Ranks) -> None:
    """Give each rank its tokens after the embedding, and its heads inside attention."""
    group = ranks.sequence_group
    if group is None:
        return

    def own_ids(_: nn.Module, arguments: tuple[Tensor, ...]) -> Tensor:
        return ranks.own_tokens(arguments[0])

    def to_heads(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return gather_tokens(output, group)

    def to_tokens(_: nn.Module, arguments: tuple[Tensor, ...]) -> Tensor:
        return scatter_tokens(arguments[0], group)

    # Ahead of DTensor's own hooks on what goes in, behind them on what comes out.
    model.tok_embeddings.register_forward_pre_hook(own_ids, prepend=True)
    layers: Any = model.layers
    for layer in layers:
        layer.attention.wqkv.register_forward_hook(to_heads)
        layer.attention.wo.register_forward_pre_hook(to_tokens, prepend=True)
