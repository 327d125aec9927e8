"""What published vocabularies leave out of their files."""

from __future__ import annotations

__all__ = ["TIKTOKEN_DIGESTS", "TIKTOKEN_SPECIALS"]

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
# SHA-256 of their rank files by name (same source).
TIKTOKEN_DIGESTS = {
    "cl100k_base.tiktoken": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base.tiktoken": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
