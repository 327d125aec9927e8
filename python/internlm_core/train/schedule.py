"""Learning rate by step: linear warm-up, then cosine, linear or constant."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from internlm_core._config import Config

__all__ = ["ScheduleConfig", "learning_rate"]


class ScheduleConfig(Config):
    """One rise and fall of the learning rate."""

    peak_lr: float = Field(3e-4, gt=0)
    """Report, Table 3: 3e-4 for 1.8B, 7B and 20B."""
    kind: Literal["cosine", "linear", "constant"] = "cosine"
    """Report §3.2.2: cosine."""
    warmup_share: float = Field(0.01, ge=0, le=1)
    """Share of the steps spent rising; InternEvo's `warmup_ratio` (the report is silent)."""
    final_ratio: float = Field(0.1, ge=0, le=1)
    """Last rate over the peak; report §3.2.2: decays to 10 % of its maximum."""


def learning_rate(schedule: ScheduleConfig, step: int, steps: int) -> float:
    """Rate for step `step` of `steps`, counted from 0.

    Step s of W warm-up steps takes peak·(s + 1)/W, so that the W-th step takes the peak; the last
    step takes peak·final_ratio (but for `constant`).
    """
    warmup = min(steps, math.ceil(schedule.warmup_share * steps))
    if step < warmup:
        return schedule.peak_lr * (step + 1) / warmup
    if schedule.kind == "constant":
        return schedule.peak_lr
    fallen = min(1.0, (step + 1 - warmup) / max(1, steps - warmup))
    if schedule.kind == "cosine":
        fallen = 0.5 * (1 - math.cos(math.pi * fallen))
    return schedule.peak_lr * (1 - (1 - schedule.final_ratio) * fallen)
