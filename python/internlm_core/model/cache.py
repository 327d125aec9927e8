"""Keys and values of what was read so far, contiguous, with a length for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from internlm_core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from internlm_core.model.config import ModelConfig

__all__ = ["KVCache"]


class KVCache:
    """Room for `batch` sequences of up to `max_length` tokens.

    Args:
        config: The model the cache is for.
        batch: Rows.
        max_length: Slots a row; forward raises when a row would outgrow it.
        dtype: Type of keys and values; that of the model's weights as stored when None.
        device: Where it lies.
        session_length: Length that dynamic RoPE scaling is fixed for, from the first token on;
            `max_length` when None. Cached keys are already turned, so it must not change later.

    Attributes:
        lengths: `[batch]` int64 on the CPU: tokens read so far in each row. Lower an entry to go
            back; set it to 0 to reuse the row.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        max_length: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        *,
        session_length: int | None = None,
    ) -> None:
        shape = (
            config.num_hidden_layers,
            batch,
            config.num_key_value_heads,
            max_length,
            config.head_width,
        )
        dtype = getattr(torch, config.dtype) if dtype is None else dtype
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.int64)
        self.session_length = max_length if session_length is None else session_length

    @property
    def batch(self) -> int:
        """Rows."""
        return self.keys.shape[1]

    @property
    def max_length(self) -> int:
        """Slots a row."""
        return self.keys.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes that keys and values take."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def slots(self, counts: Tensor, mask: Tensor | None, tokens: int) -> Tensor:
        """Where the next tokens go, `[batch, tokens]`; padding gets the slot of the token before.

        Raises:
            ModelError: A row has no room for them.
        """
        if counts.shape[0] != self.batch:
            raise ModelError(f"the cache has {self.batch} rows, the ids have {counts.shape[0]}")
        over = self.lengths + counts > self.max_length
        if bool(over.any()):
            row = int(over.nonzero()[0, 0])
            raise ModelError(
                f"row {row}: {int(self.lengths[row])} tokens are cached and {int(counts[row])} more"
                f" don't fit in {self.max_length}; make the cache longer or the prompt shorter"
            )
        if mask is None:
            steps = torch.arange(tokens).expand(self.batch, tokens)
        else:
            steps = (mask.cpu().long().cumsum(1) - 1).clamp_min(0)
        return self.lengths[:, None] + steps

    def write(
        self, layer: int, key: Tensor, value: Tensor, at: CachePlace
    ) -> tuple[Tensor, Tensor]:
        """Store `[B, T, K, D]` keys and values, and return all that is filled, `[B, S, K, D]`."""
        for store, new in ((self.keys[layer], key), (self.values[layer], value)):
            if at.start is not None:
                store[:, :, at.start : at.end] = new.transpose(1, 2)
            else:
                store[at.rows, :, at.columns] = new[at.rows, at.tokens].to(store.dtype)
        end = at.end
        return self.keys[layer, :, :, :end].transpose(1, 2), self.values[
            layer, :, :, :end
        ].transpose(1, 2)


class CachePlace:
    """Where one forward pass writes, and what its queries may see.

    Attributes:
        start: First slot when all rows are level and unpadded (a plain slice), else None.
        end: One past the last slot in use after the write.
        mask: `[B or 1, T, S]` bool for attention, or None where causality says all.
        positions: `[B, T]` slots of the new tokens.
    """

    def __init__(self, cache: KVCache, tokens: int, mask: Tensor | None) -> None:
        device = cache.keys.device
        level = mask is None and bool((cache.lengths == cache.lengths[:1]).all())
        if mask is None:
            self.counts = torch.full((cache.batch,), tokens)
        else:
            self.counts = mask.sum(1).cpu()
        slots = cache.slots(self.counts, mask, tokens)
        self.positions = slots.to(device)
        self.end = int((cache.lengths + self.counts).max())
        self.start = self.end - tokens if level else None
        if self.start is None:
            real = torch.ones_like(slots, dtype=torch.bool) if mask is None else mask.cpu()
            self.rows, self.tokens = (x.to(device) for x in real.nonzero(as_tuple=True))
            self.columns = slots[real].to(device)
        self.mask = None
        if self.start is None or (self.start > 0 and tokens > 1):
            seen = self.positions if self.start is None else self.positions[:1]
            self.mask = torch.arange(self.end, device=device) <= seen[:, :, None]
