"""What a training may learn: characters with byte fallback, digits, scripts, special tokens, limits."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer import Tokenizer, describe, train

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The same where spaces are written as the mark, which Unicode does not call white space.
MARKED = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"|▁?[^\s▁\p{L}\p{N}]+[\r\n]*|[\s▁]*[\r\n]+|[\s▁]+(?![^\s▁])|[\s▁]+"
)
MIXED = [
    "用Python写的café, naïve 12 x 34567 ½ и слово 89",
    "2024年10月1日 в 1945 году, the year 12345678",
    "カタカナとひらがな and 漢字 100%",
]


@pytest.fixture(scope="module")
def mixed(corpus: list[str]) -> list[str]:
    rng = random.Random(7)
    noise = ["".join(rng.choices("ab1 2\n3xé的国日は", k=120)) for _ in range(80)]
    return corpus + MIXED * 8 + noise


def learned(tokenizer: Tokenizer) -> list[bytes]:
    special = set(tokenizer.special_tokens.values())
    return [tokenizer.id_to_bytes(i) for i in range(tokenizer.vocab_size) if i not in special]


def texts_in(tokenizer: Tokenizer) -> list[str]:
    """The tokens that are text."""
    read = [(piece, piece.decode("utf-8", "replace")) for piece in learned(tokenizer)]
    return [text for piece, text in read if text.encode() == piece]


def merges_of(text: str) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(text)["model"]["merges"]]


def reference(texts: list[str], size: int, *, special: list[str], before: list[Any]) -> Any:
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Reference

    fallback = special != []
    model = models.BPE(unk_token="<unk>" if fallback else None, byte_fallback=fallback)
    made = Reference(model)
    steps = [pre_tokenizers.Split(Regex(MARKED if fallback else CL100K), "isolated"), *before]
    if fallback:
        made.normalizer = normalizers.Replace(" ", "▁")
        made.decoder = decoders.ByteFallback()
    else:
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    alphabet = [] if fallback else pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": special, "initial_alphabet": alphabet, "show_progress": False}
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, min_frequency=2, **options)
    )
    return made


def test_byte_fallback_merges_and_ids_equal_the_reference(mixed: list[str]) -> None:
    pytest.importorskip("tokenizers")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    theirs = json.loads(reference(mixed, 900, special=special, before=[]).to_str())
    made = train(mixed, vocab_size=900, byte_fallback=True, coverage=1, last_special=(), quiet=True)
    ours = json.loads(made.to_json())
    assert len(ours["model"]["merges"]) > 300
    assert ours["model"]["merges"] == theirs["model"]["merges"]
    assert ours["model"]["vocab"] == theirs["model"]["vocab"]
    # Another coverage makes another alphabet, so the equality is no accident.
    fewer = train(
        mixed, vocab_size=900, byte_fallback=True, coverage=0.9, last_special=(), quiet=True
    )
    assert merges_of(fewer.to_json()) != merges_of(json.dumps(theirs))


def test_byte_fallback_has_internlm2_layout_and_loses_nothing(
    mixed: list[str], hard_texts: list[str], tmp_path: Path
) -> None:
    made = train(mixed, vocab_size=800, byte_fallback=True, quiet=True)
    assert made.vocab_size == 800
    names = json.loads(made.to_json())["model"]["vocab"]
    assert [names[f"<0x{byte:02X}>"] for byte in range(256)] == list(range(3, 259))
    assert names["▁"] >= 259
    assert made.special_tokens["<|im_start|>"] == 799
    made.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert loaded.fingerprint == made.fingerprint
    for text in [*hard_texts, *mixed]:
        ids = made.encode(text)
        assert made.decode(ids) == text.replace("▁", " ")
        assert loaded.encode(text).tolist() == ids.tolist()
        assert not set(ids.tolist()) & set(made.special_tokens.values())


def test_byte_fallback_file_is_read_alike_by_the_reference(
    mixed: list[str], hard_texts: list[str], tmp_path: Path
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = train(mixed, vocab_size=800, byte_fallback=True, digits=1, one_script=True, quiet=True)
    made.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    # The reference finds special tokens in any text.
    names = made.special_tokens
    texts = [t for t in [*hard_texts, *mixed] if not any(name in t for name in names)]
    for text in texts:
        assert theirs.encode(text).ids == made.encode(text).tolist(), text
    assert len(texts) > 600


def test_rare_characters_are_bytes_and_part_words() -> None:
    texts = ["abab abab"] * 500 + ["ab\u0100ab"] * 2
    made = train(texts, vocab_size=300, byte_fallback=True, coverage=0.99, quiet=True)
    assert "\u0100".encode() not in learned(made)
    assert made.decode(made.encode("ab\u0100ab")) == "ab\u0100ab"
    # What stands around it were never neighbours.
    parted = ["xy\u0100zw"] * 9 + ["xy zw"] * 200
    options = {"vocab_size": 400, "byte_fallback": True, "last_special": (), "quiet": True}
    pieces = learned(train(parted, coverage=0.99, **options))
    assert {b"xy", b"zw"} <= set(pieces)
    assert not any(b"yz" in piece for piece in pieces)
    whole = train(texts, vocab_size=300, byte_fallback=True, coverage=1, quiet=True)
    assert "\u0100".encode() in learned(whole)


def test_digits_alone_equal_the_reference(mixed: list[str]) -> None:
    pre_tokenizers = pytest.importorskip("tokenizers").pre_tokenizers
    ours = train(mixed, vocab_size=700, digits=1, first_special=(), last_special=(), quiet=True)
    apart = [pre_tokenizers.Digits(individual_digits=True)]
    assert merges_of(ours.to_json()) == merges_of(
        reference(mixed, 700, special=[], before=apart).to_str()
    )
    plain = train(mixed, vocab_size=700, first_special=(), last_special=(), quiet=True)
    assert merges_of(ours.to_json()) != merges_of(plain.to_json())


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize(("digits", "pattern"), [(1, "cl100k"), (3, "gpt2"), (2, "o200k")])
def test_a_token_with_digits_holds_so_many_and_nothing_else(
    mixed: list[str], digits: int, pattern: Any, *, fallback: bool
) -> None:
    def broken(tokenizer: Tokenizer) -> list[str]:
        numbers = [
            (t, sum(unicodedata.category(c)[0] == "N" for c in t)) for t in texts_in(tokenizer)
        ]
        return [t for t, count in numbers if count and not count == len(t) <= digits]

    made = train(
        mixed, vocab_size=750, pattern=pattern, digits=digits, byte_fallback=fallback, quiet=True
    )
    assert broken(made) == []
    free = train(mixed, vocab_size=750, pattern="gpt2", byte_fallback=fallback, quiet=True)
    assert broken(free) != []


def scripts(text: str) -> set[str]:
    """By name; common characters have none, kana are Han."""
    found = set()
    for c in text:
        name = unicodedata.name(c, "")
        if unicodedata.category(c)[0] == "L" and c not in "ーªº":
            found.add("CJK" if name.split()[0] in ("HIRAGANA", "KATAKANA") else name.split()[0])
    return found


@pytest.mark.parametrize("fallback", [False, True])
def test_no_token_mixes_scripts(mixed: list[str], *, fallback: bool) -> None:
    glued = [*mixed, *["用Python写的слово"] * 30]
    made = train(glued, vocab_size=750, one_script=True, byte_fallback=fallback, quiet=True)
    assert [t for t in texts_in(made) if len(scripts(t)) > 1] == []
    free = train(glued, vocab_size=750, byte_fallback=fallback, quiet=True)
    assert any(len(scripts(t)) > 1 for t in texts_in(free))


def test_a_script_has_so_many_tokens_at_most(mixed: list[str]) -> None:
    def han(tokenizer: Tokenizer) -> int:
        return sum("CJK" in scripts(text) for text in texts_in(tokenizer))

    limited = train(mixed, vocab_size=700, one_script=True, script_limits={"Han": 5}, quiet=True)
    free = train(mixed, vocab_size=700, one_script=True, quiet=True)
    assert han(limited) == 5
    assert han(free) > 20
    assert limited.vocab_size == 700  # Others take the room.
    assert describe(limited).unreachable == []


def test_no_text_becomes_a_special_token() -> None:
    texts = ["user says user and </s> and <0x41>"] * 50
    for fallback in (False, True):
        made = train(
            texts,
            vocab_size=400,
            first_special=("user", "<unk>"),
            last_special=("says",),
            byte_fallback=fallback,
            quiet=True,
        )
        ids = set(made.encode(texts[0]).tolist())
        assert not ids & set(made.special_tokens.values())
        assert made.decode(made.encode(texts[0])) == texts[0]
        allowed = made.encode("user", allowed_special="all").tolist()
        assert allowed == [made.special_tokens["user"]] == [0]
        assert made.special_tokens["says"] == made.vocab_size - 1


@pytest.mark.parametrize("fallback", [False, True])
def test_limits_hold_for_both_alphabets(mixed: list[str], *, fallback: bool) -> None:
    made = train(mixed, vocab_size=700, max_token_length=4, byte_fallback=fallback, quiet=True)
    assert max(map(len, learned(made))) == 4
    assert describe(made).unreachable == []
    often = train(mixed, vocab_size=700, min_frequency=60, byte_fallback=fallback, quiet=True)
    rarely = train(mixed, vocab_size=700, min_frequency=1, byte_fallback=fallback, quiet=True)
    assert often.vocab_size < rarely.vocab_size
    assert often.n_merges > 0


@pytest.mark.parametrize("fallback", [False, True])
def test_order_and_threads_do_not_matter(mixed: list[str], *, fallback: bool) -> None:
    options: dict[str, Any] = {"vocab_size": 700, "byte_fallback": fallback, "quiet": True}
    options |= {"digits": 3, "one_script": True, "script_limits": {"Latin": 60, "Han": 40}}
    first = train(mixed, threads=2, **options)
    shuffled = list(mixed)
    random.Random(2).shuffle(shuffled)
    again = train((pl.Series([text]) for text in shuffled), threads=1, max_memory=4_000, **options)
    assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vocab_size": 100}, r"vocab_size 100 is below 265"),
        ({"vocab_size": -1}, r"vocab_size=-1"),
        ({"vocab_size": 3_000_000}, "fewer than 2,097,152 ids"),
        ({"first_special": ("<s>", "<s>")}, "'?<s>.*given twice"),
        ({"last_special": ("<s>",)}, "given twice"),
        ({"last_special": ("x",)}, "at least two characters"),
        ({"script_limits": {"Klingon": 3}}, 'script "Klingon"'),
        ({"script_limits": {"Katakana": 3}}, "Han"),
        ({"script_limits": {"Han": -3}}, "Han=-3"),
        ({"byte_fallback": True, "coverage": 1.5}, "coverage 1.5: expected 0 to 1"),
        ({"byte_fallback": True, "coverage": float("nan")}, "coverage NaN"),
        ({"digits": -1}, "digits=-1"),
        ({"max_token_length": -1}, "max_token_length=-1"),
        ({"min_frequency": -2}, "min_frequency=-2"),
        ({"pattern": "mine"}, "unknown pattern"),
    ],
)
def test_options_without_meaning_are_refused_before_any_text_is_read(
    wrong: dict[str, Any], message: str
) -> None:
    def texts() -> Any:
        raise AssertionError("a text was read")
        yield

    with pytest.raises(TokenizerError, match=message):
        train(texts(), **{"vocab_size": 400, "quiet": True, **wrong})


def test_characters_that_do_not_fit_are_refused(mixed: list[str]) -> None:
    with pytest.raises(TokenizerError, match=r"vocab_size 280 .* characters \(fewer"):
        train(mixed, vocab_size=280, byte_fallback=True, quiet=True)


@pytest.mark.parametrize("wrong", ["abc", ["abc", 3], [b"abc"], pl.Series([1, 2])])
def test_what_is_no_text_is_refused(wrong: Any) -> None:
    with pytest.raises(TokenizerError, match="expected"):
        train(wrong, vocab_size=300, quiet=True)


def test_lone_surrogates_are_replaced() -> None:
    one = train(["ab\ud83d ab"] * 5, vocab_size=300, quiet=True)
    two = train(["ab\ufffd ab"] * 5, vocab_size=300, quiet=True)
    assert one.fingerprint == two.fingerprint
