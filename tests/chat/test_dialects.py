"""Every dialect byte by byte: the same conversation in three written forms."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest
from internlm_core import chat
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from internlm_core.tokenizer import Tokenizer

TOOLS = [
    {
        "type": "function",
        "function": {"name": "f", "description": "天气", "parameters": {"type": "object"}},
    }
]
MESSAGES = [
    {"role": "system", "content": "S"},
    {"role": "system", "name": "interpreter", "content": "I"},
    {"role": "user", "content": "U"},
    {"role": "user", "name": "file", "content": '[{"path": "a.csv"}]'},
    {
        "role": "assistant",
        "content": "T",
        "calls": [{"kind": "plugin", "body": {"name": "f", "parameters": {"城": "上海"}}}],
    },
    {"role": "environment", "name": "plugin", "content": '{"temperature": 22}'},
    {
        "role": "assistant",
        "content": "R",
        "calls": [{"kind": "interpreter", "body": "```python\n1\n```"}],
    },
    {"role": "environment", "name": "interpreter", "content": "1"},
    {"role": "assistant", "content": "A"},
]
LISTED = """[
    {
        "name": "f",
        "description": "天气",
        "parameters": {
            "type": "object"
        }
    }
]"""
HEAD = "<s><|im_start|>system\nS<|im_end|>\n"
CODE_SYSTEM = "<|im_start|>system name=<|interpreter|>\nI<|im_end|>\n"
USER = (
    "<|im_start|>user\nU<|im_end|>\n"
    '<|im_start|>user name=file\n[{"path": "a.csv"}]<|im_end|>\n'
    "<|im_start|>assistant\nT<|action_start|><|plugin|>\n"
)
RESULT = '<|im_start|>environment name=<|plugin|>\n{"temperature": 22}<|im_end|>\n'
CODE = "<|im_start|>assistant\nR<|action_start|><|interpreter|>\n```python\n1\n```<|action_end|>"
TAIL = (
    "<|im_start|>environment name=<|interpreter|>\n1<|im_end|>\n"
    "<|im_start|>assistant\nA<|im_end|>\n"
)
BYTES = {
    # The list ends in a newline; one stands after code, none after a plugin's JSON.
    "internlm2": (
        f"{HEAD}{CODE_SYSTEM}<|im_start|>system name=<|plugin|>\n{LISTED}\n<|im_end|>\n{USER}"
        '{"name": "f", "parameters": {"城": "上海"}}<|action_end|><|im_end|>\n'
        f"{RESULT}{CODE}\n<|im_end|>\n{TAIL}"
    ),
    # A newline after every action; calls in ASCII; the list stands in a sentence.
    "lagent": (
        f"{HEAD}{CODE_SYSTEM}<|im_start|>system name=<|plugin|>\n可供调用的工具如下：\n{LISTED}\n"
        f"信息足够时直接作答，不做多余的调用；只用列出的工具。<|im_end|>\n{USER}"
        '{"name": "f", "parameters": {"\\u57ce": "\\u4e0a\\u6d77"}}<|action_end|>\n<|im_end|>\n'
        f"{RESULT}{CODE}\n<|im_end|>\n{TAIL}"
    ),
    # One line of JSON after the first system turn; nothing after an action.
    "lmdeploy": (
        f"{HEAD}<|im_start|>system name=<|plugin|>\n"
        '[{"name": "f", "description": "天气", "parameters": {"type": "object"}}]<|im_end|>\n'
        f"{CODE_SYSTEM}{USER}"
        '{"name": "f", "parameters": {"城": "上海"}}<|action_end|><|im_end|>\n'
        f"{RESULT}{CODE}<|im_end|>\n{TAIL}"
    ),
}


def written(segments: list[chat.Segment]) -> str:
    return b"".join(segment.bytes for segment in segments).decode()


@pytest.mark.parametrize("dialect", chat.DIALECTS)
def test_bytes(dialect: str) -> None:
    assert written(chat.render(MESSAGES, TOOLS, dialect=dialect)) == BYTES[dialect]


@pytest.mark.parametrize("dialect", chat.DIALECTS)
def test_ids_decode_to_the_same_bytes(dialect: str, small_tokenizer: Tokenizer) -> None:
    segments = chat.render(MESSAGES, TOOLS, small_tokenizer, dialect=dialect)
    assert small_tokenizer.decode(chat.flatten(segments)[0]) == BYTES[dialect]


def test_every_dialect_supervises_each_turn_to_its_end() -> None:
    for dialect in chat.DIALECTS:
        segments = chat.render(MESSAGES, TOOLS, dialect=dialect)
        ends = [s for s in segments if s.supervised and s.bytes == b"<|im_end|>"]
        assert [end.turn for end in ends] == [4, 6, 8]
        learnt = b"".join(s.bytes for s in segments if s.supervised).decode()
        assert "22" not in learnt
        assert "U" not in learnt


def test_a_generation_prompt_goes_on_with_an_answer_where_the_dialect_does() -> None:
    messages = [{"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}]
    ends = {
        name: written(chat.render(messages, dialect=name, add_generation_prompt=True))
        for name in chat.DIALECTS
    }
    assert ends["lmdeploy"].endswith("<|im_start|>assistant\nA")
    for name in ("internlm2", "lagent"):
        assert ends[name].endswith("A<|im_end|>\n<|im_start|>assistant\n")


def test_your_own_words_around_the_tools() -> None:
    own = replace(chat.DIALECTS["lagent"], name="mine", tools_text="Use {tools} only {when} needed")
    text = written(chat.render([], TOOLS, dialect=own))
    assert f"Use {LISTED} only {{when}} needed<|im_end|>" in text


def test_fingerprints_tell_dialects_apart(small_tokenizer: Tokenizer) -> None:
    prints = {chat.fingerprint(small_tokenizer, dialect=name) for name in chat.DIALECTS}
    assert len(prints) == len(chat.DIALECTS)


CHANGES: dict[str, Any] = {
    "after_plugin": " ", "after_interpreter": " ", "tools_text": "x{tools}", "tools_indent": 2,
    "tools_after": "first system", "ascii_calls": True, "rewrites_calls": True,
    "named_results": False, "continues": True,
}  # fmt: skip


def test_fingerprints_tell_every_change_of_a_dialect(small_tokenizer: Tokenizer) -> None:
    ours = chat.DIALECTS["internlm2"]
    assert set(CHANGES) == {field.name for field in fields(ours)} - {"name"}
    prints = [
        chat.fingerprint(small_tokenizer, dialect=replace(ours, **{field: value}))
        for field, value in CHANGES.items()
    ]
    assert len({chat.fingerprint(small_tokenizer), *prints}) == len(CHANGES) + 1
    # A name alone changes no byte.
    named = chat.fingerprint(small_tokenizer, dialect=replace(ours, name="mine"))
    assert named == chat.fingerprint(small_tokenizer)


def test_unknown_dialects_and_tools_are_named() -> None:
    with pytest.raises(DataError, match="unknown dialect 'qwen': expected one of 'internlm2'"):
        chat.render([], dialect="qwen")
    with pytest.raises(DataError, match="tool 1: expected an object with a name"):
        chat.render([], [TOOLS[0], {"type": "function"}])


WRAPPED: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "f", "arguments": '{"城":  "上海"}'},
}
RUN: dict[str, Any] = {
    "id": "call_2",
    "type": "function",
    "function": {"name": "code_interpreter", "arguments": '{"code": "print(1)"}'},
}
OPENAI = [
    {
        "role": "developer",
        "content": [{"type": "text", "text": "S"}, {"type": "text", "text": "T"}],
    },
    {"role": "user", "content": "U"},
    {"role": "assistant", "content": None, "tool_calls": [WRAPPED]},
    {"role": "tool", "tool_call_id": "call_1", "content": "22"},
    {"role": "assistant", "content": "R", "tool_calls": [RUN]},
    {"role": "tool", "tool_call_id": "call_2", "content": "1"},
]


def test_openai_messages() -> None:
    text = written(chat.render(chat.from_openai(OPENAI)))
    assert text == (
        "<s><|im_start|>system\nST<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
        "<|im_start|>assistant\n<|action_start|><|plugin|>\n"
        '{"name": "f", "parameters": {"城":  "上海"}}<|action_end|><|im_end|>\n'
        "<|im_start|>environment name=<|plugin|>\n22<|im_end|>\n"
        "<|im_start|>assistant\nR<|action_start|><|interpreter|>\n```python\nprint(1)\n```"
        "<|action_end|>\n<|im_end|>\n<|im_start|>environment name=<|interpreter|>\n1<|im_end|>\n"
    )
    # What the caller gave is as it was.
    assert WRAPPED["function"] == {"name": "f", "arguments": '{"城":  "上海"}'}


def test_lmdeploys_results_have_no_name_and_arguments_are_written_anew() -> None:
    text = written(chat.render(chat.from_openai(OPENAI, "lmdeploy"), dialect="lmdeploy"))
    assert '"parameters": {"城": "上海"}}<|action_end|><|im_end|>\n' in text
    assert "<|im_start|>environment\n22<|im_end|>\n" in text


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "critic", "content": "x"}, "message 0: role 'critic'"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "'image_url' is no text"),
        ({"role": "user", "content": 3}, "content must be a string"),
        ("x", "expected an object, found str"),
        ({"role": ["user"], "content": "x"}, r"role \['user'\] is no text"),
        ({"role": "assistant", "tool_calls": 5}, "tool_calls must be a list, not int"),
        ({"role": "function", "name": "f", "content": "x"}, "functions have become tools"),
        (
            {
                "role": "assistant",
                "tool_calls": [{"function": {"name": "f", "arguments": '{"x": NaN}'}}],
            },
            "NaN is not JSON",
        ),
        ({"role": "assistant", "tool_calls": [{}]}, "needs a function with a name"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "the arguments of 'f' are not JSON",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]},
            "must be a JSON object",
        ),
    ],
)
def test_bad_openai_messages_are_named(message: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        chat.from_openai([message])
