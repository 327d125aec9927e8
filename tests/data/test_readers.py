"""Readers: what is good comes through, what is bad is set aside with its address."""

from __future__ import annotations

import base64
import gzip
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core._lines import split_lines
from internlm_core.data.readers import ReadLimits, SourceSpec, find_files, group_files, read_batches
from internlm_core.data.records import SCHEMA
from internlm_core.errors import DataError


def read(path, limits=None, **spec):
    """All records, all rejected lines and all repairs below `path`."""
    found = find_files([SourceSpec(str(path), **spec)])
    frames, rejected, repaired = [pl.DataFrame(schema=SCHEMA)], [], {}
    for group in group_files(found.files):
        for batch in read_batches(group, limits):
            frames.append(batch.records)
            rejected += batch.rejected
            for kind, count in batch.repaired.items():
                repaired[kind] = repaired.get(kind, 0) + count
    return pl.concat(frames), rejected, repaired


def lines(*rows):
    return b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows)


def reasons(rejected):
    return [r.reason for r in rejected]


# --- JSON lines: a bad line costs one line ------------------------------------------------------


def test_each_bad_line_is_set_aside_and_the_good_ones_survive(tmp_path):
    path = tmp_path / "crawl.jsonl"
    data = lines(
        {"text": "first"},
        b'{"text": "a\xff"}',
        [1],
        b"nul",
        {"text": 1},
        b"",
        {"text": "x" * 5000},
        {"text": None},
        {"body": "x"},
        {"text": "second"},
    )
    path.write_bytes(data + b'{"text": "no line end"}')
    records, rejected, _ = read(path, ReadLimits(record_bytes=1000))
    assert records["text"].to_list() == ["first", "second", "no line end"]
    assert reasons(rejected) == [
        "invalid_utf8",
        "not_an_object",
        "broken_json",
        "text_not_a_string",
        "too_large",
        "text_missing",
        "text_missing",
    ]
    # Physical lines, the blank one counted, and offsets that lead back to the very bytes.
    assert [r.line for r in rejected] == [2, 3, 4, 5, 7, 8, 9]
    for entry in rejected:
        start = data[entry.offset :]
        assert start.startswith(entry.raw[:1000])
        assert start[entry.size : entry.size + 1] == b"\n"
        assert entry.file == str(path)
    assert "bytes" in rejected[4].detail
    assert "max_record_bytes" in rejected[4].detail
    assert "'text' or 'content'" in rejected[6].detail


def test_rejected_bytes_survive_in_json(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(b'{"text": "\xff\x00"}', b"[oops"))
    _, rejected, _ = read(path)
    first, second = (json.loads(r.to_json()) for r in rejected)
    assert base64.b64decode(first["raw_base64"]) == b'{"text": "\xff\x00"}'
    assert second["raw"] == "[oops"
    assert (second["line"], second["offset"], second["file"]) == (2, 15, str(path))


def test_a_record_of_a_line_over_the_limit_is_never_held(tmp_path):
    """64 MiB in one line: only the limit and a block are in memory."""
    found = split_lines((b"x" * (1 << 20) for _ in range(64)), 1000)
    assert [(line.size, len(line.data), line.ended) for line in found] == [(64 << 20, 1001, False)]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60).map(lambda b: b.replace(b"x", b"\n")), st.integers(1, 7))
def test_lines_do_not_depend_on_the_blocks(data, width):
    blocks = [data[i : i + width] for i in range(0, len(data), width)]
    whole = list(split_lines([data] if data else [], 1000))
    assert list(split_lines(blocks, 1000)) == whole
    assert [line.data for line in whole] == data.removesuffix(b"\n").split(b"\n")[: len(whole)]
    for line in whole:
        assert data[line.offset : line.offset + line.size] == line.data


