"""Ids equal those of the reference libraries."""

from __future__ import annotations

import base64
import hashlib
import pickle
import random
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.tokenizer import Tokenizer

tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def real_texts(test_data: Path, root: Path) -> list[str]:
    """A megabyte of English, Chinese and code."""
    plays = sorted((test_data / "text/en/shakespeare_md").rglob("*.md"))[:3]
    texts = [path.read_text()[:120_000] for path in plays]
    texts.append((test_data / "text/zh/sanguoyanyi.txt").read_text()[:120_000])
    texts += [p.read_text() for p in sorted((root / "python").rglob("*.py"))[:30]]
    return texts


@pytest.fixture(scope="module", params=["internlm2", "qwen3"])
def pair(request: pytest.FixtureRequest, test_data: Path) -> tuple[Tokenizer, Any]:
    folder = test_data / "tokenizers" / request.param
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Tokenizer.from_file(folder, parity=True), reference


def test_hugging_face_ids(
    pair: tuple[Tokenizer, Any], hard_texts: list[str], real_texts: list[str]
) -> None:
    ours, reference = pair
    for text in hard_texts + real_texts:
        ids = ours.encode(text, allowed_special="all" if ours.vocab_size > 100_000 else ())
        assert ids.tolist() == reference.encode(text, add_special_tokens=False).ids, repr(text[:80])


def test_batch_equals_single_for_any_threads(
    pair: tuple[Tokenizer, Any], hard_texts: list[str]
) -> None:
    ours, _ = pair
    single = [ours.encode(text).tolist() for text in hard_texts]
    for threads in (1, 2, 3):
        ids, offsets = ours.encode_batch(hard_texts, threads=threads)
        assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == single


# What patterns, normalizers and borders turn on, mixed with any character at all.
TEXT = st.lists(
    st.one_of(
        st.sampled_from(
            [
                " ",
                "  ",
                "\n",
                "\r\n",
                "\t",
                "'s",
                "'LL",
                "'ſ",
                "12",
                "٣",
                "A",
                "ab",
                "Hello",
                "▁",
                "的",
            ]
        ),
        st.sampled_from(
            ["国家", "，", "。", "e\u0301", "가", "か\u3099", "🙂", "\u200d", "<s>", "<|im_end|>"]
        ),
        st.text(max_size=6),
    ),
    max_size=25,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_any_text(pair: tuple[Tokenizer, Any], text: str) -> None:
    ours, reference = pair
    internlm2 = ours.vocab_size < 100_000
    ids = ours.encode(text, allowed_special=() if internlm2 else "all")
    assert ids.tolist() == reference.encode(text, add_special_tokens=False).ids
    plain = text.replace("▁", " ") if internlm2 else unicodedata.normalize("NFC", text)
    assert ours.decode(ours.encode(text)) == plain


@pytest.fixture(scope="module", params=["cl100k_base", "o200k_base"])
def tiktoken_pair(request: pytest.FixtureRequest, test_data: Path) -> tuple[Tokenizer, Any]:
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken_ext import openai_public

    file = test_data / "tokenizers" / f"{request.param}.tiktoken"
    lines = [line.split() for line in file.read_bytes().splitlines() if line]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: ranks)
        reference = tiktoken.Encoding(**getattr(openai_public, request.param)())
    return Tokenizer.from_file(file), reference


def test_tiktoken_ids(
    tiktoken_pair: tuple[Tokenizer, Any], hard_texts: list[str], real_texts: list[str]
) -> None:
    ours, reference = tiktoken_pair
    assert ours.vocab_size == reference.n_vocab
    for text in hard_texts + real_texts:
        assert ours.encode(text).tolist() == reference.encode_ordinary(text), repr(text[:80])
    special = "a<|endoftext|>b"
    assert ours.encode(special, allowed_special="all").tolist() == reference.encode(
        special, allowed_special="all"
    )
    assert ours.encode(special).tolist() == reference.encode_ordinary(special)


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_any_text_for_tiktoken(tiktoken_pair: tuple[Tokenizer, Any], text: str) -> None:
    ours, reference = tiktoken_pair
    assert ours.encode(text).tolist() == reference.encode_ordinary(text)
    assert ours.decode(ours.encode(text)) == text


