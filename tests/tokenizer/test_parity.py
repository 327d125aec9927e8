"""Ids equal those of the reference libraries."""

from __future__ import annotations

import base64
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


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text(pair: tuple[Tokenizer, Any], text: str) -> None:
    ours, reference = pair
    if ours.vocab_size < 100_000:
        assert ours.encode(text).tolist() == reference.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == text.replace("▁", " ")


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base"])
def test_tiktoken_ids(
    name: str,
    test_data: Path,
    hard_texts: list[str],
    real_texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken_ext import openai_public

    file = test_data / "tokenizers" / f"{name}.tiktoken"
    lines = [line.split() for line in file.read_bytes().splitlines() if line]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: ranks)
    reference = tiktoken.Encoding(**getattr(openai_public, name)())
    ours = Tokenizer.from_file(file)
    assert ours.vocab_size == reference.n_vocab
    for text in hard_texts + real_texts:
        assert ours.encode(text).tolist() == reference.encode_ordinary(text), repr(text[:80])
    special = "a<|endoftext|>b"
    assert ours.encode(special, allowed_special="all").tolist() == reference.encode(
        special, allowed_special="all"
    )
    assert ours.encode(special).tolist() == reference.encode_ordinary(special)


def test_a_wrong_vocabulary_would_be_noticed(test_data: Path, hard_texts: list[str]) -> None:
    """The comparison bites: the same merges in another order of priority give other ids."""
    import json

    folder = test_data / "tokenizers" / "internlm2"
    file = json.loads((folder / "tokenizer.json").read_text())
    file["model"]["merges"].reverse()
    from internlm_core._core import BpeTokenizer

    wrong = BpeTokenizer.from_hf(json.dumps(file), None, True)
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
