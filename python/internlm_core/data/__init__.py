"""Records in and out, the stages, the pipeline that runs them, and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.data import readers
    from internlm_core.data.language import detect_language
    from internlm_core.data.records import SCHEMA
    from internlm_core.data.rules import filter, load_rules  # noqa: A004
    from internlm_core.data.statistics import METRICS, metrics

__all__ = [
    "METRICS",
    "SCHEMA",
    "detect_language",
    "filter",
    "load_rules",
    "metrics",
    "readers",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "METRICS": "statistics",
        "SCHEMA": "records",
        "detect_language": "language",
        "filter": "rules",
        "load_rules": "rules",
        "metrics": "statistics",
        "readers": None,
    },
)
