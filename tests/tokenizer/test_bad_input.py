"""Files that contradict themselves, are cut short or damaged, and bytes that are no text."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer import Tokenizer, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def added(token: int, content: str) -> dict[str, Any]:
    return {"id": token, "content": content, "special": True}


def size(file: dict[str, Any]) -> int:
    return len(file["model"]["vocab"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["model"].pop("merges"), "missing field `merges`"),
        (lambda f: f["model"].pop("vocab"), "missing field `vocab`"),
        (lambda f: f["model"].update(vocab=[1]), "expected a map of token to id"),
        (lambda f: f["model"]["vocab"].update(zz=-1), "integer `-1`, expected u32"),
        (lambda f: f["model"]["merges"].append(["a", "zq"]), r"model\.merges\[\d+\]: \"zq\" is not"),
        (lambda f: f["added_tokens"].append(added(99_999, "<x>")), "ids up to 99999 leave holes"),
        (lambda f: f["added_tokens"].append(added(20, "<x>")), "id 20, which model.vocab gives to"),
        (lambda f: f["added_tokens"].append(added(size(f), "a")), 'added_tokens: "a" has id'),
        (lambda f: f["added_tokens"].append(added(size(f), "")), "added_tokens: id .* has no name"),
        (lambda f: f["added_tokens"].extend([added(size(f), "<x>"), added(size(f) + 1, "<x>")]), '"<x>" is listed twice'),
        (lambda f: f.clear(), "missing field `model`"),
    ],
)  # fmt: skip
def test_a_contradictory_tokenizer_json_names_the_field(
    change: Callable[[Any], None], words: str, small: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    small.save(path)
    file = json.loads(path.read_text())
    change(file)
    path.write_text(json.dumps(file))
    with pytest.raises(TokenizerError, match=words) as caught:
        Tokenizer.from_file(path)
    assert str(path) in str(caught.value)


def test_a_tokenizer_json_cut_anywhere(small: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    small.save(path)
    whole = path.read_bytes().rstrip()
    for end in (0, 1, 100, *range(500, len(whole), len(whole) // 40), len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(TokenizerError, match=r"tokenizer\.json: "):
            Tokenizer.from_file(path)
    path.write_bytes(whole + b"}")
    with pytest.raises(TokenizerError, match="trailing characters"):
        Tokenizer.from_file(path)


def test_an_id_without_a_token_stands_for_nothing(small: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    small.save(path)
    file = json.loads(path.read_text())
    hole = size(file)
    file["model"]["vocab"]["zzzz"] = hole + 3
    path.write_text(json.dumps(file))
    tokenizer = Tokenizer.from_file(path)
    assert tokenizer.vocab_size == hole + 4
    assert tokenizer.decode([hole, hole + 3]) == "zzzz"
    assert tokenizer.encode("the zzzz").max() < hole
    reference = pytest.importorskip("tokenizers").Tokenizer.from_file(str(path))
    assert reference.encode("the zzzz").ids == tokenizer.encode("the zzzz").tolist()


def test_whole_texts_are_not_looked_up_without_a_pre_tokenizer(
    corpus: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    train(corpus, vocab_size=700, byte_fallback=True, quiet=True).save(path)
    file = json.loads(path.read_text())
    assert file["pre_tokenizer"] is None
    file["model"]["ignore_merges"] = True
    path.write_text(json.dumps(file))
    with pytest.raises(TokenizerError, match=r"model\.ignore_merges: true"):
        Tokenizer.from_file(path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "tokenizer_config.json: EOF"),
        ("[]", "tokenizer_config.json: is no object"),
        ('{"added_tokens_decoder": 3}', "added_tokens_decoder: is no object"),
        ('{"added_tokens_decoder": {"x": {"content": "<a>"}}}', "added_tokens_decoder.x: not an id"),
        ('{"added_tokens_decoder": {"5": {}}}', "added_tokens_decoder.5: missing field `content`"),
        ('{"added_tokens_decoder": {"5": {"content": ""}}}', "added_tokens_decoder: id 5 has no name"),
        ('{"added_tokens_decoder": {"5": {"content": "<a>"}, "6": {"content": "<a>"}}}', "listed twice"),
        ('{"added_tokens_decoder": {"99999": {"content": "<a>"}}}', "id 99999 is outside the vocabulary"),
    ],
)  # fmt: skip
def test_a_contradictory_configuration(
    config: str, words: str, small: Tokenizer, tmp_path: Path
) -> None:
    small.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(TokenizerError, match=words):
        Tokenizer.from_file(tmp_path)


def rank(token: bytes, number: int | str) -> bytes:
    return base64.b64encode(token) + f" {number}\n".encode()


BYTES = [rank(bytes([byte]), byte) for byte in range(256)]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "no line with a token"),
        (BYTES[:200], "no token for byte 0xC8"),
        ([*BYTES, rank(b"th", 256), rank(b"he", 256)], "rank 256: given to two tokens"),
        ([*BYTES, rank(b"th", 256), rank(b"th", 257)], "line 258: token listed twice"),
        ([*BYTES, rank(b"th", -1)], "line 257: expected 'base64 rank'"),
        ([*BYTES, rank(b"th", "x")], "line 257: expected 'base64 rank'"),
        ([*BYTES, rank(b"th", 1_000_000)], "ranks up to 1000000 leave holes"),
        ([*BYTES, rank(b"th", 256)[:3]], "line 257: expected 'base64 rank'"),
    ],
)
def test_rank_files(lines: list[bytes], words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tiktoken"
    path.write_bytes(b"".join(lines))
    with pytest.raises(TokenizerError, match=words):
        Tokenizer.from_file(path, pattern="gpt2")


def test_a_published_name_promises_the_published_file(test_data: Path, tmp_path: Path) -> None:
    for name in ("cl100k_base.tiktoken", "o200k_base.tiktoken"):
        whole = (test_data / "tokenizers" / name).read_bytes()
        path = tmp_path / name
        path.write_bytes(whole)
        size = Tokenizer.from_file(path).vocab_size
        # Without its last line nothing contradicts itself.
        path.write_bytes(whole[: whole.rstrip().rfind(b"\n") + 1])
        with pytest.raises(TokenizerError, match=r"SHA-256 is [0-9a-f]{64}, that of the published"):
            Tokenizer.from_file(path)
        pattern = name.removesuffix("_base.tiktoken")
        assert Tokenizer.from_file(path, pattern=pattern).vocab_size == size


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_an_empty_corpus(texts: list[str], byte_fallback: bool) -> None:
    for given in (texts, iter(texts)):
        with pytest.raises(TokenizerError, match="no text to train on"):
            train(given, vocab_size=700, byte_fallback=byte_fallback, quiet=True)


def test_bytes_that_are_no_text_become_the_replacement(small: Tokenizer) -> None:
    """As Python does: one U+FFFD for each longest part that starts a character."""
    ids = {byte: small.token_to_id(bytes([byte])) for byte in range(256)}
    for wrong in (
        b"\xe6", b"\xe6\xbd", b"a\xff\xfeb", b"\xc3(", b"\xf0\x9f\x99", b"\xed\xa0\x80", b"\xf0\x80\x80\x80",
        b"\xe6\xbd\xae\xe6\xbdx", b"\x80\x80", b"\xf5", bytes(range(256)),
    ):  # fmt: skip
        tokens = [ids[byte] for byte in wrong]
        assert small.decode_bytes(tokens) == wrong
        assert small.decode(tokens) == wrong.decode(errors="replace")
        stream = small.stream()
        assert "".join(map(stream.push, tokens)) + stream.flush() == small.decode(tokens)