def test_what_python_writes_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        lines(
            rb'{"text": "a\ud800b", "note": "\udc00"}',
            b'{"text": "nan", "score": NaN}',
            b'{"text": "nu\\u0000l"}',
            b'{"text": "\xef\xbb\xbfmark\xef\xbb\xbfs"}',
        )
    )
    records, rejected, repaired = read(path)
    assert rejected == []
    assert records["text"].to_list() == ["a\ufffdb", "nan", "nul", "marks"]
    assert repaired == {"surrogate": 1, "nul": 1, "bom": 1}
    assert json.loads(records["meta"][0]) == {"note": "\ufffd"}
    assert json.loads(records["meta"][1]) == {"score": None}


def test_a_file_that_starts_with_a_mark(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines({"text": "a"}))
    records, rejected, repaired = read(path)
    assert (records["text"].to_list(), rejected, repaired) == (["a"], [], {"bom": 1})


def test_deep_nesting_is_a_bad_line_not_a_crash(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(b'{"text": ' + b"[" * 100_000, {"text": "good"}))
    records, rejected, _ = read(path)
    assert records["text"].to_list() == ["good"]
    assert reasons(rejected) == ["broken_json"]


def test_keys_that_are_not_ours_survive(tmp_path):
    path = tmp_path / "wanjuan.jsonl"
    row = {"content": "t", "title": "T", "n": [1, None, 3], "id": "abc", "url": 7, "lang": "eng"}
    path.write_bytes(lines(row, {"text": "u", "meta": {"a": 1}, "b": 2}, {"text": "v", "meta": 5}))
    records, _, _ = read(path)
    assert records.columns == list(SCHEMA)
    meta = [json.loads(m) for m in records["meta"]]
    assert meta[0] == {"title": "T", "n": [1, None, 3], "id": "abc", "url": 7, "lang": "eng"}
    assert meta[1:] == [{"a": 1, "b": 2}, {"meta": 5}]
    assert records["url"][0] is None
    assert records["source"].to_list() == ["wanjuan"] * 3


def test_the_source_entry_fills_what_is_missing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        lines({"text": "a"}, {"text": "b", "source": "s", "lang": "zh", "snapshot": "1"})
    )
    records, _, _ = read(path, source="web", lang="en", snapshot="2024-10")
    assert records.select("source", "lang", "snapshot").rows() == [
        ("web", "en", "2024-10"),
        ("s", "zh", "1"),
    ]


def test_another_text_key(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines({"body": "a", "text": "summary"}))
    records, _, _ = read(path, text_key="body")
    assert records["text"].to_list() == ["a"]
    assert json.loads(records["meta"][0]) == {"text": "summary"}


