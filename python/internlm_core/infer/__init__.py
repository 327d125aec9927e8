"""Generation with a KV cache, sampling and scoring."""
