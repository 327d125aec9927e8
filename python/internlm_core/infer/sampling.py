"""How the next token is chosen, a request at a time, so that its neighbours never matter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from internlm_core._config import Config
from internlm_core.errors import InferError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from typing_extensions import Self

    from internlm_core.infer.constrain import Constraint

    Logits = npt.NDArray[np.float32]

__all__ = ["Sampler", "SamplingParams"]

_FIRST_LOOK = 256
"""Likeliest tokens that are sorted first for `top_p`; nearly always they are enough."""


class SamplingParams(Config):
    """Settings of one request, checked when they are made.

    Order of work: repetition, frequency and presence penalties, `logit_bias`, the constraint,
    temperature, `top_k`, `top_p`, `min_p`.

    Raises:
        InferError: A value is out of range, or a key unknown; it is named.
    """

    max_tokens: int = Field(default=256, ge=1)
    """Most tokens to write."""
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """0 takes the likeliest token; above, logits are divided by it."""
    top_k: int = Field(default=0, ge=0)
    """Choose among the k likeliest; 0 turns it off."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Choose among the fewest likeliest tokens whose probabilities add up to at least this (Holtzman
    et al. 2020); 1 turns it off."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Drop tokens less likely than this share of the likeliest (Nguyen et al. 2024); 0: off."""
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=100)
    """Logits of tokens in prompt or answer are divided by it where positive, multiplied where
    negative (Keskar et al. 2019); 1: off."""
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Taken from a logit for each time its token is in the answer (OpenAI's API)."""
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Taken from a logit once, if its token is in the answer (OpenAI's API)."""
    seed: int | None = Field(default=None, ge=0)
    """Of this request's draws; None draws afresh each time."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; they are not part of it."""
    stop_ids: tuple[int, ...] = ()
    """Ids that end it, besides the model's own."""
    ignore_eos: bool = False
    """Go on after the model's own end ids."""
    logit_bias: dict[int, float] = Field(default_factory=dict)
    """Added to the logits of ids."""
    logprobs: int | None = Field(default=None, ge=0, le=1000)
    """Report the likeliest so many tokens beside each that was written; 0: that one alone. Before
    penalties, bias, constraint and temperature."""
    n: int = Field(default=1, ge=1, le=1024)
    """Answers; with a seed, answer i has seed + i."""
    json_schema: dict[str, Any] | bool | None = None
    """The answer is JSON of this schema; True: any JSON object."""
    regex: str | None = None
    """The answer matches this regular expression, whole."""
    choice: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The answer is one of these texts."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            lines = [
                f"{'.'.join(map(str, e['loc'])) or 'settings'}={e['input']!r}: {e['msg']}"
                if e["loc"]
                else e["msg"].removeprefix("Value error, ")
                for e in error.errors()
            ]
            raise InferError("; ".join(lines)) from None

    @field_validator("stop", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not all(self.stop):
            raise ValueError("stop: must be texts of at least one character")
        if bad := [x for x in self.logit_bias.values() if math.isnan(x)]:
            raise ValueError(f"logit_bias: {bad[0]} is not a number")
        given = [name for name in ("json_schema", "regex", "choice") if self._has(name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: give one of them")
        return self

    def _has(self, name: str) -> bool:
        return getattr(self, name) not in (None, False)

    @property
    def constrained(self) -> bool:
        """Whether the answer's form is prescribed."""
        return any(self._has(name) for name in ("json_schema", "regex", "choice"))

    @property
    def penalised(self) -> bool:
        """Whether earlier tokens change the logits."""
        return (
            self.repetition_penalty != 1
            or self.frequency_penalty != 0
            or self.presence_penalty != 0
        )


class Sampler:
    """Draws the tokens of one answer.

    Args:
        params: Its settings.
        index: Which of the `n` answers; shifts the seed.
        prompt: Ids before the answer, for the repetition penalty.
        constraint: What the answer must match.
    """

    def __init__(
        self,
        params: SamplingParams,
        index: int = 0,
        prompt: Sequence[int] = (),
        constraint: Constraint | None = None,
    ) -> None:
        self._params = params
        seed = None if params.seed is None else params.seed + index
        # Philox: a counter-based stream with the same numbers on every machine.
        self._random = np.random.Generator(np.random.Philox(seed))
        self._seen = set(prompt) if params.repetition_penalty != 1 else set()
        self._counts: dict[int, int] = {}
        self._constraint = constraint
        self._plain = not (params.penalised or params.logit_bias or constraint)

    @property
    def complete(self) -> bool:
        """Whether a prescribed form has come to its end."""
        return self._constraint is not None and self._constraint.finished

    def pick(self, logits: Logits) -> int:
        """Choose from fp32 logits `[V]`, which are left as they are.

        Raises:
            InferError: A logit is not a number: the weights are broken, or fp16 overflowed.
        """
        if not self._plain:
            logits = self._changed(logits)
        token = self._draw(logits)
        if self._params.penalised:
            self._seen.add(token)
            self._counts[token] = self._counts.get(token, 0) + 1
        if self._constraint is not None:
            self._constraint.take(token)
        return token

    def _draw(self, logits: Logits) -> int:
        p = self._params
        if p.temperature == 0:
            best = int(logits.argmax())
            if not np.isfinite(logits[best]):
                raise InferError(_BROKEN)
            return best
        ids, weights = candidates(logits, p.temperature, p.top_k, p.top_p, p.min_p)
        cumulative = np.cumsum(weights)
        if not np.isfinite(cumulative[-1]):
            raise InferError(_BROKEN)
        # Inverse of the cumulative distribution: one draw a token, whatever the settings.
        at = int(np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        return int(ids[min(at, len(ids) - 1)])

    def _changed(self, logits: Logits) -> Logits:
        p, logits = self._params, logits.copy()
        if self._seen and p.repetition_penalty != 1:
            ids = np.fromiter((i for i in self._seen if i < len(logits)), np.int64)
            old = logits[ids]
            logits[ids] = np.where(old > 0, old / p.repetition_penalty, old * p.repetition_penalty)
        if self._counts and (p.frequency_penalty or p.presence_penalty):
            ids = np.fromiter(self._counts, np.int64)
            counts = np.fromiter(self._counts.values(), np.float32)
            logits[ids] -= counts * p.frequency_penalty + np.float32(p.presence_penalty)
        for token, bias in p.logit_bias.items():
            logits[token] += np.float32(bias)
        if self._constraint is not None:
            logits[~self._constraint.allowed(len(logits))] = -np.inf
        return logits


_BROKEN = (
    "the model's logits are not numbers; use bfloat16 or float32 instead of float16, or check the"
    " weights"
)


def candidates(
    logits: Logits, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Ids that may be drawn and their weights, fp64, not normalised.

    With `top_k` or `top_p` the likeliest comes first, equal ones by id; else they come by id.
    """
    scaled = logits.astype(np.float64)
    scaled -= scaled.max()
    with np.errstate(over="ignore"):  # by a temperature next to nothing: only the likeliest is left
        weights = np.exp(scaled / temperature)
    if top_k or top_p < 1:
        ids, weights = _likeliest(weights, top_k, top_p)
    else:
        ids = np.flatnonzero(weights)
        weights = weights[ids]
    if min_p > 0 and len(weights):
        kept = weights >= min_p * weights.max()
        ids, weights = ids[kept], weights[kept]
    if not len(ids):
        raise InferError(_BROKEN)
    return ids, weights


def _likeliest(
    weights: npt.NDArray[np.float64], top_k: int, top_p: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    total = 0.0 if top_k else float(weights.sum())
    count = min(top_k or _FIRST_LOOK, len(weights))
    while True:
        least = np.partition(weights, len(weights) - count)[len(weights) - count]
        ids = np.flatnonzero((weights >= least) & (weights > 0))
        ids = ids[np.argsort(-weights[ids], kind="stable")][:count]
        found = weights[ids]
        sums = np.cumsum(found)
        if top_k:
            total = float(sums[-1]) if len(sums) else 0.0
        if top_k or count == len(weights) or sums[-1] >= top_p * total:
            before = sums - found
            kept = max(1, int((before < top_p * total).sum()))
            return ids[:kept], found[:kept]
        count = min(4 * count, len(weights))
