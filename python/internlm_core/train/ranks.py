"""The processes of a run: who works with whom, and the few sums they share."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from internlm_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

    from internlm_core.train.config import ParallelConfig

__all__ = ["Ranks", "joined", "shape_of"]

REPLICATE, FOLD, TENSOR = "replicate", "fold", "tensor"


def shape_of(plan: ParallelConfig, world: int) -> tuple[int, int, int]:
    """Copies of the parameters, ranks that shard a copy, and ranks that split its matrices.

    Parameters are the same on the ranks that split a sequence, so FSDP shards over those, too.

    Raises:
        ConfigError: The plan doesn't fit so many processes.
    """
    inner = plan.tensor * plan.sequence
    if world % inner:
        raise ConfigError(
            f"parallel.tensor={plan.tensor} × parallel.sequence={plan.sequence} needs a multiple of"
            f" {inner} processes, there are {world}; start them with torchrun --nproc-per-node"
        )
    ranks = world // plan.tensor
    fold = {"full": ranks, "partial": min(plan.shard_size, ranks), "none": 1}[plan.shard]
    if ranks % fold:
        raise ConfigError(
            f"parallel.shard_size={plan.shard_size} must divide the {ranks} ranks that hold the"
            " same part of each matrix"
        )
    return ranks // fold, fold, plan.tensor


@contextlib.contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the processes that torchrun started; nothing for a single one.

    A process group that the caller has made is used, and left as it is.
    """
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield
    finally:
        dist.destroy_process_group()


class Ranks:
    """This process's place among those of the run.

    Ranks count tensor first, then sequence, then data, so that the ranks with the most traffic are
    neighbours.

    Args:
        plan: How the work is shared.
        device: `cpu` or `cuda`.

    Attributes:
        rank: This process, from 0.
        world: Processes in all.
        data_rank: Place among those that read different rows.
        data_size: How many those are.

    Raises:
        ConfigError: The plan doesn't fit the number of processes.
    """

    def __init__(self, plan: ParallelConfig, device: str = "cpu") -> None:
        on = dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if on else (0, 1)
        shape = shape_of(plan, self.world)
        self.plan = plan
        self.tensor_rank = self.rank % plan.tensor
        place = self.rank // plan.tensor
        self.sequence_rank, self.data_rank = place % plan.sequence, place // plan.sequence
        self.data_size = self.world // (plan.tensor * plan.sequence)
        self.device = device
        self.mesh: DeviceMesh | None = None
        self.sequence_group: ProcessGroup | None = None
        self.files_group: ProcessGroup | None = None
        if self.world == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh

        kind = device.partition(":")[0]
        if kind == "cuda":
            self.device = f"cuda:{torch.cuda.current_device()}"
        self.mesh = init_device_mesh(kind, shape, mesh_dim_names=(REPLICATE, FOLD, TENSOR))
        if plan.sequence > 1:
            whole = (self.data_size, plan.sequence, plan.tensor)
            names = ("data", "sequence", TENSOR)
            other = init_device_mesh(kind, whole, mesh_dim_names=names)
            self.sequence_group = other["sequence"].get_group()
        # Writers talk in a thread of their own, so they need a group of their own.
        made: Any = dist.new_group(backend="gloo")
        self.files_group = made

    @property
    def main(self) -> bool:
        """Whether this process speaks and keeps the logs."""
        return self.rank == 0

    @property
    def copies(self) -> int:
        """Ranks that see the same rows."""
        return self.plan.tensor * self.plan.sequence

    @property
    def tensor_group(self) -> ProcessGroup | None:
        """Those that split the same matrices; None where there is one."""
        return None if self.mesh is None or self.plan.tensor == 1 else self.mesh[TENSOR].get_group()

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()

    def gather_objects(self, value: Any) -> list[Any]:
        """What each process gives, by rank; for the writers of a checkpoint."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=self.files_group)
        return found

    def own_tokens(self, tensor: Tensor) -> Tensor:
        """This rank's part of `[B, T]`; T is a multiple of `sequence`."""
        return tensor.chunk(self.plan.sequence, dim=1)[self.sequence_rank]
