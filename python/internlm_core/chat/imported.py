"""A checkpoint's own Jinja template, run in a sandbox and compared with our rendering byte by byte."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

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
    """A conversation in both forms; `plain` ones every chat template should know."""

    name: str
    theirs: Sequence[dict[str, Any]]
    ours: Sequence[dict[str, Any]]
    tools: Sequence[dict[str, Any]] | None = None
    plain: bool = False
    generation: bool = False


def _turns(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in pairs]


_CHAT = _turns(("system", "S"), ("user", " U\n你好 "), ("assistant", "A"), ("user", "V"))
_TWO = _turns(("system", "S"), ("system", "T"), ("user", "U"))
_CALLING = _turns(("user", "U"))
_CASES = (
    _Case("one question", _CALLING, _CALLING, plain=True, generation=True),
    _Case("a conversation", _CHAT, _CHAT, plain=True, generation=True),
    _Case("a conversation to train on", _CHAT[:3], _CHAT[:3], plain=True),
    _Case("two system turns", _TWO, _TWO, generation=True),
    _Case(
        "a named turn",
        [{"role": "user", "name": "file", "content": "F"}],
        [{"role": "user", "name": "file", "content": "F"}],
        generation=True,
    ),
    _Case("tools", _CALLING, _CALLING, tools=[_TOOL], generation=True),
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
        generation=True,
    ),
)


@dataclass(frozen=True)
class Comparison:
    """One conversation rendered both ways.

    Attributes:
        case: What the conversation shows.
        plain: Whether any chat template should render it as ours.
        ours: Our bytes.
        theirs: The template's; None where it refused.
        error: Its words where it refused.
        at: First byte that differs; None where all are equal.
    """

    case: str
    plain: bool
    ours: bytes
    theirs: bytes | None
    error: str | None
    at: int | None


class ImportedTemplate:
    """A chat template as `transformers` runs them.

    Args:
        source: The Jinja text.
        tokens: Names it may use: `bos_token`, `eos_token`, ….

    Raises:
        DataError: It is no valid template.
        MissingExtraError: jinja2 is not installed (extra `serve`).
    """

    def __init__(self, source: str, tokens: dict[str, str] | None = None) -> None:
        sandbox = require("jinja2.sandbox", extra="serve")
        self._errors = require("jinja2", extra="serve").exceptions
        # The settings and helpers that chat templates are written against.
        environment = sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = self._refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self.tokens = dict(tokens or {})
        try:
            self._template = environment.from_string(source)
        except self._errors.TemplateError as error:
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
        if isinstance(source, list):
            named = {entry.get("name"): entry.get("template") for entry in source}
            source = named.get("default")
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
        return cls(source, tokens)

    def _refuse(self, message: str) -> NoReturn:
        raise self._errors.TemplateError(message)

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
            rendered: str = self._template.render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.tokens,
            )
        # A template is someone else's program: it may fail in any way.
        except Exception as error:  # noqa: BLE001
            raise DataError(f"the chat template refuses: {type(error).__name__}: {error}") from None
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
        theirs, error, at = None, None, None
        try:
            # Templates may change what they are given.
            given, tools = json.loads(json.dumps([list(case.theirs), case.tools]))
            text = template.render(given, tools, add_generation_prompt=case.generation)
            theirs = text.encode()
        except DataError as refused:
            error = str(refused)
        if theirs is not None and theirs != ours:
            pairs = zip(ours, theirs, strict=False)
            shorter = min(len(ours), len(theirs))
            at = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
        results.append(Comparison(case.name, case.plain, ours, theirs, error, at))
    return results


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    """As `transformers` has it: no escapes for HTML or for what is not ASCII."""
    options.setdefault("ensure_ascii", False)
    return json.dumps(value, indent=indent, **options)
