"""InternLM2: pre-norm RMSNorm, grouped-query attention with interleaved wqkv, RoPE, SwiGLU.

Shapes: B rows, T tokens a row, D hidden size, K key/value heads, G query heads for each of them,
W head width, V vocabulary. Technical report §2.2; names of the parameters are the published ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from internlm_core.errors import ModelError
from internlm_core.kernels.attention import attention, check_cu_seqlens
from internlm_core.kernels.linear_cross_entropy import linear_cross_entropy
from internlm_core.kernels.rms_norm import add_rms_norm, rms_norm
from internlm_core.kernels.rope import apply_rope
from internlm_core.kernels.swiglu import swiglu
from internlm_core.model.cache import CachePlace
from internlm_core.model.rope import rope_tables

if TYPE_CHECKING:
    from torch import Tensor

    from internlm_core.model.cache import KVCache
    from internlm_core.model.config import ModelConfig

__all__ = ["InternLM2"]


@dataclass(frozen=True)
class _Pass:
    """What all layers of one forward pass share."""

    cos: Tensor
    sin: Tensor
    cu_seqlens: Tensor | None = None
    max_seqlen: int | None = None
    mask: Tensor | None = None
    cache: KVCache | None = None
    place: CachePlace | None = None


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learnt weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[..., D]`."""
        return rms_norm(x, self.weight, self.eps)

    def after(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise `residual + x`; returns that sum too."""
        return add_rms_norm(x, residual, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention; rows of wqkv are `[K, G + 2, W]`: G queries, the key, the value."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.kv_heads, self.group, self.width = (
            config.num_key_value_heads,
            config.group_size,
            config.head_width,
        )
        rows = self.kv_heads * (self.group + 2) * self.width
        heads = config.num_attention_heads * self.width
        self.wqkv = nn.Linear(config.hidden_size, rows, bias=config.wqkv_bias)
        self.wo = nn.Linear(heads, config.hidden_size, bias=config.bias)

    def forward(self, x: Tensor, step: _Pass) -> Tensor:
        """Mix `[B, T, D]` along T."""
        # Shapes come from the projection: a tensor- or sequence-parallel rank has some of the heads,
        # and a sequence-parallel one all of the tokens here.
        qkv: Tensor = self.wqkv(x).unflatten(-1, (-1, self.group + 2, self.width))
        batch, tokens = qkv.shape[:2]
        # Queries and key lie side by side, so one call turns both.
        turned = apply_rope(qkv[:, :, :, :-1], step.cos, step.sin)
        q = turned[:, :, :, :-1].reshape(batch, tokens, -1, self.width)
        k, v = turned[:, :, :, -1], qkv[:, :, :, -1]
        if step.cache is not None and step.place is not None:
            k, v = step.cache.write(self.layer, k, v, step.place)
        mixed = attention(
            q, k, v, cu_seqlens=step.cu_seqlens, max_seqlen=step.max_seqlen, mask=step.mask
        )
        result: Tensor = self.wo(mixed.reshape(batch, tokens, -1))
        return result


class FeedForward(nn.Module):
    """w2(silu(w1 x) ⊙ w3 x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.w3 = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.w2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token of `[B, T, D]`."""
        result: Tensor = self.w2(swiglu(self.w1(x), self.w3(x)))
        return result


class Layer(nn.Module):
    """One decoder layer: attention and feed-forward, each behind its norm and a residual."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer)
        self.feed_forward = FeedForward(config)
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.ffn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, step: _Pass) -> Tensor:
        """`[B, T, D]` to the same."""
        normal, x = self.ffn_norm.after(self.attention(self.attention_norm(x), step), x)
        result: Tensor = x + self.feed_forward(normal)
        return result


class InternLM2(nn.Module):
    """A causal language model.

    Args:
        config: Its architecture.
        seed: Seed of the initial weights, the same on every machine; None leaves them as torch
            made them (for a model that is loaded next).

    Attributes:
        activation_checkpointing: Share of the layers, 0 to 1, whose activations are recomputed in
            the backward pass instead of kept.
    """

    def __init__(self, config: ModelConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = 0.0
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if seed is not None:
            self.reset_parameters(seed)

    @torch.no_grad()
    def reset_parameters(self, seed: int) -> None:
        """Draw new weights: normal, std `initializer_range`, biases 0, norms 1.

        wo and w2 of layer i (from 0) get std / √(2·(i + 1)), InternEvo's depth scaling.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            parameter.copy_(self.initial(name, parameter.shape, generator))

    def initial(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """New values of one parameter, fp32 on the CPU, so that device and dtype don't matter.

        Args:
            name: Of the parameter, which tells its standard deviation.
            shape: Whole shape.
            generator: Drawn from by each matrix, in the order of `named_parameters`.
        """
        if name.endswith("norm.weight"):
            return torch.ones(shape)
        if name.endswith("bias"):
            return torch.zeros(shape)
        std = self.config.initializer_range
        if name.endswith(("wo.weight", "w2.weight")):
            std /= math.sqrt(2 * (int(name.split(".")[1]) + 1))
        return torch.empty(shape).normal_(0.0, std, generator=generator)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.tok_embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.tok_embeddings.weight.dtype

    @property
    def parameter_count(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def set_rope(self, theta: float, max_positions: int) -> None:
        """Change RoPE's base and the trained length, as between training phases."""
        changed = {"rope_theta": theta, "max_position_embeddings": max_positions}
        self.config = type(self.config).model_validate(self.config.model_dump() | changed)

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        session_length: int | None = None,
    ) -> Tensor:
        """Logits `[B, T, V]` of the token after each one; arguments as in `hidden`."""
        return self.logits(
            self.hidden(
                ids,
                positions=positions,
                cu_seqlens=cu_seqlens,
                mask=mask,
                cache=cache,
                session_length=session_length,
            )
        )

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        session_length: int | None = None,
    ) -> Tensor:
        """Final hidden states `[B, T, D]`, after the last norm.

        Args:
            ids: `[B, T]` int64.
            positions: `[B, T]` int64 for RoPE alone; counted from 0 in each row or document (after
                the cached tokens) when None.
            cu_seqlens: `[n + 1]` int32 bounds of documents packed in the only row; they don't see
                each other and positions restart.
            mask: `[B, T]` bool, False at padding, on either side; padding is neither seen nor
                cached, and what is returned for it has no meaning.
            cache: Earlier tokens of each row; the new ones are added to it.
            session_length: Length that dynamic RoPE scaling is computed for: the cache's, or that
                of each row or document, when None.

        Raises:
            ModelError: Ids outside the vocabulary, arguments that contradict each other, or a
                cache without room.
            KernelError: Cumulative lengths that don't fit the row.
        """
        step = self._plan(ids, positions, cu_seqlens, mask, cache, session_length)
        x = self.tok_embeddings(ids)
        recomputed = round(self.activation_checkpointing * len(self.layers))
        for i, layer in enumerate(self.layers):
            if i < recomputed and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, step, use_reentrant=False)
            else:
                x = layer(x, step)
        if cache is not None and step.place is not None:
            cache.lengths += step.place.counts
        hidden: Tensor = self.norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """`[..., D]` final hidden states to `[..., V]` logits."""
        return functional.linear(hidden, self._head())

    def loss(
        self, ids: Tensor, labels: Tensor, *, cu_seqlens: Tensor | None = None
    ) -> tuple[Tensor, int]:
        """Summed next-token loss in nats (fp32), and the number of labels it is over.

        Args:
            ids: `[B, T]` int64.
            labels: `[B, T]` int64, already shifted: what follows each id; -100 is left out.
            cu_seqlens: As in `hidden`.
        """
        hidden = self.hidden(ids, cu_seqlens=cu_seqlens)
        return linear_cross_entropy(hidden.flatten(0, 1), self._head(), labels.flatten())

    def _head(self) -> Tensor:
        weight = self.output.weight
        return functional.normalize(weight, dim=1) if self.config.norm_head else weight

    def _plan(
        self,
        ids: Tensor,
        positions: Tensor | None,
        cu_seqlens: Tensor | None,
        mask: Tensor | None,
        cache: KVCache | None,
        session_length: int | None,
    ) -> _Pass:
        self._check(ids, positions, cu_seqlens, mask, cache)
        tokens, device = ids.shape[1], ids.device
        counted = torch.arange(tokens, device=device)[None]
        lengths: Tensor | int = tokens
        place = seen = longest = None
        if cu_seqlens is not None:
            bounds = check_cu_seqlens(cu_seqlens, tokens)
            cu_seqlens = cu_seqlens.to(device)
            sizes = torch.tensor(bounds, device=device).diff()
            longest = int(sizes.max())
            lengths = sizes.repeat_interleave(sizes)[None]
            counted = counted - torch.tensor(bounds[:-1], device=device).repeat_interleave(sizes)
        elif cache is not None:
            place = CachePlace(cache, tokens, mask)
            counted, seen, lengths = place.positions, place.mask, cache.session_length
        elif mask is not None:
            counted = (mask.long().cumsum(1) - 1).clamp_min(0)
            lengths = mask.sum(1, keepdim=True)
            causal = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()
            seen = causal & mask[:, None, :]
        if session_length is not None:
            lengths = session_length
        cos, sin = rope_tables(self.config, counted if positions is None else positions, lengths)
        return _Pass(cos, sin, cu_seqlens, longest, seen, cache, place)

    def _check(
        self,
        ids: Tensor,
        positions: Tensor | None,
        cu_seqlens: Tensor | None,
        mask: Tensor | None,
        cache: KVCache | None,
    ) -> None:
        if ids.dim() != 2 or ids.dtype != torch.int64:
            raise ModelError(f"ids must be int64 [B, T], got {ids.dtype} {tuple(ids.shape)}")
        if ids.numel() == 0:
            raise ModelError(f"ids are empty: {tuple(ids.shape)}")
        for name, other in (("positions", positions), ("mask", mask)):
            if other is not None and other.shape != ids.shape:
                raise ModelError(
                    f"{name} {tuple(other.shape)} must be shaped as ids {tuple(ids.shape)}"
                )
        if cu_seqlens is not None and (ids.shape[0] != 1 or mask is not None or cache is not None):
            raise ModelError("cu_seqlens packs documents in one row, without mask or cache")
        if not ids.is_cuda:  # a look at the values would make a CUDA device wait
            low, high = (int(x) for x in ids.aminmax())
            if low < 0 or high >= self.config.vocab_size:
                raise ModelError(
                    f"ids run from {low} to {high}, the vocabulary has {self.config.vocab_size}"
                    " entries; were they made with this model's tokenizer?"
                )
