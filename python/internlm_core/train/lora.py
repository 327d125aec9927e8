"""Low-rank adapters (Hu et al. 2021) on the linear layers of a model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from internlm_core.errors import TrainError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from internlm_core.model import InternLM2
    from internlm_core.train.config import LoRAConfig

__all__ = [
    "LoRALinear",
    "adapters",
    "add_lora",
    "initial_adapter",
    "merge",
    "merged_state",
    "unmerge",
]


class LoRALinear(nn.Linear):
    """x ↦ W x + scale · B A dropout(x), W frozen; as `nn.Linear` once B A is merged into W.

    Args:
        base: The layer; its weight and bias are taken over, not copied.
        config: Rank, alpha, dropout.

    Attributes:
        lora_a: `[rank, in]`, uniform as `nn.Linear` starts; the draw depends on torch's RNG.
        lora_b: `[out, rank]`, zeros, so that nothing changes at the start.
        scale: alpha / rank.
        merged: Whether B A is in the weight.
    """

    def __init__(self, base: nn.Linear, config: LoRAConfig) -> None:
        with torch.device("meta"):
            super().__init__(base.in_features, base.out_features, bias=base.bias is not None)
        self.weight, self.bias = base.weight, base.bias
        place: dict[str, Any] = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.lora_a = nn.Parameter(torch.empty(config.rank, base.in_features, **place))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, config.rank, **place))
        if not self.lora_a.is_meta:
            self.lora_a.data.copy_(initial_adapter("lora_a", self.lora_a.shape))
        self.scale, self.dropout, self.merged = config.alpha / config.rank, config.dropout, False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's name
        """`[..., in]` to `[..., out]`."""
        result = functional.linear(input, self.weight, self.bias)
        if self.merged:
            return result
        dropped = functional.dropout(input, self.dropout, self.training)
        low = functional.linear(dropped, self.lora_a)
        return result + self.scale * functional.linear(low, self.lora_b)

    def change(self) -> Tensor:
        """Scale · B A, fp32 `[out, in]`."""
        return self.scale * (self.lora_b.float() @ self.lora_a.float())


def initial_adapter(name: str, shape: torch.Size) -> Tensor:
    """New values of an adapter's matrix: A as `nn.Linear` starts, from torch's RNG; B zeros.

    Drawn in fp32 on the CPU, so that device and dtype don't change the draw.
    """
    if name.endswith("lora_b"):
        return torch.zeros(shape)
    bound = 1 / math.sqrt(shape[1])
    return torch.empty(shape).uniform_(-bound, bound)


def adapters(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """Every layer with an adapter, by name."""
    for name, module in model.named_modules():
        if isinstance(module, LoRALinear):
            yield name, module


def add_lora(model: InternLM2, config: LoRAConfig) -> InternLM2:
    """Freeze a model and put an adapter on each target layer, in place; returns the model.

    Raises:
        TrainError: It has adapters already.
    """
    if next(adapters(model), None) is not None:
        raise TrainError("the model has LoRA adapters already; merge and save it first")
    model.requires_grad_(False)
    for layer in model.layers:
        for room in (layer.attention, layer.feed_forward):
            # In the order of `named_parameters`, in which adapters are drawn everywhere.
            children: Any = room
            for name, base in list(children.named_children()):
                if name in config.targets:
                    setattr(room, name, LoRALinear(base, config))
    return model


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Add every adapter to its weight: the same outputs at the cost of a plain model."""
    for _, layer in adapters(model):
        if not layer.merged:
            layer.weight.copy_(layer.weight.float() + layer.change())
            layer.merged = True


@torch.no_grad()
def unmerge(model: nn.Module) -> None:
    """Take the adapters out of the weights again; exact but for rounding in the weight's type."""
    for _, layer in adapters(model):
        if layer.merged:
            layer.weight.copy_(layer.weight.float() - layer.change())
            layer.merged = False


def merged_state(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a plain model from those of one with adapters; others are given back as they are.

    Args:
        model: Tells where adapters are, and their scale.
        weights: Whole parameters by name, adapters among them; not merged.
    """
    found = dict(weights)
    for name, layer in adapters(model):
        prefix = f"{name}." if name else ""
        a, b = found.pop(f"{prefix}lora_a"), found.pop(f"{prefix}lora_b")
        weight = found[f"{prefix}weight"]
        change = layer.scale * (b.float() @ a.float())
        found[f"{prefix}weight"] = (weight.float() + change).to(weight.dtype)
    return found
