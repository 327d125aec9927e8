"""Configuration of the demo: sizes of the corpus, the vocabulary, the model and its training."""

from __future__ import annotations

from pydantic import Field

from internlm_core._config import Config

__all__ = ["CorpusConfig", "DemoConfig", "SftConfig"]


class CorpusConfig(Config):
    """How much text is taken from this machine, and what is planted in it."""

    code_bytes: int = Field(2_400_000, ge=0)
    """Bytes of the standard library's sources."""
    readme_bytes: int = Field(600_000, ge=0)
    """Bytes of installed packages' READMEs."""
    near_copies: int = Field(60, ge=0)
    """Documents planted again with one line in fifty changed."""
    exact_copies: int = Field(20, ge=0)
    """Documents planted again unchanged."""
    noise_pages: int = Field(30, ge=0)
    """Pages of menus, keyword lists and symbols, which the rules should drop."""


class PretrainConfig(Config):
    """The model and its three phases; the InternLM2 architecture at a laptop's size.

    The phases take 90, 9 and 1 % of the tokens, as the report's do (§3.3); the windows are scaled down.
    """

    hidden_size: int = Field(192, ge=32)
    num_hidden_layers: int = Field(6, ge=1)
    num_attention_heads: int = Field(6, ge=1)
    num_key_value_heads: int = Field(2, ge=1)
    intermediate_size: int = Field(512, ge=32)
    dtype: str = "bf16"
    peak_lr: float = Field(3e-3, gt=0)
    """Small models bear a larger rate than the report's 3e-4 (spec: 1.8B and up)."""
    batch_tokens: int = Field(4096, ge=64)
    short_tokens: int = Field(2_160_000, gt=0)
    short_window: int = Field(256, ge=16)
    short_rope_theta: float = 50_000.0
    long_tokens: int = Field(216_000, gt=0)
    long_window: int = Field(1024, ge=16)
    long_rope_theta: float = 1_000_000.0
    long_short_fraction: float = Field(0.5, ge=0, le=1)
    """Share of the long phase's tokens that still come from short windows (report §3.3.2)."""
    enhancement_tokens: int = Field(24_000, gt=0)
    enhancement_mixture: dict[str, float] = Field({"docs": 0.75, "books": 0.25}, min_length=1)
    """Weights of the selected sources; those that were not found are left out (report §3.3.3)."""
    enhancement_lr: float = Field(3e-4, gt=0)
    """A tenth of the peak, as the batch is half (report §3.3.3: both smaller; the numbers are ours)."""


class SftConfig(Config):
    """Fine-tuning on question–answer pairs made from docstrings."""

    pairs: int = Field(3_600, ge=8)
    held_out_pairs: int = Field(64, ge=1)
    epochs: float = Field(4.0, gt=0)
    peak_lr: float = Field(2e-3, gt=0)
    window: int = Field(512, ge=32)
    batch_tokens: int = Field(4096, ge=64)


class DemoConfig(Config):
    """Everything the demo can be told; the defaults take about ten minutes on two cores."""

    seed: int = 20_240_326
    """Fixes every choice: the corpus, the batches, the samples (the report's date on arXiv)."""
    held_out_share: float = Field(0.02, gt=0, lt=0.5)
    """Share of kept documents that training never sees."""
    vocab_size: int = Field(16_384, ge=512)
    threads: int = Field(0, ge=0)
    """0: all cores. Results do not depend on it, except training's last bits."""
    sample_tokens: int = Field(96, ge=1)
    corpus: CorpusConfig = CorpusConfig()
    pretrain: PretrainConfig = PretrainConfig()
    sft: SftConfig = SftConfig()
