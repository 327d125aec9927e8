"""Faults that users of other tokenizers reported, where no other file holds the right behaviour."""

from __future__ import annotations

import pickle
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from internlm_core.chat import flatten, render
from internlm_core.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def internlm2(test_data: Path) -> Tokenizer:
    return Tokenizer.from_file(test_data / "tokenizers" / "internlm2")


def test_half_a_megabyte_of_one_letter_in_a_message(internlm2: Tokenizer) -> None:
    """A quadratic merge took two minutes for it elsewhere."""
    text = "x" * (512 << 10)
    ids, _ = flatten(render([{"role": "user", "content": text}], tokenizer=internlm2))
    assert internlm2.decode(ids).count("x") == len(text)
    assert ids.tolist().count(1) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_distinct_text(internlm2: Tokenizer) -> None:
    """Caches are bounded: elsewhere each long new string stayed in memory."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def encode(numbers: range) -> None:
        for number in numbers:
            internlm2.encode(f"{number} {number} " * 10_000)
            # No two of these pieces are equal, and all are entered.
            internlm2.encode("".join(f"q{number}z{at}x=" for at in range(10_000)))

    encode(range(60))
    before = resident()
    encode(range(60, 120))
    assert resident() - before < 16 << 20


def test_identifiers_of_all_scripts(test_data: Path) -> None:
    """jinja2's pattern of characters for identifiers: hundreds of ranges of combining marks.

    The reference's NFC does not know the marks that came with Unicode 11 and later, and leaves them
    in the wrong order; Python's knows them.
    """
    tokenizers = pytest.importorskip("tokenizers")
    identifiers = pytest.importorskip("jinja2._identifier")
    pattern = identifiers.pattern.pattern
    for name in ("internlm2", "qwen3"):
        folder = test_data / "tokenizers" / name
        reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        text = pattern
        if name == "qwen3":
            assert reference.normalizer.normalize_str("\u07f3\u07fd") == "\u07f3\u07fd"
            reference.normalizer = None
            text = unicodedata.normalize("NFC", pattern)
        want = reference.encode(text, add_special_tokens=False).ids
        assert Tokenizer.from_file(folder, parity=True).encode(pattern).tolist() == want


def test_flags_of_added_tokens(internlm2: Tokenizer, tmp_path: Path) -> None:
    """Tokens that swallow the white space beside them, as Whisper's do."""
    import json

    tokenizers = pytest.importorskip("tokenizers")
    file = json.loads(internlm2.to_json())
    for added in file["added_tokens"]:
        added["lstrip"] = added["content"] == "<|im_start|>"
        added["rstrip"] = added["content"] == "<|im_end|>"
        added["single_word"] = added["content"] == "<|plugin|>"
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file), "utf-8")
    reference = tokenizers.Tokenizer.from_file(str(path))
    ours = Tokenizer.from_file(path, parity=True)
    for text in (
        "   <|im_start|> <|im_end|>   ",
        "a <|im_end|> \n b<|im_end|><|im_start|>  <|im_start|>",
        "x<|plugin|> <|plugin|> <|plugin|>y",
    ):
        want = reference.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, allowed_special="all").tolist() == want, text


def test_streams_take_what_counts_as_an_id(internlm2: Tokenizer) -> None:
    import numpy as np
    from internlm_core.errors import TokenizerError

    push = internlm2.stream().push
    (token,) = internlm2.encode("hello").tolist()
    assert push(token) == push(np.uint32(token)) == push(np.int64(token)) == "hello"
    # The same string again, for nothing is made anew; and a stream of another tokenizer's own.
    assert push(token) is push(token)
    again = pickle.loads(pickle.dumps(internlm2)).stream().push
    assert again(token) == "hello"
    for wrong in (internlm2.vocab_size, 1 << 31):
        with pytest.raises(TokenizerError, match="outside the vocabulary"):
            push(wrong)
    not_ids: list[Any] = [-1, 1 << 80, "a", None, 1.5]
    for value in not_ids:
        with pytest.raises((TypeError, OverflowError)):
            push(value)
    assert push(token) == "hello"
