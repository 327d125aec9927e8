"""A step in torch: Triton's kernels on CUDA; on a CPU the plain path that others are checked with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from internlm_core.errors import InferError
from internlm_core.infer.runner import PAGE, Result
from internlm_core.kernels.attention import attention
from internlm_core.kernels.decode_attention import decode_attention
from internlm_core.kernels.rope import apply_rope
from internlm_core.model.rope import rope_tables

if TYPE_CHECKING:
    from torch import Tensor

    from internlm_core.infer.runner import Batch, Segment
    from internlm_core.model import InternLM2
    from internlm_core.model.modules import Attention

__all__ = ["TorchRunner"]

_SCORED_ROWS = 256
"""Rows whose logits are held at once while scoring."""


class TorchRunner:
    """Runs a model's own modules over a paged cache, on the model's device.

    Args:
        model: Its weights are used as they are at each step.
        kv_dtype: Type of keys and values; the weights' when None.
        blocks: Of the cache.
        session_length: Positions, and what dynamic RoPE scaling is fixed for.

    Raises:
        InferError: A type that this path doesn't know.
    """

    def __init__(
        self, model: InternLM2, *, kv_dtype: str | None = None, blocks: int, session_length: int
    ) -> None:
        config, device = model.config, model.device
        name = str(model.dtype).removeprefix("torch.")
        if kv_dtype not in (None, name):
            raise InferError(f"kv_dtype {kv_dtype!r}: on this path keys are {name}, as the weights")
        self._model = model.eval()
        shape = (
            config.num_hidden_layers,
            blocks,
            PAGE,
            config.num_key_value_heads,
            config.head_width,
        )
        self._keys = torch.zeros(shape, dtype=model.dtype, device=device)
        self._values = torch.zeros(shape, dtype=model.dtype, device=device)
        positions = torch.arange(session_length, device=device)[None]
        self._cos, self._sin = (x[0] for x in rope_tables(config, positions, session_length))

    @torch.no_grad()
    def step(self, batch: Batch) -> Result:
        """As `Runner.step`."""
        model, device = self._model, self._model.device
        segments, scored = batch.segments, batch.scored
        positions = torch.cat([torch.arange(s.start, s.start + s.count) for s in segments])
        slots = torch.cat([_slots(s, s.start, s.start + s.count) for s in segments]).to(device)
        cos, sin = (x[positions.to(device)][None] for x in (self._cos, self._sin))
        plan = _Plan(segments, device)
        x = model.tok_embeddings(torch.tensor(batch.ids, device=device)[None])
        layer: Any
        for layer in model.layers:
            mixed = self._attend(layer.attention, layer.attention_norm(x), cos, sin, slots, plan)
            normal, x = layer.ffn_norm.after(mixed, x)
            x = x + layer.feed_forward(normal)
        hidden = model.norm(x)[0]
        logits = model.logits(hidden[batch.rows]).float()
        scores = []
        for first in range(0, len(scored), _SCORED_ROWS):
            part = slice(first, first + _SCORED_ROWS)
            found = model.logits(hidden[scored[part]]).float()
            wanted = torch.tensor(batch.labels[part], device=device)[:, None]
            scores.append(found.gather(1, wanted)[:, 0] - found.logsumexp(-1))
        return Result(
            logits.cpu().numpy(),
            logits.logsumexp(-1).cpu().numpy(),
            (torch.cat(scores) if scores else torch.zeros(0)).cpu().numpy(),
        )

    def _attend(
        self,
        module: Attention,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        slots: Tensor,
        plan: _Plan,
    ) -> Tensor:
        qkv = module.wqkv(x).unflatten(-1, (-1, module.group + 2, module.width))
        turned = apply_rope(qkv[:, :, :, :-1], cos, sin)
        q = turned[:, :, :, :-1].flatten(2, 3)
        keys, values = self._keys[module.layer], self._values[module.layer]
        keys.flatten(0, 1)[slots] = turned[0, :, :, -1]
        values.flatten(0, 1)[slots] = qkv[0, :, :, -1]
        out = torch.empty_like(q)
        if plan.single is not None:
            out[0, plan.single] = decode_attention(
                q[0, plan.single], keys, values, plan.tables, plan.lengths
            )
        for first, segment in plan.longer:
            seen = _slots(segment, 0, segment.start + segment.count).to(x.device)
            part = slice(first, first + segment.count)
            k, v = keys.flatten(0, 1)[seen], values.flatten(0, 1)[seen]
            out[:, part] = attention(q[:, part], k[None], v[None])
        result: Tensor = module.wo(out.flatten(2))
        return result


class _Plan:
    """Segments of one token, which one kernel takes together, and longer ones."""

    def __init__(self, segments: list[Segment], device: torch.device) -> None:
        self.longer: list[tuple[int, Segment]] = []
        rows, found, first = [], [], 0
        for segment in segments:
            if segment.count == 1:
                rows.append(first)
                found.append(segment)
            else:
                self.longer.append((first, segment))
            first += segment.count
        self.single = torch.tensor(rows, device=device) if rows else None
        if found:
            width = max(len(s.table) for s in found)
            tables = [s.table + [0] * (width - len(s.table)) for s in found]
            self.tables = torch.tensor(tables, dtype=torch.int32, device=device)
            lengths = [s.start + 1 for s in found]
            self.lengths = torch.tensor(lengths, dtype=torch.int32, device=device)


def _slots(segment: Segment, first: int, last: int) -> Tensor:
    """Places of tokens `first` to `last` in the flattened cache."""
    at = torch.arange(first, last)
    return torch.tensor(segment.table)[at // PAGE] * PAGE + at % PAGE
