"""Conversations rendered as segments of token ids; control ids come from the template alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.chat.control import ControlIds
    from internlm_core.chat.template import Segment, fingerprint, flatten, render, stop_ids

__all__ = ["ControlIds", "Segment", "fingerprint", "flatten", "render", "stop_ids"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ControlIds": "control",
        "Segment": "template",
        "fingerprint": "template",
        "flatten": "template",
        "render": "template",
        "stop_ids": "template",
    },
)
