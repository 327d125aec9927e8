"""`internlm-core data`: run a pipeline, deduplicate, draw a run's report, look at its thresholds."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from internlm_core.data.dedup_commands import register_dedup

if TYPE_CHECKING:
    import argparse

    from internlm_core.data.pipeline import Pipeline, RunSummary

__all__ = ["register", "say_faults"]


def register(parser: argparse.ArgumentParser) -> None:
    """Describe the commands and their options."""
    commands = parser.add_subparsers(dest="action", metavar="action", required=True)

    run = commands.add_parser(
        "run",
        help="read, normalise, filter and deduplicate a corpus into a run folder",
        epilog="Run the same command again to go on after an interruption.",
    )
    run.add_argument("paths", nargs="*", help="files, folders or patterns, instead of sources")
    run.add_argument(
        "--config", metavar="FILE", help="a .toml file; paths in it are relative to it"
    )
    run.add_argument("--out", required=True, help="run folder, new or of an interrupted run")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                     help="a setting, such as dedup.threshold=0.8; may be repeated")  # fmt: skip
    run.add_argument("--threads", type=int, help="0: all cores; the result does not depend on it")
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="try the stages on a sample, say what a run would do, write nothing",
    )
    run.add_argument("--quiet", action="store_true", help="no progress, no summary")
    run.set_defaults(run=_run)

    near = commands.add_parser(
        "borderline", help="show the records of a finished run that are nearest a threshold"
    )
    near.add_argument("folder", help="run folder")
    near.add_argument("--metric", required=True, help="a statistic, such as words")
    near.add_argument("--threshold", type=float, help="default: the run's own, where it has one")
    near.add_argument("-n", type=int, default=5, help="records on each side (default: 5)")
    near.add_argument("--lang", help="only records in this language")
    near.add_argument("--source", help="only records of this source")
    near.add_argument("--html", metavar="FILE", help="write them as a page, in full")
    near.add_argument("--json", metavar="FILE", help="write them as JSON lines, - for the output")
    near.set_defaults(run=_borderline)
    register_dedup(commands)

    report = commands.add_parser("report", help="draw report.html of a finished run again")
    report.add_argument("folder", help="run folder")
    report.set_defaults(run=_report)


def _pipeline(options: argparse.Namespace) -> Pipeline:
    from internlm_core._config import load_config
    from internlm_core.data.config import PipelineConfig
    from internlm_core.data.pipeline import Pipeline
    from internlm_core.errors import ConfigError

    overrides = list(options.overrides)
    if options.threads is not None:
        overrides.append(f"threads={options.threads}")
    if not options.paths:
        if options.config is None:
            raise ConfigError("nothing to read: name files or folders, or a --config with sources")
        return Pipeline.from_toml(options.config, overrides)
    # Paths on the command line are relative to where it is given, not to the configuration file.
    tables = ", ".join(f"{{ path = {json.dumps(path)} }}" for path in options.paths)
    overrides.insert(0, f"sources=[{tables}]")
    return Pipeline(load_config(PipelineConfig, options.config, overrides=overrides))


def _run(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.data.summary import print_dry_run, print_plan, print_summary

    pipeline = _pipeline(options)
    if options.dry_run:
        print_plan(pipeline, console)
        print_dry_run(pipeline.dry_run(), console)
        return 0
    summary = pipeline.run(options.out, quiet=options.quiet)
    if not options.quiet:
        print_summary(summary, console)
    return say_faults(summary)


def say_faults(summary: RunSummary) -> int:
    """Name damaged inputs; returns the exit code, 0 where there are none."""
    from internlm_core._progress import console

    if not summary.faults:
        return 0
    first = summary.faults[0]
    console.print(
        f"internlm-core: {len(summary.faults)} of the inputs are damaged or unreadable, so records "
        f"may be missing (first: {first['file']}: {first['reason']}, {first['detail']}); "
        f"all are listed in {summary.folder / 'run.json'} under faults",
        markup=False,
    )
    return 1


def _report(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.data.report import write_report

    console.print(f"Report: {write_report(options.folder)}", markup=False)
    return 0


def _borderline(options: argparse.Namespace) -> int:
    from internlm_core._files import atomic_path
    from internlm_core._progress import console
    from internlm_core.data.near_thresholds import borderline, print_borderline, sections

    found = borderline(
        options.folder,
        options.metric,
        options.threshold,
        options.n,
        lang=options.lang,
        source=options.source,
    )
    if options.json == "-":
        sys.stdout.write(found.write_ndjson())
    elif options.json:
        with atomic_path(options.json) as partial:
            found.write_ndjson(partial)
    if options.html:
        from internlm_core.report import page

        title = f"Records nearest a threshold of {options.metric}"
        with atomic_path(options.html) as partial:
            partial.write_text(page(title, sections(found, options.metric)), "utf-8")
    if not options.json and not options.html:
        print_borderline(found, options.metric, console)
    return 0