def test_ids_ignore_line_ends_and_marks_but_not_url_or_source(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": t} for t in ("a\nb", "a\r\nb", "\ufeffa\nb", "a\0\nb")]
    path.write_bytes(lines(*rows, {"text": "a\nb", "url": "u"}, {"text": "a\nb", "source": "s"}))
    ids = read(path)[0]["id"].to_list()
    assert len(set(ids[:4])) == 1
    assert len(set(ids)) == 3


def test_batches_are_bounded_and_the_same_each_time(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(*({"text": f"{i:090}"} for i in range(100))))
    (group,) = group_files(find_files([SourceSpec(str(path))]).files)
    sizes = [b.records.height for b in read_batches(group, ReadLimits(batch_bytes=1000))]
    assert sizes == [10] * 10
    assert sizes == [b.records.height for b in read_batches(group, ReadLimits(batch_bytes=1000))]


# --- compression --------------------------------------------------------------------------------

ROWS = [{"text": f"row {i} {'x' * (i % 50)}"} for i in range(1000)]
TEXTS = [row["text"] for row in ROWS]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_all_members_are_read(tmp_path, suffix):
    pack = gzip.compress if suffix == "gz" else zstandard.ZstdCompressor().compress
    path = tmp_path / f"a.jsonl.{suffix}"
    path.write_bytes(pack(lines(*ROWS[:300])) + pack(b"") + pack(lines(*ROWS[300:])))
    records, rejected, _ = read(path)
    assert records["text"].to_list() == TEXTS
    assert rejected == []


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("cut", [1, 5, 20, 500])
def test_a_truncated_file_gives_its_complete_rows_and_says_so(tmp_path, suffix, cut):
    pack = gzip.compress if suffix == "gz" else zstandard.ZstdCompressor(level=1).compress
    path = tmp_path / f"a.jsonl.{suffix}"
    path.write_bytes(pack(lines(*ROWS))[:-cut])
    records, rejected, _ = read(path)
    found = records["text"].to_list()
    assert found == TEXTS[: len(found)]
    assert rejected[-1].reason == "truncated_file"
    assert not rejected[-1].is_record
    assert "bytes" in rejected[-1].detail
    # At most the row at the cut is lost, and it is lost by name.
    assert reasons(rejected[:-1]) in ([], ["truncated_line"])


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_garbage_after_the_data_is_reported_and_costs_nothing(tmp_path, suffix):
    pack = gzip.compress if suffix == "gz" else zstandard.ZstdCompressor().compress
    path = tmp_path / f"a.jsonl.{suffix}"
    path.write_bytes(pack(lines(*ROWS[:3])) + b"\0\0\0garbage")
    records, rejected, _ = read(path)
    assert records["text"].to_list() == TEXTS[:3]
    assert reasons(rejected) == ["trailing_garbage"]


def test_zeros_after_gzip_are_padding(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines(*ROWS[:3])) + bytes(2_000_000))
    assert read(path)[1] == []


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_damage_in_the_middle_keeps_what_comes_before(tmp_path, suffix):
    noise = np.random.default_rng(0).bytes(400_000).hex()
    rows = [{"text": noise[i : i + 1000]} for i in range(0, len(noise), 1000)]
    pack = (
        gzip.compress if suffix == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress
    )
    data = bytearray(pack(lines(*rows)))
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path = tmp_path / f"a.jsonl.{suffix}"
    path.write_bytes(data)
    records, rejected, _ = read(path)
    assert rejected[-1].reason == "damaged_file"
    good = [row["text"] for row in rows]
    head = records["text"].to_list()
    assert len(head) > 100
    assert head[:100] == good[:100]


def test_a_wrong_checksum_costs_no_row(tmp_path):
    data = bytearray(gzip.compress(lines(*ROWS)))
    data[-6] ^= 1
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(data)
    records, rejected, _ = read(path)
    assert records["text"].to_list() == TEXTS
    assert reasons(rejected) == ["damaged_file"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jsonl.gz", b"plain text\n", "damaged_file"),
        ("a.jsonl.gz", b"", "truncated_file"),
        ("a.jsonl.zst", b"", "truncated_file"),
        ("a.parquet", b"not parquet", "damaged_file"),
        ("a.parquet", b"", "damaged_file"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path, name, data, reason):
    path = tmp_path / name
    path.write_bytes(data)
    records, rejected, _ = read(path)
    assert records.is_empty()
    assert reasons(rejected) == [reason]
    assert not rejected[0].is_record


def test_a_gzip_bomb_stops_at_the_limit(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb") as file:
        file.write(b'{"text": "')
        for _ in range(64):
            file.write(b"a" * (1 << 20))
        file.write(b'"}\n{"text": "good"}\n')
    records, rejected, _ = read(path, ReadLimits(record_bytes=1 << 20))
    assert records["text"].to_list() == ["good"]
    assert reasons(rejected) == ["too_large"]
    assert len(rejected[0].raw) <= 64 * 1024


def test_an_empty_file_is_no_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"")
    records, rejected, _ = read(path)
    assert records.schema == pl.Schema(SCHEMA)
    assert (records.height, rejected) == (0, [])


# --- text files and folders ---------------------------------------------------------------------


def test_a_folder_is_read_in_order_without_hidden_files(tmp_path):
    for name in ("b/2.md", "b/10.txt", "a.txt", ".hidden.txt", ".git/x.md", "_SUCCESS", "c.bin"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name, "utf-8")
    found = find_files([SourceSpec(str(tmp_path), source="notes")])
    assert [f.url for f in found.files] == ["a.txt", "b/10.txt", "b/2.md"]
    assert found.skipped == {"(no suffix)": 1, ".bin": 1}
    records, _, _ = read(tmp_path, source="notes")
    assert records["text"].to_list() == ["a.txt", "b/10.txt", "b/2.md"]
    assert records["url"].to_list() == ["a.txt", "b/10.txt", "b/2.md"]


def test_a_file_named_twice_is_read_once_by_the_first_that_names_it(tmp_path):
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "b.md").write_text("b")
    specs = [SourceSpec("a.md", source="one"), SourceSpec(".", source="rest")]
    found = find_files(specs, tmp_path)
    assert [(f.url, f.defaults.source) for f in found.files] == [("a.md", "one"), ("b.md", "rest")]


