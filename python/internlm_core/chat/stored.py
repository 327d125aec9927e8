"""The rendering a checkpoint was trained with, and how the one in use differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_core._files import read_json
from internlm_core.chat.dialects import Dialect, dialect_of
from internlm_core.chat.template import fingerprint
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from internlm_core.tokenizer import Tokenizer

__all__ = ["describe_rendering", "rendering_warning", "stored_dialect", "stored_rendering"]

_FILE = "chat.json"


def describe_rendering(
    tokenizer: Tokenizer, dialect: str | Dialect = "internlm2"
) -> dict[str, Any]:
    """`{"dialect", "fingerprint"}`: what `chat.json` holds."""
    dialect = dialect_of(dialect)
    return {"dialect": dialect.name, "fingerprint": fingerprint(tokenizer, dialect=dialect)}


def stored_rendering(folder: str | Path) -> dict[str, Any] | None:
    """`{"dialect", "fingerprint"}` of a tuned checkpoint; None where nothing is stored.

    Raises:
        DataError: `chat.json` can't be read.
    """
    path = Path(folder) / _FILE
    if not path.is_file():
        return None
    try:
        stored = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read: {error}") from None
    if not isinstance(stored, dict):
        raise DataError(f"{path}: expected an object with 'dialect' and 'fingerprint'")
    return stored


def stored_dialect(folder: str | Path) -> str:
    """Name of the dialect a checkpoint was tuned with; `internlm2` where nothing is stored.

    Raises:
        DataError: `chat.json` can't be read.
    """
    return (stored_rendering(folder) or {}).get("dialect") or "internlm2"


def rendering_warning(
    folder: str | Path, tokenizer: Tokenizer, dialect: str | Dialect = "internlm2"
) -> str | None:
    """What to say where a checkpoint was tuned with another rendering; None where all is well."""
    dialect = dialect_of(dialect)
    stored = stored_rendering(folder)
    if stored is None or stored.get("fingerprint") == fingerprint(tokenizer, dialect=dialect):
        return None
    trained = stored.get("dialect")
    how = (
        f"with the dialect {trained!r}, and is served with {dialect.name!r}"
        if trained != dialect.name
        else f"with another rendering of {trained!r}: its template or its tokenizer has changed"
    )
    return f"{folder}: was tuned {how}; answers may be worse"
