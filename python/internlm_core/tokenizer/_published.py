"""What published vocabularies leave out of their files."""

from __future__ import annotations

__all__ = ["TIKTOKEN_SPECIALS"]

# Special tokens of OpenAI's published encodings (tiktoken, tiktoken_ext/openai_public.py).
TIKTOKEN_SPECIALS = {
    "cl100k": {
        "<|endoftext|>": 100257,
        "<|fim_prefix|>": 100258,
        "<|fim_middle|>": 100259,
        "<|fim_suffix|>": 100260,
        "<|endofprompt|>": 100276,
    },
    "o200k": {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
}
