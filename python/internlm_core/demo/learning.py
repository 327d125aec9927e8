"""From token shards to answers: three phases of pretraining, fine-tuning, and what they taught."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from internlm_core import align, infer, tokenizer, train
from internlm_core.demo.questions import make_conversations, split_conversations
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from internlm_core.demo.config import DemoConfig

__all__ = ["answer", "fine_tune", "pretrain"]

# Openings in the corpus's three voices: a speaker in a play, code, a speaker in the Chinese novel.
# Each ends where a token does in the corpus; inside a run of letters the model never saw that end.
_PROMPTS = ("**HAMLET**  \n", "class Node:\n    def __init__", "玄德曰：“")
_QUESTION = "What does `textwrap.dedent` do?"


def _lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def _phases(out: Path, config: DemoConfig) -> list[dict[str, Any]]:
    """Short windows; longer ones with the RoPE base raised; selected sources at a smaller rate."""
    sizes = config.pretrain
    long = {
        "sequence_length": sizes.long_window,
        "rope_theta": sizes.long_rope_theta,
        "batch_tokens": max(sizes.batch_tokens, sizes.long_window),
    }
    found = {path.name for path in (out / "shards" / "train").iterdir()}
    # Without the optional archives there are no books.
    selected = {name: share for name, share in sizes.enhancement_mixture.items() if name in found}
    return [
        {
            "name": "short",
            "tokens": sizes.short_tokens,
            "sequence_length": sizes.short_window,
            "rope_theta": sizes.short_rope_theta,
            "batch_tokens": sizes.batch_tokens,
        },
        {
            "name": "long",
            "tokens": sizes.long_tokens,
            "short_fraction": sizes.long_short_fraction,
            **long,
        },
        {
            "name": "enhancement",
            "tokens": sizes.enhancement_tokens,
            "mixture": selected,
            "schedule": {"peak_lr": sizes.enhancement_lr, "warmup_share": 0.05},
            **long,
            "batch_tokens": max(sizes.batch_tokens // 2, sizes.long_window),
        },
    ]


def _by_window(point: dict[str, Any], window: int) -> dict[str, Any]:
    """Held-out loss at positions inside and beyond a window, from an evaluation's buckets."""
    result: dict[str, Any] = {}
    for name, inside in (("within", True), ("beyond", False)):
        buckets = [
            b for b in point["by_position"] if (b[1] <= window if inside else b[0] >= window)
        ]
        tokens = sum(count for *_, count in buckets)
        loss = sum(loss * count for _, _, loss, count in buckets)
        result[name] = {"loss": loss / tokens, "tokens": tokens} if tokens else None
    return result


def pretrain(out: Path, config: DemoConfig) -> dict[str, Any]:
    """Train the three phases; held-out losses before and after each, near and far in the window."""
    sizes = config.pretrain
    phases = _phases(out, config)
    settings = {
        "model": {
            name: getattr(sizes, name)
            for name in (
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "num_key_value_heads",
                "intermediate_size",
            )
        },
        "phases": phases,
        "schedule": {"peak_lr": sizes.peak_lr, "warmup_share": 0.05},
        "dtype": sizes.dtype,
        "micro_batch_tokens": max(sizes.batch_tokens, sizes.long_window),
        "checkpoint_every": 40,
        "evaluate_tokens": 40_000,
        "threads": config.threads,
        "seed": config.seed,
    }
    run = out / "pretrain"
    last = train.run(
        settings,
        out / "shards" / "train",
        run,
        held_out=out / "shards" / "held-out",
        tokenizer=out / "tokenizer" / "tokenizer.json",
    )
    evaluations = _lines(run / "evaluations.jsonl")
    names = ["at the start", *(f"after phase {n + 1} ({p['name']})" for n, p in enumerate(phases))]
    points = [evaluations[0], *(e for e in evaluations if e.get("phase_end"))]
    held_out = [
        {
            "when": when,
            "loss": point["loss"],
            "by_position": point["by_position"],
            "by_source": point["by_source"],
            **_by_window(point, sizes.short_window),
        }
        for when, point in zip(names, points, strict=True)
    ]
    losses = [[line["step"], line["loss"]] for line in _lines(run / "metrics.jsonl")]
    return {"checkpoint": last.name, "held_out": held_out, "losses": losses}


def fine_tune(out: Path, config: DemoConfig) -> dict[str, Any]:
    """Fine-tune on question–answer pairs made from docstrings."""
    sizes = config.sft
    pairs = make_conversations(sizes.pairs + sizes.held_out_pairs, config.seed)
    taught, held_out = split_conversations(pairs, sizes.held_out_pairs)
    if not taught or not held_out:
        raise DataError("no docstrings found on this machine to make questions from")
    trained = tokenizer.Tokenizer.from_file(out / "tokenizer" / "tokenizer.json")
    for name, conversations in (("train", taught), ("held-out", held_out)):
        folder = out / "sft-shards" / name
        if not (folder / "shard.json").exists():
            align.pack_conversations(conversations, trained, folder)
    settings = {
        "phases": [
            {
                "name": "sft",
                "epochs": sizes.epochs,
                "sequence_length": sizes.window,
                "rope_theta": config.pretrain.long_rope_theta,
                "batch_tokens": sizes.batch_tokens,
            }
        ],
        "schedule": {"peak_lr": sizes.peak_lr, "warmup_share": 0.05},
        "dtype": config.pretrain.dtype,
        "micro_batch_tokens": sizes.batch_tokens,
        "checkpoint_every": 20,
        "threads": config.threads,
        "seed": config.seed,
    }
    align.sft(
        settings,
        out / "pretrain",
        out / "sft-shards" / "train",
        out / "sft",
        held_out=out / "sft-shards" / "held-out",
    )
    evaluations = _lines(out / "sft" / "evaluations.jsonl")
    losses = [[line["step"], line["loss"]] for line in _lines(out / "sft" / "metrics.jsonl")]
    return {
        "pairs": len(taught),
        "before": evaluations[0]["loss"],
        "after": evaluations[-1]["loss"],
        "losses": losses,
    }


def answer(out: Path, config: DemoConfig) -> dict[str, Any]:
    """Three samples of the pretrained model, one answer of the fine-tuned one."""
    base = infer.Engine.from_folder(out / "pretrain")
    samples = []
    for number, prompt in enumerate(_PROMPTS):
        (done,) = base.generate(
            [prompt],
            max_tokens=config.sample_tokens,
            temperature=0.7,
            top_p=0.9,
            seed=config.seed + number,
        )
        samples.append({"prompt": prompt, "text": done.text})
    tuned = infer.Engine.from_folder(out / "sft")
    (reply,) = tuned.generate(
        [[{"role": "user", "content": _QUESTION}]], max_tokens=config.sample_tokens, temperature=0.0
    )
    return {"samples": samples, "question": {"question": _QUESTION, "answer": reply.text}}
