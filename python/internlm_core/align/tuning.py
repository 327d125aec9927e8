"""Supervised fine-tuning: conversations to a shard with flags, and a run on the flagged tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from internlm_core import chat
from internlm_core._config import load_config
from internlm_core._progress import Task, console
from internlm_core.errors import DataError
from internlm_core.model.runs import model_folder
from internlm_core.tokenizer import Shard, ShardWriter, Tokenizer
from internlm_core.train import TrainConfig, run
from internlm_core.train.sources import open_sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from internlm_core.train.sources import ShardPaths

    Conversation = Sequence[Mapping[str, Any]] | Mapping[str, Any]

__all__ = ["pack_conversations", "sft"]


def pack_conversations(
    conversations: Iterable[Conversation],
    tokenizer: Tokenizer,
    out: str | Path,
    *,
    turns: Literal["all", "last"] = "all",
    max_tokens: int | None = None,
    dialect: str | chat.Dialect = "internlm2",
    quiet: bool = False,
) -> Shard:
    """Render conversations into a token shard with `supervised.npy`.

    Args:
        conversations: Lists of messages as for `chat.render`, or `{"messages", "tools"}`.
        tokenizer: Encodes; it needs the chat format's special tokens.
        out: Folder to make.
        turns: Train on what every assistant turn says, or only the last.
        max_tokens: Cut longer conversations there (a cut answer gets no end token); without it the
            trainer cuts them to its window, and uses the rest too.
        dialect: Written form, as for `chat.render`; kept in `shard.json`, and with what is trained on it.
        quiet: No progress.

    Raises:
        DataError: No conversation was left. One that can't be rendered, or in which nothing is
            supervised, is left out and counted.
    """
    writer = ShardWriter(
        out,
        fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        supervised=True,
    )
    writer.note(chat=chat.describe_rendering(tokenizer, dialect))
    written, faults = 0, []
    with writer, Task("Rendering conversations", quiet=quiet) as task:
        for number, conversation in enumerate(conversations):
            task.advance()
            try:
                ids, flags = _render(conversation, tokenizer, turns, dialect)
            except DataError as error:
                faults.append(f"conversation {number}: {error}")
                continue
            ids, flags = ids[:max_tokens], flags[:max_tokens]
            # The first token is never predicted.
            if not flags[1:].any():
                faults.append(f"conversation {number}: no assistant turn to learn from")
                continue
            writer.add(ids, supervised=flags)
            written += 1
        if not written:
            raise DataError(f"no usable conversation; {faults[0] if faults else 'there were none'}")
    if faults:
        console.print(f"{len(faults)} conversations were left out; the first: {faults[0]}")
    return Shard.open(out)


def _render(
    conversation: Conversation,
    tokenizer: Tokenizer,
    turns: Literal["all", "last"],
    dialect: str | chat.Dialect,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    tools = None
    if isinstance(conversation, Mapping):
        if "messages" not in conversation:
            raise DataError("expected a list of messages, or an object with 'messages'")
        messages, tools = conversation["messages"], conversation.get("tools")
    else:
        messages = conversation
    segments = chat.render(messages, tools, tokenizer, dialect=dialect)
    ids, flags = chat.flatten(segments)
    if turns == "last":
        last = max((s.turn for s in segments if s.supervised), default=-1)
        of = np.concatenate([np.full(len(s.ids), s.turn) for s in segments])
        flags = flags * (of == last).astype(np.uint8)
    return ids, flags


def sft(
    config: TrainConfig | str | Path | Mapping[str, Any],
    base: str | Path,
    shards: ShardPaths,
    out: str | Path,
    *,
    held_out: ShardPaths | None = None,
    resume: bool = True,
    overrides: Iterable[str] = (),
    quiet: bool = False,
) -> Path:
    """Fine-tune a checkpoint on shards of `pack_conversations`.

    The trainer of pretraining with the loss on flagged tokens alone: what assistants say, their
    calls and the token that ends their turn. Same checkpoints, same exact resume.

    Args:
        config: As for `train.run`; `internlm_core.align` has the preset `sft`. `init_from` is set
            to `base`.
        base: The checkpoint to start from, or a run, whose newest is taken; its tokenizer goes with the result.
        shards: Where the conversations lie.
        out: Run folder.
        held_out: Shards whose loss is watched.
        resume: Go on in a folder that holds a run.
        overrides: `key=value` on top of `config`.
        quiet: No progress.

    Returns:
        The last checkpoint.

    Raises:
        DataError: A shard has no `supervised.npy`, or shards are written in different forms.
        InternlmError: As for `train.run`.
    """
    if not isinstance(config, TrainConfig):
        source = str(config) if isinstance(config, Path) else config
        config = load_config(
            TrainConfig, source, package="internlm_core.align", overrides=overrides
        )
    base = model_folder(base)
    config = config.model_copy(update={"init_from": str(base.resolve())})
    for group in open_sources(shards).values():
        for shard in group:
            if shard.supervised is None:
                raise DataError(
                    f"{shard.path}: has no supervised.npy; make it with pack_conversations"
                )
    rendering = None
    if (base / "tokenizer.json").is_file():
        rendering = _rendering(shards) or chat.describe_rendering(Tokenizer.from_file(base))
    return run(
        config,
        shards,
        out,
        resume=resume,
        held_out=held_out,
        tokenizer=base if rendering is not None else None,
        chat=rendering,
        quiet=quiet,
    )


def _rendering(shards: ShardPaths) -> dict[str, Any] | None:
    """How the conversations in the shards were rendered; None where none says so."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for group in open_sources(shards).values():
        for shard in group:
            rendering = shard.info.get("chat")
            if isinstance(rendering, dict):
                found.setdefault(str(rendering.get("fingerprint")), (shard.path, rendering))
    if len(found) > 1:
        (one, first), (other, second) = list(found.values())[:2]
        raise DataError(
            f"{one} and {other} are written in different forms ({first.get('dialect')!r}, "
            f"{second.get('dialect')!r}): pack them again with one dialect and one tokenizer"
        )
    return next((rendering for _, rendering in found.values()), None)
