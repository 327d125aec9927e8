"""Which part of a whole parameter a rank holds, and the whole from the parts.

Checkpoints hold whole tensors only, so any plan can read what another has written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from internlm_core.train.ranks import FOLD, TENSOR

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

    from internlm_core.train.ranks import Ranks

__all__ = ["SPLIT_AXIS", "Layout", "local_part"]

SPLIT_AXIS = {
    "wqkv": 0,
    "wo": 1,
    "w1": 0,
    "w3": 0,
    "w2": 1,
    "tok_embeddings": 0,
    "output": 0,
}
"""Axis along which tensor parallelism splits a weight; others are whole on every rank. Rows of wqkv
lie KV group by KV group, so that cutting them in equal parts cuts between groups."""


def local_part(parameter: Tensor) -> Tensor:
    """What of a parameter lies here, sharing its memory."""
    from torch.distributed.tensor import DTensor

    part = parameter.detach()
    return part.to_local() if isinstance(part, DTensor) else part


class Layout:
    """Parts of the parameters of a shared-out model.

    Args:
        ranks: This process's place.
        model: After sharing out.
    """

    def __init__(self, ranks: Ranks, model: nn.Module) -> None:
        assert ranks.mesh is not None
        self._mesh, self._plan = ranks.mesh, ranks.plan
        self._tensor_rank = ranks.tensor_rank
        self._fold, self._fold_rank = self._mesh[FOLD].size(), self._mesh[FOLD].get_local_rank()
        self._shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}

    def local(self, parameter: Tensor) -> Tensor:
        """What of a parameter lies here, sharing its memory."""
        return local_part(parameter)

    def _axis(self, name: str) -> int | None:
        if self._plan.tensor == 1:
            return None
        return SPLIT_AXIS.get(name.split(".")[-2])

    def sharded_over(self, name: str) -> tuple[str, ...]:
        """Names of the mesh's axes over which a parameter is cut."""
        axes = (FOLD,) if self._fold > 1 else ()
        return (*axes, TENSOR) if self._axis(name) is not None else axes

    def group(self, axis: str) -> ProcessGroup:
        """The ranks along an axis of the mesh."""
        return self._mesh[axis].get_group()

    def bounds(self, name: str) -> tuple[slice, ...]:
        """Where this rank's part lies in the whole: by matrix first, then FSDP's rows."""
        spans = [(0, n) for n in self._shapes[name]]
        axis = self._axis(name)
        if axis is not None:
            size = spans[axis][1] // self._plan.tensor
            spans[axis] = (self._tensor_rank * size, (self._tensor_rank + 1) * size)
        # As torch.chunk cuts: equal parts, the last ones shorter or empty.
        first, last = spans[0]
        size = -(-(last - first) // self._fold)
        start = min(first + self._fold_rank * size, last)
        spans[0] = (start, min(start + size, last))
        return tuple(slice(*span) for span in spans)

    def whole(self, name: str, part: Tensor) -> Tensor:
        """The whole tensor from every rank's part; all of them must call it, in the same order."""
        from torch.distributed.tensor import DTensor, Shard

        shape, axis = list(self._shapes[name]), self._axis(name)
        if axis is not None:
            shape[axis] //= self._plan.tensor
        if self._fold > 1:
            part = DTensor.from_local(
                part,
                self._mesh[FOLD],
                [Shard(0)],
                shape=torch.Size(shape),
                stride=_strides(shape),
            ).full_tensor()
        if axis is not None:
            mesh = self._mesh[TENSOR]
            part = DTensor.from_local(part.contiguous(), mesh, [Shard(axis)]).full_tensor()
        return part


def _strides(shape: list[int]) -> tuple[int, ...]:
    return torch.empty(shape, device="meta").stride()
