"""Text out of files of every kind, and what can't be read of them."""

from __future__ import annotations

import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from internlm_core.cli import main
from internlm_core.errors import DataError
from internlm_core.tokenizer import Tokenizer, pack, train
from internlm_core.tokenizer.reading import SetAside, find_texts, read_frames, texts_of

TEXTS = [f"the tide {n} rises, 潮水 {n} 🙂\nand falls {n * n}" for n in range(60)]


def lines(texts: list[str], **keys: Any) -> bytes:
    return b"".join(json.dumps({"text": text, **keys}).encode() + b"\n" for text in texts)


@pytest.fixture
def folder(tmp_path: Path, small: Tokenizer) -> Path:
    """The same texts in files of each kind."""
    (tmp_path / "a.jsonl").write_bytes(lines(TEXTS))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(TEXTS)))
    (tmp_path / "c.ndjson.zst").write_bytes(zstandard.compress(lines(TEXTS)))
    pl.DataFrame({"text": TEXTS}).write_parquet(tmp_path / "d.parquet")
    (tmp_path / "e").mkdir()
    for number, text in enumerate(TEXTS):
        (tmp_path / "e" / f"{number:03}.txt").write_text(text, "utf-8")
    content = [{"content": text, "id": n} for n, text in enumerate(TEXTS)]
    (tmp_path / "f.jsonl").write_text("\n".join(json.dumps(row) for row in content), "utf-8")
    pack([pl.DataFrame({"text": TEXTS})], small, tmp_path / "g", quiet=True)
    return tmp_path


