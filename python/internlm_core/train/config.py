"""Configuration of a training run: the model, its phases, and how it is optimised."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from internlm_core._config import Config
from internlm_core.train.schedule import ScheduleConfig, learning_rate

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LoRAConfig", "OptimizerConfig", "ParallelConfig", "PhaseConfig", "Plan", "TrainConfig"]


class OptimizerConfig(Config):
    """AdamW (Loshchilov & Hutter 2019) and gradient clipping."""

    betas: tuple[float, float] = (0.9, 0.95)
    """Report §3.2.2."""
    eps: float = Field(1e-8, gt=0)
    """Report §3.2.2."""
    weight_decay: float = Field(0.1, ge=0)
    """Report §3.2.2; norms and biases are left out, as is usual."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest L2 norm of the whole gradient; 0 turns clipping off. InternEvo's value."""


class ParallelConfig(Config):
    """How the ranks of a run share its work; what is left after `tensor` and `sequence` is data.

    Changes no result but for rounding, so a run may go on under another plan.
    """

    tensor: int = Field(1, ge=1)
    """Ranks that split each matrix (Shoeybi et al. 2019): wqkv by KV group, w1 and w3 by rows, wo
    and w2 by columns, embedding and head by vocabulary entries."""
    sequence: int = Field(1, ge=1)
    """Ranks that split each row of tokens, and its heads in attention by all-to-all (Jacobs et al.
    2023); `tensor`·`sequence` must divide the KV heads."""
    shard: Literal["full", "partial", "none"] = "full"
    """FSDP of parameters, gradients and optimizer state: over all data ranks, over groups of
    `shard_size`, or a copy on every rank."""
    shard_size: int = Field(8, ge=2)
    """Ranks of a group with `shard = "partial"`: a node's (InternEvo's usual 8)."""
    keep_gathered: bool = False
    """Keep a layer's gathered parameters from forward to backward: less traffic, more memory."""


class LoRAConfig(Config):
    """Low-rank adapters (Hu et al. 2021): W x + (alpha / rank)·B A x, with W frozen."""

    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[Literal["wqkv", "wo", "w1", "w2", "w3"], ...] = ("wqkv", "wo", "w1", "w2", "w3")
    """Linear layers that get one; all of them, as Dettmers et al. 2023 advise."""


