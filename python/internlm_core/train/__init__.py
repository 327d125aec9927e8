"""Batches, phases, optimisation and exact resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.train.checkpoint import checkpoints
    from internlm_core.train.config import OptimizerConfig, PhaseConfig, TrainConfig
    from internlm_core.train.evaluation import Evaluation, evaluate
    from internlm_core.train.schedule import ScheduleConfig
    from internlm_core.train.trainer import run

__all__ = [
    "Evaluation",
    "OptimizerConfig",
    "PhaseConfig",
    "ScheduleConfig",
    "TrainConfig",
    "checkpoints",
    "evaluate",
    "run",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Evaluation": "evaluation",
        "OptimizerConfig": "config",
        "PhaseConfig": "config",
        "ScheduleConfig": "schedule",
        "TrainConfig": "config",
        "checkpoints": "checkpoint",
        "evaluate": "evaluation",
        "run": "trainer",
    },
)
