"""What a run starts from: its model, the lengths of its phases, and whether it is the same run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_core._config import load_config
from internlm_core._files import file_digest
from internlm_core._progress import console
from internlm_core.errors import CheckpointError, ConfigError, TrainError
from internlm_core.model import ModelConfig
from internlm_core.model.manifest import MANIFEST
from internlm_core.model.runs import model_folder
from internlm_core.tokenizer import Tokenizer
from internlm_core.train import checkpoint
from internlm_core.train.sources import fingerprint_of

if TYPE_CHECKING:
    from internlm_core.tokenizer import Shard
    from internlm_core.train.config import TrainConfig
    from internlm_core.train.stream import Mixer

__all__ = [
    "base_digest",
    "new_config",
    "phase_tokens",
    "same_run",
    "same_vocabulary",
    "short_length",
    "tokenizer_files",
]

# What may differ between a run and its resumption: it does not change the result, or in its last bits
# alone. Where base and data lie may differ, too: what they are, is compared.
_FREE = {
    "activation_checkpointing",
    "checkpoint_every",
    "compile",
    "device",
    "evaluate_every",
    "evaluate_tokens",
    "held_out",
    "init_from",
    "keep",
    "memory_limit",
    "micro_batch_tokens",
    "out",
    "parallel",
    "shards",
    "spike_factor",
    "stall_seconds",
    "tensorboard",
    "threads",
}


def new_config(
    config: TrainConfig, sources: dict[str, list[Shard]], tokenizer: Path | None
) -> ModelConfig:
    """The architecture of a new model.

    Args:
        config: The run.
        sources: Its shards.
        tokenizer: `tokenizer.json`, whose `<s>` and `</s>` become a new model's first and end ids.

    Raises:
        ConfigError: `model` is incomplete or contradictory.
        TrainError: It has fewer vocabulary entries than the shards' tokenizer.
    """
    first = config.phases[0]
    needed = _vocabulary(sources)
    values = {
        "vocab_size": needed,
        "max_position_embeddings": first.sequence_length,
        "rope_theta": first.rope_theta or 50_000.0,
        "dtype": {"fp32": "float32", "bf16": "bfloat16"}[config.dtype],
    }
    values |= _marks(tokenizer) | config.model
    model = load_config(ModelConfig, values)
    _enough(model.vocab_size, needed)
    return model


def same_vocabulary(sources: dict[str, list[Shard]], base: Path) -> None:
    """Whether the shards' ids mean to the base what they mean to the shards' tokenizer.

    Raises:
        TrainError: The base has fewer entries, or was trained with another tokenizer.
    """
    _enough(ModelConfig.from_folder(base).vocab_size, _vocabulary(sources))
    _same_as_base(base, fingerprint_of(sources))


def _vocabulary(sources: dict[str, list[Shard]]) -> int:
    return max(int(s.info["vocab_size"]) for group in sources.values() for s in group)


def _enough(entries: int, needed: int) -> None:
    if entries < needed:
        raise TrainError(
            f"the model has {entries} vocabulary entries, the shards' tokenizer"
            f" {needed}: set model.vocab_size to {needed} or more, or pack the shards with the"
            " model's tokenizer"
        )


def _marks(tokenizer: Path | None) -> dict[str, int | None]:
    """Ids that `tokenizer.pack` puts around documents; a vocabulary without them has none."""
    if tokenizer is None:
        return {}
    special = Tokenizer.from_file(tokenizer).special_tokens
    end = special.get("</s>")
    return {"bos_token_id": special.get("<s>"), "eos_token_id": end, "pad_token_id": end}


def base_digest(config: TrainConfig) -> str | None:
    """Hash of the manifest of the checkpoint a run starts from; None where there is none."""
    if config.init_from is None:
        return None
    try:
        path = model_folder(config.init_from) / MANIFEST
    except CheckpointError:  # gone since: a new run will say so, one that goes on needs no base
        return None
    return file_digest(path) if path.is_file() else None


def _same_as_base(folder: Path, fingerprint: str) -> None:
    if not (folder / "trainer").is_dir():
        return
    state = checkpoint.read_state(folder)
    if state["tokenizer"] != fingerprint:
        raise TrainError(
            f"{folder} was trained with another tokenizer ({state['tokenizer'][:12]}) than the"
            f" shards ({fingerprint[:12]}); pack the shards with the tokenizer in that folder"
        )


def phase_tokens(config: TrainConfig, number: int, mixer: Mixer, *, tell: bool = True) -> int:
    """Length of a phase in tokens; `tell` says where it ends early.

    Raises:
        TrainError: Its data is smaller than a batch.
    """
    phase = config.phases[number]
    if phase.tokens is not None:
        tokens = phase.tokens
    elif phase.share is not None:
        tokens = round(phase.share * (config.total_tokens or 0))
    else:
        tokens = round((phase.epochs or 0) * mixer.epoch_tokens)
    if mixer.epoch_tokens < phase.batch_tokens:
        raise TrainError(
            f"phase {phase.name!r}: the data has {mixer.epoch_tokens:,} tokens, fewer than one"
            f" batch of {phase.batch_tokens:,}; lower batch_tokens or add data"
        )
    available = mixer.until_exhausted()
    if phase.on_exhausted == "stop" and available < tokens:
        if tell:
            console.print(
                f"Phase {phase.name}: a source ends after {available:,} of {tokens:,} tokens;"
                " the phase stops there"
            )
        tokens = available
    return max(1, tokens)


def short_length(config: TrainConfig, number: int) -> int:
    """Longest piece that counts as short in a phase."""
    phase = config.phases[number]
    if phase.short_length is not None:
        return phase.short_length
    return config.phases[number - 1].sequence_length if number else phase.sequence_length // 2


def tokenizer_files(
    tokenizer: str | Path | None, sources: dict[str, list[Shard]]
) -> dict[str, Path]:
    """Tokenizer files for the checkpoints: as given, or `tokenizer.json` in or beside a shard.

    Raises:
        TrainError: `tokenizer` has none.
    """
    if tokenizer is None:
        shard = next(iter(sources.values()))[0]
        beside = [folder / "tokenizer.json" for folder in (shard.path, shard.path.parent)]
        found = [path for path in beside if path.is_file()]
        return {"tokenizer.json": found[0]} if found else {}
    path = Path(tokenizer)
    if path.is_dir():
        names = ("tokenizer.json", "tokenizer_config.json")
        files = {name: path / name for name in names if (path / name).is_file()}
    else:
        files = {"tokenizer.json": path} if path.is_file() else {}
    if not files:
        raise TrainError(f"{path}: no tokenizer.json there")
    return files


def same_run(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare what `run.json` says with the run that is to go on.

    Raises:
        ConfigError: They differ in something that changes the result; all of it is named.
    """
    different = [key for key in ("data", "tokenizer") if before[key] != now[key]]
    # A base that is gone can't be compared, nor is it needed any more.
    if None not in (before["base"], now["base"]) and before["base"] != now["base"]:
        different.append("init_from (another checkpoint)")
    keys = set(before["config"]) | set(now["config"])
    different += sorted(
        f"{key} ({before['config'].get(key)!r} → {now['config'].get(key)!r})"
        for key in keys - _FREE
        if before["config"].get(key) != now["config"].get(key)
    )
    if different:
        raise ConfigError(
            f"{path}: the run there had other settings: {'; '.join(different)}. Use the same"
            " settings to resume it, or another folder"
        )
