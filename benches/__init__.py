"""Benchmarks: ours beside the peers, in turn, on text found on this machine; see docs/benchmarks.md."""

ROOMS = (
    "extraction",
    "filter",
    "language",
    "dedup",
    "tokenizer",
    "training_bpe",
    "kernels",
    "train",
    "inference",
    "gpu",
)