class PhaseConfig(Config):
    """A stretch of training with one window, one RoPE base and one mixture of sources."""

    name: str = Field("train", pattern=r"^[A-Za-z0-9._-]+$")
    tokens: int | None = Field(None, gt=0)
    """Tokens to train on; instead of `share` and `epochs`."""
    share: float | None = Field(None, gt=0, le=1)
    """Part of `total_tokens`; the report's phases take 0.9, 0.09 and 0.01."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the data that the phase selects."""
    sequence_length: int = Field(4096, ge=2)
    """Window: longer documents are cut, and the rest is used too (report §3.3.1)."""
    rope_theta: float | None = Field(None, gt=0)
    """RoPE base; as the model has it when not given (50,000 in a new one). Report §3.3: 50,000 in
    the 4K phase, 1,000,000 in the 32K phase."""
    batch_tokens: int = Field(4_000_000, gt=0)
    """Tokens of one optimizer step, over all ranks (report, Table 3: 4M and 5M)."""
    mixture: dict[str, float] = Field(default_factory=dict)
    """Weight of each source; empty takes all sources as they are."""
    short_fraction: float | None = Field(None, ge=0, le=1)
    """Share of tokens that come in pieces of at most `short_length`, as in the phase before: all
    documents, cut there. The others are documents longer than that (report §3.3.2: half)."""
    short_length: int | None = Field(None, gt=0)
    """Longest short piece; the previous phase's window when not given."""
    on_exhausted: Literal["repeat", "stop"] = "repeat"
    """What a source does at its end: start over in a new order, or end the phase."""
    schedule: ScheduleConfig | None = None
    """Own learning-rate schedule; without one the phase goes on along the one before it."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        given = [k for k in ("tokens", "share", "epochs") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(
                f"phase {self.name!r}: expected exactly one of tokens, share, epochs; got"
                f" {', '.join(given) or 'none'}"
            )
        if any(weight < 0 for weight in self.mixture.values()) or (
            self.mixture and not sum(self.mixture.values())
        ):
            raise ValueError(f"phase {self.name!r}: mixture weights must be ≥ 0, and one above 0")
        if self.batch_tokens < self.sequence_length:
            raise ValueError(
                f"phase {self.name!r}: batch_tokens={self.batch_tokens} must be at least"
                f" sequence_length={self.sequence_length}"
            )
        return self


class TrainConfig(Config):
    """A whole run. `internlm_core.train` has the presets `demo`, `1.8b`, `7b` and `20b`."""

    model: dict[str, Any] = Field(default_factory=dict)
    """Keys of `ModelConfig`; `vocab_size`, `max_position_embeddings`, `rope_theta` and `dtype` come
    from the shards and phases when not given. Ignored with `init_from`."""
    init_from: str | None = None
    """Checkpoint (or run, whose newest is taken) whose weights the run starts from."""
    shards: str | dict[str, str] | None = None
    """Token shards: a folder, or source → folder; where the call or command names none."""
    held_out: str | dict[str, str] | None = None
    """Shards whose loss is watched."""
    out: str | None = None
    """Run folder, where the call or command names none."""
    phases: tuple[PhaseConfig, ...] = Field(min_length=1)
    total_tokens: int | None = Field(None, gt=0)
    """Tokens of all phases together, for phases given as a share."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Of the first phase, and of those after it up to one with its own."""
    optimizer: OptimizerConfig = OptimizerConfig()
    parallel: ParallelConfig = ParallelConfig()
    """Plan for more than one process (`torchrun`)."""
    lora: LoRAConfig | None = None
    """Train adapters instead of the weights of `init_from`; checkpoints hold the merged model."""
    dtype: Literal["fp32", "bf16"] = "bf16"
    """Type of the forward and backward pass; with bf16 the master weights stay fp32."""
    micro_batch_tokens: int = Field(16_384, gt=0)
    """Most tokens of one forward pass (at least a window); changes memory, not the result."""
    activation_checkpointing: float = Field(0.0, ge=0, le=1)
    """Share of layers whose activations are recomputed."""
    seed: int = 1024
    """Weights and data order; 1024 is InternEvo's."""
    device: str = "cpu"
    """`cpu`, `cuda`, `cuda:1`."""
    threads: int = Field(0, ge=0)
    """CPU threads of torch; 0 leaves its choice. The last bits of a CPU run depend on it."""
    checkpoint_every: int = Field(500, gt=0)
    """Steps between checkpoints; the ends of phases are always saved."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints that stay; the ends of phases stay as well."""
    evaluate_every: int = Field(0, ge=0)
    """Steps between held-out losses; 0: only at the start and at the ends of phases."""
    evaluate_tokens: int = Field(262_144, gt=0)
    """Most held-out tokens of one evaluation."""
    compile: bool = False
    """Fuse each layer with torch.compile; the first step takes its time."""
    tensorboard: bool = False
    """Write events to `tensorboard/` too."""
    memory_limit: float | None = Field(None, gt=0)
    """GiB a rank may take; the device's own memory when not given."""
    spike_factor: float = Field(4.0, gt=1)
    """A loss this many robust deviations above the recent median, or a gradient norm this many
    times it, goes to `alerts.jsonl`. Ours."""
    stall_seconds: float = Field(600.0, gt=0)
    """A step that takes longer, and ten times the median too, is a stall. Ours."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(p.share is not None for p in self.phases) and self.total_tokens is None:
            raise ValueError("phases with a share need total_tokens")
        if self.lora is not None and self.init_from is None:
            raise ValueError("lora needs init_from: adapters are trained on top of a model")
        if self.lora is not None and self.parallel.tensor > 1:
            raise ValueError("lora does not work with parallel.tensor > 1; use parallel.shard")
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError(f"phases need different names, got {', '.join(names)}")
        window = max(phase.sequence_length for phase in self.phases)
        if self.micro_batch_tokens < window:
            raise ValueError(
                f"micro_batch_tokens={self.micro_batch_tokens} must hold a window of {window} tokens"
            )
        return self


class Plan:
    """Steps of a run, phase by phase, once the lengths of the phases in tokens are known.

    Args:
        config: The run.
        tokens: Tokens of each phase.
    """

    def __init__(self, config: TrainConfig, tokens: list[int]) -> None:
        self.config = config
        self.tokens = tokens
        self.steps = [
            math.ceil(n / phase.batch_tokens)
            for n, phase in zip(tokens, config.phases, strict=True)
        ]
        self.total = sum(self.steps)
        # Phases that share a schedule: its configuration, first step and number of steps.
        self._spans: list[tuple[ScheduleConfig, int, int]] = []
        first = 0
        for number, (phase, steps) in enumerate(zip(config.phases, self.steps, strict=True)):
            if number == 0 or phase.schedule is not None:
                self._spans.append((phase.schedule or config.schedule, first, steps))
            else:
                schedule, start, so_far = self._spans[-1]
                self._spans[-1] = (schedule, start, so_far + steps)
            first += steps

    def phase_of(self, step: int) -> tuple[int, int]:
        """Number of the phase of `step`, and the step's number within it, both from 0."""
        for number, steps in enumerate(self.steps):
            if step < steps:
                return number, step
            step -= steps
        raise IndexError("the run has fewer steps")

    def ends(self) -> list[int]:
        """Steps done when each phase is over."""
        return [sum(self.steps[: i + 1]) for i in range(len(self.steps))]

    def target(self, step: int) -> int:
        """Tokens of its phase that are consumed when `step` is done."""
        number, within = self.phase_of(step)
        return min(self.tokens[number], (within + 1) * self.config.phases[number].batch_tokens)

    def lr(self, step: int) -> float:
        """Learning rate of `step`."""
        for schedule, first, steps in reversed(self._spans):
            if step >= first:
                return learning_rate(schedule, step - first, steps)
        raise IndexError("steps count from 0")
