"""`internlm-core demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]


def register(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("--out", type=Path, default=Path("demo-run"), help="run folder")
    parser.add_argument("--texts", type=Path, help="folder with the optional text archives")
    parser.add_argument("--config", help="a .toml file with other sizes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--resume", action="store_true", help="go on where a stopped run ended")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from internlm_core._config import load_config
    from internlm_core._progress import console
    from internlm_core.demo.chain import run
    from internlm_core.demo.config import DemoConfig

    config = load_config(DemoConfig, options.config, overrides=options.overrides)
    report = run(options.out, config, texts=options.texts, resume=options.resume)
    console.print(f"\nReport: [bold]{report}[/bold]  (open it in a browser)")
    return 0
