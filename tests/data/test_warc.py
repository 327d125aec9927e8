"""WARC and WET: what is whole comes through; what is not is set aside where it lies."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib

import brotli
import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core import _streams
from internlm_core.cli import main
from internlm_core.data.readers import (
    ReadLimits,
    SourceSpec,
    find_files,
    group_files,
    read_batches,
)
from internlm_core.data.readers.warc import DamagedRecord, WarcRecord, read_warc_records
from internlm_core.data.records import SCHEMA

PARAGRAPHS = [
    (
        "The tide comes up the river twice a day and with it come the boats of the town, some of them "
        "with salt from the coast, others with wool from the hills beyond the old stone bridge."
    ),
    (
        "When the water is low, children walk out on the sand to look for shells that have lain there "
        "since winter, and an old man sells them tea from a cart that his father painted green."
    ),
    (
        "In the evening the bell of the harbour office rings once for every boat that has come home, "
        "and the people at the windows count the strokes before they put out the lights."
    ),
]


def page(word, charset="utf-8", head=""):
    body = "".join(f"<p>{paragraph}</p>" for paragraph in PARAGRAPHS)
    html = f"<html><head>{head}<title>{word}</title></head><body><article><h1>{word}</h1>{body}</article></body></html>"
    return html.encode(charset)


def record(kind, url, block, length=None, fields=""):
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\n{fields}"
    head += f"Content-Length: {len(block) if length is None else length}\r\n\r\n"
    return head.encode() + block + b"\r\n\r\n"


def http(body, kind="text/html; charset=utf-8", status="200 OK", fields=""):
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{fields}\r\n"
    return head.encode() + body


def response(word, delta=0, **parts):
    block = http(page(word), **parts)
    return record("response", f"http://a.example/{word}", block, len(block) + delta)


THREE = [response("one"), response("two"), response("three")]


def read(path, limits=None, **spec):
    """Records, rejected and skipped of a file; no processes, so that a fault shows where it is."""
    limits = limits or ReadLimits(workers=0)
    found = find_files([SourceSpec(str(path), extraction="resiliparse", **spec)])
    frames, rejected, skipped = [pl.DataFrame(schema=SCHEMA)], [], {}
    for group in group_files(found.files):
        for batch in read_batches(group, limits):
            frames.append(batch.records)
            rejected += batch.rejected
            for kind, count in batch.skipped.items():
                skipped[kind] = skipped.get(kind, 0) + count
    return pl.concat(frames), rejected, skipped


def titles(records):
    return [url.rpartition("/")[2] for url in records["url"]]


def reasons(rejected):
    return [entry.reason for entry in rejected]


def members(parts):
    return b"".join(gzip.compress(part, mtime=0) for part in parts)


PACKED = {
    "a.warc": b"".join,
    "a.warc.gz": members,
    "b.warc.gz": lambda parts: gzip.compress(b"".join(parts)),
    "a.warc.zst": lambda parts: b"".join(zstandard.compress(part) for part in parts),
    "b.warc.zst": lambda parts: zstandard.compress(b"".join(parts)),
}


@pytest.mark.parametrize("name", PACKED)
def test_all_records_whatever_the_members(tmp_path, name):
    (tmp_path / name).write_bytes(PACKED[name](THREE))
    records, rejected, _ = read(tmp_path / name)
    assert titles(records) == ["one", "two", "three"]
    assert rejected == []
    for paragraph in PARAGRAPHS:
        assert paragraph in records["text"][1]
    meta = json.loads(records["meta"][1])
    assert meta["domain"] == "a.example"
    assert meta["warc_offset"] == len(THREE[0])
    assert meta["charset"] == "utf-8"
    assert records["source"].to_list() == [name[0]] * 3


def test_a_cut_last_member_costs_its_record_and_is_never_silent(tmp_path):
    data = members(THREE)
    (tmp_path / "a.warc.gz").write_bytes(data[:-60])
    records, rejected, _ = read(tmp_path / "a.warc.gz")
    assert titles(records) == ["one", "two"]
    assert reasons(rejected) == ["truncated_record", "truncated_file"]
    assert rejected[0].offset == len(THREE[0] + THREE[1])
    assert (rejected[0].is_record, rejected[1].is_record) == (True, False)


@pytest.mark.parametrize("cut", [1, 5, 30, 300, 700])
def test_a_cut_file_without_compression(tmp_path, cut):
    (tmp_path / "a.warc").write_bytes(b"".join(THREE)[: -cut - 4])
    records, rejected, _ = read(tmp_path / "a.warc")
    assert titles(records) == ["one", "two"]
    assert reasons(rejected) == ["truncated_record", "truncated_file"]


@pytest.mark.parametrize("delta", [-300, -5, 5, 300, 10**9, 10**17])
@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "b.warc.gz"])
def test_a_wrong_length_costs_its_record_alone(tmp_path, name, delta):
    parts = [THREE[0], response("two", delta), THREE[2]]
    (tmp_path / name).write_bytes(PACKED[name](parts))
    records, rejected, _ = read(tmp_path / name)
    assert titles(records) == ["one", "three"]
    assert reasons(rejected) == ["wrong_length"]
    assert rejected[0].offset == len(parts[0])
    assert rejected[0].size in (len(parts[1]), len(parts[1]) - 4)
    assert rejected[0].raw.startswith(b"WARC/1.0\r\n") or delta >= 10**9


@pytest.mark.parametrize("stated", ["", "-1", "many", "1e3", "9" * 30])
def test_a_length_that_is_no_number(tmp_path, stated):
    bad = THREE[1].replace(b"Content-Length: ", b"Content-Length: " + stated.encode() + b"x", 1)
    (tmp_path / "a.warc").write_bytes(THREE[0] + bad + THREE[2])
    records, rejected, _ = read(tmp_path / "a.warc")
    assert titles(records) == ["one", "three"]
    assert reasons(rejected) == ["wrong_length"]


def test_a_stated_length_is_never_allocated():
    """10^9 stated, 100 there: memory follows what is there."""
    block = record("response", "http://a.example/", b"x" * 100, 10**9)
    (found,) = read_warc_records(iter([block]), 10**12)
    assert isinstance(found, DamagedRecord)
    assert found.reason == "truncated_record"


def test_rubbish_between_records_is_passed_over(tmp_path):
    rubbish = b"\0rubbish WARC/1.0\r\nnot a record\nWARC/1.0\r\n\r\n" * 3
    (tmp_path / "a.warc").write_bytes(rubbish + THREE[0] + rubbish + THREE[1] + b"\0\0\0garbage")
    records, rejected, _ = read(tmp_path / "a.warc")
    assert titles(records) == ["one", "two"]
    assert reasons(rejected) == ["no_warc_record"] * 3
    assert [entry.offset for entry in rejected][:2] == [0, len(rubbish + THREE[0])]


def test_garbage_after_the_last_member_is_a_warning(tmp_path):
    (tmp_path / "a.warc.gz").write_bytes(members(THREE) + b"\0\0\0garbage")
    records, rejected, _ = read(tmp_path / "a.warc.gz")
    assert titles(records) == ["one", "two", "three"]
    assert reasons(rejected) == ["trailing_garbage"]


@pytest.mark.parametrize("damage", ["middle", "head"])
def test_a_damaged_member_costs_its_record_alone(tmp_path, damage):
    parts = [gzip.compress(part) for part in THREE]
    middle = bytearray(parts[1])
    at = len(middle) // 2 if damage == "middle" else 0
    middle[at : at + 20] = bytes(20)
    (tmp_path / "a.warc.gz").write_bytes(parts[0] + bytes(middle) + parts[2])
    records, rejected, _ = read(tmp_path / "a.warc.gz")
    assert titles(records) == ["one", "three"]
    assert "damaged_file" in reasons(rejected) or "trailing_garbage" in reasons(rejected)
    if damage == "middle":
        assert "wrong_length" in reasons(rejected)


# Not `ru_maxrss`, which a child inherits.
_LARGEST = r"""
import json, re, sys
from pathlib import Path
from internlm_core.data.readers import ReadLimits, SourceSpec, find_files, group_files, read_batches
(group,) = group_files(find_files([SourceSpec(sys.argv[1], extraction="resiliparse")]).files)
def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
batches = list(read_batches(group, ReadLimits(record_bytes=1 << 10, workers=0)))
before = peak()
batches = list(read_batches(group, ReadLimits(workers=0)))
print(json.dumps([sum(b.records.height for b in batches),
                  [r.reason for b in batches for r in b.rejected], (peak() - before) / 1024]))
