"""Typed configuration: TOML presets in the package, files, and `--set key=value` on top."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from internlm_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Config", "load_config", "preset_names"]


class Config(BaseModel):
    """Base of every configuration: unknown keys are errors, values are checked, then frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


C = TypeVar("C", bound=Config)


def preset_names(package: str) -> list[str]:
    """Names of the presets that lie in `package`'s `presets` folder."""
    folder = resources.files(package) / "presets"
    return sorted(f.name[: -len(".toml")] for f in folder.iterdir() if f.name.endswith(".toml"))


def load_config(
    kind: type[C],
    source: str | Path | Mapping[str, Any] | None = None,
    *,
    package: str | None = None,
    overrides: Iterable[str] = (),
) -> C:
    """Read a configuration.

    Args:
        kind: The `Config` class to read.
        source: A TOML file, the name of a preset of `package`, a mapping, or `None` for defaults.
        package: Package whose `presets` folder is searched for names without `.toml`.
        overrides: `key=value` strings, keys dotted (`dedup.threshold=0.8`), values as in TOML; a
            value that is no TOML is taken as a string.

    Raises:
        ConfigError: Unknown preset or key, or a value out of range; names key, value, expectation.
    """
    origin, values = _read(source, package)
    for override in overrides:
        _override(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, kind, origin)) from None


def _read(
    source: str | Path | Mapping[str, Any] | None, package: str | None
) -> tuple[str, dict[str, Any]]:
    if source is None:
        return "configuration", {}
    if not isinstance(source, (str, Path)):
        return "configuration", dict(source)
    if package is not None and isinstance(source, str) and Path(source).suffix != ".toml":
        if source not in preset_names(package):
            known = ", ".join(preset_names(package))
            raise ConfigError(
                f"unknown preset {source!r}: expected one of {known}, or the path of a .toml file"
            )
        text = (resources.files(package) / "presets" / f"{source}.toml").read_text("utf-8")
        return f"preset {source!r}", tomllib.loads(text)
    try:
        return str(source), tomllib.loads(Path(source).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{source}: can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from None


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"--set {override!r}: expected key=value, for example dedup.threshold=0.8"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a value, it has no keys below it")
    values[last] = value


def _explain(error: ValidationError, kind: type[Config], origin: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        if problem["type"] == "extra_forbidden":
            names = _names_beside(kind, problem["loc"])
            expected = (
                f"unknown key; expected one of {', '.join(sorted(names))}"
                if names
                else "unknown key"
            )
            lines.append(f"{key} = {problem['input']!r}: {expected}")
        elif problem["type"] == "missing":
            lines.append(f"{key}: missing, and it has no default")
        elif isinstance(problem["input"], dict):
            # A check across keys: its message names them, the whole table would bury it.
            lines.append(f"{key}: {problem['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{key} = {problem['input']!r}: {problem['msg']}")
    return f"{origin}: " + "; ".join(lines)


def _names_beside(kind: type[Config], location: tuple[int | str, ...]) -> list[str]:
    model: Any = kind
    for part in location[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        model = None if field is None else field.annotation
    return list(getattr(model, "model_fields", {}))
