"""Log-probabilities of given tokens, without holding all logits at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from internlm_core.model.modules import InternLM2

__all__ = ["token_log_probs"]

# fp32 logits of one chunk, as in kernels.linear_cross_entropy.
_CHUNK_BYTES = 32 << 20


@torch.no_grad()
def token_log_probs(
    model: InternLM2, ids: Tensor, labels: Tensor, *, cu_seqlens: Tensor | None = None
) -> Tensor:
    """Log p(label | what precedes it) for each position, in nats.

    Args:
        model: The model.
        ids: `[B, T]` int64.
        labels: `[B, T]` int64, what follows each id; the result at negative labels is 0.
        cu_seqlens: Bounds of documents packed in one row, as in `InternLM2.hidden`.

    Returns:
        fp32 `[B, T]`.
    """
    hidden = model.hidden(ids, cu_seqlens=cu_seqlens).flatten(0, 1)
    flat = labels.flatten()
    result = torch.zeros(flat.shape, device=ids.device)
    wanted = (flat >= 0).nonzero().squeeze(-1)
    rows = max(64, _CHUNK_BYTES // (4 * model.config.vocab_size))
    for part in torch.split(wanted, rows):
        logits = model.logits(hidden[part]).float()
        picked = logits.gather(1, flat[part, None]).squeeze(1)
        result[part] = picked - logits.logsumexp(-1)
    return result.view(labels.shape)
