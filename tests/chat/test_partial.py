"""Calls shown while they are written: the same reply, and the same pieces however the stream is cut."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from internlm_core import chat
from internlm_core.chat import Call, CallDelta, CallStart, CallWarning, ReplyParser, TextDelta

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from internlm_core.tokenizer import Tokenizer

Part = str | tuple[str]
"""Text, or a control token: a 1-tuple of its name."""

START, END = ("<|action_start|>",), ("<|action_end|>",)
PLUGIN, CODE, STOP = ("<|plugin|>",), ("<|interpreter|>",), ("<|im_end|>",)
ARGUMENTS = '{"city":  "T}o\\"k\\\\", "deep": {"a": [1, {"b": "你好🙂]"}]}, "n": -1.5e3}'
CALL = '\n{"name": "f", "parameters": %s}'
REPLY: list[Part] = [
    "Sure. 好", START, PLUGIN, CALL % ARGUMENTS, END, "\n",
    START, CODE, "\n```python\nprint('潮')\n```", END, "\n", STOP,
]  # fmt: skip


def ids_of(tokenizer: Tokenizer, parts: Iterable[Part]) -> list[int]:
    ids: list[int] = []
    for part in parts:
        if isinstance(part, tuple):
            ids.append(tokenizer.special_tokens[part[0]])
        else:
            ids += tokenizer.encode_ordinary(part).tolist()
    return ids


def events_of(
    tokenizer: Tokenizer, pieces: Iterable[Sequence[int]], **options: Any
) -> tuple[list[Any], chat.Reply]:
    """Events with neighbours of a kind joined, and the reply."""
    parser = ReplyParser(tokenizer, partial_calls=True, **options)
    found: list[Any] = []
    for event in [*(e for piece in pieces for e in parser.push(piece)), *parser.finish()]:
        last = found[-1] if found else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            found[-1] = TextDelta(last.text + event.text)
        elif isinstance(event, CallDelta) and isinstance(last, CallDelta):
            assert event.text
            if event.index == last.index:
                found[-1] = CallDelta(last.index, last.text + event.text)
            else:
                found.append(event)
        else:
            found.append(event)
    check(found, parser.reply)
    return found, parser.reply


def check(found: list[Any], reply: chat.Reply) -> None:
    """What was shown piece by piece is what the reply says."""
    begun: list[tuple[CallStart, str]] = []
    closed: list[Call] = []
    for event in found:
        if isinstance(event, CallStart):
            assert event.index == len(begun)
            begun.append((event, ""))
        elif isinstance(event, CallDelta):
            start, text = begun[event.index]
            assert event.index >= len(closed)
            begun[event.index] = (start, text + event.text)
        elif isinstance(event, Call):
            start, text = begun[len(closed)]
            assert (start.kind, start.name, text) == (event.kind, event.name, event.arguments)
            closed.append(event)
        elif isinstance(event, CallWarning) and event.withdrawn:
            assert len(begun) - len(closed) == event.withdrawn
            del begun[-event.withdrawn :]
    assert len(begun) == len(closed)
    assert closed == reply.calls
    assert "".join(e.text for e in found if isinstance(e, TextDelta)) == reply.content


def test_events(small_tokenizer: Tokenizer) -> None:
    found, reply = events_of(small_tokenizer, [[i] for i in ids_of(small_tokenizer, REPLY)])
    code = "```python\nprint('潮')\n```"
    assert found == [
        TextDelta("Sure. 好"),
        CallStart(0, "plugin", "f"),
        CallDelta(0, ARGUMENTS),
        Call("plugin", "f", ARGUMENTS),
        CallStart(1, "interpreter", "interpreter"),
        CallDelta(1, code),
        Call("interpreter", "interpreter", code),
    ]
    assert reply == chat.parse(ids_of(small_tokenizer, REPLY), small_tokenizer)


def test_arguments_come_while_they_are_written(small_tokenizer: Tokenizer) -> None:
    """Not all of them at the end: after half of the tokens, part of them was shown."""
    ids = ids_of(small_tokenizer, REPLY[:4])
    parser = ReplyParser(small_tokenizer, partial_calls=True)
    shown = ["".join(e.text for e in parser.push([i]) if isinstance(e, CallDelta)) for i in ids]
    assert 0 < len("".join(shown[: len(ids) // 2])) < len(ARGUMENTS)
    assert "".join(shown) == ARGUMENTS
    # And by default nothing of a call before it is known to be one.
    parser = ReplyParser(small_tokenizer)
    assert [e for i in ids[8:] for e in parser.push([i]) if not isinstance(e, TextDelta)] == []


def test_all_ways_of_cutting_a_short_reply(small_tokenizer: Tokenizer) -> None:
    parts: list[Part] = ["x", START, PLUGIN, '{"name":"f","parameters":{}}', END, STOP]
    ids = ids_of(small_tokenizer, parts)
    whole = events_of(small_tokenizer, [ids])
    assert len(ids) >= 10
    inner = len(ids) - 1
    step = max(1, 2**inner // 2**11)
    for chosen in range(0, 2**inner, step):
        edges = [0, *(at + 1 for at in range(inner) if chosen >> at & 1), len(ids)]
        pieces = [ids[a:b] for a, b in itertools.pairwise(edges)]
        assert events_of(small_tokenizer, pieces) == whole


PARTS = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from([START, END, PLUGIN, CODE, STOP, ("<|im_start|>",)]),
        st.sampled_from(
            [
                CALL % ARGUMENTS, CALL % "{}", CALL % "3", '{"name": "f"}', '{"parameters": {"x": 1}, "name": "g"}',
                '[{"name": "f"}, {"name": "g", "arguments": {"y": [{}]}}]', '{"name": "rm"}', "{", "}",
                '{"name": "f", "parameters": {"x": "', '"}}', '{"id": 7, "k": [1, {}], "name": "f"}',
                '{"name": "f", "parameters": {"x": ]}}', '{"name": "f", "name": "g"}', "你好", "🙂", "\n",
                '{"name": "f", "parameters": {}, "parameters": {}}', '{"name": "\\ud83d"}', "\\",
            ]
        ),
    ),
    max_size=9,
)  # fmt: skip


@pytest.mark.parametrize("tools", [None, ("f", "g")])
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(parts=PARTS, data=st.data())
def test_any_cutting(
    small_tokenizer: Tokenizer, tools: Any, parts: list[Part], data: st.DataObject
) -> None:
    if data.draw(st.booleans()):
        parts = [START, PLUGIN, *parts]
    ids = ids_of(small_tokenizer, parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=12)))
    pieces = [ids[a:b] for a, b in itertools.pairwise([0, *cuts, len(ids)])]
    whole = events_of(small_tokenizer, [ids], tools=tools)
    assert events_of(small_tokenizer, pieces, tools=tools) == whole
    assert events_of(small_tokenizer, [[i] for i in ids], tools=tools) == whole
    # Showing them early changes nothing about the reply.
    assert whole[1] == chat.parse(ids, small_tokenizer, tools)


def test_the_property_bites(small_tokenizer: Tokenizer) -> None:
    """A parser that starts anew with every piece gives other events."""
    ids = ids_of(small_tokenizer, REPLY)
    cut = ids.index(small_tokenizer.special_tokens["<|plugin|>"]) + 5
    whole = events_of(small_tokenizer, [ids])[0]
    anew = [e for part in (ids[:cut], ids[cut:]) for e in events_of(small_tokenizer, [part])[0]]
    assert anew != whole


@pytest.mark.parametrize(
    ("block", "shown", "withdrawn"),
    [
        # Broken inside the arguments, after they were begun; a second call that is none.
        (CALL % '{"x": ]}', CallStart(0, "plugin", "f"), 1),
        ('{"name": "f"}{"name": "g", "parameters": 3}', CallStart(0, "plugin", "f"), 2),
        # Nothing is shown of what was not declared or does not even begin as a call.
        ('{"name": "rm", "parameters": {}}', None, 0),
        ("no call", None, 0),
        ('{"parameters": {"x": 1}', None, 0),
    ],
)
def test_a_call_that_turns_out_to_be_none(
    small_tokenizer: Tokenizer, block: str, shown: Any, withdrawn: int
) -> None:
    ids = ids_of(small_tokenizer, [START, PLUGIN, block, END])
    found, reply = events_of(small_tokenizer, [ids], tools=["f", "g"])
    assert next((e for e in found if isinstance(e, CallStart)), None) == shown
    [warning] = [e for e in found if isinstance(e, CallWarning)]
    assert warning.withdrawn == withdrawn
    assert (reply.content, reply.calls) == (block, [])


def test_code_that_never_ends_and_code_that_was_not_offered(small_tokenizer: Tokenizer) -> None:
    ids = ids_of(small_tokenizer, [START, CODE, "\nx = 1"])
    found, reply = events_of(small_tokenizer, [ids])
    assert found[:2] == [CallStart(0, "interpreter", "interpreter"), CallDelta(0, "x = 1")]
    assert reply.warnings[0].code == "unfinished_call"
    assert reply.content == "\nx = 1"
    found, _ = events_of(small_tokenizer, [ids, ids_of(small_tokenizer, [END])], interpreter=False)
    assert [type(event) for event in found] == [CallWarning, TextDelta]
    # No code at all is a call, too.
    found, _ = events_of(small_tokenizer, [ids_of(small_tokenizer, [START, CODE, END])])
    assert found == [
        CallStart(0, "interpreter", "interpreter"),
        Call("interpreter", "interpreter", ""),
    ]


def test_ids_without_a_token_are_passed_over(small_tokenizer: Tokenizer) -> None:
    """A model may have more rows than its tokenizer has tokens."""
    ids = ids_of(small_tokenizer, REPLY)
    outside = [small_tokenizer.vocab_size, -1, 2**40]
    mixed = [i for pair in zip(ids, itertools.cycle(outside), strict=False) for i in pair]
    assert events_of(small_tokenizer, [mixed]) == events_of(small_tokenizer, [ids])


def test_a_reply_goes_on_as_a_message(small_tokenizer: Tokenizer) -> None:
    """What the model wrote, parsed and rendered again, is what it wrote."""
    for dialect in chat.DIALECTS:
        after = ["\n"] if dialect == "lagent" else []
        parts: list[Part] = ["T", START, PLUGIN, CALL % ARGUMENTS, END, *after, STOP]
        ids = ids_of(small_tokenizer, parts)
        message = chat.parse(ids, small_tokenizer, ["f"]).message()
        segments = chat.render([message], tokenizer=small_tokenizer, dialect=dialect)
        written = chat.flatten([s for s in segments if s.supervised])[0]
        assert written.tolist() == ids
    assert chat.parse([], small_tokenizer).message() == {"role": "assistant", "content": ""}
