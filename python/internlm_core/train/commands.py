"""`internlm-core train`: pretrain, report, plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]

_CONFIG = "a .toml file, or a preset: demo, 1.8b, 7b, 20b"


def register(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    actions = parser.add_subparsers(dest="action", required=True)
    pretrain = actions.add_parser(
        "pretrain",
        help="train a model on token shards, or go on where OUT stands",
        epilog="several processes: torchrun --nproc-per-node 8 -m internlm_core train pretrain …",
    )
    _configured(pretrain)
    pretrain.add_argument(
        "--shards", type=Path, help="token shards: a folder, or one folder a source"
    )
    pretrain.add_argument("--out", type=Path, help="run folder")
    pretrain.add_argument("--held-out", type=Path, help="shards whose loss is watched")
    pretrain.add_argument("--tokenizer", type=Path, help="to put into checkpoints")
    group = pretrain.add_mutually_exclusive_group()
    group.add_argument(
        "--resume", action="store_true", default=True, help="go on where OUT stands (the default)"
    )
    group.add_argument(
        "--no-resume", action="store_false", dest="resume", help="refuse a folder that holds a run"
    )
    pretrain.set_defaults(run=_pretrain)

    report = actions.add_parser("report", help="draw a run as one HTML page")
    report.add_argument("run_folder", type=Path, metavar="RUN", help="run folder")
    report.add_argument("--out", type=Path, help="page to write; RUN/report.html when not given")
    report.set_defaults(run=_report)

    plan = actions.add_parser("plan", help="memory a rank needs, and whether the plan can fit")
    _configured(plan)
    plan.add_argument("--ranks", type=int, default=1, help="processes in all")
    plan.set_defaults(run=_plan)


def _configured(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help=_CONFIG)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")


def _pretrain(options: argparse.Namespace) -> int:
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


def _report(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.train.report import write_report

    console.print(f"Report: {write_report(options.run_folder, options.out)}")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from internlm_core._config import load_config
    from internlm_core.errors import ConfigError
    from internlm_core.model import ModelConfig
    from internlm_core.train.config import TrainConfig
    from internlm_core.train.memory import check_memory
    from internlm_core.train.parallel import check_plan
    from internlm_core.train.ranks import shape_of

    config = load_config(
        TrainConfig, options.config, package=__package__, overrides=options.overrides
    )
    if "vocab_size" not in config.model:
        raise ConfigError("model.vocab_size: a plan without shards needs it (--set)")
    model = load_config(ModelConfig, dict(config.model))
    copies, fold, tensor = shape_of(config.parallel, options.ranks)
    check_plan(config.parallel, model)
    print(  # noqa: T201
        f"{options.ranks} ranks: {copies} copies of the parameters, each over {fold} ranks of FSDP"
        f" × {tensor} of tensor parallelism; sequences over {config.parallel.sequence}"
    )
    print(check_memory(config, model, options.ranks))  # noqa: T201
    return 0
