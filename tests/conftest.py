"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from internlm_core.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent


def _find_test_data() -> Path | None:
    folder = Path(os.environ.get("INTERNLM_TEST_DATA", ROOT.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder with real tokenizers and texts; the test is skipped where it is absent."""
    folder = _find_test_data()
    if folder is None:
        pytest.skip(
            "no test data: set INTERNLM_TEST_DATA to the folder that holds tokenizers/ and text/"
        )
    return folder


@pytest.fixture
def write_shard() -> Callable[..., Path]:
    """Write documents (arrays of ids), with flags or without, as a token shard; returns its path."""

    def write(
        path: Path,
        documents: Sequence[Any],
        supervised: Sequence[Any] | None = None,
        *,
        vocab_size: int = 128,
        fingerprint: str = "f" * 64,
    ) -> Path:
        from internlm_core.tokenizer import ShardWriter

        writer = ShardWriter(
            path,
            fingerprint=fingerprint,
            vocab_size=vocab_size,
            supervised=supervised is not None,
        )
        with writer:
            for number, document in enumerate(documents):
                flags = None if supervised is None else supervised[number]
                writer.add(document, supervised=flags)
        return path

    return write


@pytest.fixture(scope="session")
def small_tokenizer() -> Tokenizer:
    """A vocabulary of 384 ids, with the chat format's control tokens, learnt from a few words."""
    from internlm_core.tokenizer import train

    words = "the tide rises and falls; 潮起潮落 def tide(x): return x + 1\n" * 40
    text = f"{words} user assistant system environment name= weather 天气"
    # <s> is not where it usually is, so that nothing can count on the usual id.
    first = ("<s>", "<unk>", "</s>")
    return train([text] * 3, vocab_size=384, first_special=first, quiet=True)
