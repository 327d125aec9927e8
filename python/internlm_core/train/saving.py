"""Checkpoints that do not hold up training: a copy of the state, and a thread that writes it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

from internlm_core.model import InternLM2
from internlm_core.train import checkpoint
from internlm_core.train.lora import merged_state

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from internlm_core.train.layout import Layout
    from internlm_core.train.optim import Optimizer
    from internlm_core.train.ranks import Ranks

__all__ = ["Saver", "snapshot"]


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


@torch.no_grad()
def snapshot(
    model: InternLM2,
    optimizer: Optimizer,
    layout: Layout | None,
    ranks: Ranks,
    dtype: torch.dtype,
) -> tuple[InternLM2 | None, dict[str, Tensor]]:
    """Copies on the CPU of all that a checkpoint holds; all ranks call it.

    Returns:
        The model as it is saved, in `dtype` and with adapters merged (on the main rank), and the
        whole tensors that this rank writes. Ranks take parameters by turns, so that each holds and
        writes its share.
    """
    weights: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    own = optimizer.tensors()
    # Where the saved weights aren't the trained ones, the trained ones are saved, too.
    apart = dtype != torch.float32 or any(not p.requires_grad for p in model.parameters())
    for number, (name, parameter) in enumerate(model.named_parameters()):
        mine = number % ranks.world == ranks.rank
        part = parameter if layout is None else layout.local(parameter)
        whole = part if layout is None else layout.whole(name, part)
        if ranks.main:
            weights[name] = _copied(whole.to(dtype))
        if not parameter.requires_grad:
            # Merging changes them in the last bits, so what adapters stand on is kept as it is.
            if mine:
                tensors[f"frozen.{name}"] = _copied(whole)
            continue
        for kind in ("exp_avg", "exp_avg_sq") + ("master",) * apart:
            state = own[kind, name] if layout is None else layout.whole(name, own[kind, name])
            if mine:
                tensors[f"{kind}.{name}"] = _copied(state)
        if mine:
            tensors[f"step.{name}"] = _copied(own["step", name])
    if not ranks.main:
        return None, tensors
    tensors["rng.cpu"] = torch.get_rng_state()
    if model.device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    with torch.device("meta"):
        shell = InternLM2(model.config, seed=None)
    shell.load_state_dict(merged_state(model, weights), assign=True)
    return shell, tensors


class Saver:
    """Writes one checkpoint at a time, beside training.

    Args:
        out: Run folder.
        ranks: Who writes.
        keep: Newest checkpoints that stay.
        always: Steps that stay whatever their age.
    """

    def __init__(self, out: Path, ranks: Ranks, keep: int, always: set[int]) -> None:
        self._out, self._ranks, self._keep, self._always = out, ranks, keep, always
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(
        self,
        step: int,
        model: InternLM2 | None,
        tensors: dict[str, Tensor],
        state: dict[str, Any],
        extra_files: dict[str, Path],
    ) -> None:
        """Write in the background, once the one before is done.

        Raises:
            CheckpointError: The one before could not be written.
        """
        self.wait()

        def write() -> None:
            try:
                checkpoint.write(self._out, step, self._ranks, model, tensors, state, extra_files)
                if self._ranks.main:
                    checkpoint.prune(self._out, self._keep, self._always)
            except BaseException as error:  # noqa: BLE001 - raised again where training waits
                self._error = error

        self._thread = threading.Thread(target=write, name=f"checkpoint-{step}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what went wrong in a write that has ended."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Until what was started is on the disk.

        Raises:
            CheckpointError: It could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
