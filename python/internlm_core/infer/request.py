"""Requests and the answers to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from internlm_core.infer.sampling import Sampler, SamplingParams
    from internlm_core.infer.text import TextWriter

__all__ = ["Chunk", "Completion", "Request"]


@dataclass(frozen=True)
class Completion:
    """One finished answer.

    Attributes:
        text: What was written, without control tokens and stop text.
        ids: The generated ids, the stop id included when one came.
        log_probs: log p of each of them under the model (temperature 1, no cuts), nats.
        finish_reason: `stop` (a stop id or text) or `length`.
        prompt_tokens: Length of the prompt.
    """

    text: str
    ids: tuple[int, ...]
    log_probs: npt.NDArray[np.float32]
    finish_reason: str
    prompt_tokens: int


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer being written.

    Attributes:
        text: Whole characters; empty only in the last chunk.
        finish_reason: None but in the last chunk.
    """

    text: str
    finish_reason: str | None = None


@dataclass
class Request:
    """A prompt, its settings, and what was written so far."""

    prompt: list[int]
    params: SamplingParams
    sampler: Sampler
    writer: TextWriter
    stop_ids: frozenset[int]
    limit: int
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    finish_reason: str | None = None

    def take(self, logits: Tensor, log_sum: float) -> str:
        """Draw the next token from `[V]` logits; returns the text it makes showable."""
        token = self.sampler.pick(logits)
        self.ids.append(token)
        self.log_probs.append(float(logits[token]) - log_sum)
        shown = ""
        if token in self.stop_ids:
            self.finish_reason = "stop"
        else:
            shown = self.writer.push(token)
            if self.writer.stop is not None:
                self.finish_reason = "stop"
            elif len(self.ids) >= self.limit:
                self.finish_reason = "length"
        if self.finish_reason is not None:
            shown += self.writer.finish()
        if shown:
            self.text.append(shown)
        return shown

    def completion(self) -> Completion:
        """The answer as it stands."""
        return Completion(
            text="".join(self.text),
            ids=tuple(self.ids),
            log_probs=np.array(self.log_probs, np.float32),
            finish_reason=self.finish_reason or "length",
            prompt_tokens=len(self.prompt),
        )
