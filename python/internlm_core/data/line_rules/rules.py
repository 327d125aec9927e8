"""Line rules and their presets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import Field

from internlm_core import _core
from internlm_core._config import Config, load_config
from internlm_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LineRule", "LineRules", "load_line_rules"]

_DEEPEST = 8
"""Files that may extend one another in a row; more is a circle."""


class LineRule(Config):
    """Lines that go, and why."""

    reason: str = Field(pattern="^[a-z0-9_.]+$")
    """Stable name, under which the ledger counts; several rules may share it."""
    pattern: str = Field(min_length=1)
    """Regular expression (of the Rust crate regex) that must match the whole line, without list
    mark, heading hashes, emphasis around it, and the addresses of links. A pattern that can start
    anywhere is quicker with `part` than with `.*` at its start."""
    part: bool = False
    """Whether it is enough that the pattern matches a part of the line."""
    place: Literal["anywhere", "edge", "menu"] = "anywhere"
    """`edge`: only at the text's start or end, with nothing but such lines before or after;
    `menu`: only where at least three such lines follow one another."""
    max_chars: int = Field(120, ge=0)
    """Longest line that may go, in characters; 0: no limit."""


class LineRules(Config):
    """An ordered list of rules; of those that match a line, the first gives the reason."""

    extends: str | None = None
    """A preset, or a .toml file relative to this one, whose rules come after these."""
    without: tuple[str, ...] = ()
    """Reasons of the extended list to leave out."""
    lines: tuple[LineRule, ...] = ()

    def compiled(self) -> _core.LineRules:
        """What the core works with; rules are known there by their place in the list.

        Raises:
            ConfigError: A pattern is no regular expression.
        """
        plain = [rule.model_dump(exclude={"reason"}) for rule in self.lines]
        return _core.LineRules(orjson.dumps(plain).decode())


def load_line_rules(source: str | Path | Mapping[str, Any] | None) -> LineRules | None:
    """Read line rules, with those that they extend.

    Args:
        source: The preset `boilerplate` or `c4`, a .toml file, or a mapping; `None` and `"none"`
            stand for no rules.

    Raises:
        ConfigError: An unknown preset, key or reason, a pattern that is no regular expression, or
            files that extend one another in a circle.
    """
    if source is None or (isinstance(source, str) and source == "none"):
        return None
    rules = _load(source, Path(), 0)
    try:
        rules.compiled()
    except ConfigError as error:
        known = [f"{number} is {rule.reason!r}" for number, rule in enumerate(rules.lines)]
        named = next((k for k in known if str(error).startswith(f"line rule {k.split()[0]}:")), "")
        raise ConfigError(f"{source}: {error}{f' ({named})' if named else ''}") from None
    return rules


def _load(source: str | Path | Mapping[str, Any], base: Path, depth: int) -> LineRules:
    if depth > _DEEPEST:
        raise ConfigError(f"{source}: line rules extend one another in a circle")
    if isinstance(source, (str, Path)) and Path(source).suffix == ".toml":
        source = base / source
        base = Path(source).parent
    rules = load_config(LineRules, source, package="internlm_core.data.line_rules")
    if rules.extends is None:
        if rules.without:
            raise ConfigError(f"{source}: without is given, but extends is not")
        return rules
    inherited = _load(rules.extends, base, depth + 1).lines
    unknown = set(rules.without) - {rule.reason for rule in inherited}
    if unknown:
        known = ", ".join(sorted({rule.reason for rule in inherited}))
        raise ConfigError(
            f"{source}: without {', '.join(sorted(unknown))}: expected reasons of "
            f"{rules.extends}: {known}"
        )
    rest = tuple(rule for rule in inherited if rule.reason not in rules.without)
    return LineRules(lines=(*rules.lines, *rest))