def test_long_pieces(
    tiktoken_pair: tuple[Tokenizer, Any], pair: tuple[Tokenizer, Any], real_texts: list[str]
) -> None:
    """Pieces of many windows: runs, periods, random letters, a whole text without a space."""
    rng = random.Random(4)
    texts = [c * n for c in "a^ \n-=的é" for n in (63, 64, 65, 129, 1_000, 5_003)]
    texts += ["".join(rng.choices("abcdefghij", k=3_000)), "ab" * 2_000, "\n    " * 700]
    texts += ["".join(rng.choices("的国是人在有中大", k=1_500)), "".join(real_texts[0].split())]
    for text in texts:
        ours, reference = tiktoken_pair
        assert ours.encode(text).tolist() == reference.encode_ordinary(text), repr(text[:30])
        ours, reference = pair
        want = reference.encode(text, add_special_tokens=False).ids
        assert ours.encode(text).tolist() == want, repr(text[:30])


def test_a_million_equal_characters(tiktoken_pair: tuple[Tokenizer, Any]) -> None:
    ours, reference = tiktoken_pair
    for c in "^a":
        ids = ours.encode(c * 1_000_000)
        few = reference.encode_ordinary(c * 1_000)
        assert ours.decode(ids) == c * 1_000_000
        assert set(ids[:-10].tolist()) == {few[0]}
    if ours.vocab_size < 150_000:
        assert ours.count("^" * 1_000_000) == 250_000


def test_every_token_encodes_as_the_reference_does(pair: tuple[Tokenizer, Any]) -> None:
    ours, reference = pair
    texts = [ours.id_to_bytes(token) for token in range(0, ours.vocab_size, 7)]
    texts = [text.decode("utf-8", "ignore") for text in texts]
    wanted = reference.encode_batch(texts, add_special_tokens=False)
    ids, offsets = ours.encode_batch(
        texts, allowed_special="all" if reference.get_added_tokens_decoder() else ()
    )
    got = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert got == [encoding.ids for encoding in wanted]


def test_neighbouring_tokens(pair: tuple[Tokenizer, Any]) -> None:
    """Borders between pieces fall right: any two tokens, put together, encode as in the reference."""
    ours, reference = pair
    rng = random.Random(6)
    sample = [ours.id_to_bytes(rng.randrange(300, 90_000)) for _ in range(6_000)]
    texts = [
        (a + b).decode("utf-8", "ignore") for a, b in zip(sample[::2], sample[1::2], strict=True)
    ]
    wanted = reference.encode_batch(texts, add_special_tokens=False)
    ids, offsets = ours.encode_batch(texts)
    assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == [
        encoding.ids for encoding in wanted
    ]


def test_memory_of_earlier_text_changes_nothing(
    test_data: Path, hard_texts: list[str], real_texts: list[str]
) -> None:
    """With a cold, a warm and an overfull cache the ids are the same."""
    rng = random.Random(8)
    noise = ["".join(rng.choices("abcdefghijklmnop", k=7)) for _ in range(150_000)]
    for name in ("internlm2", "cl100k_base.tiktoken"):
        ours = Tokenizer.from_file(test_data / "tokenizers" / name)
        texts = hard_texts + real_texts
        cold = [pickle.loads(pickle.dumps(ours)).encode(text).tolist() for text in texts[::90]]
        first = [ours.encode(text).tolist() for text in texts]
        assert first[::90] == cold
        ours.encode_batch(noise, threads=1)
        assert [ours.encode(text).tolist() for text in texts] == first