def test_a_pattern_names_files(tmp_path):
    for name in ("x-1.jsonl", "x-2.jsonl", "y.jsonl"):
        (tmp_path / name).write_bytes(lines({"text": name}))
    found = find_files([SourceSpec("x-*.jsonl")], tmp_path)
    assert [f.name for f in found.files] == ["x-1.jsonl", "x-2.jsonl"]


@pytest.mark.parametrize(
    ("path", "words"),
    [("missing", "no such file"), ("*.jsonl", "matches no file"), ("a.docx", ".jsonl, .ndjson")],
)
def test_a_path_that_can_not_be_read_is_named(tmp_path, path, words):
    (tmp_path / "a.docx").write_bytes(b"")
    with pytest.raises(DataError, match=words) as error:
        find_files([SourceSpec(path)], tmp_path)
    assert path in str(error.value)


def test_text_encodings(tmp_path):
    (tmp_path / "1.txt").write_bytes("mark".encode("utf-8-sig"))
    (tmp_path / "2.txt").write_bytes("\u4e2d\u6587".encode("utf-16"))
    (tmp_path / "3.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (tmp_path / "4.txt").write_bytes(b"")
    (tmp_path / "5.txt").write_bytes(b"one bad \xff byte among \xe4\xb8\xad\xe6\x96\x87")
    (tmp_path / "6.txt").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 4)
    records, rejected, repaired = read(tmp_path)
    texts = ["mark", "\u4e2d\u6587", "caf\u00e9", "", "one bad \ufffd byte among \u4e2d\u6587"]
    assert records["text"].to_list() == texts
    assert repaired == {"bom": 1, "charset": 2, "charset_replaced": 1}
    meta = [json.loads(m) if m else None for m in records["meta"]]
    assert meta == [
        None,
        {"charset": "utf-16le"},
        {"charset": "windows-1252"},
        None,
        {"charset": "utf-8", "charset_replaced": 1},
    ]
    assert reasons(rejected) == ["not_text"]


def test_an_unreadable_file_costs_only_itself(tmp_path):
    (tmp_path / "1.txt").write_text("one")
    (tmp_path / "2.txt").symlink_to("gone-2.txt")
    (tmp_path / "3.txt").write_text("three")
    (tmp_path / "4.jsonl").symlink_to("gone-4.jsonl")
    (tmp_path / "5.parquet").symlink_to("gone-5.parquet")
    records, rejected, _ = read(tmp_path)
    assert records["text"].to_list() == ["one", "three"]
    assert reasons(rejected) == ["unreadable_file"] * 3
    assert all(not r.is_record for r in rejected)


# --- Parquet ------------------------------------------------------------------------------------

