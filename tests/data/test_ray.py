"""Ray gives what this process gives, byte for byte."""

from __future__ import annotations

import json

import polars as pl
import pytest
from internlm_core.data import SCHEMA, Pipeline, dedup, readers
from internlm_core.errors import DataError

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pa = pytest.importorskip("pyarrow")
# What Ray says about itself and its own libraries is not ours to fail on.
pytestmark = pytest.mark.filterwarnings("default")


def records_of(folder):
    found = readers.find_files([readers.SourceSpec(".", lang="en", source="webpages")], folder)
    frames = [
        batch.records
        for group in readers.group_files(file for file in found.files if file.kind != "text")
        for batch in readers.read_batches(group)
    ]
    return pl.concat(frames)


def test_a_run_on_two_workers_has_the_same_bytes(ray_cluster, corpus, tmp_path, tree):
    from internlm_core.data import ray

    folder, _ = corpus
    pipeline = Pipeline.from_toml(folder / "run.toml")
    pipeline.run(tmp_path / "local", quiet=True)
    summary = ray.run(pipeline, tmp_path / "ray", quiet=True)
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    assert summary.kept > 40


def test_map_batches_equals_the_local_function(ray_cluster, corpus):
    from internlm_core.data import ray

    folder, _ = corpus
    config = Pipeline.from_toml(folder / "run.toml").config
    table = records_of(folder).to_arrow(compat_level=pl.CompatLevel.oldest())
    whole = ray.map_table(table, config)
    dataset = ray_cluster.data.from_arrow(
        [table.slice(0, 13), table.slice(13, 20), table.slice(33)]
    )
    pieces = [
        ray_cluster.get(ref) if not isinstance(ref, pa.Table) else ref
        for ref in ray.map_batches(dataset, config, batch_size=7).to_arrow_refs()
    ]
    assert sum(piece.num_rows > 0 for piece in pieces) > 1, "it should have been cut up"
    together = pa.concat_tables(pieces).combine_chunks()
    assert ipc(together) == ipc(whole.combine_chunks())
    assert 0 < whole["stage"].null_count < whole.num_rows


def ipc(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


# --- near-duplicates --------------------------------------------------------------------------------


def decisions(found):
    """Rows in order of their ids, of whatever blocks there are."""
    return pl.concat([frame for frame in blocks(found) if frame.height]).sort("id")


def blocks(dataset):
    import ray

    return [pl.DataFrame(pl.from_arrow(block)) for block in ray.get(dataset.to_arrow_refs())]


def test_near_duplicates_of_two_workers_are_those_of_one_machine(ray_cluster, mixed_corpus):
    from internlm_core.data import ray

    table = mixed_corpus.sample(fraction=1, shuffle=True, seed=3).to_arrow()
    cut = [table.slice(0, 100), table.slice(100, 700), table.slice(800)]
    found = ray.dedup(ray_cluster.data.from_arrow(cut), partitions=2)
    assert decisions(found).equals(dedup(mixed_corpus).sort("id"))


def test_components_over_shuffles_and_other_settings(ray_cluster, mixed_corpus, monkeypatch):
    from internlm_core.data import ray, ray_dedup

    dataset = ray_cluster.data.from_arrow(mixed_corpus.to_arrow()).repartition(3)
    # Rounds of stars once: each is two shuffles.
    for most, options in (
        (0, {"clusters": "components"}),
        (ray_dedup._ONE_WORKER, {"max_memory": "1MB", "bands": 42, "rows": 3}),
    ):
        monkeypatch.setattr(ray_dedup, "_ONE_WORKER", most)
        found = ray.dedup(dataset, 0.8, partitions=3, threads=2, **options)
        assert decisions(found).equals(dedup(mixed_corpus, 0.8, **options).sort("id"))


def test_copies_in_every_block_leave_one(ray_cluster):
    """A worker knows only its own block; the shuffle makes copies of all of them meet."""
    from internlm_core.data import ray

    texts = [f"the tide at the {n} pier rises and falls twice on each day" for n in "abcdefghij"]
    parts = [pa.table({"id": [f"{n}-{i}" for i in range(10)], "text": texts}) for n in range(8)]
    found = decisions(ray.dedup(ray_cluster.data.from_arrow(parts), 0.95, partitions=2))
    assert found.filter("keep")["id"].to_list() == [f"0-{i}" for i in range(10)]
    assert set(found.filter(~pl.col("keep"))["jaccard"]) == {1.0}


def test_a_dataset_of_nothing_or_without_ids(ray_cluster):
    from internlm_core.data import ray

    table = pa.table({"id": [2, 1], "text": ["a page of its own", None]})
    empty = ray.dedup(ray_cluster.data.from_arrow(table.slice(0, 0)), partitions=2)
    assert empty.count() == 0
    with pytest.raises(DataError, match="no column 'id'"):
        ray.dedup(ray_cluster.data.from_arrow(table.select(["text"])))


def test_a_dataset_of_unlike_texts(ray_cluster):
    from internlm_core.data import ray

    table = pa.table({"id": [2, 1], "text": ["a page of its own", None]})
    found = decisions(ray.dedup(ray_cluster.data.from_arrow(table), partitions=5))
    assert found.select("id", "keep", "cluster").rows() == [(1, True, 1), (2, True, 2)]


# --- without a cluster --------------------------------------------------------------------------


def test_the_table_function_decides_as_the_pipeline(corpus, tmp_path):
    from internlm_core.data import ray

    folder, _ = corpus
    pipeline = Pipeline.from_toml(folder / "run.toml", ["dedup.enabled=false"])
    pipeline.run(tmp_path / "out", quiet=True)
    table = records_of(folder).to_arrow(compat_level=pl.CompatLevel.oldest())
    result = pl.DataFrame(pl.from_arrow(ray.map_table(table, pipeline.config)))
    kept = pl.read_parquet(tmp_path / "out" / "kept" / "*.parquet")
    ours = result.filter(pl.col("stage").is_null())
    texts = set(kept["text"])
    assert set(ours["text"]) <= texts
    assert ours.height > 40
    metrics = pl.read_parquet(tmp_path / "out" / "metrics" / "*.parquet")
    words = dict(metrics.select("id", "words").iter_rows())
    same = [row for row in ours.iter_rows(named=True) if row["id"] in words]
    assert all(row["metrics"]["words"] == words[row["id"]] for row in same)
    judged = result.filter(pl.col("stage").is_null() | (pl.col("stage") == "rules"))
    assert judged["metrics"].null_count() == 0


def test_tables_of_little_and_of_nothing(corpus):
    from internlm_core.data import ray

    config = Pipeline.from_toml(corpus[0] / "run.toml").config
    result = ray.map_table(pa.table({"text": ["a\0b\r\nc", "", None], "id": ["mine"] * 3}), config)
    assert result.num_rows == 3
    assert result.column_names[: len(SCHEMA)] == list(SCHEMA)
    rows = result.to_pylist()
    assert rows[0]["text"] == "ab\nc"
    assert json.loads(rows[0]["meta"]) == {"id": "mine"}
    assert json.loads(rows[0]["edits"])
    assert [row["reason"] for row in rows[1:]] == ["empty_text"] * 2
    assert rows[1]["metrics"] is None
    empty = ray.map_table(pa.table({"text": pa.array([], pa.string())}), config)
    assert empty.schema == result.schema
    with pytest.raises(DataError, match="column 'text' of strings"):
        ray.map_table(pa.table({"content": ["x"]}), config)
