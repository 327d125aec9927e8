"""AdamW on fp32 master weights, whatever the type the model computes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from internlm_core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from internlm_core.train.config import OptimizerConfig

__all__ = ["Optimizer"]

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimizer:
    """AdamW with decoupled weight decay on matrices, not on norms and biases.

    With an fp32 model the master weights are the model's own; with bf16 they are fp32 copies, and
    gradients are summed over micro-batches in fp32 too.

    Args:
        model: Its parameters are updated in place.
        config: Betas, decay, clipping.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self._config = config
        self._parameters = dict(model.named_parameters())
        self.master = {
            name: parameter
            if parameter.dtype == torch.float32
            else parameter.detach().float().requires_grad_()
            for name, parameter in self._parameters.items()
        }
        matrices = [p for p in self.master.values() if p.dim() > 1]
        others = [p for p in self.master.values() if p.dim() <= 1]
        self._adam = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=0.0,
            betas=config.betas,
            eps=config.eps,
            fused=True,
        )

    def gather(self) -> None:
        """Add the gradients of a micro-batch to the masters'; nothing to do in fp32."""
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
        grads = [p.grad for p in self.master.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if self._config.clip_norm:
            # The same guard as torch's clip_grad_norm_: a hair below the limit, never above.
            scale = (self._config.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(grads, scale)
        for group in self._adam.param_groups:
            group["lr"] = lr
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self._copy_back()
        return float(norm)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state by parameter name: both moments, step counts, and masters if apart."""
        found: dict[str, Tensor] = {}
        for name, master in self.master.items():
            state = self._adam.state.get(master, {})
            for moment in _MOMENTS:
                found[f"{moment}.{name}"] = state.get(moment, torch.zeros_like(master)).detach()
            found[f"step.{name}"] = torch.as_tensor(state.get("step", 0.0), dtype=torch.float32)
            if master is not self._parameters[name]:
                found[f"master.{name}"] = master.detach()
        return found

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take a state that `tensors` gave.

        Raises:
            CheckpointError: A tensor is missing or shaped otherwise.
        """
        for name, master in self.master.items():
            parts = [*_MOMENTS, "step"] + ["master"] * (master is not self._parameters[name])
            for part in parts:
                tensor = tensors.get(f"{part}.{name}")
                if tensor is None or (part != "step" and tensor.shape != master.shape):
                    shape = None if tensor is None else tuple(tensor.shape)
                    raise CheckpointError(
                        f"optimizer state {part}.{name}: expected {tuple(master.shape)}, found {shape}"
                    )
            self._adam.state[master] = {
                moment: tensors[f"{moment}.{name}"].to(master.device).clone() for moment in _MOMENTS
            } | {"step": tensors[f"step.{name}"].clone()}
            if master is not self._parameters[name]:
                master.copy_(tensors[f"master.{name}"])
        self._copy_back()

    @torch.no_grad()
    def _copy_back(self) -> None:
        for name, parameter in self._parameters.items():
            if self.master[name] is not parameter:
                parameter.copy_(self.master[name])
