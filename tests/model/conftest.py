from __future__ import annotations

from typing import Any

import pytest
import torch
from internlm_core.model import InternLM2, ModelConfig


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nan_in_fresh_memory():
    """`torch.empty` gives NaN, so that a value nobody wrote shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def make_config():
    """A tiny configuration; `group` query heads share each of two key heads."""

    def make(*, group: int = 3, kv_heads: int = 2, width: int = 8, **changes: Any) -> ModelConfig:
        heads = group * kv_heads
        values: dict[str, Any] = {
            "vocab_size": 101,
            "hidden_size": heads * width,
            "num_hidden_layers": 2,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "intermediate_size": 56,
            "max_position_embeddings": 64,
            "rope_theta": 10_000.0,
            # Large weights, so that a fault shows in the logits.
            "initializer_range": 0.2,
            "dtype": "float32",
        }
        return ModelConfig(**(values | changes))

    return make


@pytest.fixture
def make_model(make_config):
    """A tiny fp32 model whose norms are not all one."""

    def make(*, seed: int = 1, **changes: Any) -> InternLM2:
        model = InternLM2(make_config(**changes), seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("norm.weight", "bias")):
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        return model.eval()

    return make


@pytest.fixture
def draw_ids():
    """Seeded ids of a shape, over the tiny vocabulary."""

    def draw(*shape: int, seed: int = 0) -> torch.Tensor:
        return torch.randint(0, 101, shape, generator=torch.Generator().manual_seed(seed))

    return draw
