"""Tensors of a folder's safetensors files by name, whole or in part, read when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from internlm_core._optional import require
from internlm_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

__all__ = ["TensorFiles"]


class TensorFiles:
    """An index over safetensors files; nothing is read but their headers.

    Args:
        folder: Named in errors.
        files: The files.

    Raises:
        CheckpointError: There is none, or one is not safetensors.
    """

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        safetensors: Any = require("safetensors", extra="train")
        self.folder, self._error = folder, safetensors.SafetensorError
        self._where: dict[str, Any] = {}
        try:
            for file in files:
                opened = safetensors.safe_open(str(file), framework="pt", device="cpu")
                self._where |= dict.fromkeys(opened.keys(), opened)
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{folder}: {error}") from None
        if not self._where:
            raise CheckpointError(f"{folder}: no safetensors files there")

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def __iter__(self) -> Any:
        return iter(self._where)

    def read(self, name: str, bounds: tuple[slice, ...] | None = None) -> Tensor:
        """A tensor, or the part of it between bounds.

        Raises:
            CheckpointError: It is not there, or its file can't be read.
        """
        if name not in self._where:
            raise CheckpointError(f"{self.folder}: tensor {name!r} is missing")
        opened = self._where[name]
        try:
            tensor: Tensor = (
                opened.get_tensor(name) if not bounds else opened.get_slice(name)[bounds]
            )
        except (OSError, IndexError, self._error) as error:
            raise CheckpointError(f"{self.folder}: tensor {name!r}: {error}") from None
        return tensor
