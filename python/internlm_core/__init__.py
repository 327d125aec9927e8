"""internlm-core: raw pages to a trained, answering InternLM2-type model, one room a step.

Rooms are imported when they are first used: `import internlm_core` loads neither torch nor polars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core import errors
from internlm_core._core import __version__
from internlm_core._lazy import attach
from internlm_core.errors import InternlmError

if TYPE_CHECKING:
    from internlm_core import align, chat, data, infer, kernels, model, tokenizer, train
    from internlm_core import eval as eval  # noqa: A004

__all__ = [
    "InternlmError",
    "__version__",
    "align",
    "chat",
    "data",
    "errors",
    "eval",
    "infer",
    "kernels",
    "model",
    "tokenizer",
    "train",
]

_ROOMS = ("align", "chat", "data", "eval", "infer", "kernels", "model", "tokenizer", "train")
__getattr__, __dir__ = attach(__name__, dict.fromkeys(_ROOMS))
