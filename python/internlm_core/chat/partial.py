"""Calls while they are written: names and pieces of arguments out of JSON that isn't complete yet.

Nothing is judged here: whether a block is a call, `calls.read_calls` says at its end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from internlm_core.chat.calls import ARGUMENTS, BLANK

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from internlm_core.chat.parsing import Call

__all__ = ["CallDelta", "CallStart", "PartialCalls", "PartialCode"]

CallT = TypeVar("CallT", bound="Call")


@dataclass(frozen=True)
class CallStart:
    """A call begins.

    Attributes:
        index: Its place among the calls of the turn, from 0.
        kind: `plugin` or `interpreter`.
        name: The plugin's name; `interpreter` for code.
    """

    index: int
    kind: str
    name: str


@dataclass(frozen=True)
class CallDelta:
    """More of a call's arguments, or of its code; all of them join to `Call.arguments`."""

    index: int
    text: str


class PartialCode:
    """A block for the interpreter.

    Args:
        first: Index of the call.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._sent: str | None = None

    @property
    def begun(self) -> int:
        """Calls that were begun so far."""
        return 0 if self._sent is None else 1

    def push(self, text: str) -> list[CallStart | CallDelta]:
        """Take more of the block."""
        found: list[CallStart | CallDelta] = []
        if self._sent is None:
            self._sent = ""
            found.append(CallStart(self._first, "interpreter", "interpreter"))
            # The newline after the opening token is the template's.
            text = text.removeprefix("\n")
        if text:
            self._sent += text
            found.append(CallDelta(self._first, text))
        return found

    def complete(self, calls: Sequence[CallT]) -> list[CallStart | CallDelta | CallT]:
        """The block is good; returns what is missing, and the call."""
        return [*([] if self._sent is not None else self.push("")), *calls]


class PartialCalls:
    """A block for plugins: one call, several in a row, or a list.

    Args:
        first: Index of the block's first call.
        tools: Names that were declared; None admits any.
    """

    def __init__(self, first: int, tools: Collection[str] | None) -> None:
        self._first, self._tools = first, tools
        # What was given out of each call's arguments.
        self._sent: list[str] = []
        self._found: list[CallStart | CallDelta] = []
        self._state = "top"
        self._new_object()

    @property
    def begun(self) -> int:
        """Calls that were begun so far."""
        return len(self._sent)

    def push(self, text: str) -> list[CallStart | CallDelta]:
        """Take more of the block."""
        self._found = []
        for character in text:
            if self._state == "lost":
                break
            getattr(self, f"_at_{self._state}")(character)
        self._give()
        return self._found

    def complete(self, calls: Sequence[CallT]) -> list[CallStart | CallDelta | CallT]:
        """The block is good; returns what is missing of each call, and the calls."""
        found: list[CallStart | CallDelta | CallT] = []
        for number, call in enumerate(calls):
            if number >= len(self._sent):
                self._sent.append("")
                found.append(CallStart(self._first + number, call.kind, call.name))
            rest = call.arguments[len(self._sent[number]) :]
            if rest:
                self._sent[number] += rest
                found.append(CallDelta(self._first + number, rest))
        return [*found, *calls]

    def _new_object(self) -> None:
        self._named = False
        self._key, self._value = "", ""
        # Arguments that came before the name, and whether there were any.
        self._waiting, self._has_arguments = "", False
        self._depth, self._quoted, self._escaped = 0, False, False

    def _give(self) -> None:
        """Give out the arguments that are waiting, if their call is named."""
        if self._named and self._waiting:
            self._sent[-1] += self._waiting
            self._found.append(CallDelta(self._first + len(self._sent) - 1, self._waiting))
            self._waiting = ""

    # ---- one method a state, each taking a character ----

    def _at_top(self, character: str) -> None:
        if character == "{":
            self._new_object()
            self._state = "before_key"
        elif character not in BLANK and character not in "[],":
            self._state = "lost"

    def _at_before_key(self, character: str) -> None:
        if character == '"':
            self._key, self._state = character, "key"
        elif character == "}":
            self._end_object()
        elif character not in BLANK and character != ",":
            self._state = "lost"

    def _at_key(self, character: str) -> None:
        self._key += character
        if self._closes(character):
            self._key = self._read(self._key)
            if self._state != "lost":
                self._state = "colon"

    def _at_colon(self, character: str) -> None:
        if character == ":":
            self._state = "before_value"
        elif character not in BLANK:
            self._state = "lost"

    def _at_before_value(self, character: str) -> None:
        if character in BLANK:
            return
        arguments = self._key in ARGUMENTS
        if arguments and (self._has_arguments or character != "{"):
            self._state = "lost"
            return
        self._has_arguments |= arguments
        self._value, self._depth, self._quoted = "", 0, False
        self._state = "value"
        self._at_value(character)

    def _at_value(self, character: str) -> None:
        nested = self._depth > 0 or self._quoted
        if not nested and self._value and (character in ",}" or character in BLANK):
            # The end of a number or a word.
            self._end_value()
            self._at_before_key(character)
            return
        self._keep(character)
        if self._quoted:
            ends = self._closes(character)
            self._quoted = not ends
        elif character == '"':
            self._quoted, ends = True, False
        elif character in "{[":
            self._depth, ends = self._depth + 1, False
        elif character in "}]":
            self._depth -= 1
            ends = True
        else:
            ends = False
        if ends and self._depth <= 0:
            self._end_value()

    def _keep(self, character: str) -> None:
        if self._key in ARGUMENTS:
            self._waiting += character
        elif self._key == "name":
            self._value += character
        else:
            # Only that there is one.
            self._value = character

    def _end_value(self) -> None:
        self._state = "before_key"
        if self._key != "name":
            return
        name = self._read(self._value) if self._value.startswith('"') else ""
        if self._named or not name or (self._tools is not None and name not in self._tools):
            self._state = "lost"
            return
        self._named = True
        self._found.append(CallStart(self._first + len(self._sent), "plugin", name))
        self._sent.append("")

    def _end_object(self) -> None:
        if not self._named:
            self._state = "lost"
            return
        if not self._has_arguments:
            self._waiting = "{}"
        self._give()
        self._state = "top"

    def _closes(self, character: str) -> bool:
        """Whether a character inside a string ends it."""
        if self._escaped:
            self._escaped = False
            return False
        self._escaped = character == "\\"
        return character == '"'

    def _read(self, quoted: str) -> str:
        try:
            return str(json.loads(quoted))
        except ValueError:
            self._state = "lost"
            return ""
