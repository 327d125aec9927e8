"""Three phases of pretraining, and what they teach about positions beyond the first window."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from internlm_core._config import load_config
from internlm_core.demo.chain import run
from internlm_core.demo.config import DemoConfig
from internlm_core.demo.learning import pretrain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from internlm_core.tokenizer import Tokenizer

SMALL = [
    "vocab_size=1024",
    "threads=1",
    "sample_tokens=8",
    "corpus.code_bytes=1000000",
    "corpus.readme_bytes=50000",
    "pretrain.hidden_size=64",
    "pretrain.num_hidden_layers=2",
    "pretrain.num_attention_heads=4",
    "pretrain.intermediate_size=128",
    "pretrain.short_window=64",
    "pretrain.long_window=256",
    "sft.pairs=100",
    "sft.epochs=1",
]


def test_phases_of_a_tiny_corpus(
    tmp_path: Path, small_tokenizer: Tokenizer, write_shard: Callable[..., Path]
) -> None:
    (tmp_path / "tokenizer").mkdir()
    small_tokenizer.save(tmp_path / "tokenizer" / "tokenizer.json")
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("held-out", 6)):
        for source in ("code", "docs"):  # no books: the optional archives are missing
            documents = [rng.integers(0, 300, rng.integers(20, 200)) for _ in range(count)]
            write_shard(
                tmp_path / "shards" / split / source, documents,
                vocab_size=small_tokenizer.vocab_size, fingerprint=small_tokenizer.fingerprint,
            )  # fmt: skip
    sizes = ["short_tokens=4000", "long_tokens=1000", "enhancement_tokens=500", "batch_tokens=512"]
    sizes += ["short_window=32", "long_window=128"]
    config = load_config(
        DemoConfig, None, overrides=[*SMALL, *(f"pretrain.{size}" for size in sizes)]
    )
    summary = pretrain(tmp_path, config)
    assert [point["when"] for point in summary["held_out"]] == [
        "at the start", "after phase 1 (short)", "after phase 2 (long)",
        "after phase 3 (enhancement)",
    ]  # fmt: skip
    for point in summary["held_out"]:
        parts = [point["within"], point["beyond"]]
        counts = [part["tokens"] for part in parts]
        # Positions 0 to 31 and 32 to 127 are all there are.
        assert sum(counts) == sum(tokens for *_, tokens in point["by_position"])
        mean = sum(part["loss"] * part["tokens"] for part in parts) / sum(counts)
        assert mean == pytest.approx(point["loss"])
    lines = [json.loads(s) for s in (tmp_path / "pretrain/metrics.jsonl").read_text().splitlines()]
    phases = {name: [x for x in lines if x["phase"] == name] for name in
              ("short", "long", "enhancement")}  # fmt: skip
    assert set(phases["enhancement"][0]["sources"]) == {"docs"}
    assert phases["enhancement"][0]["lr"] <= config.pretrain.enhancement_lr
    last = json.loads((tmp_path / "pretrain" / summary["checkpoint"] / "config.json").read_text())
    assert (last["rope_theta"], last["max_position_embeddings"]) == (1e6, 128)


@pytest.mark.slow
def test_longer_windows_lower_the_loss_beyond_the_first(tmp_path: Path) -> None:
    """The default corpus, all sizes scaled down: 64 and 256 tokens stand for 4K and 32K."""
    tokens = {"short": 900_000, "long": 90_000, "enhancement": 10_000}
    sizes = [f"pretrain.{name}_tokens={count}" for name, count in tokens.items()]
    config = load_config(DemoConfig, None, overrides=[*SMALL, *sizes])
    report = run(tmp_path / "demo", config)
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    _, short, long, _ = summary["pretrain"]["held_out"]
    assert long["beyond"]["loss"] < short["beyond"]["loss"] - 0.03
    # It is the windows, not the further steps alone: nearer positions gain less.
    gained = {part: short[part]["loss"] - long[part]["loss"] for part in ("within", "beyond")}
    assert gained["beyond"] > gained["within"] + 0.03
    page = report.read_text("utf-8")
    for words in (
        "positions 64 to 255",
        f"{short['beyond']['loss']:.3f}",
        f"{long['beyond']['loss']:.3f}",
    ):
        assert words in page
