"""Benchmarks: ours beside the peers, in turn, on text found on this machine; see docs/benchmarks.md."""
