"""AdamW on fp32 master weights, whatever the type the model computes in and wherever they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from internlm_core.errors import CheckpointError
from internlm_core.train.layout import local_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from internlm_core.train.config import OptimizerConfig
    from internlm_core.train.layout import Layout

    Read = Callable[[str, str], Tensor]

__all__ = ["Optimizer"]

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimizer:
    """AdamW with decoupled weight decay on matrices, not on norms and biases.

    With an fp32 model the master weights are the model's own; with bf16 they are fp32 copies, and
    gradients are summed over micro-batches in fp32 too. A shared-out model keeps fp32 masters
    itself; then this rank's parts are updated, and only the gradient's norm needs the others.

    Args:
        model: Its trainable parameters are updated in place.
        config: Betas, decay, clipping.
        layout: Which part of each parameter is here; None where all of it is.
    """

    def __init__(
        self, model: nn.Module, config: OptimizerConfig, layout: Layout | None = None
    ) -> None:
        self._config, self._layout = config, layout
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.master = {name: self._master_of(p) for name, p in self._parameters.items()}
        # A rank may hold nothing of a small parameter.
        held = [(p, self.master[n]) for n, p in self._parameters.items() if self.master[n].numel()]
        self._adam = torch.optim.AdamW(
            [
                {
                    "params": [m for p, m in held if p.dim() > 1],
                    "weight_decay": config.weight_decay,
                },
                {"params": [m for p, m in held if p.dim() <= 1], "weight_decay": 0.0},
            ],
            lr=0.0,
            betas=config.betas,
            eps=config.eps,
            fused=True,
        )

    def _master_of(self, parameter: nn.Parameter) -> Tensor:
        if self._layout is not None:
            return local_part(parameter).requires_grad_()
        if parameter.dtype == torch.float32:
            return parameter
        return parameter.detach().float().requires_grad_()

    @property
    def apart(self) -> bool:
        """Whether the masters are copies beside the model's own weights."""
        return self._layout is None and any(
            self.master[name] is not parameter for name, parameter in self._parameters.items()
        )

    def gather(self) -> None:
        """Add the gradients of a micro-batch to the masters'; nothing to do in fp32."""
        if self._layout is not None:
            return
        for name, parameter in self._parameters.items():
            master = self.master[name]
            if master is parameter or parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad += parameter.grad
            parameter.grad = None

    def step(self, lr: float) -> float:
        """Clip, update, clear the gradients; returns their L2 norm before clipping."""
        if self._layout is not None:
            for name, parameter in self._parameters.items():
                if parameter.grad is not None:
                    self.master[name].grad = local_part(parameter.grad)
        grads = [p.grad for p in self.master.values() if p.grad is not None]
        norm = self._norm(grads)
        if self._config.clip_norm:
            # The same guard as torch's clip_grad_norm_: a hair below the limit, never above.
            scale = (self._config.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(grads, scale)
        for group in self._adam.param_groups:
            group["lr"] = lr
        self._adam.step()
        for master in self.master.values():
            master.grad = None
        for parameter in self._parameters.values():
            parameter.grad = None
        self._copy_back()
        return float(norm)

    def _norm(self, grads: list[Tensor]) -> Tensor:
        """L2 norm of the whole gradient; with a layout, each part counts once."""
        if self._layout is None:
            return torch.nn.utils.get_total_norm(grads)
        squares: dict[tuple[str, ...], Tensor] = {}
        for name, master in self.master.items():
            if master.grad is not None:
                axes = self._layout.sharded_over(name)
                square = torch.linalg.vector_norm(master.grad).double().square()
                squares[axes] = squares.get(axes, torch.zeros_like(square)) + square
        total = torch.zeros((), dtype=torch.float64, device=grads[0].device)
        # All ranks go through the same axes in the same order.
        for axes in sorted(squares):
            for axis in axes:
                dist.all_reduce(squares[axes], group=self._layout.group(axis))
            total += squares[axes]
        return total.sqrt().float()

    def tensors(self) -> dict[tuple[str, str], Tensor]:
        """The state that is here, as (part, parameter): moments, step counts, and masters."""
        found: dict[tuple[str, str], Tensor] = {}
        for name, master in self.master.items():
            state = self._adam.state.get(master, {})
            for moment in _MOMENTS:
                found[moment, name] = state.get(moment, torch.zeros_like(master)).detach()
            # A rank without a part of it has no count of its own: all parameters share one.
            found["step", name] = torch.as_tensor(state.get("step", 0.0), dtype=torch.float32)
            found["master", name] = master.detach()
        return found

    @torch.no_grad()
    def load(self, read: Read, *, masters: bool) -> None:
        """Take a state that `tensors` gave.

        Args:
            read: (part, parameter) → what of it belongs here.
            masters: Whether the masters are to be read, too.

        Raises:
            CheckpointError: A tensor is missing or shaped otherwise.
        """
        for name, master in self.master.items():
            if not master.numel():
                continue
            parts = {part: read(part, name) for part in _MOMENTS + ("master",) * masters}
            for part, tensor in parts.items():
                if tensor.shape != master.shape:
                    raise CheckpointError(
                        f"optimizer state {part}.{name}: expected {tuple(master.shape)}, found"
                        f" {tuple(tensor.shape)}"
                    )
            self._adam.state[master] = {
                moment: parts[moment].to(master.device, copy=True) for moment in _MOMENTS
            } | {"step": read("step", name).clone()}
            if masters:
                master.copy_(parts["master"])
        self._copy_back()

    @torch.no_grad()
    def _copy_back(self) -> None:
        if self._layout is not None:
            return
        for name, parameter in self._parameters.items():
            if self.master[name] is not parameter:
                parameter.copy_(self.master[name])
