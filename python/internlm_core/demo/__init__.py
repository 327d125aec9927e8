"""The whole chain on text found on this machine: `internlm-core demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.demo.chain import run
    from internlm_core.demo.config import DemoConfig

__all__ = ["DemoConfig", "run"]

__getattr__, __dir__ = attach(__name__, {"DemoConfig": "config", "run": "chain"})
