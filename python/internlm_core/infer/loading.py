"""A folder's weights to a runner, and how large its cache may be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from internlm_core.errors import InferError
from internlm_core.infer.awq import is_awq, read_awq
from internlm_core.infer.cpu_runner import KV_TYPES, CpuRunner
from internlm_core.infer.quantize import WEIGHT_TYPES
from internlm_core.infer.runner import PAGE
from internlm_core.infer.torch_runner import TorchRunner
from internlm_core.model import InternLM2, ModelConfig, load
from internlm_core.model.allocator import keep_freed_memory

if TYPE_CHECKING:
    from pathlib import Path

    from internlm_core.infer.runner import Runner

__all__ = ["CPU_TYPES", "automatic_blocks", "make_runner", "read"]

CPU_TYPES = ("float32", "bfloat16", *WEIGHT_TYPES)
_KV_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0}

# Of the free memory: LMDeploy's share on a device of its own; on a CPU others live there too.
_CUDA_SHARE, _CPU_SHARE = 0.8, 0.3


def read(
    folder: Path, dtype: str | torch.dtype | None, device: str | torch.device
) -> tuple[InternLM2 | ModelConfig, dict[str, Any] | None, str | None]:
    """(model or configuration, its tensors where a runner packs them, type to round weights to).

    Raises:
        InferError: A type that this device has no path for.
    """
    name = str(dtype).removeprefix("torch.") if dtype is not None else None
    cpu = torch.device(device).type == "cpu"
    if name in WEIGHT_TYPES and not cpu:
        raise InferError(f"dtype {name!r} on {device}: rounded weights are for the CPU")
    if cpu and name not in (None, *CPU_TYPES):
        raise InferError(f"dtype {name!r} on a CPU: expected one of {', '.join(CPU_TYPES)}")
    if is_awq(folder):
        if not cpu or name not in (None, "int4"):
            raise InferError(f"{folder}: AWQ's 4-bit weights run on a CPU, with dtype int4 or none")
        config, state = read_awq(folder)
        return config, state, None
    rounded = name if name in WEIGHT_TYPES else None
    model = load(folder, dtype=None if rounded else dtype, device=device)
    if not cpu:
        return model, None, None
    if model.dtype == torch.float16:
        # What fp16 can hold, fp32 holds; the decoder has no path for it.
        model = model.float()
    return model, dict(model.state_dict()), rounded


def make_runner(
    config: ModelConfig,
    source: InternLM2 | dict[str, Any] | None,
    *,
    weights: str | None,
    round_head: bool,
    kv_dtype: str | None,
    blocks: int,
    session_length: int,
    threads: int,
) -> Runner:
    """The decoder for a CPU, torch for other devices.

    Raises:
        InferError: Settings that the device has no path for.
    """
    if source is None:
        raise InferError("an engine needs a model, or a configuration with a runner")
    if isinstance(source, InternLM2) and source.device.type != "cpu":
        if weights is not None:
            raise InferError(f"weights {weights!r}: rounded weights are for the CPU")
        return TorchRunner(source, kv_dtype=kv_dtype, blocks=blocks, session_length=session_length)
    keep_freed_memory()
    consume = not isinstance(source, InternLM2)
    state: Any = source.state_dict() if isinstance(source, InternLM2) else source
    kind = state["tok_embeddings.weight"].dtype
    stored = "bfloat16" if kind == torch.bfloat16 else "float32"
    return CpuRunner(
        config,
        state,
        weights=weights,
        round_head=round_head,
        kv_dtype=kv_dtype or stored,
        blocks=blocks,
        session_length=session_length,
        threads=threads,
        consume=consume,
    )


def automatic_blocks(
    config: ModelConfig,
    model: InternLM2 | None,
    kv_dtype: str | None,
    session_length: int,
    max_batch: int,
    cache_tokens: int | None,
) -> int:
    """Blocks of the cache.

    Raises:
        InferError: `cache_tokens` is less than a block, or `kv_dtype` unknown.
    """
    if kv_dtype is not None and kv_dtype not in KV_TYPES:
        raise InferError(f"kv_dtype {kv_dtype!r}: expected one of {', '.join(KV_TYPES)}")
    if cache_tokens is not None:
        if cache_tokens < PAGE:
            raise InferError(f"cache_tokens={cache_tokens}: must be at least {PAGE}")
        return cache_tokens // PAGE
    session = -(-session_length // PAGE)
    name = kv_dtype or (config.dtype if model is None else str(model.dtype)[len("torch.") :])
    channels = config.num_key_value_heads * config.head_width
    page = 2 * PAGE * config.num_hidden_layers * channels * _KV_BYTES.get(name, 4.0)
    if model is not None and model.device.type == "cuda":
        room = torch.cuda.mem_get_info(model.device)[0] * _CUDA_SHARE
    else:
        room = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _CPU_SHARE
    return max(min(session * max_batch, int(room / page)), 1)
