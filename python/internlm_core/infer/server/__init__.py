"""An OpenAI-compatible server over one engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.infer.server.app import create_app
    from internlm_core.infer.server.running import serve
    from internlm_core.infer.server.settings import ServerSettings

__all__ = ["ServerSettings", "create_app", "serve"]

__getattr__, __dir__ = attach(
    __name__, {"ServerSettings": "settings", "create_app": "app", "serve": "running"}
)
