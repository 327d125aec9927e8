"""Statistics as polars expressions: eager, lazy, streaming, in filters; equal to `metrics`."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest
from internlm_core.data import METRICS, metrics
from internlm_core.data.rules import apply_rules, load_rules
from internlm_core.errors import ConfigError

TEXTS = ["The cat sat on the mat.", "今天下雨。", None, "", "el gato y la casa " * 40] * 50
FRAME = pl.DataFrame({"text": TEXTS, "lang": ["en", "zh", None, "en", "es"] * 50})


def namespace(name: str = "text"):
    return pl.col(name).internlm


def test_the_struct_is_the_table() -> None:
    got = FRAME.select(namespace().metrics(pl.col("lang"))).unnest("text")
    assert got.equals(metrics(FRAME["text"], FRAME["lang"]))
    one = FRAME.select(namespace().metrics("en", compression=True)).unnest("text")
    assert one.equals(metrics(FRAME["text"], "en", compression=True))
    assert one.columns == list(METRICS)
    compat = FRAME.select(namespace().metrics(compat=True)).unnest("text")
    assert compat.equals(metrics(FRAME["text"], compat=True))


@pytest.mark.parametrize("name", list(METRICS))
def test_each_statistic(name: str) -> None:
    got = FRAME.select(namespace().metric(name, pl.col("lang")))
    want = metrics(FRAME["text"], FRAME["lang"], compression=True)
    assert got.columns == ["text"]
    assert got["text"].equals(want[name].rename("text"))
    # Without running: the plan knows the type.
    lazy = FRAME.lazy().select(namespace().metric(name))
    assert lazy.collect_schema()["text"] == lazy.collect().schema["text"]


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_lazy_and_streaming(engine: str, tmp_path) -> None:
    FRAME.write_parquet(tmp_path / "crawl.parquet", row_group_size=40)
    kept = (
        pl.scan_parquet(tmp_path / "crawl.parquet")
        .filter(namespace().metric("words") >= 5)
        .with_columns(namespace().metric("stop_words", pl.col("lang")).alias("stops"))
        .collect(engine=engine)
    )
    table = metrics(FRAME["text"], FRAME["lang"])
    want = FRAME.with_columns(table["stop_words"].alias("stops")).filter(table["words"] >= 5)
    assert kept.equals(want)
    assert 0 < kept.height < FRAME.height


def test_unknown_statistic() -> None:
    with pytest.raises(ConfigError, match=r"'word_cuont'.*words"):
        namespace().metric("word_cuont")


def test_compression_is_measured_where_a_rule_asks() -> None:
    rules = load_rules(
        {"words": [{"reason": "own.flat", "metric": "compression_ratio", "min": 0.1}]}
    )
    decisions, measured = apply_rules(FRAME, rules)
    assert decisions["reason"].to_list()[4] == "own.flat"
    assert decisions["keep"][0]
    assert measured["compression_ratio"][4] < 0.1
    assert "compression_ratio" not in apply_rules(FRAME, load_rules("gopher"))[1].columns


def test_the_package_alone_loads_no_polars() -> None:
    code = "import sys, internlm_core; assert 'polars' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    code = "import polars as pl\nfrom internlm_core.data import metrics\npl.col('x').internlm.metric('words')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
