"""A vocabulary extended for Chinese, vocabularies described and compared, counts on disk, InternEvo's files."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from internlm_core.errors import DataError, TokenizerError
from internlm_core.tokenizer import (
    ShardWriter,
    Tokenizer,
    compare,
    describe,
    export_internevo,
    extend,
    import_internevo,
    train,
)
from internlm_core.tokenizer.showing import coloured_html, comparison_page

CHINESE = ["今天天气很好，我们去公园散步。hello world", "中国的人民热爱和平，人民的中国。"] * 8
ENGLISH = ["the tide rises and the tide falls under a pale moon, hello world"] * 8


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    return train(
        ENGLISH + CHINESE[:1], vocab_size=300, first_special=(), last_special=(), quiet=True
    )


@pytest.fixture(scope="module")
def extended(base: Tokenizer) -> Tokenizer:
    return extend(base, CHINESE, base_tokens=290, new_tokens=40, spare=20, multiple=64, quiet=True)


def test_base_ids_stay_and_size_is_padded(base: Tokenizer, extended: Tokenizer) -> None:
    assert [extended.id_to_bytes(i) for i in range(290)] == [
        base.id_to_bytes(i) for i in range(290)
    ]
    assert extended.vocab_size % 64 == 0
    assert extended.special_tokens["<|im_start|>"] == extended.vocab_size - 1
    text = "the tide rises under a moon 12"
    kept = extend(base, CHINESE, base_tokens=base.vocab_size, new_tokens=40, quiet=True)
    assert kept.encode(text).tolist() == base.encode(text).tolist()


def test_new_tokens_are_chinese_new_and_reachable(base: Tokenizer, extended: Tokenizer) -> None:
    first = min(extended.special_tokens.values())
    new = [extended.id_to_bytes(i) for i in range(290, first)]
    assert len(new) == 40
    assert not {base.id_to_bytes(i) for i in range(290)} & set(new)
    assert all(min(piece) >= 0x80 for piece in new)  # The English among the Chinese taught nothing.
    assert describe(extended).unreachable == []
    text = CHINESE[1]
    assert extended.count(text) < base.count(text)
    assert extended.decode(extended.encode(text)) == text


def test_extended_size_is_that_of_internlm2(base: Tokenizer) -> None:
    made = extend(base, CHINESE, base_tokens=300, new_tokens=0, spare=147, multiple=128, quiet=True)
    assert made.vocab_size == -(-(300 + 147) // 128) * 128


@pytest.mark.parametrize("wrong", [{"base_tokens": 255}, {"spare": 3}, {"multiple": 0}])
def test_extend_refuses_counts_that_are_no_size(base: Tokenizer, wrong: dict[str, int]) -> None:
    with pytest.raises(TokenizerError, match=next(iter(wrong))):
        extend(base, CHINESE, quiet=True, **wrong)


def test_extend_refuses_a_base_that_is_too_small_and_text_without_chinese(base: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="has 300 ranks"):
        extend(base, CHINESE, base_tokens=301, quiet=True)
    with pytest.raises(TokenizerError, match="no text"):
        extend(base, ["only English"], base_tokens=290, quiet=True)


def test_unreachable_tokens_are_found() -> None:
    pieces = [bytes([i]) for i in range(256)] + [b"ab", b"bc", b"abc", b"xyz"]
    lines = [f"{base64.b64encode(piece).decode()} {rank}" for rank, piece in enumerate(pieces)]
    from internlm_core._core import BpeTokenizer

    core = BpeTokenizer.from_tiktoken("\n".join(lines).encode(), "cl100k", [])
    found = describe(Tokenizer(core, ("hf", core.to_hf(), "", "0")), {"en": "ab abc"})
    assert found.unreachable == [259]  # No two parts of xyz are tokens.
    assert found.parts == 128
    assert found.longest[:2] == [258, 259]
    assert 0 < found.coverage < 0.02


def test_comparison_is_by_text(base: Tokenizer, extended: Tokenizer) -> None:
    table = compare(base, extended, {"zh": CHINESE[1], "<en>": ENGLISH[0]})
    assert table["text"].to_list() == ["zh", "<en>"]
    assert table["change"][0] > 1.1
    page = comparison_page(table, "base", "new")
    assert "&lt;en&gt;" in page
    assert f"{table['second'][0]:.2f}" in page


def test_coloured_view_holds_the_whole_text(base: Tokenizer) -> None:
    import re
    from html import unescape

    text = "the <b> 中国🙂 & moon"
    page = coloured_html(base, text)
    assert unescape(re.sub("<[^>]*>", "", page.split("<pre")[1].split(">", 1)[1])).strip() == text
    assert page.count("<span") == base.count(text)


def test_counts_on_disk_give_the_same_vocabulary(corpus: list[str]) -> None:
    from internlm_core._core import BpeTrainer

    whole = train(corpus, vocab_size=600, quiet=True)
    bounded = train(iter(corpus), vocab_size=600, max_memory=1, quiet=True)
    assert bounded.fingerprint == whole.fingerprint
    assert (
        train(corpus[:-30], vocab_size=600, max_memory=1, quiet=True).fingerprint
        != whole.fingerprint
    )
    assert BpeTrainer("cl100k").spills == 0


def test_spilled_runs_are_merged_and_removed(corpus: list[str], tmp_path: Path) -> None:
    from internlm_core._core import BpeTrainer

    order = list(corpus)
    random.Random(4).shuffle(order)
    trainer = BpeTrainer("cl100k", 2_000, tmp_path)
    for start in range(0, len(order), 7):
        trainer.add(pl.Series(order[start : start + 7], dtype=pl.String))
    assert trainer.spills > 2
    assert len(list(tmp_path.iterdir())) == trainer.spills
    options = {"vocab_size": 600, "min_frequency": 2, "max_token_length": 0, "script_limits": []}
    core = trainer.train({**options, "coverage": None, "first_special": [], "last_special": []})
    plain = train(corpus, vocab_size=600, first_special=(), last_special=(), quiet=True)
    assert core.fingerprint() == plain.fingerprint
    del trainer
    assert list(tmp_path.iterdir()) == []


def test_more_files_than_are_merged_at_once(corpus: list[str], tmp_path: Path) -> None:
    from internlm_core._core import BpeTrainer

    options = {"vocab_size": 600, "min_frequency": 2, "max_token_length": 0, "script_limits": []}
    options |= {"coverage": None, "first_special": [], "last_special": []}
    trainer = BpeTrainer("cl100k", 1, tmp_path)
    for start in range(300):
        trainer.add(pl.Series(corpus[start::300], dtype=pl.String))
    assert trainer.spills > 260
    core = trainer.train(options)
    plain = train(corpus, vocab_size=600, first_special=(), last_special=(), quiet=True)
    assert core.fingerprint() == plain.fingerprint
    assert len(list(tmp_path.iterdir())) == trainer.spills
    del trainer
    assert list(tmp_path.iterdir()) == []


def test_internevo_round_trip_and_damage(base: Tokenizer, tmp_path: Path) -> None:
    documents = [base.encode(text) for text in [*ENGLISH[:2], "", CHINESE[0]]]
    made = {"fingerprint": base.fingerprint, "vocab_size": base.vocab_size}
    with ShardWriter(tmp_path / "shard", **made) as writer:
        for ids in documents:
            writer.add(ids)
    from internlm_core.tokenizer import Shard

    file = tmp_path / "en" / "x.bin"
    file.parent.mkdir()
    meta = export_internevo(Shard.open(tmp_path / "shard"), file)
    assert np.load(meta)[:, 1].tolist() == [len(ids) for ids in documents]
    back = import_internevo(file, base, tmp_path / "back")
    assert [ids.tolist() for ids in back] == [ids.tolist() for ids in documents]
    lines = file.read_bytes().splitlines(keepends=True)
    for number, wrong in ((1, b"{}\n"), (2, b'{"tokens": [99999]}\n'), (3, b'{"tokens": [1.5]}\n')):
        file.write_bytes(b"".join([*lines[: number - 1], wrong, *lines[number:]]))
        with pytest.raises(DataError, match=f"x.bin:{number}"):
            import_internevo(file, base, tmp_path / "bad")
    file.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(DataError, match="3 lines"):
        import_internevo(file, base, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
