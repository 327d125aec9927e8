"""The CPU path of every operation against the formula in fp64, gradients too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from internlm_core.errors import KernelError
from internlm_core.kernels.attention import attention, attention_reference
from internlm_core.kernels.linear_cross_entropy import (
    linear_cross_entropy,
    linear_cross_entropy_reference,
)
from internlm_core.kernels.rms_norm import rms_norm, rms_norm_reference
from internlm_core.kernels.rope import apply_rope
from internlm_core.kernels.swiglu import swiglu
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.fixture(autouse=True)
def nan_in_fresh_memory(monkeypatch):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    monkeypatch.delenv("INTERNLM_KERNELS", raising=False)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def bounds(sizes):
    return torch.tensor([0, *sizes]).cumsum(0).to(torch.int32)


def wide(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("sizes", [[3, 4], [1, 0, 5], [6]])
@pytest.mark.parametrize("causal", [True, False])
def test_gradients_of_packed_attention(sizes, causal):
    cut, tokens = bounds(sizes), sum(sizes)
    q, k, v = wide(1, tokens, 3, 4), wide(1, tokens, 1, 4), wide(1, tokens, 1, 4)
    assert torch.autograd.gradcheck(
        lambda *x: attention(*x, causal=causal, cu_seqlens=cut), (q, k, v)
    )


def test_gradients_of_rms_norm_rope_and_swiglu():
    x, weight = wide(3, 2, 6), wide(6)
    angles = torch.rand(1, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-5), (x, weight))
    assert torch.autograd.gradcheck(
        lambda x: apply_rope(x, angles.cos(), angles.sin()), (wide(2, 3, 2, 6),)
    )
    assert torch.autograd.gradcheck(swiglu, (wide(2, 5), wide(2, 5)))


@pytest.mark.parametrize("rows", [1, 64, 65, 200])
def test_chunked_loss_and_its_gradients(monkeypatch, rows):
    monkeypatch.setattr("internlm_core.kernels.linear_cross_entropy._CHUNK_BYTES", 1)  # 64 rows
    hidden, weight, labels = wide(rows, 8), wide(50, 8), torch.randint(0, 50, (rows,))
    labels[::5] = -100
    total, count = linear_cross_entropy(hidden, weight, labels)
    true = linear_cross_entropy_reference(hidden, weight, labels)
    assert count == int((labels != -100).sum())
    torch.testing.assert_close(total, true)
    ours = torch.autograd.grad(3 * total, (hidden, weight))
    for a, b in zip(ours, torch.autograd.grad(3 * true, (hidden, weight)), strict=True):
        torch.testing.assert_close(a, b)


def test_chunked_loss_in_bf16_sums_in_fp32():
    hidden, weight = torch.randn(700, 16), torch.randn(300, 16)
    labels = torch.randint(0, 300, (700,))
    narrow = [x.bfloat16().requires_grad_() for x in (hidden, weight)]
    exact = [x.detach().double().requires_grad_() for x in narrow]
    total, _ = linear_cross_entropy(*narrow, labels)
    true = linear_cross_entropy_reference(*exact, labels)
    assert total.dtype == torch.float32
    assert abs(float(total.detach()) - float(true.detach())) < 3e-3 * float(true.detach())
    total.backward()
    true.backward()
    for a, b in zip(narrow, exact, strict=True):
        assert (a.grad.double() - b.grad).abs().max() < 2e-2 * b.grad.abs().max()


def test_a_second_backward_over_one_loss_is_refused():
    hidden = torch.randn(4, 8, requires_grad=True)
    total, _ = linear_cross_entropy(hidden, torch.randn(10, 8), torch.zeros(4, dtype=torch.int64))
    total.backward(retain_graph=True)
    with pytest.raises(KernelError, match="compute it again"):
        total.backward()


MEMORY = """
import sys
from pathlib import Path

import torch
from internlm_core.kernels.linear_cross_entropy import (
    linear_cross_entropy,
    linear_cross_entropy_reference,
)

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

ours = sys.argv[1] == "ours"
dtype = getattr(torch, sys.argv[2])
hidden = torch.randn(2048, 64).to(dtype).requires_grad_()
weight = torch.randn(92_544, 64).to(dtype).requires_grad_()
labels = torch.randint(0, 92_544, (2048,))
# Once on little, for what the libraries themselves take.
linear_cross_entropy_reference(hidden[:2], weight[:9], labels[:2] % 9).backward()
hidden.grad = weight.grad = None
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS:")
if ours:
    total = linear_cross_entropy(hidden, weight, labels)[0]
else:
    total = linear_cross_entropy_reference(hidden, weight, labels)