KINDS = ["a.jsonl", "b.jsonl.gz", "c.ndjson.zst", "d.parquet", "e", "f.jsonl", "g"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_same_texts(folder: Path, small: Tokenizer, name: str) -> None:
    aside = SetAside()
    files = find_texts([folder / name])
    found = [t for c in texts_of(files, tokenizer=small, aside=aside) for t in c]
    assert found == TEXTS
    assert aside.count == 0


def test_the_command_trains_alike_on_every_kind(folder: Path, small: Tokenizer) -> None:
    small.save(folder / "small.json")
    expected = train(TEXTS, vocab_size=330, quiet=True).fingerprint
    for name in KINDS:
        out = folder / f"{name}.out.json"
        options = ["--vocab-size", "330", "--out", str(out), "--threads", "1"]
        options += ["--tokenizer", str(folder / "small.json")] if name == "g" else []
        assert main(["tokenizer", "train", str(folder / name), *options]) == 0
        assert Tokenizer.from_file(out).fingerprint == expected
        assert not out.with_name(f"{out.name}.training").exists()
    # All at once, in any order of the files: the same merges, for each count is seven times as high.
    orders = (KINDS, KINDS[::-1])
    made = []
    for number, names in enumerate(orders):
        out = folder / f"all-{number}.json"
        paths = [str(folder / name) for name in names]
        options = ["--vocab-size", "330", "--out", str(out), "--min-frequency", "14"]
        options += ["--tokenizer", str(folder / "small.json")]
        assert main(["tokenizer", "train", *paths, *options]) == 0
        made.append(Tokenizer.from_file(out).fingerprint)
    assert made == [expected, expected]


def test_options_of_the_command_reach_the_training(folder: Path) -> None:
    out = folder / "out.json"
    options = ["--vocab-size", "400", "--byte-fallback", "--coverage", "1", "--digits", "1"]
    options += ["--one-script", "--script-limit", "Han=1", "--first-special", "<unk>"]
    options += ["--last-special", "<|end|>", "--max-token-length", "6", "--min-frequency", "3"]
    source = str(folder / "a.jsonl")
    assert main(["tokenizer", "train", source, *options, "--out", str(out)]) == 0
    expected = train(
        TEXTS,
        vocab_size=400,
        byte_fallback=True,
        coverage=1,
        digits=1,
        one_script=True,
        script_limits={"Han": 1},
        first_special=("<unk>",),
        last_special=("<|end|>",),
        max_token_length=6,
        min_frequency=3,
        quiet=True,
    )
    assert Tokenizer.from_file(out).fingerprint == expected.fingerprint
    wrong = ["--vocab-size", "400", "--script-limit", "Han", "--out", str(out)]
    assert main(["tokenizer", "train", source, *wrong]) == 1


def test_bad_lines_are_set_aside_with_their_address(tmp_path: Path) -> None:
    good = [line + b"\n" for line in lines(TEXTS[:3]).splitlines()]
    bad = [b"{", b"[1]", b'{"txt": "x"}', b'{"text": 3}', b'{"text": "\xff"}', b'{"text": null}']
    path = tmp_path / "x.jsonl"
    path.write_bytes(good[0] + b"\n".join(bad) + b"\n\n" + b"".join(good[1:]))
    aside = SetAside()
    frames = list(read_frames(find_texts([path]), aside=aside))
    assert [t for f in frames for t in f["text"]] == TEXTS[:3]
    assert aside.count == len(bad)
    where = [int(one.split(":")[1]) for one in aside.first]
    assert where == [2, 3, 4, 5, 6, 7]
    pl.DataFrame({"text": ["a", None, "b"]}).write_parquet(tmp_path / "x.parquet")
    aside = SetAside()
    found = [t for c in texts_of(find_texts([tmp_path / "x.parquet"]), aside=aside) for t in c]
    assert (found, aside.count) == (["a", "b"], 1)


def test_a_cut_file_gives_what_comes_before(tmp_path: Path) -> None:
    whole = gzip.compress(lines(TEXTS * 50))
    (tmp_path / "x.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    aside = SetAside()
    found = [t for c in texts_of(find_texts([tmp_path]), aside=aside) for t in c]
    assert 0 < len(found) < len(TEXTS) * 50
    assert any("truncated_file" in one for one in aside.first)


def test_packing_tells_what_was_set_aside(tmp_path: Path, small: Tokenizer) -> None:
    (tmp_path / "x.jsonl").write_bytes(lines(TEXTS[:2]) + b"{\n")
    shard = pack([tmp_path / "x.jsonl"], small, tmp_path / "s", quiet=True)
    assert len(shard) == 2
    assert shard.info["set_aside"]["count"] == 1
    assert "x.jsonl:3" in shard.info["set_aside"]["first"][0]


def test_long_text_files_come_in_parts_that_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from internlm_core.tokenizer import reading

    text = "".join(
        f"x = {n}\n    return 'a{n}'\n\n\n//{n} /\n/y\nthe tide\r\n" for n in range(4_000)
    )
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    monkeypatch.setattr(reading, "_PART", 5_000)
    # Blocks smaller than a part, so that borders fall everywhere.
    monkeypatch.setattr(reading, "read_blocks", partial(reading.read_blocks, size=1_500))
    files = find_texts([tmp_path])
    parts = [t for c in texts_of(files) for t in c]
    assert "".join(parts) == text
    assert len(parts) > 10
    assert len(list(read_frames(files))) == 1
    (tmp_path / "x.txt").write_bytes(text.replace("\n", "\r\n").encode())
    assert len(list(texts_of(files))) > 10
    for pattern in ("gpt2", "cl100k", "qwen", "o200k"):
        options: dict[str, Any] = {"vocab_size": 500, "pattern": pattern, "quiet": True}
        assert train(parts, **options).fingerprint == train([text], **options).fingerprint


def test_bytes_that_are_no_utf8_become_the_replacement(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"a\xff\xf0\x9f\x99")
    assert [t for c in texts_of(find_texts([tmp_path])) for t in c] == ["a\ufffd\ufffd"]


def test_only_what_a_run_kept_is_read(tmp_path: Path) -> None:
    for name in ("kept", "dropped", "rejected"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.jsonl").write_bytes(lines([name]))
    (tmp_path / "run.json").write_text("{}")
    assert [t for c in texts_of(find_texts([tmp_path])) for t in c] == ["kept"]


def test_what_is_not_there_or_no_text_is_refused(tmp_path: Path, small: Tokenizer) -> None:
    with pytest.raises(DataError, match="none: no such file or folder"):
        find_texts([tmp_path / "none"])
    (tmp_path / "x.exe").write_bytes(b"")
    for path in (tmp_path, tmp_path / "x.exe"):
        with pytest.raises(DataError, match=r"no text there; what is read: .jsonl"):
            find_texts([path])
    (tmp_path / "y.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"y.parquet: can't be read as Parquet"):
        list(texts_of(find_texts([tmp_path / "y.parquet"])))
    pl.DataFrame({"body": ["a"]}).write_parquet(tmp_path / "z.parquet")
    with pytest.raises(DataError, match=r"z.parquet: no column 'text'; it has body"):
        list(texts_of(find_texts([tmp_path / "z.parquet"])))
    pack([pl.DataFrame({"text": TEXTS})], small, tmp_path / "s", quiet=True)
    with pytest.raises(DataError, match="which tokenizer made it"):
        list(texts_of(find_texts([tmp_path / "s"])))
    other = train(["abc"] * 5, vocab_size=270, quiet=True)
    with pytest.raises(DataError, match="packed with tokenizer"):
        list(texts_of(find_texts([tmp_path / "s"]), tokenizer=other))
    with pytest.raises(DataError, match="a token shard already"):
        pack([tmp_path / "s"], small, tmp_path / "t", quiet=True)
