r"""One renderer for training and serving: messages → segments, each with its ids and its role.

Text is encoded segment by segment, so no token ever spans a control token, and the ids of a
conversation are the same whether it is trained on or served. Layout (InternLM/chat/chat_format.md):

    <s><|im_start|>{role}[ name={name}]\n{content}<|im_end|>\n …

An assistant turn with a call ends `<|action_start|>{plugin or interpreter}\n{body}<|action_end|>`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from internlm_core.chat.control import INTERNLM2, ControlIds
from internlm_core.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from internlm_core.tokenizer import Tokenizer

__all__ = ["Message", "Segment", "render", "stop_ids"]

Message = Mapping[str, Any]

_ROLES = ("system", "user", "assistant", "environment")
_KINDS = ("plugin", "interpreter")
_FIELDS = {"role", "content", "name", "calls"}


@dataclass(frozen=True)
class Segment:
    """A run of ids with one origin.

    Attributes:
        ids: Token ids, uint32 `[n]`; empty when no tokenizer was given and the segment is text.
        bytes: The UTF-8 bytes that the ids stand for.
        role: `system`, `user`, `assistant`, `environment`, or `control` for the leading `<s>`.
        turn: Number of the message, from 0; -1 for the leading `<s>`.
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
    segments: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._written = self.control.names()

    def text(self, text: str, role: str, turn: int, *, supervised: bool = False) -> None:
        if not text:
            return
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
    dialect: Literal["internlm2"] = "internlm2",
    add_generation_prompt: bool = False,
) -> list[Segment]:
    """Render a conversation.

    Args:
        messages: Each `{"role", "content"}`, optionally `"name"` (written after the role: `file`,
            or `plugin` and `interpreter`, which become their control tokens) and, for assistants,
            `"calls"`: a list of `{"kind": "plugin" | "interpreter", "body": str | dict}`.
        tools: Tool descriptions (`name`, `description`, `parameters`), written as one JSON list in
            a system turn named plugin, after the leading system turns.
        tokenizer: Encodes the text and names the control ids; without it the published InternLM2
            control ids are used and text segments carry bytes only.
        dialect: The written form; one is known so far.
        add_generation_prompt: End with the header of an assistant's turn, for generation.

    Raises:
        DataError: A message with an unknown role, field or kind of call; the message is numbered.
    """
    if dialect != "internlm2":
        raise DataError(f"unknown dialect {dialect!r}: expected 'internlm2'")
    control = INTERNLM2 if tokenizer is None else ControlIds.of(tokenizer)
    writer = _Writer(control, tokenizer)
    writer.token(control.bos, "control", -1)
    for turn, message in enumerate(_with_tools(messages, tools)):
        _check(message, turn)
        _turn(writer, message, turn)
    if add_generation_prompt:
        turn = len(messages) + bool(tools)
        writer.token(control.im_start, "assistant", turn)
        writer.text("assistant\n", "assistant", turn)
    return writer.segments


def stop_ids(control: ControlIds = INTERNLM2) -> tuple[int, ...]:
    """Ids that end an assistant's turn: `</s>`, `<|im_end|>` and `<|action_end|>`."""
    return (control.eos, control.im_end, control.action_end)


def _with_tools(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None
) -> list[Message]:
    messages = list(messages)
    if not tools:
        return messages
    leading = 0
    while leading < len(messages) and messages[leading].get("role") == "system":
        leading += 1
    listing = json.dumps(list(tools), ensure_ascii=False, indent=2)
    return [
        *messages[:leading],
        {"role": "system", "name": "plugin", "content": listing},
        *messages[leading:],
    ]


def _check(message: Message, turn: int) -> None:
    where = f"message {turn}"
    if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
        role = message.get("role") if isinstance(message, Mapping) else message
        raise DataError(f"{where}: role {role!r} is not one of {', '.join(_ROLES)}")
    unknown = set(message) - _FIELDS
    if unknown:
        raise DataError(f"{where}: unknown field {', '.join(sorted(unknown))}")
    if not isinstance(message.get("content", ""), str):
        raise DataError(f"{where}: content must be a string")
    if message.get("calls") and message["role"] != "assistant":
        raise DataError(f"{where}: only an assistant makes calls, not {message['role']}")
    for call in message.get("calls") or ():
        if call.get("kind") not in _KINDS:
            raise DataError(f"{where}: call kind {call.get('kind')!r} is not plugin or interpreter")


def _turn(writer: _Writer, message: Message, turn: int) -> None:
    control, role = writer.control, message["role"]
    says = role == "assistant"
    writer.token(control.im_start, role, turn)
    name = message.get("name")
    if name in _KINDS:
        writer.text(f"{role} name=", role, turn)
        writer.token(getattr(control, name), role, turn)
        writer.text("\n", role, turn)
    else:
        writer.text(f"{role} name={name}\n" if name else f"{role}\n", role, turn)
    writer.text(message.get("content", ""), role, turn, supervised=says)
    for call in message.get("calls") or ():
        body = call["body"]
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        writer.token(control.action_start, role, turn, supervised=True)
        writer.token(getattr(control, call["kind"]), role, turn, supervised=True)
        writer.text(f"\n{text}", role, turn, supervised=True)
        writer.token(control.action_end, role, turn, supervised=True)
    writer.token(control.im_end, role, turn, supervised=says)
    writer.text("\n", role, turn)
