"""The chain, top to bottom: raw text → records → tokenizer → shards → model → answers → report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from internlm_core import data, tokenizer
from internlm_core._config import load_config
from internlm_core._files import write_json
from internlm_core._progress import console
from internlm_core.demo.corpus import SNAPSHOT, write_corpus
from internlm_core.demo.learning import answer, fine_tune, pretrain
from internlm_core.demo.page import write_page
from internlm_core.demo.stages import StagedRun
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from internlm_core.demo.config import DemoConfig
    from internlm_core.tokenizer import Tokenizer

__all__ = ["run"]


def run(out: Path, config: DemoConfig, *, texts: Path | None = None, resume: bool = False) -> Path:
    """Run every stage that is not done yet; returns the path of the report.

    Args:
        out: Run folder.
        config: Sizes and seed.
        texts: Folder with the optional text archives; without it the demo uses what it finds.
        resume: Go on in a folder that exists.

    Raises:
        ConfigError: `out` holds a run and `resume` is off, or the run had another configuration.
        InternlmError: A stage failed; its message says what to do.
    """
    staged = StagedRun(out, config, resume=resume)
    with staged.lock():
        corpus = staged.stage(
            "corpus",
            "Finding text",
            lambda: write_corpus(out / "raw", config.corpus, texts, config.seed),
        )
        records = staged.stage(
            "records",
            "Cleaning: read, normalise, filter, deduplicate",
            lambda: _records(out, config),
        )
        vocabulary = staged.stage(
            "tokenizer", "Training the tokenizer", lambda: _tokenizer(out, config)
        )
        shards = staged.stage("shards", "Packing token shards", lambda: _shards(out, config))
        learning = staged.stage(
            "pretrain", "Pretraining in three phases", lambda: pretrain(out, config)
        )
        tuning = staged.stage("sft", "Fine-tuning on questions", lambda: fine_tune(out, config))
        samples = staged.stage("samples", "Writing and answering", lambda: answer(out, config))
        summary = {
            "corpus": corpus,
            "records": records,
            "tokenizer": vocabulary,
            "shards": shards,
            "pretrain": learning,
            "sft": tuning,
            "samples": samples,
        }
        write_json(out / "summary.json", summary)
        report = write_page(out, config, summary)
    _tell(summary, config)
    return report


def _records(out: Path, config: DemoConfig) -> dict[str, Any]:
    """Raw files → kept, dropped and rejected records (a run folder of the data room)."""
    raw = out / "raw"
    named = {"plays": "books", "topics": "docs"}
    # Plain text files can't say what they are; the others carry their own source. Paths are relative
    # to the run folder, so that the report does not depend on where that lies.
    sources = [
        {"path": f"raw/{path.name}", "source": named.get(path.name), "snapshot": SNAPSHOT}
        for path in sorted(raw.iterdir())
    ]
    settings = {"sources": sources, "threads": config.threads}
    done = data.Pipeline(load_config(data.PipelineConfig, settings), base=out).run(out / "records")
    return {"kept": done.kept, "dropped": done.dropped, "rejected": done.rejected}


def _split(out: Path, config: DemoConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Kept records for training, and those held out: chosen by id, so the order never matters."""
    kept = pl.read_parquet(out / "records" / "kept" / "*.parquet").sort("id")
    if kept.is_empty():
        raise DataError(
            f"{out / 'records'}: no record was kept; look at its report.html for the reasons"
        )
    bucket = kept["id"].str.slice(0, 8).str.to_integer(base=16, dtype=pl.UInt32)
    held = bucket < int(config.held_out_share * 2**32)
    return kept.filter(~held), kept.filter(held)


def _tokenizer(out: Path, config: DemoConfig) -> dict[str, Any]:
    train, held_out = _split(out, config)
    trained = tokenizer.train(train["text"], vocab_size=config.vocab_size, threads=config.threads)
    folder = out / "tokenizer"
    folder.mkdir(exist_ok=True)
    trained.save(folder / "tokenizer.json")
    return {
        "vocab_size": trained.vocab_size,
        "fingerprint": trained.fingerprint,
        "bytes_per_token": _bytes_per_token(trained, held_out),
    }


def _bytes_per_token(trained: Tokenizer, frame: pl.DataFrame) -> dict[str, float]:
    """Bytes a token by source and language, on text the vocabulary was not trained on."""
    result: dict[str, float] = {}
    for (source, lang), group in sorted(frame.group_by("source", "lang")):
        ids, _ = trained.encode_batch(group["text"])
        size = int(group["text"].str.len_bytes().sum())
        result[f"{source} ({lang})"] = round(size / max(1, len(ids)), 3)
    return result


def _shards(out: Path, config: DemoConfig) -> dict[str, Any]:
    trained = tokenizer.Tokenizer.from_file(out / "tokenizer" / "tokenizer.json")
    counts = {}
    for name, frame in zip(("train", "held-out"), _split(out, config), strict=True):
        documents = tokens = 0
        # A shard a source, so that losses can be told apart.
        for source in sorted(frame["source"].unique()):
            part = frame.filter(pl.col("source") == source)
            shard = tokenizer.pack(
                [part], trained, out / "shards" / name / source, threads=config.threads
            )
            documents, tokens = documents + len(shard), tokens + shard.n_tokens
        counts[name] = {"documents": documents, "tokens": tokens}
    return counts


def _tell(summary: dict[str, Any], config: DemoConfig) -> None:
    """The run in a few lines."""
    kept, tokens = summary["records"], summary["shards"]["train"]["tokens"]
    console.print(f"\nRecords: {kept}")
    console.print(
        f"Training tokens: {tokens:,} (held out: {summary['shards']['held-out']['tokens']:,})"
    )
    for step in summary["pretrain"]["held_out"]:
        console.print(f"Held-out loss {step['when']}: {step['loss']:.3f} nats a token")
    _, short, long, *_ = summary["pretrain"]["held_out"]
    if short["beyond"] is not None:
        console.print(
            f"At positions beyond the first phase's window of {config.pretrain.short_window}, before"
            f" and after the phase of longer windows: {short['beyond']['loss']:.3f} →"
            f" {long['beyond']['loss']:.3f}"
        )
    console.print(
        f"Answer loss before and after fine-tuning: {summary['sft']['before']:.3f} → {summary['sft']['after']:.3f}"
    )
    for sample in summary["samples"]["samples"]:
        console.print(f"\n{sample['prompt']!r} → {sample['text']!r}", markup=False)
    question = summary["samples"]["question"]
    console.print(f"\nQ: {question['question']}\nA: {question['answer']}", markup=False)
