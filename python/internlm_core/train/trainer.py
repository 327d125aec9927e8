"""The training loop: phases of steps, each a function of what the last checkpoint holds.

Everything a step depends on (weights, optimizer, RNG, place in the data, step number) is in the
checkpoint, so a run that was killed and resumed ends bit-equal to one that was not (on a CPU, with
the same number of threads).
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from internlm_core._config import load_config
from internlm_core._files import folder_lock, read_json, write_json
from internlm_core._progress import Task, console
from internlm_core.errors import ConfigError, TrainError
from internlm_core.model import load
from internlm_core.model.allocator import keep_freed_memory
from internlm_core.train import checkpoint
from internlm_core.train.config import Plan, TrainConfig
from internlm_core.train.evaluation import evaluate
from internlm_core.train.logs import StepLog
from internlm_core.train.optim import Optimizer
from internlm_core.train.setup import (
    base_digest,
    new_model,
    phase_tokens,
    same_run,
    short_length,
    tokenizer_files,
)
from internlm_core.train.signals import StopSignals
from internlm_core.train.sources import describe, fingerprint_of, open_sources
from internlm_core.train.stream import IGNORE, Mixer, Row, SourceOver, to_arrays

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from internlm_core.tokenizer import Shard
    from internlm_core.train.sources import ShardPaths

__all__ = ["Trainer", "run"]


def run(
    config: TrainConfig | str | Path | Mapping[str, Any],
    shards: ShardPaths,
    out: str | Path,
    *,
    resume: bool = True,
    held_out: ShardPaths | None = None,
    tokenizer: str | Path | None = None,
    overrides: Iterable[str] = (),
    chat: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Path:
    """Train, or go on where the newest complete checkpoint in `out` stands.

    Args:
        config: A configuration, a preset's name, a .toml file or a mapping.
        shards: A token-shard folder, a folder of them (named by source), or source → folder.
        out: Run folder: `step-N/` checkpoints, `run.json`, `metrics.jsonl` (one line a step, the
            same however often the run was killed), `timing.jsonl`, `evaluations.jsonl`.
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
    out = Path(out)
    sources = open_sources(shards)
    held = None if held_out is None else open_sources(held_out)
    if held is not None and fingerprint_of(held) != fingerprint_of(sources):
        raise TrainError(
            "the held-out shards were made with another tokenizer than the training shards"
        )
    with folder_lock(out), StopSignals() as signals:
        if config.device == "cpu":
            keep_freed_memory()
        threads = torch.get_num_threads()
        torch.set_num_threads(config.threads or threads)
        try:
            trainer = Trainer(config, sources, out, tokenizer=tokenizer, chat=chat)
            trainer.start(resume=resume)
            return trainer.train(signals, held, quiet=quiet)
        finally:
            torch.set_num_threads(threads)