total.backward()
print(status("VmHWM:") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no Linux /proc")
@pytest.mark.slow  # half a gigabyte of plain logits twice; test_loss_never_holds_all_logits is the quick one
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_process_grows_by_an_eighth_at_most(dtype):
    """At InternLM2's vocabulary, forward and backward, the weight's gradient included."""
    grown = [
        int(
            subprocess.run(
                [sys.executable, "-c", MEMORY, side, dtype],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for side in ("ours", "plain")
    ]
    assert grown[0] <= grown[1] / 8, grown


def test_loss_without_labels_or_without_gradients():
    hidden, weight = torch.randn(4, 8), torch.randn(10, 8)
    assert linear_cross_entropy(hidden, weight, torch.full((4,), -100)) == (0.0, 0)
    # All labels the same, no gradient wanted: still torch's value.
    labels = torch.zeros(4, dtype=torch.int64)
    total, _ = linear_cross_entropy(hidden, weight, labels)
    torch.testing.assert_close(total, linear_cross_entropy_reference(hidden, weight, labels))
    assert not total.requires_grad


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_outside_the_vocabulary_are_named(label):
    labels = torch.tensor([3, label])
    with pytest.raises(KernelError, match=rf"{label}.*10 entries|labels run from {label}"):
        linear_cross_entropy(torch.randn(2, 8), torch.randn(10, 8), labels)


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation made."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return made


def test_loss_never_holds_all_logits():
    rows, vocabulary = 4096, 20_000
    largest = []
    for loss in (lambda *x: linear_cross_entropy(*x)[0], linear_cross_entropy_reference):
        hidden = torch.randn(rows, 32, requires_grad=True)
        weight = torch.randn(vocabulary, 32, requires_grad=True)
        with Largest() as seen:
            loss(hidden, weight, torch.randint(0, vocabulary, (rows,))).backward()
        largest.append(seen.bytes)
    assert largest[1] >= rows * vocabulary * 4  # the measure sees the plain loss's logits
    assert largest[0] <= rows * vocabulary * 4 / 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rms_norm_multiplies_the_weight_after_the_cast(dtype):
    x, weight = torch.randn(40, 96).to(dtype), torch.randn(96).to(dtype)
    reference = rms_norm_reference(x, weight, 1e-5)
    ulp = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    assert (rms_norm(x, weight, 1e-5) - reference).abs().max() <= ulp * reference.abs().max()


def test_attention_of_an_empty_batch_and_of_nothing_seen():
    q, k = torch.empty(0, 3, 4, 8), torch.empty(0, 3, 2, 8)
    assert attention(q, k, k).shape == q.shape
    q, k = torch.randn(1, 2, 2, 8, requires_grad=True), torch.randn(1, 3, 2, 8, requires_grad=True)
    mask = torch.tensor([[[True, False, True], [False, False, False]]])
    out = attention(q, k, k, mask=mask)
    out.sum().backward()
    assert (out[:, 1] == 0).all()
    assert (q.grad[:, 1] == 0).all()
    assert torch.isfinite(k.grad).all()
    assert (k.grad[:, 1] == 0).all()


@pytest.mark.parametrize(("queries", "keys"), [(5, 9), (9, 5), (1, 7)])
def test_last_query_sees_last_key(queries, keys):
    q, k, v = torch.randn(1, queries, 4, 8), torch.randn(1, keys, 2, 8), torch.randn(1, keys, 2, 8)
    torch.testing.assert_close(attention(q, k, v), attention_reference(q, k, v))


@pytest.mark.parametrize(
    ("q", "k", "options"),
    [
        ((1, 4, 5, 8), (1, 4, 2, 8), {}),
        ((1, 4, 4, 8), (2, 4, 2, 8), {}),
        ((1, 4, 4, 8), (1, 4, 2, 6), {}),
        ((1, 4, 8), (1, 4, 8), {}),
        ((2, 4, 4, 8), (2, 4, 2, 8), {"cu_seqlens": bounds([4])}),
        ((1, 4, 4, 8), (1, 4, 2, 8), {"mask": torch.ones(4, 4, dtype=torch.bool)}),
        ((1, 4, 4, 8), (1, 4, 2, 8), {"mask": torch.ones(1, 4, 4)}),
    ],
)
def test_shapes_that_do_not_fit_are_refused(q, k, options):
    with pytest.raises(KernelError):
        attention(torch.randn(q), torch.randn(k), torch.randn(k), **options)


def test_weight_of_another_width_is_refused():
    with pytest.raises(KernelError, match=r"\(5,\).*\(2, 4\)"):
        rms_norm(torch.ones(2, 4), torch.ones(5), 1e-5)


def test_forcing_triton_on_the_cpu_says_what_to_do(monkeypatch):
    monkeypatch.setenv("INTERNLM_KERNELS", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(KernelError, match="TRITON_INTERPRET=1"):
        rms_norm(torch.ones(2, 4), torch.ones(4), 1e-5)


def test_the_cpu_path_never_imports_triton():
    code = """
import sys
sys.modules["triton"] = None
import torch
from internlm_core.model import InternLM2, ModelConfig
config = ModelConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                     num_key_value_heads=1, intermediate_size=8)
model = InternLM2(config)
model.loss(torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64))[0].backward()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