# SHA-256 of the ids of `hard_texts`, written when the tests above agreed with the references.
GOLDEN = {
    "internlm2": "74c8871b6165e66a",
    "qwen3": "3e789c03e18aa379",
    "cl100k_base.tiktoken": "b1915129791c2ec0",
    "o200k_base.tiktoken": "a8b26d09b0581d27",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_ids(name: str, test_data: Path, hard_texts: list[str]) -> None:
    """Ids of today: no reference needed, and no change of the reference hides one of ours."""
    ours = Tokenizer.from_file(test_data / "tokenizers" / name)
    ids, offsets = ours.encode_batch(hard_texts)
    digest = hashlib.sha256(ids.tobytes() + offsets.tobytes()).hexdigest()
    assert digest[:16] == GOLDEN[name]


def test_a_wrong_vocabulary_would_be_noticed(test_data: Path, hard_texts: list[str]) -> None:
    """The comparison bites: the same merges in another order of priority give other ids."""
    import json

    folder = test_data / "tokenizers" / "internlm2"
    file = json.loads((folder / "tokenizer.json").read_text())
    file["model"]["merges"].reverse()
    from internlm_core._core import BpeTokenizer

    wrong = BpeTokenizer.from_hf(json.dumps(file).encode(), None, True)
    right = Tokenizer.from_file(folder, parity=True)
    text = (test_data / "text/zh/sanguoyanyi.txt").read_text()[:300_000]
    assert wrong.encode(text, []).tolist() != right.encode(text).tolist()


def test_internlm2_names_are_laid_over_their_ids(test_data: Path) -> None:
    ours = Tokenizer.from_file(test_data / "tokenizers" / "internlm2")
    assert ours.vocab_size == 92_544
    assert ours.special_tokens["<|im_start|>"] == 92_543
    assert ours.encode("<|im_start|>", allowed_special={"<|im_start|>"}).tolist() == [92_543]
    assert ours.decode([92_542]) == "<|im_end|>"
    assert ours.prefix_ids == (1,)
    # No text becomes a control token, and nothing is lost in decoding.
    assert not {0, 1, 2} & set(ours.encode("a<s>b</s> <unk>").tolist())
    assert ours.decode(ours.encode(" hello")) == " hello"
    assert ours.decode(ours.encode(" hello"), parity=True) == "hello"


def test_text_around_special_tokens(test_data: Path) -> None:
    """Nothing is added or lost beside a special token, on either side, in either direction."""
    ours = Tokenizer.from_file(test_data / "tokenizers" / "internlm2")
    for left, name, right in (("abs", "</s>", "USER"), ("", "<s>", "uns"), ("a ", "<s>", " b")):
        text = left + name + right
        ids = ours.encode(text, allowed_special="all").tolist()
        token = ours.special_tokens[name]
        assert ids == [*ours.encode(left), token, *ours.encode(right)]
        assert ours.decode(ids) == text
    # The published name of a spare id is text; the id has another name now.
    assert len(ours.encode("[UNUSED_TOKEN_146]", allowed_special="all")) > 1
    assert ours.id_to_token(92_543) == "<|im_start|>"
    assert ours.token_to_id("<|im_start|>") == 92_543
    assert ours.token_to_id("no such token") is None
    for text in ("hello", " the", "中国", "\n"):
        (token,) = ours.encode(text).tolist()
        assert ours.token_to_id(text) == token
        assert ours.id_to_token(token) == text


def test_streams_of_real_text(test_data: Path, real_texts: list[str]) -> None:
    for name in ("internlm2", "qwen3"):
        ours = Tokenizer.from_file(test_data / "tokenizers" / name)
        for text in (
            "a    b",
            "🙂 the",
            "T\x10his \x10\t",
            real_texts[0][:2_000],
            real_texts[3][:2_000],
        ):
            stream = ours.stream()
            parts = [stream.push(int(token)) for token in ours.encode(text)]
            assert "".join(parts) + stream.flush() == text
            assert not any("\ufffd" in part for part in parts)
