"""Memory of a rank under a plan, by formula: refuse what can't fit before it starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from internlm_core.errors import ConfigError
from internlm_core.train.ranks import shape_of

if TYPE_CHECKING:
    from internlm_core.model import ModelConfig
    from internlm_core.train.config import TrainConfig

__all__ = ["Memory", "available_memory", "check_memory", "estimate_memory"]

_CHUNK_BYTES = 32 << 20
"""fp32 logits the loss holds at a time (kernels.linear_cross_entropy)."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank at the peak of a step.

    Attributes:
        parameters: Masters, and the copy the model computes with where there is one.
        gradients: Summed over forward passes.
        moments: AdamW's two.
        gathered: Whole parameters and gradients of the layers that FSDP has at hand.
        activations: Kept from forward to backward.
        loss: Gradient of the head, and a chunk of logits.
    """

    parameters: int
    gradients: int
    moments: int
    gathered: int
    activations: int
    loss: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(vars(self).values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value / 2**30:.2f}" for name, value in vars(self).items())
        return f"{self.total / 2**30:.2f} GiB a rank ({parts})"


def estimate_memory(config: TrainConfig, model: ModelConfig, world: int = 1) -> Memory:
    """What a rank of a run needs.

    Args:
        config: Plan, type, micro-batch and activation checkpointing of the run.
        model: The architecture.
        world: Processes in all.

    Raises:
        ConfigError: The plan doesn't fit so many processes.
    """
    _, fold, tensor = shape_of(config.parallel, world)
    half = 2 if config.dtype == "bf16" else 4
    d, vocabulary, layers = model.hidden_size, model.vocab_size, model.num_hidden_layers
    outside = 2 * vocabulary * d // tensor + d
    layer = (model.parameter_count - 2 * vocabulary * d - d) // layers // tensor
    whole = outside + layers * layer
    part = -(-whole // fold)
    trained = part
    if config.lora is not None:
        trained = _adapters(config, model) // fold
    tokens = config.micro_batch_tokens // config.parallel.sequence
    gathered = 0
    if world > 1:
        at_hand = layers if config.parallel.keep_gathered else min(2, layers)
        # Parameters at hand, and the gradients of what is outside the layers and of two layers on
        # their way to the sum.
        gathered = half * (outside + at_hand * layer) + (half + 4) * (
            outside + min(2, layers) * layer
        )
    parameters, gradients = 4 * part, 4 * trained
    if world == 1 and half == 2:
        # The copy the model computes with, and its gradients until they are summed.
        parameters += 2 * part if config.lora is None else 0
        gradients += 2 * trained
        parameters = parameters if config.lora is None else 2 * part + 4 * trained
    kept = _kept(model, tensor, wide=half == 4) * tokens * half
    recomputed = round(config.activation_checkpointing * layers)
    activations = (layers - recomputed) * kept + recomputed * d * tokens * half
    if recomputed:
        activations += kept  # the layer that is being recomputed
    activations += 2 * d * tokens * half  # the last norm
    head = vocabulary * d // tensor
    rows = max(64, _CHUNK_BYTES // (4 * (vocabulary // tensor)))
    chunk = rows * vocabulary // tensor * (4 + half) * 2
    loss = 4 * head + half * head + chunk + 4 * d * tokens
    return Memory(parameters, gradients, 8 * trained, gathered, activations, loss)


def _kept(model: ModelConfig, tensor: int, *, wide: bool) -> int:
    """Numbers kept for the backward pass of a layer, a token; measured by saved tensors."""
    heads, kv_heads, width = (
        model.num_attention_heads // tensor,
        model.num_key_value_heads // tensor,
        model.head_width,
    )
    return (
        # Both norms: their input, normalised, and times the weight; on one rank or all the same.
        6 * model.hidden_size
        # The projection, turned queries and keys, contiguous queries, and what attention gives.
        + (4 * heads + 3 * kv_heads) * width
        # Gate, its activation, up, and their product.
        + 4 * model.intermediate_size // tensor
        # fp32 sums of attention and norms, and in bf16 an fp32 copy as wide as the residual.
        + heads
        + (0 if wide else 2 * model.hidden_size)
    )


def _adapters(config: TrainConfig, model: ModelConfig) -> int:
    assert config.lora is not None
    rows = (model.num_attention_heads + 2 * model.num_key_value_heads) * model.head_width
    heads = model.num_attention_heads * model.head_width
    sides = {
        "wqkv": model.hidden_size + rows,
        "wo": heads + model.hidden_size,
        **dict.fromkeys(("w1", "w2", "w3"), model.hidden_size + model.intermediate_size),
    }
    return model.num_hidden_layers * config.lora.rank * sum(sides[t] for t in config.lora.targets)


def available_memory(config: TrainConfig) -> int | None:
    """Bytes a rank may take: `memory_limit`, else the device's; None where that isn't known."""
    if config.memory_limit is not None:
        return int(config.memory_limit * 2**30)
    if config.device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            return None
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
    return machine // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def check_memory(config: TrainConfig, model: ModelConfig, world: int) -> Memory:
    """The estimate, if it fits.

    Raises:
        ConfigError: It doesn't; the message tells the parts and what makes them smaller.
    """
    need, have = estimate_memory(config, model, world), available_memory(config)
    if have is not None and need.total > have:
        raise ConfigError(
            f"the plan needs {need}, and a rank has {have / 2**30:.2f} GiB. More ranks with"
            " parallel.shard = 'full', parallel.tensor, a smaller micro_batch_tokens or"
            " activation_checkpointing = 1 make it smaller"
        )
    return need
