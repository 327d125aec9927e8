"""InternLM2 in torch: configuration, modules, checkpoints and conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.model.cache import KVCache
    from internlm_core.model.checkpoint import load, save
    from internlm_core.model.config import ModelConfig, RopeScaling
    from internlm_core.model.internevo import load_internevo
    from internlm_core.model.manifest import verify_manifest, write_manifest
    from internlm_core.model.modules import InternLM2
    from internlm_core.model.sizes import published

__all__ = [
    "InternLM2",
    "KVCache",
    "ModelConfig",
    "RopeScaling",
    "load",
    "load_internevo",
    "published",
    "save",
    "verify_manifest",
    "write_manifest",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "InternLM2": "modules",
        "KVCache": "cache",
        "ModelConfig": "config",
        "RopeScaling": "config",
        "load": "checkpoint",
        "load_internevo": "internevo",
        "published": "sizes",
        "save": "checkpoint",
        "verify_manifest": "manifest",
        "write_manifest": "manifest",
    },
)
