r"""One renderer for training and serving: messages → segments, each with its ids and its role.

Text is encoded segment by segment, so no token ever spans a control token, and the ids of a
conversation are the same whether it is trained on or served. Layout (InternLM/chat/chat_format.md):

    <s><|im_start|>{role}[ name={name}]\n{content}<|im_end|>\n …

An assistant turn with a call ends `<|action_start|>{plugin or interpreter}\n{body}<|action_end|>`.
What differs between written forms is in `dialects`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from internlm_core.chat.control import INTERNLM2, ControlIds
from internlm_core.chat.dialects import Dialect, dialect_of
from internlm_core.chat.openai import from_openai, is_openai
from internlm_core.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from internlm_core.tokenizer import Tokenizer

__all__ = ["Message", "Segment", "fingerprint", "flatten", "render", "stop_ids"]

Message = Mapping[str, Any]

_ROLES = ("system", "user", "assistant", "environment")
_KINDS = ("plugin", "interpreter")
# Turns whose name may be a control token; a user's name is text, whatever it spells.
_NAMED = ("system", "environment")
_FIELDS = {"role", "content", "name", "calls"}


@dataclass(frozen=True)
class Segment:
    """A run of ids with one origin.

    Attributes:
        ids: Token ids, uint32 `[n]`; empty when no tokenizer was given and the segment is text.
        bytes: The UTF-8 bytes that the ids stand for.
        role: `system`, `user`, `assistant`, `environment`, or `control` for the leading `<s>`.
        turn: Number of the message, from 0; -1 for the leading `<s>` and the list of tools.
        supervised: Whether training learns to write it: what an assistant says, its calls, and the
            token that ends its turn.
    """

    ids: npt.NDArray[np.uint32]
    bytes: bytes
    role: str
    turn: int
    supervised: bool


@dataclass
class _Writer:
    control: ControlIds
    tokenizer: Tokenizer | None
    dialect: Dialect
    segments: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._written = self.control.names()

    def text(self, text: str, role: str, turn: int, *, supervised: bool = False) -> None:
        if not text:
            return
        if not text.isascii():
            # As the tokenizer does: half a surrogate pair, which no UTF-8 holds, becomes U+FFFD.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if self.tokenizer is None:
            ids = np.zeros(0, np.uint32)
        else:
            ids = self.tokenizer.encode_ordinary(text)
        self._add(ids, text.encode(), role, turn, supervised)

    def token(self, token: int, role: str, turn: int, *, supervised: bool = False) -> None:
        ids = np.array([token], np.uint32)
        self._add(ids, self._written[token].encode(), role, turn, supervised)

    def _add(
        self, ids: npt.NDArray[np.uint32], text: bytes, role: str, turn: int, supervised: bool
    ) -> None:
        self.segments.append(Segment(ids, text, role, turn, supervised))


def render(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    dialect: str | Dialect = "internlm2",
    add_generation_prompt: bool = False,
) -> list[Segment]:
    """Render a conversation.

    Args:
        messages: Each `{"role", "content"}`, optionally `"name"` (written after the role: `file`,
            or for system and environment `plugin` and `interpreter`, which become their control
            tokens) and, for assistants,
            `"calls"`: a list of `{"kind": "plugin" | "interpreter", "body": str | dict}`. OpenAI's
            form (`tool_calls`, role `tool`, text parts) is read as `from_openai` does.
        tools: Tool descriptions (`name`, `description`, `parameters`, bare or wrapped as OpenAI's
            `{"type": "function", "function": …}`), written as one JSON list in a system turn named
            plugin.
        tokenizer: Encodes the text and names the control ids; without it the published InternLM2
            control ids are used and text segments carry bytes only.
        dialect: The written form: `internlm2`, `lagent`, `lmdeploy`, or a `Dialect` of your own.
        add_generation_prompt: End with the header of an assistant's turn, for generation.

    Raises:
        DataError: A message with an unknown role, field or kind of call (the message is numbered),
            a tool without a name, or an unknown dialect.
    """
    dialect = dialect_of(dialect)
    control = INTERNLM2 if tokenizer is None else ControlIds.of(tokenizer)
    if any(is_openai(message) for message in messages):
        messages = from_openai(messages, dialect)
    writer = _Writer(control, tokenizer, dialect)
    writer.token(control.bos, "control", -1)
    for turn, message in enumerate(messages):
        _check(message, turn)
    goes_on = (
        add_generation_prompt
        and dialect.continues
        and len(messages) > 0
        and messages[-1]["role"] == "assistant"
    )
    for turn, message in _with_tools(messages, tools, dialect):
        _turn(writer, message, turn, ends=not (goes_on and turn == len(messages) - 1))
    if add_generation_prompt and not goes_on:
        turn = len(messages)
        writer.token(control.im_start, "assistant", turn)
        writer.text("assistant\n", "assistant", turn)
    return writer.segments


def stop_ids(control: ControlIds = INTERNLM2) -> tuple[int, ...]:
    """Ids that end an assistant's turn: `</s>`, `<|im_end|>` and `<|action_end|>`."""
    return (control.eos, control.im_end, control.action_end)


