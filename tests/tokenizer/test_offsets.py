"""Offsets, counting, disallowed tokens, Arrow lists, and stopping."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer import Tokenizer

NAMES = ("internlm2", "qwen3", "cl100k_base.tiktoken")


@pytest.fixture(scope="module", params=NAMES)
def published(request: pytest.FixtureRequest, test_data: Path) -> Tokenizer:
    return Tokenizer.from_file(test_data / "tokenizers" / request.param)


def check(tok: Tokenizer, text: str) -> None:
    ids, spans = tok.encode_with_offsets(text, unit="bytes")
    assert ids.tolist() == tok.encode(text).tolist()
    assert spans.shape == (len(ids), 2)
    data = text.encode()
    assert [0, *spans[:, 1].tolist()][: len(ids)] == spans[:, 0].tolist()
    assert (spans[-1, 1] if len(ids) else 0) == len(data)
    for token, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True):
        part = data[start:end]
        assert tok.id_to_bytes(token) == (
            part if tok.vocab_size > 93_000 else part.replace("▁".encode(), b" ")
        )
    _, spans = tok.encode_with_offsets(text)
    for token, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True):
        assert end > start
        shown = text[start:end].replace("▁", " ") if tok.vocab_size < 93_000 else text[start:end]
        assert tok.id_to_bytes(token) in shown.encode()


def test_offsets_tile_the_text(published: Tokenizer, hard_texts: list[str]) -> None:
    for text in hard_texts:
        if unicodedata.is_normalized("NFC", text):
            check(published, text)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30).map(lambda text: unicodedata.normalize("NFC", text)))
def test_offsets_of_any_text(published: Tokenizer, text: str) -> None:
    check(published, text)


def test_offsets_equal_the_references(test_data: Path, hard_texts: list[str]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    for name in ("internlm2", "qwen3"):
        folder = test_data / "tokenizers" / name
        ours = Tokenizer.from_file(folder, parity=True)
        reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        compared = 0
        for text in hard_texts:
            want = reference.encode(text, add_special_tokens=False)
            allowed: Any = "all" if name == "qwen3" else ()
            ids, spans = ours.encode_with_offsets(text, allowed_special=allowed)
            assert ids.tolist() == want.ids
            # The reference gives some white space to its neighbours in composed text.
            if unicodedata.is_normalized("NFC", text):
                compared += 1
                assert spans.tolist() == [list(span) for span in want.offsets], repr(text)
        assert compared > 300


def test_offsets_through_composition(test_data: Path) -> None:
    tok = Tokenizer.from_file(test_data / "tokenizers" / "qwen3")
    text = "ae\u0301 x"
    ids, spans = tok.encode_with_offsets(text)
    assert tok.decode(ids) == "aé x"
    assert spans[0].tolist()[0] == 0
    assert spans[-1].tolist() == [3, 5]
    _, spans = tok.encode_with_offsets(text, unit="bytes")
    assert spans[-1].tolist() == [4, 6]


def test_offsets_around_special_tokens(small: Tokenizer) -> None:
    text = "潮<s> x"
    ids, spans = small.encode_with_offsets(text, allowed_special="all")
    at = ids.tolist().index(small.special_tokens["<s>"])
    assert spans[at].tolist() == [1, 4]
    with pytest.raises(TokenizerError, match="expected 'characters' or 'bytes'"):
        small.encode_with_offsets(text, unit="words")  # type: ignore[arg-type]


def test_disallowed_tokens(small: Tokenizer) -> None:
    text = "a<|im_end|>b"
    with pytest.raises(TokenizerError, match=r"text 0 holds the special token '<\|im_end\|>'"):
        small.encode(text, disallowed_special="all")
    with pytest.raises(TokenizerError, match="text 1 holds"):
        small.encode_batch(["x", text], disallowed_special={"<|im_end|>"})
    # As in tiktoken: what is allowed is not disallowed, and () disallows nothing.
    end = small.special_tokens["<|im_end|>"]
    assert end in small.encode(text, allowed_special={"<|im_end|>"}, disallowed_special="all")
    assert end in small.encode(text, allowed_special="all", disallowed_special="all")
    assert end not in small.encode(text, disallowed_special=())
    assert end not in small.encode(text, disallowed_special={"<s>"})


def test_counts(published: Tokenizer, hard_texts: list[str]) -> None:
    for text in hard_texts:
        assert published.count(text) == len(published.encode(text))
    some = "x<|endoftext|>" if published.vocab_size > 93_000 else "x</s>"
    assert published.count(some, allowed_special="all") == len(
        published.encode(some, allowed_special="all")
    )


def test_arrow_lists(small: Tokenizer, hard_texts: list[str]) -> None:
    pa = pytest.importorskip("pyarrow")
    column = pl.Series([None, *hard_texts])
    ids, offsets = small.encode_batch(column)
    series = pl.Series(small.encode_arrow(column))
    assert series.dtype == pl.List(pl.UInt32)
    assert series[0] is None
    wanted = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert series[1:].to_list() == wanted[1:]
    array = pa.array(small.encode_arrow(column))
    assert array.type == pa.large_list(pa.field("item", pa.uint32(), nullable=False))
    # No copy: two imports of one result look at the same memory.
    made = small.encode_arrow(hard_texts)
    first, second = pa.array(made), pa.array(made)
    assert first.values.buffers()[1].address == second.values.buffers()[1].address
    assert first.buffers()[1].address == second.buffers()[1].address
    assert pl.Series(small.encode_arrow([])).len() == 0


def test_long_texts_are_encoded_the_same_while_others_wait(small: Tokenizer) -> None:
    """Above a megabyte the work is done in another thread, so that Ctrl-C is heard."""
    text = "the tide rises 潮水 " * 80_000
    assert len(text.encode()) > 1 << 20
    ids, offsets = small.encode_batch([text, "the"], threads=1)
    assert offsets[1] == len(small.encode(text)) == small.count(text)
    assert small.decode(ids[: offsets[1]]) == text
    spans = small.encode_with_offsets(text)[1]
    assert spans[-1, 1] == len(text)
    assert np.array_equal(spans[1:, 0], spans[:-1, 1])


STOPPED = """
import internlm_core as ic
tok = ic.tokenizer.train(["the tide"] * 9, vocab_size=300, quiet=True)
texts = ["".join(chr(0x4E00 + (n * 7919 + k * k * 31) % 20_000) for n in range(200_000)) for k in range(8)]
tok.encode_batch(["warm numpy up"]), tok.encode("too")
try:
    print("go", flush=True)
    while True:
        CALL
except KeyboardInterrupt:
    print("stopped", tok.decode(tok.encode("the")), flush=True)
"""


@pytest.mark.parametrize(
    "call", ["tok.encode_batch(texts * 4)", "tok.encode(texts[0] * 8)", "tok.count(texts[0] * 8)"]
)
def test_ctrl_c_ends_a_long_call(call: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED.replace("CALL", call)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "go\n"
        os.kill(child.pid, signal.SIGINT)
        try:
            assert child.communicate(timeout=120)[0] == "stopped the\n"
        finally:
            child.kill()
        assert child.returncode == 0
