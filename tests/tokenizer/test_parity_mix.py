"""Ids equal the references' on a long mix of everything; 10 MB of it in `make test-all`."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import random
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from internlm_core.tokenizer import Tokenizer

tokenizers = pytest.importorskip("tokenizers")

NAMES = ("internlm2", "qwen3", "cl100k_base", "o200k_base")


def mix(data: Path, root: Path, size: int) -> list[str]:
    """Texts of about `size` bytes: prose, code, emoji, random bytes, runs, no spaces, special names."""
    rng = random.Random(11)
    with gzip.open(data / "text/en/wiki_summaries_en.json.gz") as file:
        articles = [value["extract"] for value in json.load(file).values()]
    with gzip.open(data / "text/zh/reviews_pos.txt.gz", "rt", errors="replace") as file:
        reviews = file.read().split("\n")
    code = [path.read_text("utf-8") for path in sorted((root / "python").rglob("*.py"))]
    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "[UNUSED_TOKEN_146]"]  # fmt: skip
    emoji = "🙂👩‍👩‍👧🏳️‍🌈🇨🇳❤️‍🔥👍🏽"

    def some(source: list[str], share: float) -> list[str]:
        taken, total = [], 0
        while total < size * share:
            taken.append(rng.choice(source))
            total += len(taken[-1].encode())
        return taken

    texts = [*some(articles, 0.3), *some(reviews, 0.2), *some(code, 0.2)]
    texts += ["".join(rng.choices(emoji, k=400)) for _ in range(size // 60_000)]
    texts += [rng.randbytes(2_000).decode("utf-8", "replace") for _ in range(size // 40_000)]
    texts += [
        "".join(rng.choice([" ", "\n", "\t", "\r\n", "\u3000", "x"]) * rng.randrange(1, 60) for _ in range(60))
        for _ in range(size // 40_000)
    ]  # fmt: skip
    texts += ["".join("".join(some(articles, 0.1)).split())]
    texts += ["".join("".join(some(reviews, 0.02)).split())]
    texts += [
        "".join(rng.choice([*special, *text.split(" ")[:20], " ", ""]) for _ in range(40))
        for text in some(articles, 0.02)
    ]
    return texts


def load(name: str, data: Path) -> tuple[Tokenizer, Any]:
    """Ours, and a function from texts to the reference's ids."""
    folder = data / "tokenizers"
    if not name.endswith("_base"):
        reference = tokenizers.Tokenizer.from_file(str(folder / name / "tokenizer.json"))

        def encode(texts: list[str]) -> list[list[int]]:
            return [e.ids for e in reference.encode_batch_fast(texts, add_special_tokens=False)]

        return Tokenizer.from_file(folder / name, parity=True), encode
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken_ext import openai_public

    file = folder / f"{name}.tiktoken"
    lines = [line.split() for line in file.read_bytes().splitlines() if line]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: ranks)
        encoding = tiktoken.Encoding(**getattr(openai_public, name)())
    return Tokenizer.from_file(file), lambda texts: encoding.encode_batch(
        texts, allowed_special="all"
    )


def compare(name: str, data: Path, root: Path, size: int) -> None:
    ours, reference = load(name, data)
    texts = mix(data, root, size)
    assert sum(len(text.encode()) for text in texts) > size * 0.8
    ids, offsets = ours.encode_batch(texts, allowed_special=() if name == "internlm2" else "all")
    for text, (a, b), want in zip(texts, pairwise(offsets), reference(texts), strict=True):
        assert ids[a:b].tolist() == want, repr(text[:100])


@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte(name: str, test_data: Path, root: Path) -> None:
    compare(name, test_data, root, 1_000_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ten_megabytes(name: str, test_data: Path, root: Path) -> None:
    compare(name, test_data, root, 10_000_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_random_texts(name: str, test_data: Path, root: Path) -> None:
    """A hundred thousand texts from the alphabet that patterns and borders turn on, some of them long.

    Marks that Unicode gave a combining class after the reference's tables were made are left out: it
    does not reorder them, as NFC asks.
    """
    ours, reference = load(name, test_data)
    rng = random.Random(12)
    parts = [" ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "'ſ", "12", "٣", "A", "ab", "Hello", "▁", "的", "国家", "，",
             "e\u0301", "가", "か\u3099", "🙂", "\u200d", "\u00a0", "\u3000", "ǅ", "//", "_", "\u0301", "\ufeff"]  # fmt: skip
    for _ in range(50):
        texts = [
            "".join(
                rng.choice(parts) if rng.random() < 0.8 else chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x11_0000)]))
                for _ in range(rng.randrange(1, 25 if number % 4 else 250))
            )
            for number in range(2_000)
        ]  # fmt: skip
        texts = ["".join(c for c in text if not newly_combining(c)) for text in texts]
        ids, offsets = ours.encode_batch(
            texts, allowed_special=() if name == "internlm2" else "all"
        )
        for text, (a, b), want in zip(texts, pairwise(offsets), reference(texts), strict=True):
            assert ids[a:b].tolist() == want, repr(text)


def newly_combining(c: str) -> bool:
    """Or perhaps: what Python's tables don't know yet may be a mark by now."""
    unknown = unicodedata.category(c) == "Cn" and c < "\U00020000"
    return unknown or unicodedata.combining(c) != unicodedata.ucd_3_2_0.combining(c)


@pytest.mark.parametrize("name", ["internlm2", "cl100k_base.tiktoken"])
def test_runs_of_many_stretches(name: str, test_data: Path) -> None:
    """Long pieces are put together from stretches: cut at any length they give what the whole gives."""
    ours = Tokenizer.from_file(test_data / "tokenizers" / name)
    rng = random.Random(13)
    for unit in (" ", "a", "^", "的", "\n    ", "ab", "=-", "  x"):
        for length in (4_095, 4_097, 9_001):
            text = (unit * length)[: length + rng.randrange(9)]
            ids = ours.encode(text)
            assert ours.decode(ids) == text
            # Each two neighbours are the encoding of what they spell, which is what makes it right.
            pairs = set(pairwise(ids.tolist()))
            for left, right in list(pairs)[:200]:
                both = ours.decode_bytes([left, right])
                try:
                    assert ours.encode(both.decode()).tolist() == [left, right]
                except UnicodeDecodeError:
                    continue


@pytest.mark.slow
def test_a_line_of_a_hundred_megabytes(test_data: Path) -> None:
    for name in ("internlm2", "cl100k_base.tiktoken"):
        ours = Tokenizer.from_file(test_data / "tokenizers" / name)
        rng = random.Random(14)
        text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000)) * 100
        assert ours.decode(ours.encode(text)) == text


def test_an_overfull_cache_in_the_middle_of_a_block(test_data: Path) -> None:
    """Pieces longer than the cache's keys fill its arenas; those before and after them stay right."""
    ours = Tokenizer.from_file(test_data / "tokenizers" / "cl100k_base.tiktoken")
    rng = random.Random(15)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.choice([9, 14, 120, 250]))) for _ in range(60_000)]  # fmt: skip
    text = " ".join(words)
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    few = [ours.encode(" " + word).tolist() for word in words[1::997]]
    alone = [pickle.loads(pickle.dumps(ours)).encode(" " + word).tolist() for word in words[1::9970]]  # fmt: skip
    assert few[::10] == alone
