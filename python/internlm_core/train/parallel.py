"""A model shared out over ranks: matrices by DTensor, sequences by all-to-all, the rest by FSDP2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from internlm_core.errors import ConfigError
from internlm_core.kernels.linear_cross_entropy import linear_cross_entropy
from internlm_core.train.exchange import split_sequence
from internlm_core.train.layout import SPLIT_AXIS, Layout
from internlm_core.train.ranks import FOLD, REPLICATE, TENSOR
from internlm_core.train.vocabulary_loss import vocabulary_loss, vocabulary_losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from internlm_core.model import InternLM2, ModelConfig
    from internlm_core.train.config import ParallelConfig
    from internlm_core.train.ranks import Ranks

__all__ = ["check_plan", "fill", "share_out", "summed_loss", "token_losses"]


def check_plan(plan: ParallelConfig, model: ModelConfig) -> None:
    """Whether a model can be split that way.

    Raises:
        ConfigError: Heads, feed-forward rows or vocabulary don't divide.
    """
    pieces = plan.tensor * plan.sequence
    if model.num_key_value_heads % pieces:
        raise ConfigError(
            f"parallel.tensor={plan.tensor} × parallel.sequence={plan.sequence} must divide"
            f" num_key_value_heads={model.num_key_value_heads}: wqkv is split by KV group"
        )
    for key in ("intermediate_size", "vocab_size"):
        value = getattr(model, key)
        if value % plan.tensor:
            raise ConfigError(f"parallel.tensor={plan.tensor} must divide {key}={value}")
    if model.bias and plan.tensor > 1:
        raise ConfigError("parallel.tensor > 1 does not work with biases; use parallel.shard")


def share_out(
    model: InternLM2, ranks: Ranks, dtype: torch.dtype, *, keep_gathered: bool = False
) -> Layout | None:
    """Split the parameters of a model on the meta device; `fill` gives them values.

    Masters stay fp32; layers compute in `dtype`, and gradients are summed in fp32.

    Returns:
        Which part of each parameter is here; None for a single process, which is left alone.
    """
    if ranks.mesh is None:
        return None
    # A device without values: hooks and shapes first, memory for this rank's part alone later.
    from torch.distributed.fsdp import (
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    if ranks.plan.tensor > 1:
        _split_matrices(model, ranks)
    split_sequence(model, ranks)
    mesh = ranks.mesh[REPLICATE, FOLD]
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    units: list[Any] = [
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=not keep_gathered)
        for layer in model.layers
    ]
    # The head is used after `hidden` has ended, so what is outside the layers stays gathered.
    units.append(fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False))
    for unit in units:
        # Gradients are sums over the labels of all ranks; the loss was divided by their number.
        unit.set_force_sum_reduction_for_comms(True)
        unit.set_gradient_divide_factor(1.0)
    register_fsdp_forward_method(model, "hidden")
    return Layout(ranks, model)


def _split_matrices(model: InternLM2, ranks: Ranks) -> None:
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    assert ranks.mesh is not None
    mesh = ranks.mesh[TENSOR]
    plan: dict[str, Any] = {
        f"{room}.{name}": ColwiseParallel() if SPLIT_AXIS[name] == 0 else RowwiseParallel()
        for room, names in (("attention", ("wqkv", "wo")), ("feed_forward", ("w1", "w3", "w2")))
        for name in names
    }
    for layer in model.layers:
        parallelize_module(layer, mesh, plan)
    embedding = RowwiseParallel(input_layouts=Replicate())
    parallelize_module(model, mesh, {"tok_embeddings": embedding, "output": ColwiseParallel()})


@torch.no_grad()
def fill(
    model: InternLM2, layout: Layout, device: str, value: Callable[[str, tuple[slice, ...]], Tensor]
) -> None:
    """Give a shared-out model its values.

    Args:
        model: Shared out, on the meta device.
        layout: As `share_out` made it.
        device: Where the parts go.
        value: Name and bounds → that part of the whole parameter.
    """
    model.to_empty(device=device)
    for name, parameter in model.named_parameters():
        # Also where nothing of it is here: a draw moves the generator on.
        layout.local(parameter).copy_(value(name, layout.bounds(name)))


def summed_loss(
    model: InternLM2, ranks: Ranks, ids: Tensor, labels: Tensor, cu_seqlens: Tensor
) -> Tensor:
    """Summed loss of this rank's tokens of `[1, T]`; T is a multiple of the sequence ranks."""
    if ranks.mesh is None:
        return model.loss(ids, labels, cu_seqlens=cu_seqlens)[0]
    hidden, weight, own = _before_the_head(model, ranks, ids, labels, cu_seqlens)
    group = ranks.tensor_group
    if group is None:
        return linear_cross_entropy(hidden, weight, own)[0]
    return vocabulary_loss(hidden, weight, own, group)


@torch.no_grad()
def token_losses(
    model: InternLM2, ranks: Ranks, ids: Tensor, labels: Tensor, cu_seqlens: Tensor
) -> Tensor:
    """Loss of each of this rank's tokens of `[1, T]`, 0 where there is no label."""
    hidden, weight, own = _before_the_head(model, ranks, ids, labels, cu_seqlens)
    group = ranks.tensor_group
    if group is not None:
        return vocabulary_losses(hidden, weight, own, group)
    rows = 256
    parts = [
        functional.cross_entropy(
            functional.linear(hidden[i : i + rows], weight).float(),
            own[i : i + rows],
            reduction="none",
        )
        for i in range(0, len(own), rows)
    ]
    return torch.cat(parts)


def _before_the_head(
    model: InternLM2, ranks: Ranks, ids: Tensor, labels: Tensor, cu_seqlens: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    hidden = model.hidden(ids, cu_seqlens=cu_seqlens).flatten(0, 1)
    weight: Any = model.output.weight
    if ranks.plan.tensor > 1:
        weight = weight.to_local()
    if model.config.norm_head:
        weight = functional.normalize(weight, dim=1)
    return hidden, weight, ranks.own_tokens(labels).flatten()
