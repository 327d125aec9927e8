"""What a model writes, id by id, to text, plugin calls and code.

A call is given out when it is complete and known to be good, so that a stream never has to take one
back; a block that is no call is given out as text, with a warning. Who would rather see a call while it is
written asks for `partial_calls`. All decisions are by control id: text that spells `<|action_end|>` inside
a JSON string ends nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from internlm_core.chat.calls import read_calls
from internlm_core.chat.control import ControlIds
from internlm_core.chat.partial import CallDelta, CallStart, PartialCalls, PartialCode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import TypeAlias

    from internlm_core.tokenizer import Tokenizer

    Event: TypeAlias = "TextDelta | Call | CallWarning | CallStart | CallDelta"

__all__ = ["Call", "CallWarning", "Reply", "ReplyParser", "TextDelta", "code_of", "parse"]


@dataclass(frozen=True)
class TextDelta:
    """More of the text; never empty, never ends inside a character."""

    text: str


@dataclass(frozen=True)
class Call:
    """One call, complete.

    Attributes:
        kind: `plugin` or `interpreter`.
        name: The plugin's name; `interpreter` for code.
        arguments: A plugin's JSON object exactly as written; the code as written, with its fence.
    """

    kind: str
    name: str
    arguments: str

    @property
    def body(self) -> str:
        """What stands in the block of this call alone: its JSON in the documented form, or the code."""
        if self.kind == "interpreter":
            return self.arguments
        quoted = json.dumps(self.name, ensure_ascii=False)
        return f'{{"name": {quoted}, "parameters": {self.arguments}}}'


@dataclass(frozen=True)
class CallWarning:
    """A block that was given out as text.

    Attributes:
        code: `malformed_call`, `undeclared_call` or `unfinished_call`.
        message: What is wrong with it.
        body: What stood in the block.
        withdrawn: How many calls, the last ones, had been begun in this block and are none.
    """

    code: str
    message: str
    body: str
    withdrawn: int = field(default=0, compare=False)


@dataclass
class Reply:
    """An assistant's turn.

    Attributes:
        content: The text; blocks that are no calls are part of it.
        calls: The calls, in order.
        warnings: One for each block that is no call.
        ended: Whether the token that ends the turn came.
    """

    content: str = ""
    calls: list[Call] = field(default_factory=list)
    warnings: list[CallWarning] = field(default_factory=list)
    ended: bool = False

    def message(self) -> dict[str, Any]:
        """The turn as `render` takes it, to go on from."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.calls:
            message["calls"] = [{"kind": c.kind, "body": c.body} for c in self.calls]
        return message


