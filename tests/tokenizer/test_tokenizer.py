"""Encoding, decoding, streaming, files and their faults, on a vocabulary trained on the spot."""

from __future__ import annotations

import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer import Shard, Tokenizer, train


def test_round_trip(small: Tokenizer, hard_texts: list[str]) -> None:
    for text in hard_texts:
        ids = small.encode(text)
        assert ids.dtype == np.uint32
        assert small.decode(ids) == text
        assert small.decode_bytes(ids) == text.encode()
        assert small.count(text) == len(ids)


def test_texts_of_a_batch_do_not_mix(small: Tokenizer) -> None:
    """New words, again and again, over many ends of texts, with special tokens between them."""
    rng = random.Random(2)
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(alphabet, k=rng.randint(1, 24))) for _ in range(3_000)]
    words += ["潮水落", "<|im_start|>", "x" * 300, " " * 40]
    texts: list[str] = []
    while len(texts) < 2_000:
        some = rng.choices(words, k=6)
        texts.append(" ".join(rng.choices(some, k=rng.randrange(30))))
        texts += ["", "<|im_end|>"][: rng.randrange(3)]
    texts.append(" ".join(words))
    for special in ((), "all"):
        alone = [small.encode(text, allowed_special=special) for text in texts]
        for threads in (1, 2):
            fresh = pickle.loads(pickle.dumps(small))
            ids, offsets = fresh.encode_batch(texts, allowed_special=special, threads=threads)
            assert list(np.diff(offsets)) == [len(one) for one in alone]
            assert np.array_equal(ids, np.concatenate(alone))
            assert sum(fresh.count(text, allowed_special=special) for text in texts) == len(ids)
    assert small.decode(ids) == "".join(texts)


def test_stream_equals_whole_for_any_ids(small: Tokenizer) -> None:
    rng = random.Random(1)
    for _ in range(200):
        ids = [rng.randrange(small.vocab_size) for _ in range(rng.randrange(1, 30))]
        stream = small.stream()
        parts = [stream.push(token) for token in ids]
        assert "".join(parts) + stream.flush() == small.decode(ids)


def test_stream_shows_no_half_character(small: Tokenizer) -> None:
    stream, shown = small.stream(), []
    for token in small.encode("a🙂 the"):
        shown.append(stream.push(int(token)))
        assert "\ufffd" not in shown[-1]
    assert "".join(shown) == "a🙂 the"
    assert stream.flush() == ""


def test_special_tokens_only_when_allowed(small: Tokenizer) -> None:
    end = small.special_tokens["<|im_end|>"]
    text = "x<|im_end|>y"
    assert end not in small.encode(text)
    assert small.decode(small.encode(text)) == text
    assert end in small.encode(text, allowed_special={"<|im_end|>"})
    assert end in small.encode(text, allowed_special="all")
    assert end not in small.encode(text, allowed_special={"<s>"})
    with pytest.raises(TokenizerError, match="nothing"):
        small.encode(text, allowed_special={"<|nothing|>"})
    with pytest.raises(TokenizerError, match="expected 'all'"):
        small.encode(text, allowed_special="<s>")  # type: ignore[arg-type]


def test_long_runs_are_fine(small: Tokenizer) -> None:
    for text in ("a" * 1_000_000, "^" * 1_000_000, " " * 1_000_000, "的" * 300_000):
        assert small.decode(small.encode(text)) == text


def test_lone_surrogates_become_replacement_characters(small: Tokenizer) -> None:
    assert small.decode(small.encode("a\ud83db")) == "a\ufffdb"
    assert small.count("a\ud83db") == len(small.encode("a\ufffdb"))
    assert small.decode(small.encode("\ud83d\ude42")) == "🙂"
    ids, _ = small.encode_batch(["\ud83d", "é"])
    assert small.decode(ids) == "\ufffdé"


def test_columns_of_all_kinds(small: Tokenizer) -> None:
    pa = pytest.importorskip("pyarrow")
    texts = ["the tide", "", "港湾"]
    want = small.encode_batch(texts)
    columns: list[Any] = [
        pl.Series(texts),
        pl.Series(texts).cast(pl.Categorical),
        pa.array(texts),
        pa.array(texts, pa.large_string()),
        pa.array(texts, pa.string_view()),
        pa.array(texts).dictionary_encode(),
        pa.chunked_array([texts[:1], texts[1:]]),
        pa.array(["x", *texts])[1:],
    ]
    for column in columns:
        got = small.encode_batch(column)
        assert [a.tolist() for a in got] == [a.tolist() for a in want]
    ids, offsets = small.encode_batch(pl.Series([None, "the"]))
    assert offsets.tolist() == [0, 0, len(ids)]


def test_ids_outside_the_vocabulary(small: Tokenizer) -> None:
    for wrong in (small.vocab_size, -1, 2**40):
        with pytest.raises(TokenizerError, match=f"id {wrong} is outside the vocabulary"):
            small.decode([wrong])


