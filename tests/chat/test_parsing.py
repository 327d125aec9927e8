"""Replies id by id: every cutting of the stream, and every spelling of the text, gives the whole."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from internlm_core import chat
from internlm_core.chat import Call, CallWarning, ReplyParser, TextDelta
from internlm_core.chat.calls import read_calls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from internlm_core.tokenizer import Tokenizer

ARGUMENTS = '{"city":  "T}ok\\"yo<|action_end|>", "deep": {"a": [1, {"b": "你好🙂"}]}}'
PLUGIN = '<|action_start|><|plugin|>\n{"name": "f", "parameters": %s}<|action_end|>'
CODE = "<|action_start|><|interpreter|>\n```python\nprint('潮')\n```<|action_end|>"


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a reply; control tokens only where they are not inside quotes."""
    control = {n: i for n, i in tokenizer.special_tokens.items() if n.startswith(("<|", "</s"))}
    ids: list[int] = []
    for part in chat_parts(text, control):
        ids += [control[part]] if part in control else tokenizer.encode_ordinary(part).tolist()
    return ids


def chat_parts(text: str, control: Iterable[str]) -> list[str]:
    parts, rest, quoted = [""], text, False
    while rest:
        name = next((n for n in control if not quoted and rest.startswith(n)), None)
        if name is not None:
            parts += [name, ""]
            rest = rest[len(name) :]
            continue
        if rest[0] == '"' and not parts[-1].endswith("\\"):
            quoted = not quoted
        parts[-1] += rest[0]
        rest = rest[1:]
    return [part for part in parts if part]


def read(tokenizer: Tokenizer, pieces: Iterable[Iterable[int]], **options: Any) -> chat.Reply:
    """Parse piece by piece; what was given out bit by bit must be the reply itself."""
    parser = ReplyParser(tokenizer, **options)
    found = [event for piece in pieces for event in parser.push(piece)]
    found += parser.finish()
    texts = [event.text for event in found if isinstance(event, TextDelta)]
    assert all(texts)
    assert "".join(texts) == parser.reply.content
    assert [event for event in found if isinstance(event, Call)] == parser.reply.calls
    assert [e for e in found if isinstance(e, CallWarning)] == parser.reply.warnings
    return parser.reply


REPLY = "Sure. 好" + PLUGIN % ARGUMENTS + "\n" + CODE + "\n<|im_end|>"


def test_text_plugin_and_code(small_tokenizer: Tokenizer) -> None:
    reply = read(small_tokenizer, [ids_of(small_tokenizer, REPLY)], tools=["f"])
    assert reply.content == "Sure. 好"
    assert reply.calls == [
        Call("plugin", "f", ARGUMENTS),
        Call("interpreter", "interpreter", "```python\nprint('潮')\n```"),
    ]
    assert json.loads(reply.calls[0].arguments)["deep"]["a"][1]["b"] == "你好🙂"
    assert chat.code_of(reply.calls[1].arguments) == "print('潮')"
    assert reply.ended
    assert not reply.warnings


def test_every_cut_in_two_and_three_gives_the_whole(small_tokenizer: Tokenizer) -> None:
    ids = ids_of(small_tokenizer, REPLY)
    whole = read(small_tokenizer, [ids])
    assert read(small_tokenizer, [[i] for i in ids]) == whole
    for first, second in itertools.combinations_with_replacement(range(0, len(ids) + 1, 3), 2):
        assert read(small_tokenizer, [ids[:first], ids[first:second], ids[second:]]) == whole


BLOCKS = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            [
                "<|action_start|>", "<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|im_end|>",
                "<|im_start|>", '\n{"name": "f", "parameters": {"x": "}"}}', "\n", " ",
                PLUGIN % ARGUMENTS, CODE, '[{"name": "f"}, {"name": "g", "arguments": {"y": [{}]}}]',
                "<|action_start|><|plugin|>", '{"name":', "你好", "🙂",
            ]
        ),
    ),
    max_size=9,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(blocks=BLOCKS, data=st.data())
def test_any_cutting_of_any_stream(
    small_tokenizer: Tokenizer, blocks: list[str], data: st.DataObject
) -> None:
    ids = ids_of(small_tokenizer, "".join(blocks))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=12)))
    edges = [0, *cuts, len(ids)]
    pieces = [ids[a:b] for a, b in itertools.pairwise(edges)]
    whole = read(small_tokenizer, [ids])
    assert read(small_tokenizer, pieces) == whole
    # The same text in other tokens: a byte at a time.
    special = set(small_tokenizer.special_tokens.values())
    single = {small_tokenizer.id_to_bytes(i): i for i in range(small_tokenizer.vocab_size)}
    spelled: list[int] = []
    for token in ids:
        if token in special:
            spelled.append(token)
            continue
        piece = small_tokenizer.id_to_bytes(token)
        spelled += [single[piece[at : at + 1]] for at in range(len(piece))]
    assert read(small_tokenizer, [[i] for i in spelled]) == whole


def test_the_property_bites(small_tokenizer: Tokenizer) -> None:
    """A parser that looks at each piece by itself, as text, fails it."""

    def naive(pieces: list[list[int]]) -> str:
        texts = (small_tokenizer.decode(np.array(p, np.uint32)) for p in pieces if p)
        return "".join(text.split("<|action_start|><|plugin|>")[0] for text in texts)

    ids = ids_of(small_tokenizer, REPLY)
    cut = ids.index(small_tokenizer.special_tokens["<|plugin|>"])
    assert naive([ids]) != naive([ids[:cut], ids[cut:]])


