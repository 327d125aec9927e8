"""How the next token is chosen, a request at a time, so that its neighbours never matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from internlm_core.errors import InferError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Sampler", "SamplingParams"]


@dataclass(frozen=True)
class SamplingParams:
    """Settings of one request.

    Attributes:
        max_tokens: Most tokens to write.
        temperature: 0 takes the likeliest token; above, logits are divided by it.
        top_k: Choose among the k likeliest; 0 turns it off.
        top_p: Choose among the fewest likeliest tokens whose probabilities add up to at least this
            (Holtzman et al. 2020); 1 turns it off.
        seed: Of this request's draws; None draws afresh each time.
        stop: Texts that end the answer; they are not part of it.
        stop_ids: Ids that end it, besides the model's own.

    Raises:
        InferError: A value is out of range.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        wrong = {
            f"max_tokens={self.max_tokens}: must be at least 1": self.max_tokens < 1,
            f"temperature={self.temperature}: must be 0 or more": not self.temperature >= 0,
            f"top_k={self.top_k}: must be 0 (off) or more": self.top_k < 0,
            f"top_p={self.top_p}: must be above 0 and at most 1": not 0 < self.top_p <= 1,
            "stop: must be texts of at least one character": not all(self.stop),
        }
        if found := [message for message, bad in wrong.items() if bad]:
            raise InferError("; ".join(found))


class Sampler:
    """Draws the tokens of one request.

    Args:
        params: Its settings.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        # Philox: a counter-based stream with the same numbers on every machine.
        self._random = np.random.Generator(np.random.Philox(params.seed))

    def pick(self, logits: Tensor) -> int:
        """Choose from fp32 logits `[V]`.

        Raises:
            InferError: A logit is not a number: the weights are broken, or fp16 overflowed.
        """
        if self._params.temperature == 0:
            best = int(logits.argmax())
            if not torch.isfinite(logits[best]):
                raise InferError(_BROKEN)
            return best
        ids, probabilities = candidates(
            logits, self._params.temperature, self._params.top_k, self._params.top_p
        )
        if not np.isfinite(probabilities).all():
            raise InferError(_BROKEN)
        # Inverse of the cumulative distribution: one draw a token, whatever the settings.
        cumulative = np.cumsum(probabilities)
        at = int(np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        return int(ids[min(at, len(ids) - 1)])


_BROKEN = (
    "the model's logits are not numbers; use bfloat16 or float32 instead of float16, or check the"
    " weights"
)


def candidates(
    logits: Tensor, temperature: float, top_k: int, top_p: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ids that may be drawn, likeliest first, and their probabilities (not renormalised, fp64)."""
    scaled = logits.double() / temperature
    scaled, ids = scaled.sort(descending=True, stable=True)
    if top_k:
        scaled, ids = scaled[:top_k], ids[:top_k]
    probabilities = scaled.softmax(-1)
    if top_p < 1:
        before = probabilities.cumsum(-1) - probabilities
        kept = int((before < top_p).sum())
        probabilities, ids = probabilities[:kept], ids[:kept]
    return ids.cpu().numpy(), probabilities.cpu().numpy()
