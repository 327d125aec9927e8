"""Readers: files of any known kind become batches of records, one kind of file a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.data.readers.dispatch import (
        InputGroup,
        ReadLimits,
        group_files,
        read_batches,
    )
    from internlm_core.data.readers.files import FoundFiles, InputFile, SourceSpec, find_files

__all__ = [
    "FoundFiles",
    "InputFile",
    "InputGroup",
    "ReadLimits",
    "SourceSpec",
    "find_files",
    "group_files",
    "read_batches",
]

_NAMES = {
    "files": ("FoundFiles", "InputFile", "SourceSpec", "find_files"),
    "dispatch": ("InputGroup", "ReadLimits", "group_files", "read_batches"),
}
__getattr__, __dir__ = attach(
    __name__, {name: module for module, names in _NAMES.items() for name in names}
)
