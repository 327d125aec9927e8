"""Every part of a `tokenizer.json` that is honoured gives the reference's ids; the others are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer import Tokenizer, as_transformers

tokenizers = pytest.importorskip("tokenizers")

BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": False,
    "use_regex": False,
}
DEEPSEEK_LIKE = [
    {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}"}, "behavior": "Isolated", "invert": False},
    {"type": "Split", "pattern": {"Regex": "[一-龥぀-ゟ゠-ヿ]+"}, "behavior": "Isolated", "invert": False},
    {
        "type": "Split",
        "pattern": {"Regex": r"[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"},
        "behavior": "Isolated",
        "invert": False,
    },
    BYTE_LEVEL,
]  # fmt: skip
CHANGES: dict[str, Any] = {
    "three splits": lambda f: f["pre_tokenizer"].update(pretokenizers=DEEPSEEK_LIKE),
    "digits": lambda f: f["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Digits", "individual_digits": True}),
    "digit runs": lambda f: f["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Digits", "individual_digits": False}),
    "a literal": lambda f: f["pre_tokenizer"]["pretokenizers"].insert(
        0, {"type": "Split", "pattern": {"String": "ide"}, "behavior": "Isolated", "invert": False}
    ),
    "no pattern": lambda f: f.update(pre_tokenizer=BYTE_LEVEL),
    "a space in front": lambda f: f.update(pre_tokenizer={**BYTE_LEVEL, "add_prefix_space": True, "use_regex": True}),
    "NFC": lambda f: f.update(normalizer={"type": "NFC"}),
    "replace": lambda f: f.update(normalizer={"type": "Replace", "pattern": {"String": "ti"}, "content": "moon"}),
    # Without their merges, tokens are reached as whole pieces only.
    "whole pieces first": lambda f: f["model"].update(ignore_merges=True, merges=f["model"]["merges"][:9]),
    "stripping tokens": lambda f: [t.update(lstrip=True, rstrip=True) for t in f["added_tokens"]],
    "single words": lambda f: [t.update(single_word=True) for t in f["added_tokens"]],
    "normalized tokens": lambda f: (
        f.update(normalizer={"type": "NFC"}),
        f["added_tokens"].append({"id": 700, "content": "né", "special": False, "normalized": True, "lstrip": False, "rstrip": False, "single_word": False}),
        f["model"]["vocab"].update({"n\u00e9": 700}),
    ),
}  # fmt: skip


def load(small: Tokenizer, folder: Path, change: Any) -> tuple[Tokenizer, Any]:
    small.save(folder / "tokenizer.json")
    file = json.loads((folder / "tokenizer.json").read_text())
    change(file)
    (folder / "tokenizer.json").write_text(json.dumps(file))
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Tokenizer.from_file(folder), reference


@pytest.mark.parametrize("name", CHANGES)
def test_ids_of_each_part(
    name: str, small: Tokenizer, tmp_path: Path, hard_texts: list[str]
) -> None:
    ours, reference = load(small, tmp_path, CHANGES[name])
    texts = [*hard_texts, "x <s> y</s>  z", "the tide123 ides", "ne\u0301 né", " <|im_end|> a<s>"]
    differs = False
    for text in texts:
        want = reference.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, allowed_special="all").tolist() == want, repr(text)
        differs |= small.encode(text, allowed_special="all").tolist() != want
    # The part matters: without it some text would have other ids.
    if name == "whole pieces first":
        file = json.loads((tmp_path / "tokenizer.json").read_text())
        file["model"]["ignore_merges"] = False
        without = Tokenizer(*_core_of(json.dumps(file)))
        differs = any(without.encode(t).tolist() != ours.encode(t).tolist() for t in texts)
    assert differs
    # Written anew it is read as the same.
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "tokenizer.json").write_text(ours.to_json())
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json"))
    assert Tokenizer.from_file(tmp_path / "again").fingerprint == ours.fingerprint
    for text in texts:
        assert (
            again.encode(text, add_special_tokens=False).ids
            == reference.encode(text, add_special_tokens=False).ids
        )


def test_templates(small: Tokenizer, tmp_path: Path) -> None:
    bos, eos = small.special_tokens["<s>"], small.special_tokens["</s>"]

    def change(file: Any) -> None:
        def token(name: str, kind: int = 0) -> Any:
            return {"SpecialToken": {"id": name, "type_id": kind}}

        a, b = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
        file["post_processor"] = {
            "type": "Sequence",
            "processors": [
                BYTE_LEVEL,
                {
                    "type": "TemplateProcessing",
                    "single": [token("<s>"), a, token("</s>")],
                    "pair": [token("<s>"), a, token("</s>"), b, token("</s>", 1)],
                    "special_tokens": {
                        "<s>": {"id": "<s>", "ids": [bos], "tokens": ["<s>"]},
                        "</s>": {"id": "</s>", "ids": [eos], "tokens": ["</s>"]},
                    },
                },
            ],
        }

    ours, reference = load(small, tmp_path, change)
    assert (ours.prefix_ids, ours.suffix_ids) == ((bos,), (eos,))
    assert (
        ours.encode("the tide", add_special_tokens=True).tolist()
        == reference.encode("the tide").ids
    )
    assert ours.encode_pair("the", "moon").tolist() == reference.encode("the", "moon").ids
    again = Tokenizer(*_core_of(ours.to_json()))
    assert again.encode_pair("a", "b").tolist() == ours.encode_pair("a", "b").tolist()


def _core_of(text: str) -> tuple[Any, tuple[str, ...]]:
    from internlm_core._core import BpeTokenizer

    return BpeTokenizer.from_hf(text.encode(), None, False), ("hf", text, "", "0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.update(truncation={"max_length": 5}), "truncation"),
        (lambda f: f.update(surprise=1), "unknown field `surprise`"),
        (lambda f: f["model"].update(surprise=1), "unknown field `surprise`"),
        (lambda f: f.update(post_processor={"type": "BertProcessing"}), "post_processor: BertProcessing"),
        (lambda f: f.update(decoder={"type": "WordPiece"}), "decoder: WordPiece"),
        (lambda f: f.update(normalizer={"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}), "normalizer: Replace"),
        (lambda f: f["added_tokens"].append(f["added_tokens"][0]), "added_tokens: id"),
        (lambda f: f["model"]["merges"].append(["a"]), "two parts"),
        (lambda f: f["model"].update(dropout=0.1), "model.dropout"),
        (
            lambda f: f["pre_tokenizer"]["pretokenizers"][0].update(behavior="Removed"),
            "pre_tokenizer.behavior: Removed",
        ),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_named(
    change: Any, words: str, small: Tokenizer, tmp_path: Path
) -> None:
    small.save(tmp_path / "tokenizer.json")
    file = json.loads((tmp_path / "tokenizer.json").read_text())
    change(file)
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    with pytest.raises(TokenizerError, match=words):
        Tokenizer.from_file(tmp_path)


def test_a_token_listed_twice(small: Tokenizer, tmp_path: Path) -> None:
    small.save(tmp_path / "tokenizer.json")
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace('"vocab": {', '"vocab": {"!": 5,', 1))
    with pytest.raises(TokenizerError, match=r'model\.vocab: "!" is listed twice'):
        Tokenizer.from_file(tmp_path)


@pytest.mark.parametrize("name", ["internlm2", "qwen3"])
def test_published_files_for_transformers(
    name: str, test_data: Path, hard_texts: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    ours = Tokenizer.from_file(test_data / "tokenizers" / name)
    theirs = as_transformers(ours)
    assert len(theirs) == len(ours.special_tokens.keys() | theirs.get_vocab().keys())
    assert theirs.convert_tokens_to_ids("<|im_end|>") == ours.special_tokens["<|im_end|>"]
    for text in [*hard_texts, "a<|im_start|>user\nx<|im_end|>\n", "<s>a</s>"]:
        want = ours.encode(text, allowed_special="all").tolist()
        assert theirs.encode(text, add_special_tokens=False) == want, repr(text)
    # Saved anew, the names are in the file itself.
    (tmp_path / "tokenizer.json").write_text(ours.to_json())
    again = Tokenizer.from_file(tmp_path)
    assert again.fingerprint == ours.fingerprint
