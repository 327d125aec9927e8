"""The Rust decoder with a model's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from internlm_core._core import CpuDecoder, CpuMatrix
from internlm_core.errors import InferError
from internlm_core.infer.quantize import Quantized, quantize
from internlm_core.infer.runner import Result
from internlm_core.model.rope import rope_tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from torch import Tensor

    from internlm_core.infer.runner import Batch
    from internlm_core.model import ModelConfig

__all__ = ["KV_TYPES", "CpuRunner"]

KV_TYPES = ("float32", "bfloat16", "int8")


class CpuRunner:
    """Runs on the CPU; packs its own copy of the weights.

    Args:
        config: The model's.
        state: Its tensors under our names, fp32 or bf16; linear layers may be `Quantized`. Entries
            are taken out one by one where `consume` says so, which saves memory.
        weights: `int8` or `int4` quantises the layers' matrices while packing; None: as they are.
        round_head: The output head too, to `int8`, where `weights` are quantised.
        kv_dtype: One of `KV_TYPES`.
        blocks: Of the cache.
        session_length: Positions, and what dynamic RoPE scaling is fixed for.
        threads: 0: all cores.
        consume: Take the tensors out of `state`.

    Raises:
        InferError: A type that this path doesn't know.
    """

    def __init__(
        self,
        config: ModelConfig,
        state: Mapping[str, Tensor | Quantized],
        *,
        weights: str | None = None,
        round_head: bool = True,
        kv_dtype: str = "float32",
        blocks: int,
        session_length: int,
        threads: int = 0,
        consume: bool = False,
    ) -> None:
        if kv_dtype not in KV_TYPES:
            raise InferError(f"kv_dtype {kv_dtype!r}: expected one of {', '.join(KV_TYPES)}")
        self._known: dict[str, Any] = dict(state) if not consume else state  # type: ignore[assignment]
        self._weights = weights
        layers = []
        for i in range(config.num_hidden_layers):
            at = f"layers.{i}."
            wqkv, wqkv_bias = self._linear(f"{at}attention.wqkv")
            wo, wo_bias = self._linear(f"{at}attention.wo")
            w13, w13_bias = self._linear(f"{at}feed_forward.w1", f"{at}feed_forward.w3")
            w2, w2_bias = self._linear(f"{at}feed_forward.w2")
            norms = [
                self._plain(f"{at}{name}.weight").tolist()
                for name in ("attention_norm", "ffn_norm")
            ]
            layers.append(
                (norms[0], wqkv, wqkv_bias, wo, wo_bias, norms[1], w13, w13_bias, w2, w2_bias)
            )
        head = self._known.pop("output.weight")
        if config.norm_head:
            head = functional.normalize(head.float(), dim=1).to(head.dtype)
        cos, sin = rope_tables(config, torch.arange(session_length)[None], session_length)
        self._decoder = CpuDecoder(
            (
                config.hidden_size,
                config.num_key_value_heads,
                config.group_size,
                config.head_width,
            ),
            config.rms_norm_eps,
            _array(self._known.pop("tok_embeddings.weight")).reshape(-1),
            layers,
            self._plain("norm.weight").tolist(),
            # Never 4 bits: an error there reaches every logit at once.
            quantize(head, "int8").packed() if weights and round_head else _packed(head),
            cos[0].reshape(-1).contiguous().numpy(),
            sin[0].reshape(-1).contiguous().numpy(),
            kv_dtype,
            blocks,
            threads,
        )
        self._known = {}

    @property
    def weight_bytes(self) -> int:
        """Bytes of all matrices that a step reads."""
        return self._decoder.weight_bytes

    def step(self, batch: Batch) -> Result:
        """As `Runner.step`."""
        plain = [(s.start, s.count, s.table) for s in batch.segments]
        logits, sums, scores = self._decoder.step(
            batch.ids, plain, batch.rows, batch.scored, batch.labels
        )
        return Result(logits.reshape(len(batch.rows), self._decoder.vocabulary), sums, scores)

    def _plain(self, name: str) -> Tensor:
        tensor: Tensor = self._known.pop(name).float()
        return tensor

    def _linear(self, *names: str) -> tuple[CpuMatrix, list[float]]:
        """The packed weights of layers side by side, and their biases."""
        biases = [self._plain(f"{n}.bias") for n in names if f"{n}.bias" in self._known]
        parts = [self._known.pop(f"{name}.weight") for name in names]
        bias = torch.cat(biases).tolist() if biases else []
        if isinstance(parts[0], Quantized):
            return Quantized.join(parts).packed(), bias
        weight = torch.cat(parts) if len(parts) > 1 else parts[0]
        if self._weights is not None:
            return quantize(weight, self._weights).packed(), bias
        return _packed(weight), bias


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """fp32 as it is, bf16 as its bits."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.float().numpy()


def _packed(weight: Tensor) -> CpuMatrix:
    array = _array(weight)
    return CpuMatrix.bf16(array) if array.dtype == np.uint16 else CpuMatrix.f32(array)
