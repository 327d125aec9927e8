"""Benchmarks: ours beside the peers, in turn, on text found on this machine; see benches/README.md."""
