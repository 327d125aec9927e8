"""Written forms of a conversation that differ in a few bytes, each under its name.

Sources: `internlm2` InternLM/chat/chat_format.md; `lagent` lagent 0.2.2, `Internlm2Protocol` and
`INTERNLM2_META`; `lmdeploy` its `InternLM2Chat7B` before templates were left to the checkpoint. Byte
fixtures of each are in tests/chat.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from internlm_core.errors import DataError

__all__ = ["DIALECTS", "Dialect", "dialect_of"]

TOOLS = "{tools}"


@dataclass(frozen=True)
class Dialect:
    r"""Where written forms differ; `dataclasses.replace` makes one with your own wording.

    Attributes:
        name: What `render(dialect=…)` takes and a checkpoint's `chat.json` stores.
        after_plugin: Text between a plugin call's `<|action_end|>` and what follows.
        after_interpreter: The same for code.
        tools_text: Content of the turn that lists the tools; `{tools}` is the list as JSON.
        tools_indent: Indentation of that JSON; None writes one line.
        tools_after: The list comes after all leading system turns, or right after the first.
        ascii_calls: Whether a call's body given as a dict has `\u` escapes for what is not ASCII.
        rewrites_calls: Whether arguments that come as text (OpenAI's form) are read and written anew,
            or stand as the model wrote them.
        named_results: Whether the result of a call named by OpenAI's role `tool` has
            `name=<|plugin|>` in its header.
        continues: Whether a generation prompt after an assistant's turn goes on with that turn.
    """

    name: str
    after_plugin: str = ""
    after_interpreter: str = ""
    tools_text: str = TOOLS
    tools_indent: int | None = 4
    tools_after: Literal["systems", "first system"] = "systems"
    ascii_calls: bool = False
    rewrites_calls: bool = False
    named_results: bool = True
    continues: bool = False

    def listing(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """The content of the turn that lists the tools, OpenAI's wrapping taken off."""
        if not isinstance(tools, Sequence) or isinstance(tools, (str, bytes)):
            raise DataError(f"tools: expected a list, found {type(tools).__name__}")
        plain = [_unwrapped(tool, number) for number, tool in enumerate(tools)]
        try:
            listed = json.dumps(
                plain, ensure_ascii=False, indent=self.tools_indent, allow_nan=False
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise DataError(f"tools: can't be written as JSON: {error}") from None
        return self.tools_text.replace(TOOLS, listed)

    def body(self, call: Any) -> str:
        """The text of a call: as it is, or an object as JSON.

        Raises:
            DataError: It is neither, or holds what JSON can't.
        """
        if isinstance(call, str):
            return call
        if not isinstance(call, Mapping):
            raise DataError(f"a call's body must be a string or an object, not {call!r:.60}")
        try:
            return json.dumps(dict(call), ensure_ascii=self.ascii_calls, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise DataError(f"a call's body can't be written as JSON: {error}") from None


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        # As documented: a newline ends the list of tools, and stands after code but not after JSON.
        Dialect("internlm2", after_interpreter="\n", tools_text=f"{TOOLS}\n"),
        # Its own sentences are Chinese prose of others: ours say the same, `replace` takes theirs.
        Dialect(
            "lagent",
            after_plugin="\n",
            after_interpreter="\n",
            tools_text=f"可供调用的工具如下：\n{TOOLS}\n信息足够时直接作答，不做多余的调用；只用列出的工具。",
            ascii_calls=True,
            rewrites_calls=True,
        ),
        Dialect(
            "lmdeploy",
            tools_indent=None,
            tools_after="first system",
            rewrites_calls=True,
            named_results=False,
            continues=True,
        ),
    )
}


def dialect_of(dialect: str | Dialect) -> Dialect:
    """A dialect by its name, or as it is.

    Raises:
        DataError: No dialect has that name.
    """
    if isinstance(dialect, Dialect):
        return dialect
    if dialect not in DIALECTS:
        known = ", ".join(repr(name) for name in DIALECTS)
        raise DataError(f"unknown dialect {dialect!r}: expected one of {known}")
    return DIALECTS[dialect]


def _unwrapped(tool: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else tool
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise DataError(
            f"tool {number}: expected an object with a name, or "
            '{"type": "function", "function": {"name": …}}'
        )
    return dict(inner)