PLAIN = ["x y z", "p q r", "x y z"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(PLAIN).dictionary_encode(),
        pa.array(PLAIN, pa.large_string()),
        pa.array(PLAIN, pa.string_view()),
        pa.array([t.encode() for t in PLAIN], pa.binary()),
        pa.array(["skipped", *PLAIN]).slice(1),
        pa.chunked_array([PLAIN[:1], PLAIN[1:]]),
    ],
    ids=["dictionary", "large", "view", "binary", "slice", "chunked"],
)
def test_columns_of_any_string_type_are_the_same(tmp_path, column):
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": PLAIN}), tmp_path / "plain.parquet")
    records, rejected, _ = read(tmp_path / "a.parquet", source="s")
    assert rejected == []
    assert records.equals(read(tmp_path / "plain.parquet", source="s")[0])


def test_other_columns_survive_with_nulls_in_their_places(tmp_path):
    table = pa.table(
        {
            "content": ["a", "b"],
            "licence": pa.array([None, "CC0"]),
            "n": pa.array([[1, None, 3], None]),
            "raw": pa.array([b"\xff", None]),
            "when": pa.array([0, None], pa.timestamp("s")),
            "lang": pa.array(["en", None]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    records, _, _ = read(tmp_path / "a.parquet", ReadLimits(batch_rows=1), lang="zh")
    first, second = (json.loads(m) for m in records["meta"])
    assert first == {
        "licence": None,
        "n": [1, None, 3],
        "raw": "/w==",
        "when": "1970-01-01T00:00:00",
    }
    assert second == {"licence": "CC0", "n": None, "raw": None, "when": None}
    assert records["lang"].to_list() == ["en", "zh"]


def test_bad_rows_are_set_aside_by_number(tmp_path):
    table = pa.table({"text": pa.array([b"a", None, b"\xff", b"x" * 99, b"b"], pa.binary())})
    pq.write_table(table, tmp_path / "a.parquet")
    records, rejected, _ = read(tmp_path / "a.parquet", ReadLimits(batch_rows=2, record_bytes=50))
    assert records["text"].to_list() == ["a", "b"]
    found = [(r.line, r.reason) for r in rejected]
    assert found == [(2, "text_missing"), (3, "invalid_utf8"), (4, "too_large")]


@pytest.mark.parametrize("column", ["body", "text"])
def test_a_file_without_a_text_column_is_refused_by_name(tmp_path, column):
    pq.write_table(pa.table({column: [1, 2]}), tmp_path / "a.parquet")
    _, (entry,), _ = read(tmp_path / "a.parquet")
    assert entry.reason == "no_text_column"
    assert column in entry.detail
    assert not entry.is_record


def test_our_own_records_come_back_unchanged(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines({"text": "a", "url": "u", "x": 1}, {"text": "b", "snapshot": "1"}))
    records, _, _ = read(path)
    records.write_parquet(tmp_path / "a.parquet")
    again, _, _ = read(tmp_path / "a.parquet")
    assert again.drop("meta").equals(records.drop("meta"))
    assert again["meta"].to_list() == ['{"x":1}', None]
    # A record that was edited gets a new id; the old one is not lost.
    records.with_columns(text=pl.lit("edited")).write_parquet(tmp_path / "b.parquet")
    edited, _, _ = read(tmp_path / "b.parquet")
    assert json.loads(edited["meta"][1]) == {"id": records["id"][1]}
    assert edited["id"][1] != records["id"][1]


def test_batches_of_many_row_groups_keep_the_order(tmp_path):
    texts = [f"{i}" for i in range(1000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=70)
    records, _, _ = read(tmp_path / "a.parquet", ReadLimits(batch_rows=33))
    assert records["text"].to_list() == texts


def test_real_corpora_are_read(test_data):
    plays, rejected, _ = read(test_data / "text" / "en" / "shakespeare_md", lang="en")
    assert plays.height >= 38
    assert rejected == []
    assert plays["id"].is_unique().all()
    demo, rejected, _ = read(test_data / "text" / "en" / "c4_demo.jsonl")
    assert (demo.height, rejected) == (300, [])
