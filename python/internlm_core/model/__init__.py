"""InternLM2 in torch: configuration, modules, checkpoints and conversion."""
