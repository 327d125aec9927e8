"""Spark gives what this process gives: needs the extra `spark` and Java 17 or newer."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from internlm_core.data import dedup
from internlm_core.errors import DataError

pytest.importorskip("pyspark", reason="the extra `spark` is not installed")
if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
    pytest.skip("no Java: Spark needs a runtime of version 17 or newer", allow_module_level=True)
# What Spark says about itself and its own libraries is not ours to fail on.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Spark with two workers, threads of this machine with Python processes of their own."""
    from pyspark.sql import SparkSession

    python = str(Path(__file__).resolve().parents[2] / "python")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", python)
        settings = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.local.dir": str(tmp_path_factory.mktemp("spark")),
        }
        builder = SparkSession.builder.master("local[2]")
        for key, value in settings.items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        yield session
        session.stop()


def frame_of(session: Any, frame: pl.DataFrame) -> Any:
    return session.createDataFrame(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))


def decisions(found: Any) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(found.toArrow())).sort("id")


def test_near_duplicates_of_two_workers_are_those_of_one_machine(
    session: Any, mixed_corpus: pl.DataFrame
) -> None:
    from internlm_core.data import spark

    frame = frame_of(session, mixed_corpus.sample(fraction=1, shuffle=True, seed=3))
    found = decisions(spark.dedup(frame.repartition(3)))
    assert found.equals(dedup(mixed_corpus).sort("id"))


@pytest.mark.slow
def test_other_settings_and_stored_tables(
    session: Any, mixed_corpus: pl.DataFrame, tmp_path: Path
) -> None:
    from internlm_core.data import spark

    session.sparkContext.setCheckpointDir(str(tmp_path))
    frame = frame_of(session, mixed_corpus)
    for options in ({"clusters": "components"}, {"max_memory": "1MB", "bands": 42, "rows": 3}):
        found = spark.dedup(frame, 0.8, partitions=3, reliable=True, **options)
        assert decisions(found).equals(dedup(mixed_corpus, 0.8, **options).sort("id"))


@pytest.mark.slow
def test_a_chain_of_ten_thousand_is_one_component(session: Any) -> None:
    """Joins go on until nothing changes: labels are never partial."""
    from internlm_core.data import spark
    from pyspark.sql import functions

    order = list(range(10_000))
    random.Random(1).shuffle(order)
    edges = frame_of(session, pl.DataFrame({"u": order[1:], "v": order[:-1]}))
    found = spark._components(edges, functions, lambda table: table.localCheckpoint())
    assert decisions(found.withColumnRenamed("u", "id"))["v"].to_list() == [0] * 9_999


def test_a_frame_of_unlike_texts(session: Any) -> None:
    from internlm_core.data import spark

    unlike = frame_of(session, pl.DataFrame({"id": [2, 1], "text": ["a page of its own", None]}))
    found = decisions(spark.dedup(unlike))
    assert found.select("id", "keep", "cluster").rows() == [(1, True, 1), (2, True, 2)]
    with pytest.raises(DataError, match="no column 'id'"):
        spark.dedup(unlike.select("text"))
