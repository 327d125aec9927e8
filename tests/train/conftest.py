"""Shards and configurations that train in a second."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def documents() -> list[np.ndarray]:
    """60 documents of 1 to 119 tokens: counting in steps, so that there is something to learn."""
    rng = np.random.default_rng(0)
    return [
        (np.arange(rng.integers(1, 120)) * rng.integers(1, 4) + rng.integers(97)) % 97
        for _ in range(60)
    ]


@pytest.fixture
def settings() -> Callable[..., dict[str, Any]]:
    """A small configuration with two phases, as a mapping; keyword arguments replace keys."""

    def make(**changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = {
            "model": {
                "vocab_size": 128,
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "intermediate_size": 64,
            },
            "phases": [
                {"name": "short", "epochs": 2.5, "sequence_length": 32, "batch_tokens": 512},
                {
                    "name": "long",
                    "tokens": 2048,
                    "sequence_length": 64,
                    "rope_theta": 1e6,
                    "batch_tokens": 512,
                    "short_fraction": 0.5,
                },
            ],
            "schedule": {"peak_lr": 3e-3, "warmup_share": 0.1},
            "dtype": "fp32",
            "micro_batch_tokens": 256,
            "threads": 1,
            "checkpoint_every": 3,
        }
        return values | changes

    return make


@pytest.fixture
def held_out(tmp_path: Path, write_shard: Callable[..., Path], documents: Any) -> Path:
    """A shard of the last ten documents."""
    return write_shard(tmp_path / "held-out", documents[-10:])


@pytest.fixture
def shard(tmp_path: Path, write_shard: Callable[..., Path], documents: Any) -> Path:
    """A shard of the first fifty documents."""
    return write_shard(tmp_path / "shard", documents[:50])


@pytest.fixture
def write_toml() -> Callable[[Path, dict[str, Any]], None]:
    """Write a configuration as a file: JSON is TOML but for tables, which are written inline."""

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k} = {text(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(text, value)) + "]"
        return json.dumps(value)

    def write(path: Path, values: dict[str, Any]) -> None:
        path.write_text("".join(f"{key} = {text(value)}\n" for key, value in values.items()))

    return write
