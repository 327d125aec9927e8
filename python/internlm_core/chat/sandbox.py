"""Jinja as chat templates expect it, for templates that nobody has read; needs jinja2 (extra `serve`)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from jinja2.parser import Parser
    from jinja2.runtime import Context

__all__ = ["ChatEnvironment"]

# Far above any conversation compared here; `'x' * 10 ** 10` would fill the memory.
_LONGEST = 1_000_000


class _Generation(Extension):
    """`{% generation %}`, which marks what an assistant says; the text is what stands inside."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own declaration)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """The settings, helpers and tags that chat templates are written against, as in `transformers`."""

    intercepted_binops = frozenset(["*", "**"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = lambda form: datetime.now().strftime(form)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse products that would fill the memory."""
        if operator == "**":
            too_much = isinstance(right, int) and abs(right) > 64
        else:
            sizes = [len(value) for value in (left, right) if hasattr(value, "__len__")]
            counts = [value for value in (left, right) if isinstance(value, int)]
            too_much = any(size * count > _LONGEST for size in sizes for count in counts)
        if too_much:
            raise SecurityError(f"{operator} makes more than a template needs")
        return super().call_binop(context, operator, left, right)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    """No escapes for HTML or for what is not ASCII."""
    options.setdefault("ensure_ascii", False)
    return json.dumps(value, indent=indent, **options)
