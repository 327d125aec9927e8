"""`internlm-core data dedup` and `data fuse`: near-duplicates of files, and indexes of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    import polars as pl

    from internlm_core.data.near_duplicates import DedupConfig

__all__ = ["register_dedup", "write_clusters"]


def register_dedup(commands: Any) -> None:
    """Describe the commands and their options."""
    dedup = commands.add_parser(
        "dedup",
        help="find near-duplicates in files and folders of records",
        epilog="Run the same command again to go on after an interruption. The run folder is that of "
        "`data run` (kept/, dropped/, ledger/, report.html) with clusters.parquet beside it. With "
        "--s-curve nothing is read: what the split into bands promises is printed.",
    )
    dedup.add_argument("paths", nargs="*", help="files, folders or patterns")
    dedup.add_argument("--out", help="run folder, new or of an interrupted run")
    dedup.add_argument("--s-curve", action="store_true",
                       help="print how likely a pair is compared, by its similarity, and end")  # fmt: skip
    dedup.add_argument("--index", metavar="DIR",
                       help="index of earlier corpora, made if need be: documents like one of it go, "
                       "what stays joins it")  # fmt: skip
    dedup.add_argument("--threshold", type=float, help="least Jaccard similarity, by default 0.7")
    dedup.add_argument("--max-memory", metavar="BYTES",
                       help="such as 256MB: more is sorted on disk, with the same outcome")  # fmt: skip
    dedup.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                       help="a setting, such as clusters=components or bands=20")  # fmt: skip
    dedup.add_argument("--threads", type=int, help="0: all cores; the result does not depend on it")
    dedup.add_argument("--quiet", action="store_true", help="no progress, no summary")
    dedup.set_defaults(run=_dedup)

    fuse = commands.add_parser("fuse", help="add the documents of one index to another")
    fuse.add_argument("index", help="index folder that is added to; its documents win")
    fuse.add_argument("other", nargs="+", help="index folders that stay as they are")
    fuse.add_argument("--max-memory", metavar="BYTES", help="such as 256MB")
    fuse.add_argument("--threads", type=int, default=0, help="0: all cores")
    fuse.set_defaults(run=_fuse)


def _dedup(options: argparse.Namespace) -> int:
    from internlm_core._config import load_config
    from internlm_core._progress import console
    from internlm_core.data.commands import say_faults
    from internlm_core.data.config import PipelineConfig
    from internlm_core.data.near_duplicates import DedupConfig, curve_in_words
    from internlm_core.data.pipeline import Pipeline
    from internlm_core.data.summary import print_summary
    from internlm_core.errors import ConfigError

    if options.s_curve:
        _print_curve(load_config(DedupConfig, overrides=options.overrides))
        return 0
    if not options.paths or options.out is None:
        raise ConfigError("data dedup needs files to read and --out, a folder for the run")
    tables = ", ".join(f"{{ path = {json.dumps(path)} }}" for path in options.paths)
    overrides = [f"sources=[{tables}]"]
    overrides += [f"{stage}.enabled=false" for stage in ("normalise", "language", "filter")]
    overrides += [f"dedup.{override}" for override in options.overrides]
    for name in ("threshold", "max_memory", "index"):
        value: Any = getattr(options, name)
        if value is not None:
            overrides.append(f"dedup.{name}={json.dumps(value)}")
    if options.threads is not None:
        overrides.append(f"threads={options.threads}")
    config = load_config(PipelineConfig, overrides=overrides)
    if not options.quiet:
        console.print(curve_in_words(config.dedup.bands, config.dedup.rows), markup=False)
    pipeline = Pipeline(config)
    summary = pipeline.run(options.out, quiet=options.quiet)
    clusters = write_clusters(summary.folder)
    if not options.quiet:
        print_summary(summary, console)
        sizes = clusters["cluster"].value_counts()["count"].to_list()
        console.print(
            f"clusters: {len(sizes)}, the largest of {max(sizes, default=0)} documents; "
            f"see {summary.folder / 'clusters.parquet'}",
            markup=False,
        )
    return say_faults(summary)


def _print_curve(config: DedupConfig) -> None:
    from internlm_core._progress import console
    from internlm_core.data.near_duplicates import curve_in_words, s_curve

    console.print(curve_in_words(config.bands, config.rows), markup=False)
    for similarity, probability in s_curve(config.bands, config.rows).gather_every(5).rows():
        bar = "█" * round(40 * probability)
        console.print(f"{similarity:.2f}  {probability:9.5f}  {bar}", markup=False, highlight=False)


def write_clusters(folder: Path) -> pl.DataFrame:
    """Write `clusters.parquet` into a finished run folder: who is a duplicate of whom.

    Returns:
        What was written: `cluster` (id of its kept document), `id`, `keep`, `jaccard` (null where
        kept), clusters in order of their ids, the kept document of each first. One that is kept in
        an index is listed too.
    """
    import polars as pl

    from internlm_core.data.run_folder import RunFolder
    from internlm_core.data.shards import write_parquet

    dropped = RunFolder(folder).scan("dropped")
    schema = {"cluster": pl.String, "id": pl.String, "keep": pl.Boolean, "jaccard": pl.Float64}
    members = pl.DataFrame(schema=schema)
    if dropped is not None:
        gone = dropped.filter(pl.col("stage") == "dedup")
        columns = ("cluster", "id", pl.lit(value=False).alias("keep"), pl.col("value"))
        members = gone.select(*columns).rename({"value": "jaccard"}).collect()
    kept = members.select("cluster").unique()
    kept = kept.with_columns(
        id="cluster", keep=pl.lit(value=True), jaccard=pl.lit(None, pl.Float64)
    )
    clusters = pl.concat([kept, members]).sort(
        "cluster", "keep", "jaccard", "id", descending=[False, True, True, False]
    )
    write_parquet(clusters, folder / "clusters.parquet")
    return clusters


def _fuse(options: argparse.Namespace) -> int:
    from pydantic import ByteSize, TypeAdapter, ValidationError

    from internlm_core._progress import console
    from internlm_core.data.dedup_index import DedupIndex
    from internlm_core.errors import ConfigError

    memory = None
    if options.max_memory is not None:
        try:
            memory = int(TypeAdapter(ByteSize).validate_python(options.max_memory))
        except ValidationError:
            raise ConfigError(
                f"--max-memory {options.max_memory}: expected bytes, such as 256MB"
            ) from None
    index = DedupIndex.open(options.index)
    for other in options.other:
        found = index.fuse(DedupIndex.open(other), max_memory=memory, threads=options.threads)
        console.print(
            f"{other}: {found['keep'].sum()} of {found.height} documents added; "
            f"{index.documents} in {options.index}",
            markup=False,
        )
    return 0
