"""Conversations rendered as segments of token ids; control ids come from the template alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.chat.control import ControlIds
    from internlm_core.chat.dialects import DIALECTS, Dialect
    from internlm_core.chat.imported import Comparison, ImportedTemplate, compare_template
    from internlm_core.chat.openai import from_openai
    from internlm_core.chat.parsing import (
        Call,
        CallWarning,
        Reply,
        ReplyParser,
        TextDelta,
        code_of,
        parse,
    )
    from internlm_core.chat.partial import CallDelta, CallStart
    from internlm_core.chat.stored import (
        describe_rendering,
        rendering_warning,
        stored_dialect,
        stored_rendering,
    )
    from internlm_core.chat.template import Segment, fingerprint, flatten, render, stop_ids

__all__ = [
    "DIALECTS",
    "Call",
    "CallDelta",
    "CallStart",
    "CallWarning",
    "Comparison",
    "ControlIds",
    "Dialect",
    "ImportedTemplate",
    "Reply",
    "ReplyParser",
    "Segment",
    "TextDelta",
    "code_of",
    "compare_template",
    "describe_rendering",
    "fingerprint",
    "flatten",
    "from_openai",
    "parse",
    "render",
    "rendering_warning",
    "stop_ids",
    "stored_dialect",
    "stored_rendering",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Call": "parsing",
        "CallDelta": "partial",
        "CallStart": "partial",
        "CallWarning": "parsing",
        "Comparison": "imported",
        "ControlIds": "control",
        "DIALECTS": "dialects",
        "Dialect": "dialects",
        "ImportedTemplate": "imported",
        "Reply": "parsing",
        "ReplyParser": "parsing",
        "Segment": "template",
        "TextDelta": "parsing",
        "code_of": "parsing",
        "compare_template": "imported",
        "describe_rendering": "stored",
        "fingerprint": "template",
        "flatten": "template",
        "from_openai": "openai",
        "parse": "parsing",
        "render": "template",
        "rendering_warning": "stored",
        "stop_ids": "template",
        "stored_dialect": "stored",
        "stored_rendering": "stored",
    },
)
