"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from internlm_core.model import InternLM2
    from internlm_core.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Let Ctrl-C be heard: a shell's background job ignores it, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def make_random_model(small_tokenizer: Tokenizer) -> Callable[..., InternLM2]:
    """A model for the small tokenizer, fp32, no end id of its own.

    Its answers wander, and the likeliest token is never a special one.
    """
    import torch
    from internlm_core.model import InternLM2, ModelConfig

    def make(seed: int = 5, **changes: Any) -> InternLM2:
        shape = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
        }
        config = ModelConfig(
            vocab_size=small_tokenizer.vocab_size,
            initializer_range=0.3,
            bos_token_id=small_tokenizer.special_tokens["<s>"],
            eos_token_id=None,
            dtype="float32",
            **(shape | changes),
        )
        model = InternLM2(config, seed=seed)
        with torch.no_grad():
            model.output.weight[list(small_tokenizer.special_tokens.values())] = 0.0
        return model

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium that speaks English and logs its console and its requests."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--lang=en",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield session
    session.quit()