class Trainer:
    """One run: model, optimizer, data and place.

    Args:
        config: The run.
        sources: Opened shards by source.
        out: Run folder.
        tokenizer: Tokenizer file or folder for the checkpoints.
        chat: Stored as `chat.json` in the checkpoints.
    """

    def __init__(
        self,
        config: TrainConfig,
        sources: dict[str, list[Shard]],
        out: Path,
        *,
        tokenizer: str | Path | None = None,
        chat: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.out = config, out
        self.fingerprint = fingerprint_of(sources)
        self._sources = sources
        self._extra = tokenizer_files(tokenizer, sources)
        self._chat = None if chat is None else dict(chat)
        self.mixers = [
            Mixer(sources, phase, number, config.seed, short_length(config, number))
            for number, phase in enumerate(config.phases)
        ]
        tokens = [phase_tokens(config, i, mixer) for i, mixer in enumerate(self.mixers)]
        self.plan = Plan(config, tokens)
        self.step = self.tokens = 0

    # ---- start ----

    def start(self, *, resume: bool) -> None:
        """Build the model, or load the newest checkpoint."""
        self.out.mkdir(parents=True, exist_ok=True)
        identity = {
            "config": self.config.model_dump(mode="json"),
            "data": describe(self._sources),
            "tokenizer": self.fingerprint,
            "base": base_digest(self.config),
        }
        path = self.out / "run.json"
        if path.exists():
            if not resume:
                raise ConfigError(f"{self.out}: holds a run; resume it, or choose another folder")
            same_run(path, read_json(path), identity)
        found = checkpoint.newest(self.out)
        if found is None:
            self.model = new_model(self.config, self._sources, self._extra.get("tokenizer.json"))
        else:
            self.model = load(found, device=self.config.device, verify=False)
        self.model.activation_checkpointing = self.config.activation_checkpointing
        self.model.train()
        self.optimizer = Optimizer(self.model, self.config.optimizer)
        if found is not None:
            self._load_state(found)
        write_json(path, identity)

    # ---- checkpoints ----

    def _load_state(self, folder: Path) -> None:
        state, tensors = checkpoint.read_state(folder), checkpoint.read_tensors(folder)
        if state["tokenizer"] != self.fingerprint:
            raise TrainError(f"{folder}: was trained on shards of another tokenizer")
        self.optimizer.load(tensors)
        torch.set_rng_state(tensors["rng.cpu"])
        if "rng.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["rng.cuda"])
        self.step, self.tokens = state["step"], state["tokens"]
        if state["phase"] is not None:
            self.mixers[state["phase"]].load(state["streams"])

    def save(self) -> Path:
        """Write the checkpoint of this step, and remove those that need not stay."""
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
        tensors = self.optimizer.tensors() | {"rng.cpu": torch.get_rng_state()}
        if self.model.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        if self._chat is not None:
            write_json(self.out / "chat.json", self._chat)
            self._extra["chat.json"] = self.out / "chat.json"
        folder = checkpoint.write(self.out, self.step, self.model, tensors, state, self._extra)
        checkpoint.prune(self.out, self.config.keep, set(self.plan.ends()))
        return folder

    # ---- the loop ----

    def train(
        self, signals: StopSignals, held_out: dict[str, list[Shard]] | None, *, quiet: bool = False
    ) -> Path:
        """Do the steps that are left; returns the last checkpoint."""
        # A run that starts over writes the line of step 0 again.
        kept = self.step or -1
        with (
            StepLog(self.out / "metrics.jsonl", kept) as metrics,
            StepLog(self.out / "timing.jsonl", kept) as timing,
            StepLog(self.out / "evaluations.jsonl", kept) as evaluations,
            Task("Training", self.plan.total, quiet=quiet) as task,
        ):
            task.advance(self.step)
            if self.step == 0:
                self._enter_phase(0)
                self._evaluate(held_out, evaluations)
            while self.step < self.plan.total:
                number, within = self.plan.phase_of(self.step)
                if within == 0:
                    self._enter_phase(number, tell=not quiet)
                began = time.perf_counter()
                line = self._one_step(number)
                seconds = time.perf_counter() - began
                metrics.add(**line)
                speed = line["step_tokens"] / seconds
                timing.add(step=self.step, seconds=seconds, tokens_per_second=speed)
                task.advance(
                    1,
                    f"{self.config.phases[number].name} loss {line['loss']:.3f}"
                    f" lr {line['lr']:.2e} {speed:,.0f} tokens/s",
                )
                self._after_step(signals, held_out, (metrics, timing, evaluations))
            if not (self.out / f"step-{self.step}").exists():
                self.save()
        return self.out / f"step-{self.step}"

    def _after_step(
        self,
        signals: StopSignals,
        held_out: dict[str, list[Shard]] | None,
        logs: tuple[StepLog, StepLog, StepLog],
    ) -> None:
        phase_over = self.step in self.plan.ends()
        every = self.config.evaluate_every
        if phase_over or (every and self.step % every == 0):
            self._evaluate(held_out, logs[2])
        if phase_over or signals.stopped or self.step % self.config.checkpoint_every == 0:
            for log in logs:
                log.sync()
            self.save()
        if signals.stopped and self.step < self.plan.total:
            raise KeyboardInterrupt

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

    def _evaluate(self, held_out: dict[str, list[Shard]] | None, log: StepLog) -> None:
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
        )
        ends = self.plan.ends()
        after = self.config.phases[ends.index(self.step)].name if self.step in ends else None
        log.add(step=self.step, trained_tokens=self.tokens, phase_end=after, **result.to_dict())

    def _one_step(self, number: int) -> dict[str, Any]:
        mixer = self.mixers[number]
        target = self.plan.target(self.step)
        rows: list[Row] = []
        with contextlib.suppress(SourceOver):
            while mixer.tokens < target:
                rows.append(mixer.next())
        step_tokens = sum(row.tokens for row in rows)
        lr = self.plan.lr(self.step)
        loss, labels = self._backward(rows, mixer)
        norm = self.optimizer.step(lr) if labels else 0.0
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainError(
                f"step {self.step + 1}: loss {loss}, gradient norm {norm}; lower the learning rate,"
                " or look at the documents of this step. The last checkpoint is untouched"
            )
        self.step += 1
        self.tokens += step_tokens
        return {
            "step": self.step,
            "phase": self.config.phases[number].name,
            "tokens": self.tokens,
            "step_tokens": step_tokens,
            "labels": labels,
            "loss": loss,
            "lr": lr,
            "grad_norm": norm,
            "epochs": {name: stream.epoch for name, stream in mixer.streams.items()},
        }

    def _backward(self, rows: list[Row], mixer: Mixer) -> tuple[float, int]:
        """Gradients of the mean loss over all labels of the step, however it is cut up."""
        batches = [to_arrays(part, mixer.shards) for part in self._micro_batches(rows)]
        labels = sum(int((batch[1] != IGNORE).sum()) for batch in batches)
        total = torch.zeros((), dtype=torch.float64, device=self.model.device)
        for ids, wanted, bounds in batches:
            self._check_ids(ids)
            if (wanted == IGNORE).all():
                continue
            device = self.model.device
            nll, _ = self.model.loss(
                torch.from_numpy(ids)[None].to(device),
                torch.from_numpy(wanted)[None].to(device),
                cu_seqlens=torch.from_numpy(bounds).to(device),
            )
            torch.autograd.backward(nll / labels)
            self.optimizer.gather()
            total += nll.detach().double()
        return float(total) / max(1, labels), labels

    def _micro_batches(self, rows: list[Row]) -> list[list[Row]]:
        parts: list[list[Row]] = []
        room = 0
        for row in rows:
            if row.tokens > room:
                parts.append([])
                room = self.config.micro_batch_tokens
            parts[-1].append(row)
            room -= row.tokens
        return parts

    def _check_ids(self, ids: Any) -> None:
        largest = int(ids.max())
        if largest >= self.model.config.vocab_size:
            raise TrainError(
                f"the shards hold token id {largest}, the model has"
                f" {self.model.config.vocab_size} vocabulary entries; pack the shards again with"
                " the model's tokenizer"
            )
