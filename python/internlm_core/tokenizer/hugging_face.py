"""Our vocabularies for transformers' users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from internlm_core._optional import require

if TYPE_CHECKING:
    from internlm_core.tokenizer.tokenize import Tokenizer

__all__ = ["as_transformers"]

# Role in transformers → names it has in the vocabularies that we read, the first present one counts.
_ROLES = {
    "bos_token": ("<s>", "<|begin_of_text|>"),
    "eos_token": ("</s>", "<|endoftext|>", "<|im_end|>"),
    "unk_token": ("<unk>",),
    "pad_token": ("<pad>", "</s>", "<|endoftext|>"),
}


def as_transformers(tok: Tokenizer) -> Any:
    """A transformers `PreTrainedTokenizerFast` that gives the same ids.

    It finds special tokens in any text, as that library does; ours only where a call allows it. So
    its ids are those of `tok.encode(text, allowed_special="all")`, for every text.

    Args:
        tok: Any tokenizer of this package.

    Returns:
        The tokenizer: names keep their ids, none is appended.

    Raises:
        MissingExtraError: transformers is not installed (extra `hf`).
        TokenizerError: `tokenizer.json` can't express the vocabulary.
    """
    tokenizers = require("tokenizers", extra="hf")
    transformers = require("transformers", extra="hf")
    inner = tokenizers.Tokenizer.from_str(tok.to_json())
    special = tok.special_tokens
    roles = {}
    for role, names in _ROLES.items():
        name = next((name for name in names if name in special), None)
        if name is not None:
            roles[role] = name
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **roles)
