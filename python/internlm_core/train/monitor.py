"""What a person sees of a run: the live line, the log files, TensorBoard; the main rank's alone."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from internlm_core._optional import require
from internlm_core._progress import Task
from internlm_core.train.alerts import Alerts
from internlm_core.train.building import dtype_of
from internlm_core.train.logs import StepLog
from internlm_core.train.throughput import Speed, memory_in_use, peak_flops

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from typing_extensions import Self

    from internlm_core.train.config import Plan, TrainConfig
    from internlm_core.train.ranks import Ranks

__all__ = ["Monitor"]

_LOGS = ("metrics", "timing", "evaluations", "alerts")


class Monitor:
    """Logs and progress of a run; on ranks that don't speak it does nothing.

    Args:
        config: The run.
        plan: Its steps.
        ranks: Who runs it.
        out: Run folder.
        step: Steps done already.
        device: Whose memory is watched.
        quiet: Nothing on the console.
    """

    def __init__(
        self,
        config: TrainConfig,
        plan: Plan,
        ranks: Ranks,
        out: Path,
        *,
        step: int,
        device: torch.device,
        quiet: bool,
    ) -> None:
        self._config, self._plan, self._ranks, self._out = config, plan, ranks, out
        self._step, self._device, self._quiet = step, device, quiet or not ranks.main
        self._stack = contextlib.ExitStack()
        self._logs: dict[str, StepLog] = {}
        self._board: Any = None

    def __enter__(self) -> Self:
        before: list[dict[str, Any]] = []
        if self._ranks.main:
            # A run that starts over writes the line of step 0 again.
            kept = self._step or -1
            self._logs = {
                name: self._stack.enter_context(StepLog(self._out / f"{name}.jsonl", kept))
                for name in _LOGS
            }
            lines = (self._out / "metrics.jsonl").read_bytes().splitlines()
            before = [orjson.loads(line) for line in lines[-100:]]
            peak = peak_flops(self._device, dtype_of(self._config)) * self._ranks.world
            self._speed = Speed(peak, sum(self._plan.tokens))
            if self._config.tensorboard:
                require("tensorboard", extra="tensorboard")
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(self._out / "tensorboard", purge_step=self._step + 1)
                self._stack.callback(self._board.close)
        self.alerts = self._stack.enter_context(
            Alerts(
                self._logs.get("alerts"),
                factor=self._config.spike_factor,
                stall_seconds=self._config.stall_seconds,
                before=before,
                quiet=self._quiet,
            )
        )
        self._task = self._stack.enter_context(
            Task("Training", self._plan.total, quiet=self._quiet)
        )
        self._task.advance(self._step)
        return self

    def begin(self, step: int) -> None:
        """Step number `step` begins."""
        self.alerts.begin(step)

    def end(self, line: dict[str, Any], seconds: float, flops: float) -> None:
        """A step is done: its line of `metrics.jsonl`, how long it took, and what it computed."""
        if not self._ranks.main:
            return
        self._logs["metrics"].add(**line)
        facts = self._speed.step(seconds, line["step_tokens"], flops)
        facts["memory"] = memory_in_use(self._device)
        self._logs["timing"].add(step=line["step"], **facts)
        left = timedelta(seconds=round(self._speed.seconds_left(line["tokens"])))
        self._task.advance(
            1,
            f"{line['phase']} loss {line['loss']:.3f} lr {line['lr']:.2e}"
            f" {facts['tokens_per_second']:,.0f} tokens/s MFU {facts['mfu']:.0%}"
            f" ETA {left} {facts['memory'] / 2**30:.1f} GiB",
        )
        self.alerts.end(line, seconds)
        if self._board is not None:
            for name in ("loss", "lr", "grad_norm"):
                self._board.add_scalar(f"train/{name}", line[name], line["step"])
            for name, (loss, _) in line["sources"].items():
                self._board.add_scalar(f"train/loss/{name}", loss, line["step"])
            for name in ("tokens_per_second", "mfu"):
                self._board.add_scalar(f"speed/{name}", facts[name], line["step"])

    def evaluation(self, **fields: Any) -> None:
        """A held-out loss."""
        if self._ranks.main:
            self._logs["evaluations"].add(**fields)
            if self._board is not None:
                self._board.add_scalar("held-out/loss", fields["loss"], fields["step"])

    def sync(self) -> None:
        """Force the logs to the disk, before the checkpoint that counts on them."""
        for log in self._logs.values():
            log.sync()

    def __exit__(self, *_: object) -> None:
        self._stack.close()
