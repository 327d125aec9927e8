"""The training loop: rows in, steps, checkpoints; killed at any moment it goes on bit-equal."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from internlm_core._config import load_config
from internlm_core._files import folder_lock, read_json, write_json
from internlm_core._progress import console
from internlm_core.errors import ConfigError, TrainError
from internlm_core.model.allocator import keep_freed_memory
from internlm_core.train import checkpoint
from internlm_core.train.backward import backward
from internlm_core.train.building import build, config_of, dtype_of
from internlm_core.train.compiling import compile_layers
from internlm_core.train.config import Plan, TrainConfig
from internlm_core.train.evaluation import evaluate
from internlm_core.train.memory import check_memory
from internlm_core.train.monitor import Monitor
from internlm_core.train.optim import Optimizer
from internlm_core.train.parallel import check_plan
from internlm_core.train.ranks import Ranks, joined
from internlm_core.train.saving import Saver, snapshot
from internlm_core.train.setup import (
    base_digest,
    phase_tokens,
    same_run,
    short_length,
    tokenizer_files,
)
from internlm_core.train.signals import StopSignals
from internlm_core.train.sources import describe, fingerprint_of, open_sources
from internlm_core.train.stream import Mixer, Row, SourceOver
from internlm_core.train.throughput import step_flops

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from internlm_core.tokenizer import Shard
    from internlm_core.train.sources import ShardPaths

__all__ = ["Trainer", "run"]


def run(
    config: TrainConfig | str | Path | Mapping[str, Any],
    shards: ShardPaths | None = None,
    out: str | Path | None = None,
    *,
    resume: bool = True,
    held_out: ShardPaths | None = None,
    tokenizer: str | Path | None = None,
    overrides: Iterable[str] = (),
    chat: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Path:
    """Train, or go on where the newest complete checkpoint in `out` stands.

    Under torchrun every process calls it, and the work is shared as `parallel` says.

    Args:
        config: A configuration, a preset's name, a .toml file or a mapping.
        shards: A token-shard folder, a folder of them (named by source), or source → folder; as the
            configuration says when None.
        out: Run folder: `step-N/` checkpoints, `run.json`, `metrics.jsonl` (one line a step, the
            same however often the run was killed), `timing.jsonl`, `evaluations.jsonl`,
            `alerts.jsonl`; as the configuration says when None.
        resume: Go on in a folder that holds a run; without it such a folder is refused.
        held_out: Shards whose loss is taken at the start, at the ends of phases, and every
            `evaluate_every` steps.
        tokenizer: The tokenizer file (or a folder with it) to put into checkpoints; the one beside
            the shards when not given.
        overrides: `key=value` on top of `config`.
        chat: Description of the chat rendering the shards were made with, stored as `chat.json`.
        quiet: No progress.

    Returns:
        The last checkpoint.

    Raises:
        ConfigError: The configuration is wrong, or `out` holds a run with another.
        TrainError: The data does not fit the model or a batch, or the loss is not a number.
        CheckpointError: The newest checkpoint was altered, or the disk is full.
        KeyboardInterrupt: SIGINT or SIGTERM came; a checkpoint was written first.
    """
    if not isinstance(config, TrainConfig):
        source = str(config) if isinstance(config, Path) else config
        config = load_config(TrainConfig, source, package=__package__, overrides=overrides)
    shards = config.shards if shards is None else shards
    out = config.out if out is None else out
    held_out = config.held_out if held_out is None else held_out
    for name, given in (("shards", shards), ("out", out)):
        if given is None:
            raise ConfigError(f"{name}: give it in the call, or as a key of the configuration")
    assert shards is not None
    assert out is not None
    out = Path(out)
    sources = open_sources(shards)
    held = None if held_out is None else open_sources(held_out)
    if held is not None and fingerprint_of(held) != fingerprint_of(sources):
        raise TrainError(
            "the held-out shards were made with another tokenizer than the training shards"
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(joined(config.device))
        ranks = Ranks(config.parallel, config.device)
        if ranks.main:
            stack.enter_context(folder_lock(out))
        signals = stack.enter_context(StopSignals())
        if config.device == "cpu":
            keep_freed_memory()
        threads = torch.get_num_threads()
        torch.set_num_threads(config.threads or threads)
        stack.callback(torch.set_num_threads, threads)
        trainer = Trainer(config, sources, out, tokenizer=tokenizer, chat=chat, ranks=ranks)
        trainer.start(resume=resume)
        return trainer.train(signals, held, quiet=quiet)


class Trainer:
    """One run: model, optimizer, data and place.

    Args:
        config: The run.
        sources: Opened shards by source.
        out: Run folder.
        tokenizer: Tokenizer file or folder for the checkpoints.
        chat: Stored as `chat.json` in the checkpoints.
        ranks: The processes that share it; this one alone when None.
    """

    def __init__(
        self,
        config: TrainConfig,
        sources: dict[str, list[Shard]],
        out: Path,
        *,
        tokenizer: str | Path | None = None,
        chat: Mapping[str, Any] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.config, self.out = config, out
        self.ranks = Ranks(config.parallel, config.device) if ranks is None else ranks
        self.fingerprint = fingerprint_of(sources)
        self._sources = sources
        self._extra = tokenizer_files(tokenizer, sources)
        self._chat = None if chat is None else dict(chat)
        self.mixers = [
            Mixer(sources, phase, number, config.seed, short_length(config, number))
            for number, phase in enumerate(config.phases)
        ]
        tokens = [
            phase_tokens(config, i, mixer, tell=self.ranks.main)
            for i, mixer in enumerate(self.mixers)
        ]
        self.plan = Plan(config, tokens)
        self.step = self.tokens = 0
        self._saver = Saver(out, self.ranks, config.keep, set(self.plan.ends()))
        self._saved = -1

    # ---- start ----

    def start(self, *, resume: bool) -> None:
        """Build the model, or load the newest checkpoint."""
        identity = {
            "config": self.config.model_dump(mode="json"),
            "data": describe(self._sources),
            "tokenizer": self.fingerprint,
            "base": base_digest(self.config),
        }
        path = self.out / "run.json"
        if self.ranks.main:
            self.out.mkdir(parents=True, exist_ok=True)
            if path.exists():
                if not resume:
                    raise ConfigError(
                        f"{self.out}: holds a run; resume it, or choose another folder"
                    )
                same_run(path, read_json(path), identity)
        # The main rank looks, so that all of them go on from the same.
        found = self.ranks.gather_objects(checkpoint.newest(self.out) if self.ranks.main else None)[
            0
        ]
        tokenizer = self._extra.get("tokenizer.json")
        model_config = config_of(self.config, self._sources, tokenizer, found)
        check_plan(self.config.parallel, model_config)
        check_memory(self.config, model_config, self.ranks.world)
        self.model, self.layout = build(self.config, self.ranks, model_config, found)
        self.optimizer = Optimizer(self.model, self.config.optimizer, self.layout)
        if found is not None:
            self._load_state(found)
        if self.config.compile:
            compile_layers(self.model, alone=self.layout is None)
        if self.ranks.main:
            write_json(path, identity)

    # ---- checkpoints ----

    def _load_state(self, folder: Path) -> None:
        state, files = checkpoint.read_state(folder), checkpoint.tensors_of(folder)
        if state["tokenizer"] != self.fingerprint:
            raise TrainError(f"{folder}: was trained on shards of another tokenizer")

        def read(part: str, name: str) -> Tensor:
            bounds = None if self.layout is None or part == "step" else self.layout.bounds(name)
            return files.read(f"{part}.{name}", bounds)

        masters = any(name.startswith("master.") for name in files)
        self.optimizer.load(read, masters=masters and self.layout is None)
        torch.set_rng_state(files.read("rng.cpu"))
        if "rng.cuda" in files and torch.cuda.is_available():
            torch.cuda.set_rng_state(files.read("rng.cuda"))
        self.step, self.tokens = state["step"], state["tokens"]
        self._saved = self.step
        if state["phase"] is not None:
            self.mixers[state["phase"]].load(state["streams"])

    def save(self) -> None:
        """Copy the state of this step, and have it written; training goes on meanwhile."""
        done = self.step == self.plan.total
        number = None if done else self.plan.phase_of(self.step)[0]
        state: dict[str, Any] = {
            "step": self.step,
            "tokens": self.tokens,
            "phase": number,
            "streams": {} if number is None else self.mixers[number].state(),
            "tokenizer": self.fingerprint,
            "config": self.config.model_dump(mode="json"),
            "threads": torch.get_num_threads(),
        }
        extra = dict(self._extra)
        if self._chat is not None:
            if self.ranks.main:
                write_json(self.out / "chat.json", self._chat)
            extra["chat.json"] = self.out / "chat.json"
        self._saver.wait()
        shell, tensors = snapshot(
            self.model, self.optimizer, self.layout, self.ranks, dtype_of(self.config)
        )
        self._saver.start(self.step, shell, tensors, state, extra)
        self._saved = self.step

    # ---- the loop ----

    def train(
        self, signals: StopSignals, held_out: dict[str, list[Shard]] | None, *, quiet: bool = False
    ) -> Path:
        """Do the steps that are left; returns the last checkpoint."""
        with Monitor(
            self.config, self.plan, self.ranks, self.out,
            step=self.step, device=self.model.device, quiet=quiet,
        ) as monitor:  # fmt: skip
            try:
                self._loop(signals, held_out, monitor, tell=not quiet and self.ranks.main)
            finally:
                # What is being written gets done, also when training can't go on.
                self._saver.wait()
        self.ranks.barrier()
        return self.out / f"step-{self.step}"

    def _loop(
        self,
        signals: StopSignals,
        held_out: dict[str, list[Shard]] | None,
        monitor: Monitor,
        *,
        tell: bool,
    ) -> None:
        if self.step == 0:
            self._enter_phase(0)
            self._evaluate(held_out, monitor)
        while self.step < self.plan.total:
            number, within = self.plan.phase_of(self.step)
            if within == 0:
                self._enter_phase(number, tell=tell)
            monitor.begin(self.step + 1)
            began = time.perf_counter()
            line, rows, stop = self._one_step(number, signals, monitor)
            flops = step_flops(
                self.model.config, (n for r in rows for n in (r.pieces[:, 2] - r.pieces[:, 1]))
            )
            monitor.end(line, time.perf_counter() - began, flops)
            self._saver.check()
            phase_over = self.step in self.plan.ends()
            every = self.config.evaluate_every
            if phase_over or (every and self.step % every == 0):
                self._evaluate(held_out, monitor)
            if phase_over or stop or self.step % self.config.checkpoint_every == 0:
                monitor.sync()
                self.save()
            if stop and self.step < self.plan.total:
                raise KeyboardInterrupt
        if self._saved != self.step:
            self.save()

    def _enter_phase(self, number: int, *, tell: bool = False) -> None:
        phase = self.config.phases[number]
        before = self.model.config
        theta = before.rope_theta if phase.rope_theta is None else phase.rope_theta
        # A shorter window later on does not undo what was trained.
        self.model.set_rope(theta, max(before.max_position_embeddings, phase.sequence_length))
        if tell:
            console.print(
                f"Phase {phase.name}: {self.plan.tokens[number]:,} tokens in"
                f" {self.plan.steps[number]:,} steps, window {phase.sequence_length:,}, RoPE base"
                f" {theta:,.0f}"
            )

    def _evaluate(self, held_out: dict[str, list[Shard]] | None, monitor: Monitor) -> None:
        if held_out is None:
            return
        # The window of the whole run: positions beyond a phase's own show what it did not learn.
        window = max(phase.sequence_length for phase in self.config.phases)
        result = evaluate(
            self.model,
            held_out,
            window=window,
            max_tokens=self.config.evaluate_tokens,
            batch_tokens=min(self.config.micro_batch_tokens, 16_384),
            ranks=self.ranks,
        )
        ends = self.plan.ends()
        after = self.config.phases[ends.index(self.step)].name if self.step in ends else None
        monitor.evaluation(
            step=self.step, trained_tokens=self.tokens, phase_end=after, **result.to_dict()
        )

    def _one_step(
        self, number: int, signals: StopSignals, monitor: Monitor
    ) -> tuple[dict[str, Any], list[Row], bool]:
        mixer = self.mixers[number]
        target = self.plan.target(self.step)
        rows: list[Row] = []
        with contextlib.suppress(SourceOver):
            while mixer.tokens < target:
                rows.append(mixer.next())
        step_tokens = sum(row.tokens for row in rows)
        lr = self.plan.lr(self.step)
        result = backward(
            self.model, self.optimizer, self.ranks, rows, mixer,
            capacity=self.config.micro_batch_tokens, stopped=signals.stopped,
        )  # fmt: skip
        loss = result.loss
        norm = self.optimizer.step(lr) if result.labels else 0.0
        if not (math.isfinite(loss) and math.isfinite(norm)):
            monitor.alerts.add(self.step + 1, kind="not_finite")
            raise TrainError(
                f"step {self.step + 1}: loss {loss}, gradient norm {norm}; lower the learning rate,"
                " or look at the documents of this step. The last checkpoint is untouched"
            )
        self.step += 1
        self.tokens += step_tokens
        line = {
            "step": self.step,
            "phase": self.config.phases[number].name,
            "tokens": self.tokens,
            "step_tokens": step_tokens,
            "labels": result.labels,
            "loss": loss,
            "lr": lr,
            "grad_norm": norm,
            "sources": result.sources,
            "epochs": {name: stream.epoch for name, stream in mixer.streams.items()},
        }
        return line, rows, result.stopped
