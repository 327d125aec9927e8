"""Kernels and a stack of 7B layers on a CUDA device, beside torch, Liger and transformers.

Attention counts the multiplications that a causal mask leaves; the norm counts the bytes that must
move. A stack's use is model arithmetic (6 a weight and token, and attention's) over what the device
can do in bf16 without sparsity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benches.harness import OURS, Contender, Task
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["skipped", "tasks"]

BATCH, TOKENS, HEADS, KV_HEADS, WIDTH = 2, 4096, 32, 8, 128
ROWS, HIDDEN = 16_384, 4096
LAYERS, FEED_FORWARD = 4, 14_336
# bf16, dense, by the makers' data sheets.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12}
NAMES = ("attention forward and backward", "RMSNorm forward and backward", "stack of 7B layers")


def skipped() -> str | None:
    """Why nothing is measured here; None where there is a device."""
    try:
        import torch
    except ModuleNotFoundError:
        return f"{', '.join(NAMES)}: skipped, torch is not installed"
    if torch.cuda.is_available():
        return None
    return f"{', '.join(NAMES)}: skipped, there is no CUDA device"


def tasks(*, quick: bool) -> Iterator[Task]:
    """None without a device."""
    if skipped() is not None:
        return
    import torch

    card = torch.cuda.get_device_name()
    repeats = 2 if quick else 20
    flops = 2 * BATCH * HEADS * TOKENS * TOKENS * WIDTH  # two products, half of it masked
    for back in (False, True):
        way = "backward" if back else "forward"
        yield _task(
            f"Attention {way}, {BATCH} × {TOKENS} × {HEADS}/{KV_HEADS} × {WIDTH}, bf16",
            "TFLOP/s",
            repeats * flops * (2.5 if back else 1.0) / 1e12,
            _attention,
            [("torch's SDPA", "torch", ("torch",))],
            (back, repeats),
            card,
        )
    moved = 2 * ROWS * HIDDEN
    for back in (False, True):
        way = "backward" if back else "forward"
        yield _task(
            f"RMSNorm {way}, {ROWS:,} × {HIDDEN}, bf16",
            "GB/s",
            repeats * moved * (3 if back else 2) / 1e9,
            _norm,
            [("torch", "torch", ("torch",)), ("Liger", "liger", ("liger-kernel",))],
            (back, repeats),
            card,
        )
    peak = next((peak for name, peak in PEAKS.items() if name in card), None)
    arithmetic = _stack_flops()
    yield _task(
        f"{LAYERS} layers of 7B's shape, forward and backward, {BATCH} × {TOKENS}, bf16",
        "TFLOP/s" if peak is None else "% MFU",
        arithmetic / 1e12 if peak is None else 100 * arithmetic / peak,
        _stack,
        [("transformers", "transformers", ("transformers", "torch"))],
        (),
        card,
    )


def _task(
    name: str,
    unit: str,
    amount: float,
    factory: Callable[..., Job],
    peers: list[tuple[str, str, tuple[str, ...]]],
    arguments: tuple[Any, ...],
    card: str,
) -> Task:
    return Task(
        room="gpu",
        name=f"{name}, {card}",
        unit=unit,
        amount=amount,
        ours=Contender(OURS, factory, ("ours", *arguments), ("internlm-core", "torch", "triton")),
        peers=tuple(Contender(n, factory, (kind, *arguments), needs) for n, kind, needs in peers),
        judge=_judge,
        facts={"device": card},
    )


def _judge(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"mean_size": value} for name, value in results.items()}


def _stack_flops() -> float:
    """Forward and backward: 6 a weight and token, and 3 times attention's two products."""
    qkv = (HEADS + 2 * KV_HEADS) * WIDTH
    weights = HIDDEN * qkv + HEADS * WIDTH * HIDDEN + 3 * HIDDEN * FEED_FORWARD
    attention = 3 * 2 * BATCH * HEADS * TOKENS * TOKENS * WIDTH
    return float(LAYERS * (6 * weights * BATCH * TOKENS + attention))


def _timed(call: Callable[[], Any], repeats: int, size: Callable[[Any], float]) -> Job:
    import torch

    call()  # compiles

    def run(_: Any) -> Any:
        for _ in range(repeats):
            made = call()
        torch.cuda.synchronize()
        return made

    def prepare() -> None:
        torch.cuda.synchronize()

    return Job(run=run, prepare=prepare, result=size)


def _size(made: Any) -> float:
    tensors = made if isinstance(made, (tuple, list)) else [made]
    return sum(float(x.detach().float().abs().mean()) for x in tensors)


def _attention(kind: str, back: bool, repeats: int) -> Job:
    import torch
    from internlm_core.kernels.attention import attention
    from torch.nn import functional

    torch.manual_seed(0)
    q, k, v = (
        torch.randn(BATCH, TOKENS, heads, WIDTH, device="cuda", dtype=torch.bfloat16)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    )
    if back:
        q, k, v = (x.requires_grad_() for x in (q, k, v))

    def theirs() -> Any:
        turned = (x.transpose(1, 2) for x in (q, k, v))
        made = functional.scaled_dot_product_attention(*turned, is_causal=True, enable_gqa=True)
        return made.transpose(1, 2)

    forward = (lambda: attention(q, k, v)) if kind == "ours" else theirs
    if not back:
        return _timed(forward, repeats, _size)
    out = forward()
    grad = torch.randn_like(out)
    return _timed(
        lambda: torch.autograd.grad(out, (q, k, v), grad, retain_graph=True), repeats, _size
    )


def _norm(kind: str, back: bool, repeats: int) -> Job:
    import torch
    from internlm_core.kernels.rms_norm import rms_norm
    from torch.nn import functional

    torch.manual_seed(0)
    x = torch.randn(ROWS, HIDDEN, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(HIDDEN, device="cuda", dtype=torch.bfloat16)
    if back:
        x, weight = x.requires_grad_(), weight.requires_grad_()
    if kind == "ours":
        forward: Callable[[], Any] = lambda: rms_norm(x, weight, 1e-5)  # noqa: E731
    elif kind == "torch":
        forward = lambda: functional.rms_norm(x, (HIDDEN,), weight, 1e-5)  # noqa: E731
    else:
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction

        # In place, it would write over the one gradient that all rounds share.
        forward = lambda: LigerRMSNormFunction.apply(  # noqa: E731
            x, weight, 1e-5, 0.0, "llama", False
        )
    if not back:
        return _timed(forward, repeats, _size)
    out = forward()
    grad = torch.randn_like(out)
    return _timed(
        lambda: torch.autograd.grad(out, (x, weight), grad, retain_graph=True), repeats, _size
    )


def _stack(kind: str) -> Job:
    import torch

    torch.manual_seed(0)
    shape = {
        "vocab_size": 512,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": TOKENS,
    }
    ids = torch.randint(0, 512, (BATCH, TOKENS), device="cuda")
    if kind == "ours":
        from internlm_core.model import InternLM2, ModelConfig

        with torch.device("cuda"):
            model: Any = InternLM2(ModelConfig(**shape), seed=None)
        hidden = model.to(torch.bfloat16).hidden
    else:
        from transformers import LlamaConfig, LlamaModel

        with torch.device("cuda"):
            model = LlamaModel(LlamaConfig(**shape, attn_implementation="sdpa"))
        model = model.to(torch.bfloat16)
        hidden = lambda ids: model(ids, use_cache=False).last_hidden_state  # noqa: E731
    model.train()

    def step() -> Any:
        for parameter in model.parameters():
            parameter.grad = None
        made = hidden(ids)
        made.float().square().mean().backward()
        return made

    return _timed(step, 1, _size)
