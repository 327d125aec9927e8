"""Optional dependencies: imported where they are used, with an error that names the extra."""

from __future__ import annotations

import importlib
from typing import Any

from internlm_core.errors import MissingExtraError

__all__ = ["require"]


def require(module: str, *, extra: str) -> Any:
    """Import `module`, or say which extra brings it.

    Args:
        module: Dotted name, for example `"torch"`.
        extra: The extra of this package that installs it, for example `"train"`.

    Raises:
        MissingExtraError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module missing *inside* the dependency is its own fault, not a missing extra.
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"this needs the package {module!r}; install it with: pip install 'internlm-core[{extra}]'"
        ) from None
