"""Question–answer pairs made from docstrings: what a function does, and what its name is."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from internlm_core.demo.found_text import Docstring, docstrings

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Conversation", "make_conversations", "split_conversations"]

Conversation = list[dict[str, str]]

_ASK_WHAT = (
    "What does `{name}` do?",
    "Explain `{name}` in a sentence.",
    "What is `{name}` for?",
)
_ASK_SIGNATURE = "How is `{name}` called?"


def _summary(text: str) -> str:
    """First paragraph as one line, at most three sentences."""
    paragraph = re.sub(r"\s+", " ", text.split("\n\n")[0]).strip()
    sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph)
    return " ".join(sentences[:3])


def make_conversations(
    count: int, seed: int, items: Iterable[Docstring] | None = None
) -> list[Conversation]:
    """Up to `count` conversations of one question and one answer, the same for the same seed.

    Args:
        count: How many at most.
        seed: Fixes which docstrings are asked about, and how.
        items: Docstrings to ask about; by default those of the standard library.
    """
    rng = random.Random(seed)
    by_question: dict[str, Conversation] = {}
    for item in docstrings() if items is None else items:
        answer = _summary(item.text)
        if not 20 <= len(answer) <= 400:
            continue
        question = rng.choice(_ASK_WHAT).format(name=item.name)
        if item.kind != "class" and rng.random() < 0.25:
            question = _ASK_SIGNATURE.format(name=item.name)
            answer = f"`{item.signature}`: {answer}"
        by_question[question] = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    conversations = list(by_question.values())
    rng.shuffle(conversations)
    return conversations[:count]


def split_conversations(
    conversations: list[Conversation], held_out: int
) -> tuple[list[Conversation], list[Conversation]]:
    """Training and held-out conversations that share no answer.

    An overridden method often repeats its parent's docstring, so the split is by answer.
    """
    held = conversations[:held_out]
    answers = {conversation[-1]["content"] for conversation in held}
    train = [c for c in conversations[held_out:] if c[-1]["content"] not in answers]
    return train, held
