"""Measuring models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.eval import lm_eval

__all__ = ["lm_eval"]

__getattr__, __dir__ = attach(__name__, {"lm_eval": None})
