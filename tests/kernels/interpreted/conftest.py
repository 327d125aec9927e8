"""What the checks share: fp64 copies, errors and their bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

# Largest error as a share of the largest true value. bf16 is loose: the interpreter truncates
# casts to bf16 instead of rounding them.
BOUND = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 3e-2}


def _error(got: torch.Tensor, true: torch.Tensor) -> float:
    assert got.shape == true.shape
    if not true.numel():
        return 0.0
    got, true = got.detach().double(), true.detach()
    # True values near 0 (the gradient of a softmax over one key) leave rounding alone: floor of 1.
    worst = (got - true).abs().max() / true.abs().max().clamp_min(1.0)
    return float("inf") if worst.isnan() else float(worst)


def _wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [x.detach().double().requires_grad_() for x in tensors]


@pytest.fixture
def error():
    """Largest error as a share of the largest true value, infinite where NaN."""
    return _error


@pytest.fixture
def wide():
    """fp64 copies that take gradients."""
    return _wide


@pytest.fixture
def bound():
    """Bounds by type."""
    return BOUND


@pytest.fixture(autouse=True)
def nan_in_fresh_memory():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory


@pytest.fixture
def errors_both_ways():
    """Errors of an operation's outputs and of the gradients of its arguments, against fp64."""

    def measure(operation, reference, *arguments: torch.Tensor) -> list[float]:
        torch.manual_seed(3)
        given = [x.detach().requires_grad_() for x in arguments]  # strides stay
        exact = _wide(*arguments)
        ours, true = operation(*given), reference(*exact)
        pairs = (
            [(ours, true)] if isinstance(ours, torch.Tensor) else list(zip(ours, true, strict=True))
        )
        grads = [torch.randn(a.shape).to(a.dtype) for a, _ in pairs]
        torch.autograd.backward([a for a, _ in pairs], grads)
        torch.autograd.backward([b for _, b in pairs], [g.double() for g in grads])
        pairs += [(a.grad, b.grad) for a, b in zip(given, exact, strict=True)]
        return [_error(a, b) for a, b in pairs]

    return measure


@pytest.fixture
def sparse(tmp_path):
    """2^32 bytes and a little, of which only what is touched takes room."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate((1 << 32) + 4096)
    yield torch.from_numpy(np.memmap(path, np.uint8, mode="r+"))
    path.unlink()
