"""A model with random weights, large enough that its answers wander."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from internlm_core.infer import Engine
from internlm_core.model import InternLM2, ModelConfig

if TYPE_CHECKING:
    from internlm_core.tokenizer import Tokenizer


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def random_model(small_tokenizer: Tokenizer) -> InternLM2:
    """fp32, no end id of its own, 256 positions; the likeliest token is never an end token."""
    config = ModelConfig(
        vocab_size=small_tokenizer.vocab_size,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=96,
        initializer_range=0.3,
        bos_token_id=small_tokenizer.special_tokens["<s>"],
        eos_token_id=None,
        max_position_embeddings=256,
        dtype="float32",
    )
    model = InternLM2(config, seed=5)
    with torch.no_grad():
        model.output.weight[list(small_tokenizer.special_tokens.values())] = 0.0
    return model


@pytest.fixture(scope="session")
def engine(random_model: InternLM2, small_tokenizer: Tokenizer) -> Engine:
    """The random model with the small tokenizer."""
    return Engine(random_model, small_tokenizer)