def test_pickle_and_fork(small: Tokenizer) -> None:
    again = pickle.loads(pickle.dumps(small))
    assert again.fingerprint == small.fingerprint
    assert again.encode("the tide").tolist() == small.encode("the tide").tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_encode(small: Tokenizer) -> None:
    want = small.encode_batch(["the tide"] * 1_000, threads=2)[0].tolist()
    child = os.fork()
    if child == 0:
        try:
            same = small.encode_batch(["the tide"] * 1_000, threads=2)[0].tolist() == want
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_saved_files_load_with_equal_ids(
    small: Tokenizer, tmp_path: Path, hard_texts: list[str]
) -> None:
    small.save(tmp_path / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path)
    assert again.fingerprint == small.fingerprint
    reference = pytest.importorskip("tokenizers").Tokenizer.from_file(
        str(tmp_path / "tokenizer.json")
    )
    for text in hard_texts:
        want = small.encode(text, allowed_special="all").tolist()
        assert reference.encode(text).ids == want, repr(text)
        assert again.encode(text, allowed_special="all").tolist() == want
    assert reference.decode(reference.encode("the 🙂 tide").ids) == "the 🙂 tide"


def test_tiktoken_file(corpus: list[str], tmp_path: Path) -> None:
    plain = train(corpus, vocab_size=600, first_special=(), last_special=(), quiet=True)
    plain.save(tmp_path / "a.tiktoken")
    again = Tokenizer.from_file(tmp_path / "a.tiktoken", pattern="cl100k")
    assert again.encode("the tide 港湾").tolist() == plain.encode("the tide 港湾").tolist()
    with pytest.raises(TokenizerError, match="pass pattern="):
        Tokenizer.from_file(tmp_path / "a.tiktoken")


def broken(small: Tokenizer, tmp_path: Path, change: Any) -> Path:
    small.save(tmp_path / "tokenizer.json")
    file = json.loads((tmp_path / "tokenizer.json").read_text())
    change(file)
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["model"]["vocab"].pop("ÿ"), "no token for byte 0xFF"),
        (lambda f: f["model"]["vocab"].update({"zz": 20}), "id 20 is given to"),
        (lambda f: f["model"]["vocab"].update({"zz": 900_000_000}), "leave holes"),
        (lambda f: f["model"]["merges"].append(["q", "þ"]), r"merges\[\d+\].*\"qþ\" is not in"),
        (lambda f: f["model"]["merges"].append(f["model"]["merges"][0]), "listed twice"),
        (lambda f: f["model"].update(type="WordPiece"), "model.type: WordPiece"),
        (lambda f: f["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix"),
        (lambda f: f.update(normalizer={"type": "Lowercase"}), "normalizer: Lowercase"),
        (lambda f: f.update(pre_tokenizer={"type": "Metaspace"}), "pre_tokenizer: Metaspace"),
        (
            lambda f: f["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=r"\w+"),
            "pre_tokenizer.pattern",
        ),
        (lambda f: f.pop("model"), "missing field `model`"),
    ],
)
def test_bad_files_are_refused_by_name(
    small: Tokenizer, tmp_path: Path, change: Any, words: str
) -> None:
    path = broken(small, tmp_path, change)
    with pytest.raises(TokenizerError, match=words) as caught:
        Tokenizer.from_file(path)
    assert str(path) in str(caught.value)


def test_truncated_missing_and_binary_files(small: Tokenizer, tmp_path: Path) -> None:
    small.save(tmp_path / "tokenizer.json")
    whole = (tmp_path / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TokenizerError, match="EOF"):
        Tokenizer.from_file(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TokenizerError, match="not UTF-8"):
        Tokenizer.from_file(tmp_path)
    with pytest.raises(TokenizerError, match="can't be read"):
        Tokenizer.from_file(tmp_path / "none.json")
    (tmp_path / "a.tiktoken").write_bytes(b"IQ== 0\nIg=x 1\n")
    with pytest.raises(TokenizerError, match="line 2"):
        Tokenizer.from_file(tmp_path / "a.tiktoken", pattern="cl100k")


def test_commands(small: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from internlm_core.cli import main

    small.save(tmp_path / "tokenizer.json")
    (tmp_path / "a.txt").write_text("the tide rises")
    frame = pl.DataFrame({"id": ["a", "b"], "text": ["the tide " * 30, "潮水在月光下" * 30]})
    frame.write_parquet(tmp_path / "a.parquet")
    tokenizer = str(tmp_path / "tokenizer.json")
    assert main(["tokenizer", "inspect", tokenizer, "--text", str(tmp_path / "a.txt")]) == 0
    assert main(["tokenizer", "encode", "the<s>", "--tokenizer", tokenizer, "--special"]) == 0
    shown = capsys.readouterr().err
    assert small.fingerprint in shown
    assert "<|im_start|>" in shown
    assert "bytes a token" in shown
    assert "1  b'<s>'" in shown
    out, records = tmp_path / "out", str(tmp_path / "a.parquet")
    assert main(["tokenizer", "train", records, "--vocab-size", "300", "--out", tokenizer]) == 0
    assert main(["tokenizer", "pack", records, "--tokenizer", tokenizer, "--out", str(out)]) == 0
    assert Shard.open(out / "shard-00000").ids == ["a", "b"]
    assert main(["tokenizer", "pack", str(out), "--tokenizer", tokenizer, "--out", str(out)]) == 1
    assert main(["tokenizer", "inspect", str(tmp_path / "none.json")]) == 1
    assert main(["tokenizer", "inspect", tokenizer, "--text", str(tmp_path / "none")]) == 1
    assert "none: no such file" in capsys.readouterr().err
