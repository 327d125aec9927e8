"""Mutates examples and feeds a parser: `python fuzzer.py TARGET SEED SECONDS FOLDER`.

The input at hand lies in FOLDER/TARGET.input while the parser works, so that one that kills or hangs
the process is there afterwards. What a parser may raise is its own family of errors; anything else
ends the process with a traceback and exit code 1.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HTML = (
    b"<html><head><meta charset=gb2312><title>t</title></head><body><p>\xd6\xd0\xce\xc4 words</p>"
)
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=gbk\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n4;x=y\r\nmore\r\n0\r\n\r\n"


def warc(kind: bytes, block: bytes) -> bytes:
    head = b"WARC/1.0\r\nWARC-Type: %s\r\nWARC-Target-URI: http://a.example/\r\n" % kind
    return head + b"Content-Length: %d\r\n\r\n%s\r\n\r\n" % (len(block), block)


# Pieces that mean something to one of the parsers, put where they do not belong.
TOKENS = [
    b"WARC/1.0\r\n", b"\r\n\r\n", b"Content-Length: 1000000000\r\n", b"\xff", b"\0", b"\xef\xbb\xbf",
    b"\xff\xfe", b"<meta charset=", b"<!--", b"'", b'"', b"\\ud800", b"[" * 50, b"{", b"}", b"1e999",
    b"-9223372036854775809", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"xn--", b"//", b"@", b"%00", b"[::",
    b"\xe3\x80\x82", b"\x1b$B", b"PAR1", b"FFFFFFFFFFFFFFF\r\n", b"Content-Encoding: br\r\n", b"\n",
    b"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb", b"\xe2\x80\xae", b"text", b"=", b"[[sources]]\n",
]  # fmt: skip


def mutate(rng: random.Random, corpus: list[bytes]) -> bytes:
    """Some of the usual damage to one of the examples."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice([1, 2, 8, 64]))
        match rng.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = rng.choice(TOKENS)
            case 3:
                data[at:at] = data[at:end] * rng.randint(1, 20)
            case 4:
                data[at:end] = rng.randbytes(end - at)
            case 5:
                other = rng.choice(corpus)
                data[at:] = other[rng.randrange(len(other) + 1) :]
            case _:
                del data[at:]
    return bytes(data[: 1 << 18])


def _reader(folder: Path, name: str) -> Callable[[bytes], None]:
    from internlm_core.data.readers import (
        ReadLimits,
        SourceSpec,
        find_files,
        group_files,
        read_batches,
    )

    limits = ReadLimits(batch_bytes=1 << 16, record_bytes=1 << 14, workers=0)

    def read(data: bytes) -> None:
        (folder / name).write_bytes(data)
        (group,) = group_files(find_files([SourceSpec(name)], folder).files)
        for batch in read_batches(group, limits):
            batch.records["text"].str.len_bytes().sum()
            for entry in batch.rejected:
                json.loads(entry.to_json())

    return read


def _charset(data: bytes) -> None:
    from internlm_core.data.charset import decode

    for label in (None, "gbk", data[:12].decode("latin-1")):
        read = decode(data, label)
        assert read.text.encode().count(b"\xef\xbf\xbd") >= read.replaced


def _url(data: bytes) -> None:
    from internlm_core.data.urls import normalise_url, registered_domain

    text = data.decode("utf-8", "replace")
    key = normalise_url(text)
    assert key is None or normalise_url(key) == key, (text, key)
    registered_domain(text)


def _http(data: bytes) -> None:
    from internlm_core.data.readers.http import BadBody, decode_body, parse_response

    response = parse_response(data)
    if response is not None:
        with contextlib.suppress(BadBody):
            assert len(decode_body(response, 1 << 16, 100)) <= 1 << 16


def _config(folder: Path) -> Callable[[bytes], None]:
    from internlm_core._config import load_config
    from internlm_core.data.config import PipelineConfig
    from internlm_core.errors import InternlmError

    def load(data: bytes) -> None:
        (folder / "run.toml").write_bytes(data)
        with contextlib.suppress(InternlmError):
            load_config(PipelineConfig, folder / "run.toml")

    return load


def _tokenizer(folder: Path) -> Callable[[bytes], None]:
    from internlm_core.errors import InternlmError
    from internlm_core.tokenizer import Tokenizer

    def load(data: bytes) -> None:
        (folder / "tokenizer.json").write_bytes(data)
        with contextlib.suppress(InternlmError):
            tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
            ids = tokenizer.encode("The tide 潮起 \U0001f469\u200d\U0001f4bb\n\n  x")
            tokenizer.decode(ids)

    return load


def _tokenizer_example(folder: Path) -> bytes:
    from internlm_core.tokenizer import train

    tokenizer = train(["the tide rises and falls 潮起潮落 " * 20], vocab_size=300, quiet=True)
    tokenizer.save(folder / "example.json")
    return (folder / "example.json").read_bytes()


def _parquet_example(folder: Path) -> bytes:
    import polars as pl

    frame = pl.DataFrame({"text": ["a", None, "中文"] * 5, "url": ["u"] * 15, "n": list(range(15))})
    frame.write_parquet(folder / "example.parquet")
    return (folder / "example.parquet").read_bytes()


def target(name: str, folder: Path) -> tuple[Callable[[bytes], None], list[bytes]]:
    """The parser and its examples."""
    lines = b'{"text": "a\\ud800", "url": "http://a.example"}\n[1]\n{"text": 1}\n{"content": "x"}\n'
    crawl = (
        warc(b"warcinfo", b"x: y") + warc(b"response", HTTP + CHUNKS) + warc(b"conversion", b"t")
    )
    match name:
        case "jsonl":
            return _reader(folder, "a.jsonl"), [lines]
        case "jsonl_gz":
            return _reader(folder, "a.jsonl.gz"), [gzip.compress(lines) * 2]
        case "warc":
            return _reader(folder, "a.warc"), [crawl]
        case "warc_gz":
            return _reader(folder, "a.warc.gz"), [gzip.compress(crawl[:200]) + gzip.compress(crawl)]
        case "http":
            gz = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(HTML)
            return _http, [
                HTTP + CHUNKS,
                gz,
                gz.replace(b"gzip", b"br"),
                gz.replace(b"gzip", b"zstd"),
            ]
        case "charset":
            return _charset, [HTML, "東京の天気".encode("cp932"), "текст".encode("koi8-r"), b"<?xml version='1.0' encoding='gbk'?>"]  # fmt: skip
        case "url":
            return _url, [b"http://user:pw@a.example.co.uk:80/x?y#z", "//中国。cn\\@b.org/".encode(), b"http://[::1]/"]  # fmt: skip
        case "parquet":
            return _reader(folder, "a.parquet"), [_parquet_example(folder)]
        case "config":
            return _config(folder), [b'[[sources]]\npath = "a"\n[filter.set]\ngopher.word_count.min = 20\n[dedup]\nthreshold = 0.7\n']  # fmt: skip
        case "tokenizer":
            return _tokenizer(folder), [_tokenizer_example(folder)]
    raise ValueError(name)


def main(name: str, seed: str, seconds: str, folder: str) -> None:
    """Feed one target for a while."""
    where = Path(folder)
    parser, corpus = target(name, where)
    at_hand = where / f"{name}.input"
    rng = random.Random(f"{name} {seed}")
    end = time.monotonic() + float(seconds)
    count = 0
    while time.monotonic() < end or count < 20:
        data = mutate(rng, corpus)
        at_hand.write_bytes(data)
        parser(data)
        count += 1
    at_hand.unlink()
    sys.stdout.write(f"{count}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
