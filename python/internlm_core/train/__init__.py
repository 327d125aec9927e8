"""Batches, phases, optimisation and exact resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.train.checkpoint import checkpoints
    from internlm_core.train.config import (
        LoRAConfig,
        OptimizerConfig,
        ParallelConfig,
        PhaseConfig,
        TrainConfig,
    )
    from internlm_core.train.evaluation import Evaluation, evaluate
    from internlm_core.train.lora import add_lora, merge, unmerge
    from internlm_core.train.memory import estimate_memory
    from internlm_core.train.report import write_report
    from internlm_core.train.schedule import ScheduleConfig
    from internlm_core.train.trainer import run

__all__ = [
    "Evaluation",
    "LoRAConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "PhaseConfig",
    "ScheduleConfig",
    "TrainConfig",
    "add_lora",
    "checkpoints",
    "estimate_memory",
    "evaluate",
    "merge",
    "run",
    "unmerge",
    "write_report",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Evaluation": "evaluation",
        "LoRAConfig": "config",
        "OptimizerConfig": "config",
        "ParallelConfig": "config",
        "PhaseConfig": "config",
        "ScheduleConfig": "schedule",
        "TrainConfig": "config",
        "add_lora": "lora",
        "checkpoints": "checkpoint",
        "estimate_memory": "memory",
        "evaluate": "evaluation",
        "merge": "lora",
        "run": "trainer",
        "unmerge": "lora",
        "write_report": "report",
    },
)