class ReplyParser:
    """Reads one reply; `push` ids as they come, then `finish`.

    Args:
        tokenizer: Decodes; its control tokens are looked up by name.
        tools: Names of the plugins that may be called; None admits any.
        interpreter: Whether code may be sent to the interpreter.
        partial_calls: Show calls while they are written: `CallStart` once the name is known and was
            declared, `CallDelta` for each piece of the arguments, then the `Call`. Where such a
            block turns out to be no call, its `CallWarning` says how many are withdrawn. The reply
            is the same either way.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tools: Collection[str] | None = None,
        *,
        interpreter: bool = True,
        partial_calls: bool = False,
    ) -> None:
        self._control = ControlIds.of(tokenizer)
        self._ends = (self._control.eos, self._control.im_end)
        self._special = frozenset(tokenizer.special_tokens.values())
        self._tokenizer = tokenizer
        self._tools = tools
        self._interpreter = interpreter
        self._partial_calls = partial_calls
        self._partial: PartialCalls | PartialCode | None = None
        self._stream = tokenizer.stream()
        # None outside a block, "" after its opening token, then the kind of call.
        self._block: str | None = None
        self._body: list[str] = []
        # Blanks after a call: shown only when text follows.
        self._blanks: str | None = None
        self.reply = Reply()

    @property
    def only_calls_may_follow(self) -> bool:
        """Whether a call was the last thing read: a turn ends there, or goes on with another."""
        return self._block is None and self._blanks is not None

    def push(self, ids: Iterable[int]) -> list[Event]:
        """Read more ids; returns what they complete.

        After the turn's end ids are ignored; so are those that the tokenizer has no token for (a model's
        rows of padding).
        """
        found: list[Event] = []
        for token in ids:
            if self.reply.ended:
                break
            if not 0 <= token < self._tokenizer.vocab_size:
                continue
            if token not in self._special:
                self._text(self._stream.push(token), found)
                continue
            self._text(self._stream.flush(), found)
            self._stream = self._tokenizer.stream()
            self._on_control(token, found)
        return found

    def finish(self) -> list[Event]:
        """No more ids come; returns what was held back."""
        found: list[Event] = []
        self._text(self._stream.flush(), found)
        self._stream = self._tokenizer.stream()
        self._give_up(found)
        return found

    def _on_control(self, token: int, found: list[Event]) -> None:
        control = self._control
        if token in self._ends:
            self._give_up(found)
            self.reply.ended = True
        elif token == control.action_start:
            self._give_up(found)
            self._block, self._body = "", []
        elif self._block == "" and token in (control.plugin, control.interpreter):
            self._block = "plugin" if token == control.plugin else "interpreter"
            self._body = []
            self._begin_partial()
        elif token == control.action_end and self._block is not None:
            self._close(found)
        elif self._block:
            # Any other control token inside a block is no part of JSON or code.
            self._in_block(self._tokenizer.id_to_token(token), found)

    def _text(self, text: str, found: list[Event]) -> None:
        if not text:
            return
        if self._block is not None:
            self._in_block(text, found)
            return
        if self._blanks is not None:
            text = self._blanks + text
            if not text.strip():
                self._blanks = text
                return
            self._blanks = None
        self.reply.content += text
        found.append(TextDelta(text))

    def _begin_partial(self) -> None:
        if not self._partial_calls:
            return
        first = len(self.reply.calls)
        if self._block == "plugin":
            self._partial = PartialCalls(first, self._tools)
        elif self._interpreter:
            self._partial = PartialCode(first)

    def _in_block(self, text: str, found: list[Event]) -> None:
        self._body.append(text)
        if self._partial is not None:
            found += self._partial.push(text)

    def _close(self, found: list[Event]) -> None:
        """The block is complete: a call, several, or none."""
        kind, body = self._block, "".join(self._body)
        if kind == "":
            self._refuse("malformed_call", "it says neither plugin nor interpreter", found)
            return
        calls: list[Call]
        if kind == "interpreter":
            if not self._interpreter:
                self._refuse("undeclared_call", "the interpreter was not offered", found)
                return
            calls = [Call("interpreter", "interpreter", body.removeprefix("\n"))]
        else:
            try:
                calls = [Call("plugin", *pair) for pair in read_calls(body)]
            except ValueError as error:
                self._refuse("malformed_call", f"not a call in JSON: {error}", found)
                return
            names = () if self._tools is None else self._tools
            strange = [c.name for c in calls if self._tools is not None and c.name not in names]
            if strange:
                listed = ", ".join(map(repr, strange))
                self._refuse("undeclared_call", f"no tool is named {listed}", found)
                return
        if self._partial is None:
            found += calls
        else:
            found += self._partial.complete(calls)
        self._block, self._body, self._blanks, self._partial = None, [], "", None
        self.reply.calls += calls

    def _give_up(self, found: list[Event]) -> None:
        """The turn or the stream ends, or another block begins, before this one was closed."""
        if self._block is not None:
            self._refuse("unfinished_call", "the block was never closed", found)

    def _refuse(self, code: str, message: str, found: list[Event]) -> None:
        body = "".join(self._body)
        begun = 0 if self._partial is None else self._partial.begun
        self._block, self._body, self._partial = None, [], None
        warning = CallWarning(code, message, body, begun)
        self.reply.warnings.append(warning)
        found.append(warning)
        self._text(body, found)


def parse(
    ids: Iterable[int],
    tokenizer: Tokenizer,
    tools: Collection[str] | None = None,
    *,
    interpreter: bool = True,
) -> Reply:
    """A whole reply at once; arguments as for `ReplyParser`."""
    parser = ReplyParser(tokenizer, tools, interpreter=interpreter)
    parser.push(ids)
    parser.finish()
    return parser.reply


def code_of(arguments: str) -> str:
    """The code of an interpreter call, without the Markdown fence around it."""
    fenced = re.fullmatch(r"\s*```[^\n]*\n(.*?)\n?```\s*", arguments, re.DOTALL)
    return arguments if fenced is None else fenced[1]
