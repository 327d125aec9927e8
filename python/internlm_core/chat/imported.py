"""A checkpoint's own Jinja template, run in a sandbox and compared with our rendering byte by byte."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from internlm_core._files import read_json
from internlm_core._optional import require
from internlm_core.chat.dialects import Dialect, dialect_of
from internlm_core.chat.template import render
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Comparison", "ImportedTemplate", "compare_template"]

_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "f", "arguments": {"city": "上海"}},
}
_TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "天气", "parameters": {"type": "object"}},
}


@dataclass(frozen=True)
class _Case:
    """A conversation in both forms; one with `shows` tests what not every template knows."""

    name: str
    theirs: Sequence[dict[str, Any]]
    ours: Sequence[dict[str, Any]]
    tools: Sequence[dict[str, Any]] | None = None
    # A text that appears where the template knows about it; plain conversations have none.
    shows: str | None = None
    generation: bool = False


def _turns(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in pairs]


_CHAT = _turns(("system", "S"), ("user", " U\n你好 "), ("assistant", "A"), ("user", "V"))
_TWO = _turns(("system", "S"), ("system", "T"), ("user", "U"))
_CALLING = _turns(("user", "U"))
_CASES = (
    _Case("one question", _CALLING, _CALLING, generation=True),
    _Case("a conversation", _CHAT, _CHAT, generation=True),
    _Case("a conversation to train on", _CHAT[:3], _CHAT[:3]),
    _Case("two system turns", _TWO, _TWO, shows="T", generation=True),
    _Case(
        "a named turn",
        [{"role": "user", "name": "file", "content": "F"}],
        [{"role": "user", "name": "file", "content": "F"}],
        shows="file",
        generation=True,
    ),
    _Case("tools", _CALLING, _CALLING, tools=[_TOOL], shows="天气", generation=True),
    _Case(
        "a call and its result",
        [
            *_CALLING,
            {"role": "assistant", "content": "T", "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "22"},
        ],
        [
            *_CALLING,
            {
                "role": "assistant",
                "content": "T",
                "calls": [
                    {"kind": "plugin", "body": {"name": "f", "parameters": {"city": "上海"}}}
                ],
            },
            {"role": "environment", "name": "plugin", "content": "22"},
        ],
        tools=[_TOOL],
        shows="上海",
        generation=True,
    ),
)


@dataclass(frozen=True)
class Comparison:
    """One conversation rendered both ways.

    Attributes:
        case: What the conversation shows.
        plain: Whether any chat template should render it as ours.
        known: Whether the template knows what the conversation shows: one that has never heard of tools
            leaves them out.
        ours: Our bytes.
        theirs: The template's; None where it refused.
        error: Its words where it refused.
        at: First byte that differs; None where all are equal.
    """

    case: str
    plain: bool
    known: bool
    ours: bytes
    theirs: bytes | None
    error: str | None
    at: int | None

    @property
    def verdict(self) -> Literal["equal", "differs", "unknown", "refused"]:
        """`unknown` and `refused` say what can't be served with the template, not that ours is wrong."""
        if self.error is not None:
            return "refused"
        if self.at is None:
            return "equal"
        return "differs" if self.known else "unknown"

    @property
    def fails(self) -> bool:
        """Whether the template and ours contradict each other."""
        return self.verdict == "differs" or (self.plain and self.verdict != "equal")


class ImportedTemplate:
    """A chat template as `transformers` runs them.

    Args:
        source: The Jinja text.
        tokens: Names it may use: `bos_token`, `eos_token`, ….
        with_tools: Another Jinja text, for conversations with tools.

    Raises:
        DataError: It is no valid template.
        MissingExtraError: jinja2 is not installed (extra `serve`).
    """

    def __init__(
        self, source: str, tokens: dict[str, str] | None = None, with_tools: str | None = None
    ) -> None:
        require("jinja2", extra="serve")
        from jinja2.exceptions import TemplateError

        from internlm_core.chat.sandbox import ChatEnvironment

        environment = ChatEnvironment()
        self.tokens = dict(tokens or {})
        try:
            self._template = environment.from_string(source)
            self._with_tools = environment.from_string(with_tools or source)
        except (TemplateError, RecursionError) as error:
            raise DataError(f"the chat template is not valid Jinja: {error}") from None

    @classmethod
    def from_folder(cls, folder: str | Path) -> ImportedTemplate:
        """The template of a checkpoint: `chat_template.jinja`, or the key in `tokenizer_config.json`.

        Raises:
            DataError: There is none, or it can't be read.
        """
        folder = Path(folder)
        path, single = folder / "tokenizer_config.json", folder / "chat_template.jinja"
        try:
            config = read_json(path) if path.is_file() else {}
            source = single.read_text("utf-8") if single.is_file() else config.get("chat_template")
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"{folder}: its chat template can't be read: {error}") from None
        with_tools = None
        if isinstance(source, list):
            entries = [entry for entry in source if isinstance(entry, dict)]
            named = {str(entry.get("name")): entry.get("template") for entry in entries}
            source, with_tools = named.get("default"), named.get("tool_use")
        if not isinstance(source, str):
            raise DataError(
                f"{folder}: has no chat template (chat_template.jinja, or chat_template in "
                "tokenizer_config.json)"
            )
        tokens = {}
        for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
            value = config.get(name)
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                tokens[name] = value
        return cls(source, tokens, with_tools if isinstance(with_tools, str) else None)

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        """The text that the template makes.

        Raises:
            DataError: The template refuses the conversation.
        """
        try:
            rendered: str = (self._with_tools if tools else self._template).render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.tokens,
            )
        # A template is someone else's program: it may fail in any way.
        except Exception as error:  # noqa: BLE001
            words = f"{type(error).__name__}: {error}"[:300]
            shown = "".join(c if c.isprintable() else " " for c in words)
            raise DataError(f"the chat template refuses: {shown}") from None
        return rendered


def compare_template(
    template: ImportedTemplate, dialect: str | Dialect = "internlm2"
) -> list[Comparison]:
    """Render a set of conversations with a template and with ours; one result for each."""
    dialect = dialect_of(dialect)
    results = []
    for case in _CASES:
        segments = render(
            case.ours, case.tools, dialect=dialect, add_generation_prompt=case.generation
        )
        ours = b"".join(segment.bytes for segment in segments)
        theirs, error, at, known = None, None, None, True
        try:
            # Templates may change what they are given.
            given, tools = json.loads(json.dumps([list(case.theirs), case.tools]))
            text = template.render(given, tools, add_generation_prompt=case.generation)
            theirs = text.encode(errors="surrogatepass")
            known = case.shows is None or case.shows in text
        except DataError as refused:
            error = str(refused)
        if theirs is not None and theirs != ours:
            pairs = zip(ours, theirs, strict=False)
            shorter = min(len(ours), len(theirs))
            at = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
        plain = case.shows is None
        results.append(Comparison(case.name, plain, known, ours, theirs, error, at))
    return results
