"""The control tokens of InternLM2's chat format and where their ids come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from internlm_core.errors import TokenizerError

if TYPE_CHECKING:
    from internlm_core.tokenizer import Tokenizer

__all__ = ["INTERNLM2", "ControlIds"]

_NAMES = {
    "bos": "<s>",
    "eos": "</s>",
    "plugin": "<|plugin|>",
    "interpreter": "<|interpreter|>",
    "action_end": "<|action_end|>",
    "action_start": "<|action_start|>",
    "im_end": "<|im_end|>",
    "im_start": "<|im_start|>",
}


@dataclass(frozen=True)
class ControlIds:
    """Ids of the control tokens."""

    bos: int
    eos: int
    plugin: int
    interpreter: int
    action_end: int
    action_start: int
    im_end: int
    im_start: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ControlIds:
        """Look the control tokens up by name in a tokenizer's special tokens.

        Raises:
            TokenizerError: A name is missing; the message lists all that are.
        """
        known = tokenizer.special_tokens
        missing = [name for name in _NAMES.values() if name not in known]
        if missing:
            raise TokenizerError(
                f"the tokenizer has no special token named {', '.join(missing)}; chat needs them: "
                "train with the default special tokens, or load the folder with tokenizer_config.json"
            )
        return cls(**{field: int(known[name]) for field, name in _NAMES.items()})

    def names(self) -> dict[int, str]:
        """Id → the token's written form."""
        return {getattr(self, field): name for field, name in _NAMES.items()}


# Source: InternLM/chat/chat_format.md and the published tokenizer_config.json.
INTERNLM2 = ControlIds(
    bos=1,
    eos=2,
    plugin=92538,
    interpreter=92539,
    action_end=92540,
    action_start=92541,
    im_end=92542,
    im_start=92543,
)