"""


def test_a_gzip_bomb_is_read_to_the_limit_in_bounded_memory(tmp_path):
    block = http(b"a" * 300_000_000, "text/plain")
    (tmp_path / "a.warc.gz").write_bytes(
        members([THREE[0], record("response", "http://a.example/bomb", block), THREE[2]])
    )
    del block
    result = subprocess.run(
        [sys.executable, "-c", _LARGEST, str(tmp_path / "a.warc.gz")],
        capture_output=True,
        check=True,
        timeout=120,
    )
    count, found, grown = json.loads(result.stdout)
    assert (count, found) == (2, ["too_large"])
    # Three times the limit of 16 MiB, and what the allocator keeps; the bomb would take 286.
    assert grown < 64, f"{grown} MiB"


def test_a_file_that_expands_beyond_all_measure_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(_streams, "_PLAUSIBLE", 1 << 22)
    bomb = record("resource", "http://a.example/", b"a" * (1 << 26))
    (tmp_path / "a.warc.zst").write_bytes(zstandard.compress(THREE[0] + bomb))
    records, rejected, _ = read(tmp_path / "a.warc.zst")
    assert titles(records) == ["one"]
    assert reasons(rejected) == ["truncated_record", "expansion"]
    assert "max_expansion" in rejected[1].detail


# --- HTTP ---------------------------------------------------------------------------------------


def chunked(body, size=100, end=b"0\r\n\r\n"):
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x;note=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def raw_deflate(body):
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(body) + engine.flush()


CODED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "gzip, br": lambda body: brotli.compress(gzip.compress(body)),
    "identity": bytes,
}


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("in_chunks", [False, True])
def test_codings_are_undone(tmp_path, coding, in_chunks):
    body = CODED[coding](page("coded"))
    fields = f"Content-Encoding: {coding}\r\n"
    if in_chunks:
        body, fields = chunked(body), fields + "Transfer-Encoding: chunked\r\n"
    data = record("response", "http://a.example/coded", http(body, fields=fields))
    (tmp_path / "a.warc").write_bytes(data)
    records, rejected, _ = read(tmp_path / "a.warc")
    assert rejected == []
    assert PARAGRAPHS[2] in records["text"][0]


@pytest.mark.parametrize(
    "fields",
    ["Content-Encoding: gzip\r\n", "Content-Encoding: br\r\n", "Transfer-Encoding: chunked\r\n"],
)
def test_a_header_that_the_crawler_left_behind(tmp_path, fields):
    data = record("response", "http://a.example/x", http(page("plain"), fields=fields))
    (tmp_path / "a.warc").write_bytes(data)
    assert PARAGRAPHS[0] in read(tmp_path / "a.warc")[0]["text"][0]


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate"])
def test_a_bomb_within_a_page(tmp_path, coding):
    body = CODED[coding](b"<p>a" * (1 << 23))
    data = record(
        "response", "http://a.example/x", http(body, fields=f"Content-Encoding: {coding}\r\n")
    )
    (tmp_path / "a.warc").write_bytes(data + THREE[2])
    records, rejected, _ = read(tmp_path / "a.warc")
    assert titles(records) == ["three"]
    assert reasons(rejected) == ["too_large"]
    # The ratio alone suffices, long before the limit of bytes.
    small = CODED[coding](b"a" * (1 << 22))
    data = record(
        "response", "http://a.example/x", http(small, fields=f"Content-Encoding: {coding}\r\n")
    )
    (tmp_path / "a.warc").write_bytes(data)
    _, rejected, _ = read(tmp_path / "a.warc")
    assert reasons(rejected) == ["too_large"]
    assert "max_expansion" in rejected[0].detail


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "compress"])
def test_a_damaged_coding_is_set_aside(tmp_path, coding):
    body = b"\x1f\x8b\x00\x01\x02\x03" * 50
    data = record(
        "response", "http://a.example/x", http(body, fields=f"Content-Encoding: {coding}\r\n")
    )
    (tmp_path / "a.warc").write_bytes(data + THREE[2])
    records, rejected, _ = read(tmp_path / "a.warc")
    assert titles(records) == ["three"]
    assert reasons(rejected) == ["bad_content_coding"]


def test_what_is_no_page_is_set_aside_or_counted(tmp_path):
    parts = [
        record("warcinfo", "", b"software: x\r\n"),
        record("request", "http://a.example/one", b"GET / HTTP/1.1\r\n\r\n"),
        response("moved", status="301 Moved"),
        response("missing", status="404 Not Found"),
        record("response", "http://a.example/i", http(b"\x89PNG", "image/png")),
        record("response", "http://a.example/e", b""),
        record("response", "http://a.example/n", http(b"", "text/html")),
        record(
            "response",
            "dns:a.example",
            b"a.example. A 1.2.3.4",
            fields="Content-Type: text/dns\r\n",
        ),
        record("metadata", "http://a.example/one", b"x: y"),
        THREE[0],
        record(
            "response",
            "http://a.example/t",
            http("日本語".encode("euc-jp"), "text/plain; charset=euc-jp"),
        ),
        record("response", "http://a.example/u", http(page("untyped"), "")),
        record(
            "resource", "http://a.example/r", page("resource"), fields="Content-Type: text/html\r\n"
        ),
    ]
    (tmp_path / "a.warc.gz").write_bytes(members(parts))
    records, rejected, skipped = read(tmp_path / "a.warc.gz")
    assert titles(records) == ["one", "t", "u", "r"]
    assert records["text"][1] == "日本語"
    assert skipped == {"warc_warcinfo": 1, "warc_request": 1, "warc_metadata": 1}
    assert reasons(rejected) == [
        "http_status",
        "http_status",
        "media_type",
        "not_http",
        "empty_page",
        "media_type",
    ]
    assert "status 404: http://a.example/missing" in rejected[1].detail
    assert "image/png" in rejected[2].detail


def test_charsets_of_pages(tmp_path):
    lie = "<meta charset=gb2312>"
    chinese = page("天气", "gbk", lie).replace(b"harbour", "港口".encode("gbk") + b"\xff")
    parts = [
        record("response", "http://a.example/zh", http(chinese, "text/html")),
        record(
            "response",
            "http://a.example/l1",
            http(page("café", "latin-1"), "text/html; charset=ISO-8859-1"),
        ),
    ]
    (tmp_path / "a.warc").write_bytes(b"".join(parts))
    records, rejected, _ = read(tmp_path / "a.warc")
    assert rejected == []
    meta = [json.loads(entry) for entry in records["meta"]]
    assert (meta[0]["charset"], meta[0]["charset_replaced"]) == ("gb18030", 1)
    assert records["text"][0].count("\ufffd") == 1
    assert "港口" in records["text"][0]
    assert meta[1]["charset"] == "windows-1252"
    assert meta[1]["title"] == "café"


def test_wet_files_give_their_texts(tmp_path):
    fields = "Content-Type: text/plain\r\nWARC-Identified-Content-Language: zho,eng\r\n"
    texts = ["今天天气很好。\n我们去公园。", "plain words\n", ""]
    parts = [record("warcinfo", "", b"x: y")]
    parts += [
        record("conversion", f"http://中国.example:80/{i}", text.encode(), fields=fields)
        for i, text in enumerate(texts)
    ]
    (tmp_path / "a.warc.wet.gz").write_bytes(members(parts))
    records, rejected, skipped = read(tmp_path / "a.warc.wet.gz", snapshot="2024-10")
    assert records["text"].to_list() == texts
    assert rejected == []
    assert skipped == {"warc_warcinfo": 1}
    assert records["url"][0] == "http://xn--fiqs8s.example/0"
    meta = json.loads(records["meta"][0])
    assert meta["url_found"] == "http://中国.example:80/0"
    assert meta["domain"] == "xn--fiqs8s.example"
    assert meta["warc_identified_content_language"] == "zho,eng"
    assert records["snapshot"].to_list() == ["2024-10"] * 3


# --- whatever comes -----------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_pieces_of_the_stream_do_not_matter(data):
    raw = data.draw(
        st.lists(
            st.sampled_from(
                [
                    record("response", "u", b"abc"),
                    record("response", "u", b"abc", 9),
                    record("response", "u", b"abcdefg", 2),
                    record("response", "u", b"abc", 10**9),
                    b"WARC/1.0\r\n",
                    b"rubbish\r\n\r\n",
                    b"\r\n",
                    b"WARC/1.1\r\nWARC-Type: a\r\nContent-Length: 3\r\n\r\n",
                ]
            ),
            max_size=6,
        ).map(b"".join)
    )
    width = data.draw(st.integers(1, 40))
    whole = list(read_warc_records(iter([raw]), 64))
    pieces = (raw[i : i + width] for i in range(0, len(raw), width))
    assert list(read_warc_records(pieces, 64)) == whole
    # Nothing is passed over in silence: what lies between two records is line ends.
    at = 0
    for found in whole:
        assert not raw[at : found.offset].strip(b"\r\n")
        at = found.offset + found.size
        if isinstance(found, WarcRecord):
            at = raw.index(b"\r\n\r\n", found.offset) + 4 + found.size
    assert not raw[at:].strip(b"\r\n")


def test_a_run_over_a_damaged_crawl_ends_with_exit_code_1(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crawl.warc.gz").write_bytes(members([*THREE, record("request", "u", b"")])[:-10])
    command = [
        "data",
        "run",
        "crawl.warc.gz",
        "--out",
        "out",
        "--quiet",
        "--set",
        "filter.enabled=false",
    ]
    assert main([*command, "--set", "dedup.enabled=false"]) == 1
    assert "truncated_file" in capfd.readouterr().err
    run = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert run["totals"]["kept"]["documents"] == 3
    (fault,) = run["faults"]
    assert fault["reason"] == "truncated_file"
