"""`internlm-core train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]


def register(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument(
        "--config", required=True, help="a .toml file, or a preset: demo, 1.8b, 7b, 20b"
    )
    parser.add_argument(
        "--shards", type=Path, required=True, help="token shards: a folder, or one folder a source"
    )
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument("--held-out", type=Path, help="shards whose loss is watched")
    parser.add_argument("--tokenizer", type=Path, help="to put into checkpoints")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--resume", action="store_true", default=True, help="go on where OUT stands (the default)"
    )
    group.add_argument(
        "--no-resume", action="store_false", dest="resume", help="refuse a folder that holds a run"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.train.trainer import run

    folder = run(
        options.config,
        options.shards,
        options.out,
        resume=options.resume,
        held_out=options.held_out,
        tokenizer=options.tokenizer,
        overrides=options.overrides,
    )
    console.print(f"Model: {folder}")
    return 0
