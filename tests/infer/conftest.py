"""A model with random weights, large enough that its answers wander."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from internlm_core.infer import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from internlm_core.model import InternLM2
    from internlm_core.tokenizer import Tokenizer


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def random_model(make_random_model: Callable[..., InternLM2]) -> InternLM2:
    """256 positions; three queries share a key."""
    return make_random_model(
        hidden_size=48,
        num_attention_heads=6,
        intermediate_size=96,
        max_position_embeddings=256,
    )


@pytest.fixture(scope="session")
def engine(random_model: InternLM2, small_tokenizer: Tokenizer) -> Engine:
    """The random model with the small tokenizer."""
    return Engine(random_model, small_tokenizer)
