"""Token shards: written whole, checked when opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from internlm_core._files import read_json, write_json
from internlm_core.errors import DataError
from internlm_core.tokenizer import Shard, ShardWriter, Tokenizer, pack, train

FRAME = pl.DataFrame({"id": ["a", "b", "c"], "text": ["the tide", "", "潮水 rises"]})


def test_pack_and_read_back(small: Tokenizer, tmp_path: Path) -> None:
    shard = pack([FRAME], small, tmp_path / "s", quiet=True)
    assert len(shard) == 3
    assert shard.ids == ["a", "b", "c"]
    assert shard.tokens.dtype == np.uint16
    assert shard.fingerprint == small.fingerprint
    bos, eos = small.special_tokens["<s>"], small.special_tokens["</s>"]
    for document, text in zip(shard, FRAME["text"], strict=True):
        assert document.tolist() == [bos, *small.encode(text).tolist(), eos]
    shard.check_ids()
    bare = pack([FRAME], small, tmp_path / "bare", bos=None, eos=None, quiet=True)
    assert bare.n_tokens == shard.n_tokens - 6


def test_files_and_frames_give_the_same_shard(small: Tokenizer, tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "a.parquet")
    one = pack([tmp_path / "a.parquet"], small, tmp_path / "one", threads=1, quiet=True)
    two = pack([FRAME.head(1), FRAME.tail(2)], small, tmp_path / "two", quiet=True)
    for name in ("tokens.npy", "offsets.npy"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()
    assert one.ids == two.ids
    again = pack([tmp_path / "a.parquet"], small, tmp_path / "again", threads=2, quiet=True)
    assert (one.path / "shard.json").read_bytes() == (again.path / "shard.json").read_bytes()
    with pytest.raises(DataError, match="no column 'text'"):
        pack([FRAME.drop("text")], small, tmp_path / "three", quiet=True)
    assert not (tmp_path / "three").exists()


def test_a_finished_shard_is_not_made_again(small: Tokenizer, tmp_path: Path) -> None:
    file, out = tmp_path / "a.parquet", tmp_path / "s"

    def packed(**marks: str | None) -> int:
        pack([file], small, out, quiet=True, **marks)
        return (out / "shard.json").stat().st_ino

    FRAME.write_parquet(file)
    first = packed()
    assert packed() == first
    # Another text under the same name, or other marks: as many documents, but not the same shard.
    FRAME.with_columns(text=pl.col("text") + "!").write_parquet(file)
    second = packed()
    assert second != first
    assert packed(bos=None) != second
    other = train(["abc"] * 5, vocab_size=270, quiet=True)
    with pytest.raises(DataError, match="packed with tokenizer"):
        pack([file], other, out, quiet=True)
    with pytest.raises(DataError, match=r"none.parquet: no such file"):
        pack([tmp_path / "none.parquet"], small, out, quiet=True)


def test_frames_may_come_from_a_generator(small: Tokenizer, tmp_path: Path) -> None:
    held = []

    def frames() -> Iterator[pl.DataFrame]:
        for number in range(5):
            held.append(number)
            yield FRAME.with_columns(id=pl.col("id") + str(number))

    shard = pack(frames(), small, tmp_path / "s", quiet=True)
    assert held == [0, 1, 2, 3, 4]
    assert len(shard) == 15
    assert shard.ids[3:6] == ["a1", "b1", "c1"]


def test_supervised_flags(small: Tokenizer, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "s", fingerprint="f", vocab_size=70_000, supervised=True) as writer:
        writer.add(np.array([1, 2, 69_999]), supervised=np.array([0, 1, 1]))
        with pytest.raises(DataError, match="one flag a token"):
            writer.add(np.array([1, 2]), supervised=np.array([1]))
    shard = Shard.open(tmp_path / "s")
    assert shard.tokens.dtype == np.uint32
    assert shard.supervised is not None
    assert shard.supervised.tolist() == [0, 1, 1]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "s", fingerprint="f", vocab_size=10)
    with pytest.raises(DataError, match="outside the vocabulary"), writer:
        writer.add(np.array([3]))
        writer.add(np.array([10]))
    assert list(tmp_path.iterdir()) == []


def damage_tokens(folder: Path) -> None:
    data = (folder / "tokens.npy").read_bytes()
    (folder / "tokens.npy").write_bytes(data[:-2])


def damage_count(folder: Path) -> None:
    info = read_json(folder / "shard.json")
    write_json(folder / "shard.json", {**info, "documents": 7})


def damage_offsets(folder: Path) -> None:
    offsets = np.load(folder / "offsets.npy")
    np.save(folder / "offsets.npy", offsets[::-1].copy())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_tokens, "damaged|shape"),
        (damage_count, "shape"),
        (damage_offsets, "does not tile"),
        (lambda folder: (folder / "offsets.npy").unlink(), "offsets.npy is missing"),
        (lambda folder: (folder / "shard.json").write_text("{"), "damaged"),
    ],
)
def test_damage_is_noticed(damage: object, words: str, small: Tokenizer, tmp_path: Path) -> None:
    pack([FRAME], small, tmp_path / "s", quiet=True)
    damage(tmp_path / "s")  # type: ignore[operator]
    with pytest.raises(DataError, match=words):
        Shard.open(tmp_path / "s")


def test_another_tokenizer_is_refused(small: Tokenizer, tmp_path: Path) -> None:
    pack([FRAME], small, tmp_path / "s", quiet=True)
    with pytest.raises(DataError, match="packed with tokenizer"):
        Shard.open(tmp_path / "s", fingerprint="0" * 64)


def test_altered_ids_are_found(small: Tokenizer, tmp_path: Path) -> None:
    shard = pack([FRAME], small, tmp_path / "s", quiet=True)
    tokens = np.array(shard.tokens)
    tokens[2] = 60_000
    np.save(tmp_path / "s" / "tokens.npy", tokens)
    with pytest.raises(DataError, match="token 60000 at position 2"):
        Shard.open(tmp_path / "s").check_ids()
