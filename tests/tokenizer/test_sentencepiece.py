"""SentencePiece models trained on the spot: ids equal to that library's own."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer import Tokenizer, as_transformers

spm = pytest.importorskip("sentencepiece")

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"add_dummy_prefix": False, "remove_extra_whitespaces": False},
    "prefix": {"remove_extra_whitespaces": False},
    "squeezed": {},
    "user-defined": {
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["……", "——", "tide x"],
        "control_symbols": ["<|im_end|>"],
    },
}


def trained(corpus: list[str], **options: Any) -> bytes:
    model = io.BytesIO()
    settings = {
        "model_type": "bpe", "vocab_size": 700, "byte_fallback": True, "hard_vocab_limit": False,
        "normalization_rule_name": "identity", "minloglevel": 2, "character_coverage": 1.0,
    }  # fmt: skip
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=model, **{**settings, **options}
    )
    return model.getvalue()


@pytest.fixture(scope="module", params=OPTIONS)
def pair(
    request: pytest.FixtureRequest, corpus: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, Any]:
    data = trained(corpus, **OPTIONS[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "tokenizer.model").write_bytes(data)
    return Tokenizer.from_file(folder), spm.SentencePieceProcessor(model_proto=data)


def test_ids(pair: tuple[Tokenizer, Any], hard_texts: list[str], corpus: list[str]) -> None:
    ours, reference = pair
    texts = [*hard_texts, *corpus[::5], "the……tide x——<|im_end|>", "\u2581a \u2581", "  a  ▁ "]
    for text in texts:
        if "\0" in text:
            continue
        assert ours.encode(text).tolist() == reference.encode(text), repr(text)
    again = pickle.loads(pickle.dumps(ours))
    assert again.fingerprint == ours.fingerprint


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([" ", "  ", "the tide", "潮水", "▁", "……", "—", "\n", "<s>", "🙂"]),
            st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4),
        )
    ).map("".join)
)
def test_any_text(pair: tuple[Tokenizer, Any], text: str) -> None:
    ours, reference = pair
    assert ours.encode(text).tolist() == reference.encode(text)


def test_round_trip(pair: tuple[Tokenizer, Any]) -> None:
    ours, reference = pair
    for text in ("the tide 潮水", "moon"):
        ids = ours.encode(text)
        assert ours.decode(ids) == text == reference.decode(ids.tolist())
        stream = ours.stream()
        assert "".join(stream.push(int(token)) for token in ids) + stream.flush() == text


def test_control_pieces_never_come_from_text(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    assert ours.special_tokens["<s>"] == 1
    assert not {0, 1, 2} & set(ours.encode("a<s>b</s><unk>").tolist())
    assert 1 in ours.encode("a<s>b", allowed_special={"<s>"})


def test_names_from_the_configuration(corpus: list[str], tmp_path: Path) -> None:
    """A published InternLM2 folder: a model and the names of its spare ids."""
    data = trained(
        corpus, add_dummy_prefix=False, remove_extra_whitespaces=False,
        user_defined_symbols=["[UNUSED_TOKEN_1]", "[UNUSED_TOKEN_2]"],
    )  # fmt: skip
    (tmp_path / "tokenizer.model").write_bytes(data)
    spare = spm.SentencePieceProcessor(model_proto=data).piece_to_id("[UNUSED_TOKEN_2]")
    names = {str(spare): {"content": "<|im_start|>", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": names}))
    ours = Tokenizer.from_file(tmp_path)
    assert ours.special_tokens["<|im_start|>"] == spare
    assert ours.encode("<|im_start|>", allowed_special="all").tolist() == [spare]
    # The old name is text now.
    assert spare not in ours.encode("[UNUSED_TOKEN_2]", allowed_special="all")
    assert ours.vocab_size == spm.SentencePieceProcessor(model_proto=data).vocab_size()


def test_written_as_tokenizer_json(corpus: list[str], tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    for name in ("plain", "prefix"):
        data = trained(corpus, **OPTIONS[name])
        (tmp_path / "a.model").write_bytes(data)
        ours = Tokenizer.from_file(tmp_path / "a.model")
        ours.save(tmp_path / "tokenizer.json")
        reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        again = Tokenizer.from_file(tmp_path / "tokenizer.json")
        for text in ("the tide 潮水 x", "a  b", "🙂\n", ""):
            ids = ours.encode(text).tolist()
            assert again.encode(text).tolist() == ids
            assert reference.encode(text, add_special_tokens=False).ids == ids
    pytest.importorskip("transformers")
    assert (
        as_transformers(ours).encode("the tide", add_special_tokens=False)
        == ours.encode("the tide").tolist()
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_type": "unigram"}, "trainer_spec.model_type"),
        ({"byte_fallback": False}, "trainer_spec.byte_fallback"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalizer_spec.precompiled_charsmap"),
        ({"treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix"),
    ],
)
def test_what_is_not_honoured_is_named(
    options: dict[str, Any], words: str, corpus: list[str], tmp_path: Path
) -> None:
    (tmp_path / "a.model").write_bytes(trained(corpus, **options))
    with pytest.raises(TokenizerError, match=words):
        Tokenizer.from_file(tmp_path / "a.model")


def test_broken_models(corpus: list[str], tmp_path: Path) -> None:
    data = trained(corpus)
    path = tmp_path / "a.model"
    for broken, words in (
        (data[: len(data) // 2], "cut short|not supported|none"),
        (b"", "no SentencePiece model"),
        (b"hello, this is text", "no SentencePiece model"),
        (data.replace(b"<0x41>", b"<0x4Z>"), "is no byte"),
        (data.replace(b"<0x41>", b"<0x42>"), "listed twice"),
    ):
        path.write_bytes(broken)
        with pytest.raises(TokenizerError, match=words):
            Tokenizer.from_file(path)
