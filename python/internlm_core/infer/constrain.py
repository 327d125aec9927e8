"""Answers of a prescribed form: a JSON schema, a regular expression, one of some texts.

The library llguidance says which tokens may follow; this file gives it our vocabulary and words its
complaints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from internlm_core._optional import require
from internlm_core.errors import InferError

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from internlm_core.infer.sampling import SamplingParams
    from internlm_core.tokenizer import Tokenizer

__all__ = ["Constraint", "Grammars"]


class Constraint:
    """The state of one answer.

    Args:
        matcher: llguidance's.
    """

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def allowed(self, count: int) -> npt.NDArray[np.bool_]:
        """`[count]`: which ids may come next; an end id only where the answer is complete.

        Raises:
            InferError: None may: the form can't be followed to its end.
        """
        words = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        mask = np.unpackbits(words, bitorder="little").astype(bool)
        mask = np.pad(mask[:count], (0, max(0, count - len(mask))))
        if self._matcher.is_error() or not mask.any():
            raise InferError(
                f"the prescribed form can't be followed: {self._matcher.get_error() or 'no token fits'}"
            )
        return mask

    def take(self, token: int) -> None:
        """A token that `allowed` named was written."""
        self._matcher.consume_token(token)

    @property
    def finished(self) -> bool:
        """Whether nothing more can follow."""
        return bool(self._matcher.is_stopped())


class _Vocabulary:
    """What llguidance asks of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer, ends: Collection[int]) -> None:
        self._tokenizer = tokenizer
        special = tokenizer.special_tokens
        self.special_token_ids = sorted(special.values())
        self.eos_token_id = min(ends)
        self.bos_token_id = special.get("<s>")
        names = {token: name for name, token in special.items()}
        # The mark 0xff keeps the names of control tokens apart from text that spells them.
        self.tokens = [
            b"\xff" + names[i].encode() if i in names else tokenizer.id_to_bytes(i)
            for i in range(tokenizer.vocab_size)
        ]

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode()
        ids: list[int] = self._tokenizer.encode_ordinary(text).tolist()
        return ids


class Grammars:
    """Makes constraints for one vocabulary.

    Args:
        tokenizer: Of the engine.
        ends: Ids that end an answer.
    """

    def __init__(self, tokenizer: Tokenizer, ends: Collection[int]) -> None:
        self._library = require("llguidance", extra="serve")
        ends = sorted(ends)
        if not ends:
            raise InferError("a prescribed form needs a model with an end token")
        wrapper = self._library.TokenizerWrapper(_Vocabulary(tokenizer, ends))
        self._tokenizer = self._library.LLTokenizer(wrapper, eos_token=ends)

    def constraint(self, params: SamplingParams) -> Constraint:
        """A fresh one for an answer.

        Raises:
            InferError: A schema or an expression that can't be used.
        """
        matcher = self._library.LLMatcher
        name = next(n for n in ("json_schema", "regex", "choice") if getattr(params, n))
        if params.choice is not None:
            quoted = " | ".join(orjson.dumps(text).decode() for text in params.choice)
            grammar = matcher.grammar_from_lark(f"start: {quoted}")
        elif params.regex is not None:
            grammar = matcher.grammar_from_regex(params.regex)
        else:
            schema = params.json_schema
            schema = {"type": "object"} if schema is True else schema
            # Free blanks could go on for ever where the model likes them.
            options = {"whitespace_flexible": False}
            grammar = matcher.grammar_from_json_schema(
                orjson.dumps(schema).decode(), defaults=options
            )
        made = matcher(self._tokenizer, grammar, log_level=0)
        if made.is_error():
            raise InferError(f"{name}: can't be used: {made.get_error().strip()}")
        return Constraint(made)
