"""`internlm-core generate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]


def register(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("folder", type=Path, help="model folder, or a training run")
    parser.add_argument("--prompt", help="text to continue; read from standard input if not given")
    parser.add_argument("--chat", action="store_true", help="the prompt is a user's message")
    parser.add_argument("--system", help="with --chat: a system message in front")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest")
    parser.add_argument("--top-k", type=int, default=0, help="0: off")
    parser.add_argument("--top-p", type=float, default=0.8, help="1: off")
    parser.add_argument("--seed", type=int, help="same seed, same answer")
    parser.add_argument("--stop", action="append", default=[], help="text that ends the answer")
    parser.add_argument("--dtype", help="float32 or bfloat16; as stored if not given")
    parser.add_argument("--device", default="cpu")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from internlm_core.infer.engine import Engine

    text = sys.stdin.read() if options.prompt is None else options.prompt
    prompt: str | list[dict[str, str]] = text
    if options.chat:
        prompt = [{"role": "user", "content": text}]
        if options.system:
            prompt.insert(0, {"role": "system", "content": options.system})
    engine = Engine.from_folder(options.folder, options.dtype, options.device)
    for chunk in engine.stream(
        prompt,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        stop=options.stop,
    ):
        sys.stdout.write(chunk.text)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