@pytest.mark.parametrize(
    ("text", "options", "content", "codes"),
    [
        # Cut short, no JSON, a list that is none, no name, arguments that are no object.
        ('a<|action_start|><|plugin|>\n{"name": "f"', {}, 'a\n{"name": "f"', ["unfinished_call"]),
        ("<|action_start|><|plugin|>no<|action_end|>b", {}, "nob", ["malformed_call"]),
        ('<|action_start|><|plugin|>{"x": 1}<|action_end|>', {}, '{"x": 1}', ["malformed_call"]),
        ("<|action_start|><|plugin|>[]<|action_end|>", {}, "[]", ["malformed_call"]),
        (
            '<|action_start|><|plugin|>{"name": "f", "parameters": 3}<|action_end|>',
            {},
            '{"name": "f", "parameters": 3}',
            ["malformed_call"],
        ),
        # A name that was not declared, among declared ones too.
        (
            '<|action_start|><|plugin|>{"name": "rm"}<|action_end|>',
            {"tools": ["f"]},
            '{"name": "rm"}',
            ["undeclared_call"],
        ),
        (CODE, {"interpreter": False}, "\n```python\nprint('潮')\n```", ["undeclared_call"]),
        # A marker twice, a block without a kind, ends without a start.
        (
            "<|action_start|><|plugin|><|action_start|><|plugin|>x<|action_end|>",
            {},
            "x",
            ["unfinished_call", "malformed_call"],
        ),
        ("<|action_start|>x<|action_end|>y", {}, "xy", ["malformed_call"]),
        ("x<|action_end|><|plugin|>y", {}, "xy", []),
        # Nothing after the end counts.
        ("x<|im_end|>y", {}, "x", []),
    ],
)
def test_what_is_no_call_is_text_with_a_warning(
    small_tokenizer: Tokenizer, text: str, options: Any, content: str, codes: list[str]
) -> None:
    reply = read(small_tokenizer, [ids_of(small_tokenizer, text)], **options)
    assert reply.content == content
    assert [warning.code for warning in reply.warnings] == codes
    assert not reply.calls


def test_several_calls_in_one_turn(small_tokenizer: Tokenizer) -> None:
    listed = '<|action_start|><|plugin|>[{"name": "g"}, {"name": "f", "arguments": {"a": 1}}]'
    text = PLUGIN % "{}" + listed + "<|action_end|>" + PLUGIN % '{"b": 2}' + "<|im_end|>"
    reply = read(small_tokenizer, [ids_of(small_tokenizer, text)], tools={"f", "g"})
    assert [(c.name, c.arguments) for c in reply.calls] == [
        ("f", "{}"),
        ("g", "{}"),
        ("f", '{"a": 1}'),
        ("f", '{"b": 2}'),
    ]
    assert reply.content == ""


def test_after_a_call_only_another_may_follow(small_tokenizer: Tokenizer) -> None:
    parser = ReplyParser(small_tokenizer)
    parser.push(ids_of(small_tokenizer, "x"))
    assert not parser.only_calls_may_follow
    parser.push(ids_of(small_tokenizer, PLUGIN % "{}" + "\n"))
    assert parser.only_calls_may_follow
    parser.push(ids_of(small_tokenizer, "<|action_start|>"))
    assert not parser.only_calls_may_follow


def test_a_rendered_turn_reads_back(small_tokenizer: Tokenizer) -> None:
    body = {"name": "f", "parameters": {"x": '"} 你好 <|action_end|>'}}
    for dialect in chat.DIALECTS:
        turn = {"role": "assistant", "content": "T", "calls": [{"kind": "plugin", "body": body}]}
        segments = chat.render([turn], tokenizer=small_tokenizer, dialect=dialect)
        ids = chat.flatten([s for s in segments if s.supervised])[0].tolist()
        reply = read(small_tokenizer, [[i] for i in ids])
        assert reply.content == "T"
        assert json.loads(reply.calls[0].arguments) == body["parameters"]
        assert reply.ended


@pytest.mark.parametrize(
    "body",
    [
        "", "{", '{"name": "f",}', '{"name": "f"} x', '{"name": "f", "name": "g"}', '{"name": NaN}',
        '{"name": "f", "parameters": {"x": NaN}}', '[{"name": "f"}', '[{"name": "f"},]', "null",
        '{"name": "f", "parameters": ' + '{"a":' * 5000 + "1" + "}" * 5001, "{'name': 'f'}",
    ],
)  # fmt: skip
def test_bodies_that_are_no_calls(body: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_calls(body)


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.recursive(st.none() | st.text() | st.floats(allow_nan=False, allow_infinity=False), lambda x: st.lists(x) | st.dictionaries(st.text(), x)), max_size=4))  # fmt: skip
def test_arguments_are_byte_equal(value: dict[str, Any]) -> None:
    for form in ({}, {"ensure_ascii": False}, {"indent": 2}):
        spelled = json.dumps(value, **form)
        assert read_calls(f'{{"id": 7, "parameters": {spelled} , "name": "f"}}') == [("f", spelled)]