def flatten(
    segments: Sequence[Segment],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """The ids of all segments in a row, uint32 `[n]`, and 1 where they are supervised, uint8 `[n]`.

    Raises:
        DataError: A text segment was rendered without a tokenizer.
    """
    if any(segment.bytes and not len(segment.ids) for segment in segments):
        raise DataError("the segments carry no ids: render them with a tokenizer")
    ids = np.concatenate([np.zeros(0, np.uint32), *(segment.ids for segment in segments)])
    flags = [np.full(len(segment.ids), segment.supervised, np.uint8) for segment in segments]
    return ids, np.concatenate([np.zeros(0, np.uint8), *flags])


# One of everything the format has, so that any change of layout, ids or masks changes the hash; in
# OpenAI's form too, since dialects read it differently.
_SAMPLE: tuple[Message, ...] = (
    {"role": "system", "content": "s"},
    {"role": "system", "name": "interpreter", "content": "i"},
    {"role": "user", "name": "file", "content": " a\nb "},
    {
        "role": "assistant",
        "content": "t",
        "calls": [
            {"kind": "plugin", "body": {"name": "f", "parameters": {"x": "潮"}}},
            {"kind": "interpreter", "body": "```python\n1\n```"},
        ],
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x":  1}'}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "r"},
    {"role": "environment", "name": "plugin", "content": "<|im_end|>"},
    {"role": "assistant", "content": "u"},
)


def fingerprint(tokenizer: Tokenizer | None = None, *, dialect: str | Dialect = "internlm2") -> str:
    """Hash of how conversations are rendered: ids, bytes and masks of a fixed one.

    Stored beside a tuned model, so that a server with another rendering can tell.
    """
    digest = hashlib.sha256()
    tools = [{"name": "f", "description": "d", "parameters": {}}]
    segments = render(_SAMPLE, tools, tokenizer, dialect=dialect, add_generation_prompt=True)
    for segment in segments:
        digest.update(np.asarray(segment.ids, "<u4").tobytes())
        digest.update(b"|%b|%d|" % (segment.bytes, segment.supervised))
    return digest.hexdigest()


def _with_tools(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, dialect: Dialect
) -> list[tuple[int, Message]]:
    numbered = list(enumerate(messages))
    if not tools:
        return numbered
    leading = 0
    most = len(messages) if dialect.tools_after == "systems" else min(1, len(messages))
    while leading < most and messages[leading]["role"] == "system":
        leading += 1
    described = {"role": "system", "name": "plugin", "content": dialect.listing(tools)}
    return [*numbered[:leading], (-1, described), *numbered[leading:]]


def _check(message: Message, turn: int) -> None:
    where = f"message {turn}"
    if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
        role = message.get("role") if isinstance(message, Mapping) else message
        raise DataError(f"{where}: role {role!r} is not one of {', '.join(_ROLES)}")
    unknown = set(message) - _FIELDS
    if unknown:
        raise DataError(f"{where}: unknown field {', '.join(sorted(unknown))}")
    if not isinstance(message.get("content", ""), (str, type(None))):
        raise DataError(f"{where}: content must be a string")
    name = message.get("name")
    if name is not None and (not isinstance(name, str) or "\n" in name):
        raise DataError(f"{where}: name must be a string of one line")
    calls = message.get("calls") or ()
    if not isinstance(calls, (list, tuple)):
        raise DataError(f"{where}: calls must be a list, not {type(calls).__name__}")
    if calls and message["role"] != "assistant":
        raise DataError(f"{where}: only an assistant makes calls, not {message['role']}")
    for call in calls:
        kind = call.get("kind") if isinstance(call, Mapping) else call
        if kind not in _KINDS:
            raise DataError(f"{where}: call kind {kind!r} is not plugin or interpreter")
        if not isinstance(call, Mapping) or "body" not in call:
            raise DataError(f"{where}: a call needs a body: the text of its JSON or code")


def _turn(writer: _Writer, message: Message, turn: int, *, ends: bool = True) -> None:
    control, role = writer.control, message["role"]
    says = role == "assistant"
    writer.token(control.im_start, role, turn)
    name = message.get("name")
    kind = name.removeprefix("<|").removesuffix("|>") if name else None
    if kind in _KINDS and role in _NAMED:
        writer.text(f"{role} name=", role, turn)
        writer.token(getattr(control, kind), role, turn)
        writer.text("\n", role, turn)
    else:
        writer.text(f"{role} name={name}\n" if name else f"{role}\n", role, turn)
    writer.text(message.get("content") or "", role, turn, supervised=says)
    for call in message.get("calls") or ():
        kind = call["kind"]
        writer.token(control.action_start, role, turn, supervised=True)
        writer.token(getattr(control, kind), role, turn, supervised=True)
        try:
            body = writer.dialect.body(call["body"])
        except DataError as error:
            raise DataError(f"message {turn}: {error}") from None
        writer.text(f"\n{body}", role, turn, supervised=True)
        writer.token(control.action_end, role, turn, supervised=True)
        after = getattr(writer.dialect, f"after_{kind}")
        writer.text(after, role, turn, supervised=True)
    if ends:
        writer.token(control.im_end, role, turn, supervised=says)
        writer.text("\n", role, turn)
