"""Templates of this room: autoescaped, strict about missing values."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_core._optional import require

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["render"]

_TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _environment() -> Any:
    jinja2 = require("jinja2", extra="data")
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> Markup:
    """Fill a template; everything that is not markup already is escaped.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    markup: type[Markup] = require("markupsafe", extra="data").Markup
    return markup(_environment().get_template(template).render(**values).strip())


def percent(value: float) -> str:
    """A CSS length in percent; three decimals keep pages equal from machine to machine."""
    return f"{100 * value:.3f}%"
