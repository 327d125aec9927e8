"""The Rust core: typed, GIL-free entry points used by the rooms; not a public surface.

String columns are anything with `__arrow_c_stream__` or `__arrow_c_array__` (polars, pyarrow, …).
`threads=0` means all cores.
"""

from typing import Any, Protocol, final

class _ArrowStrings(Protocol):
    def __len__(self) -> int: ...

__all__ = [
    "ArrowColumn",
    "__version__",
    # text
    "record_ids",
    # dedup
    # bpe
]

__version__: str

@final
class ArrowColumn:
    """A column to hand to `polars.Series(...)`."""

    def __len__(self) -> int: ...
    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[Any, Any]: ...

# --- text ---------------------------------------------------------------------------------------

def record_ids(
    sources: _ArrowStrings, urls: _ArrowStrings, texts: _ArrowStrings, threads: int = 0
) -> ArrowColumn:
    """Identity of each record: xxh3-128 of source, url and text as 32 hex digits."""

# --- dedup --------------------------------------------------------------------------------------

# --- bpe ----------------------------------------------------------------------------------------
