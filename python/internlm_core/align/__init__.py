"""Supervised fine-tuning on conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.align.tuning import pack_conversations, sft

__all__ = ["pack_conversations", "sft"]

__getattr__, __dir__ = attach(__name__, {"pack_conversations": "tuning", "sft": "tuning"})
