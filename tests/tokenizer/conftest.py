"""Texts that tokenizers get wrong, and a small vocabulary trained on the spot."""

from __future__ import annotations

import random

import pytest
from internlm_core.tokenizer import Tokenizer, train

# Public faults of other tokenizers, and what sits on the borders of their patterns.
HARD = [
    "", " ", "  hello", "hello  ", "a▁b", "a    b", "\t\t  x", "\n    \n    \nfoo", " \n \t\n  a",
    "x\r\n\r\n  y", "\u3000\u3000中文 \r\n\r\n x", "\u00a0\u00a0x", "'ſo I'LL we'Ve don't", "12345 ٣٤٥ ９９",
    "🙂 👩‍👩‍👧 e\u0301\u0301x", "T\x10his \x10\t", "<s>x</s>", "[UNUSED_TOKEN_146]", "<|im_end|>",
    "ǅungla HTTPServer camelCase CAN'T", "\u0301 '\u0301s", "//x /\n/y", "的" * 40, "𠮷野家で𩸽",
    "a" * 300, "^" * 300, " " * 200 + "x", "-" * 150, "<0x0A>", "‍\u200b\ufeff", "\x00\x01", "\ud7ff\ue000",
]  # fmt: skip


@pytest.fixture(scope="session")
def hard_texts() -> list[str]:
    rng = random.Random(5)
    alphabet = "ab \t\n\r'’sſ.,!/12٣的国🙂é\u0301▁<|>ABCdž\u3000"
    mixed = ["".join(rng.choices(alphabet, k=rng.randrange(1, 40))) for _ in range(600)]
    return HARD + mixed


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    """A few hundred short texts in English, Chinese and code, from words alone."""
    rng = random.Random(3)
    words = [
        "the",
        "tide",
        "rises",
        "and",
        "falls",
        "under",
        "a",
        "pale",
        "moon",
        "while",
        "boats",
        "return",
        "to",
        "harbour",
    ]
    han = "潮水在月光下涨落船只返回港湾的夜晚风平浪静"
    texts = []
    for number in range(400):
        texts.append(" ".join(rng.choices(words, k=30)) + ".")
        texts.append("".join(rng.choices(han, k=40)) + "。")
        texts.append(f"def f{number}(x):\n    return x + {number}\n")
    return texts


@pytest.fixture(scope="session")
def small(corpus: list[str]) -> Tokenizer:
    return train(corpus, vocab_size=700, quiet=True)
