"""Tokenizers: load, encode, decode, train; and token shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.tokenizer.describing import compare, describe
    from internlm_core.tokenizer.extending import extend
    from internlm_core.tokenizer.hugging_face import as_transformers
    from internlm_core.tokenizer.internevo import export_internevo, import_internevo
    from internlm_core.tokenizer.packing import pack
    from internlm_core.tokenizer.shards import Shard, ShardWriter
    from internlm_core.tokenizer.streaming import DecodeStream
    from internlm_core.tokenizer.tokenize import Tokenizer
    from internlm_core.tokenizer.training import train

__all__ = [
    "DecodeStream",
    "Shard",
    "ShardWriter",
    "Tokenizer",
    "as_transformers",
    "compare",
    "describe",
    "export_internevo",
    "extend",
    "import_internevo",
    "pack",
    "train",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "DecodeStream": "streaming",
        "Shard": "shards",
        "ShardWriter": "shards",
        "Tokenizer": "tokenize",
        "as_transformers": "hugging_face",
        "compare": "describing",
        "describe": "describing",
        "export_internevo": "internevo",
        "extend": "extending",
        "import_internevo": "internevo",
        "pack": "packing",
        "train": "training",
    },
)
