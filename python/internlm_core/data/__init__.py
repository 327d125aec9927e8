"""Records in and out, the stages, the pipeline that runs them, and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.data import readers
    from internlm_core.data.records import SCHEMA

__all__ = ["SCHEMA", "readers"]

__getattr__, __dir__ = attach(__name__, {"SCHEMA": "records", "readers": None})
