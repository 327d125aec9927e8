"""Names that are imported when they are first used (PEP 562), to keep `import` fast."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["attach"]


def attach(
    package: str, names: Mapping[str, str | None]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make `__getattr__` and `__dir__` for a package whose names live in submodules.

    Args:
        package: `__name__` of the package.
        names: Public name → submodule that defines it, or `None` for a submodule itself.

    Raises:
        ValueError: A name equals the submodule that defines it: importing the submodule would put
            the module in the name's place.
    """
    for name, module in names.items():
        if name == module:
            raise ValueError(f"{package}: rename the submodule {name!r}, it would hide the name")

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{names[name] or name}")
        return module if names[name] is None else getattr(module, name)

    def __dir__() -> list[str]:  # noqa: N807
        return sorted(names)

    return __getattr__, __dir__
