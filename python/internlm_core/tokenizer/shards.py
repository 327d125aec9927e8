"""Token shards: a folder of memory-mapped arrays that training reads.

tokens.npy      uint16 or uint32 [n]          ids of all documents, one after the other
offsets.npy     int64 [documents + 1]         where each document starts and ends
supervised.npy  uint8 [n], optional           1 where training learns to write the token
shard.json      fingerprint of the tokenizer, counts, record ids, sources
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internlm_core._files import atomic_folder, read_json, write_json
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import BinaryIO

    import numpy.typing as npt
    from typing_extensions import Self

__all__ = ["Shard", "ShardWriter"]

_FORMAT = 1
_HEADER_BYTES = 128


class Shard:
    """An opened shard; its arrays are memory maps, read as they are used.

    Attributes:
        path: Its folder.
        tokens: uint16 or uint32 `[n_tokens]`.
        offsets: int64 `[len(self) + 1]`.
        supervised: uint8 `[n_tokens]`, or `None`.
        info: What `shard.json` holds.
    """

    def __init__(
        self,
        path: Path,
        tokens: npt.NDArray[Any],
        offsets: npt.NDArray[np.int64],
        supervised: npt.NDArray[np.uint8] | None,
        info: dict[str, Any],
    ) -> None:
        self.path, self.tokens, self.offsets = path, tokens, offsets
        self.supervised, self.info = supervised, info

    @classmethod
    def open(cls, path: str | Path, *, fingerprint: str | None = None) -> Self:
        """Open a shard and check that it is whole.

        Args:
            path: Its folder.
            fingerprint: The tokenizer's, to refuse a shard made with another.

        Raises:
            DataError: A file is missing, cut or contradictory, or another tokenizer made the shard.
        """
        path = Path(path)
        try:
            info = read_json(path / "shard.json")
            arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in info["arrays"]}
            tokens, offsets, supervised = (
                arrays["tokens"],
                arrays["offsets"],
                arrays.get("supervised"),
            )
            made_by, n_tokens, n_documents = info["tokenizer"], info["tokens"], info["documents"]
        except FileNotFoundError as error:
            raise DataError(
                f"{path}: no token shard there: {Path(error.filename).name} is missing"
            ) from None
        except (ValueError, KeyError, TypeError, EOFError) as error:
            raise DataError(f"{path}: the shard is damaged ({error}); pack it again") from None
        if fingerprint is not None and made_by != fingerprint:
            raise DataError(
                f"{path}: packed with tokenizer {made_by[:12]}, but {fingerprint[:12]} is asked for; "
                "use that tokenizer, or pack the records again"
            )
        lengths = {"tokens": n_tokens, "offsets": n_documents + 1}
        if supervised is not None:
            lengths["supervised"] = n_tokens
        for name, length in lengths.items():
            if arrays[name].shape != (length,):
                raise DataError(
                    f"{path}: {name}.npy has shape {arrays[name].shape}, shard.json says ({length},); "
                    "pack it again"
                )
        if offsets[0] != 0 or offsets[-1] != n_tokens or np.any(np.diff(offsets) < 0):
            raise DataError(f"{path}: offsets.npy does not tile the tokens; pack it again")
        return cls(path, tokens, offsets, supervised, info)

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """Ids of one document, a view."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        index %= len(self)
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[index] for index in range(len(self)))

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the tokenizer that made it."""
        return str(self.info["tokenizer"])

    @property
    def ids(self) -> list[str]:
        """Record ids of the documents, where they were known."""
        return list(self.info["ids"])

    def check_ids(self) -> None:
        """Read every token and check that the vocabulary has it.

        Raises:
            DataError: A token outside the vocabulary; names its position.
        """
        size = int(self.info["vocab_size"])
        for start in range(0, self.n_tokens, 1 << 24):
            wrong = np.flatnonzero(self.tokens[start : start + (1 << 24)] >= size)
            if wrong.size:
                at = start + int(wrong[0])
                raise DataError(
                    f"{self.path}: token {int(self.tokens[at])} at position {at} is outside the "
                    f"vocabulary of {size}; pack it again"
                )


class ShardWriter:
    """Writes a shard document by document; the folder appears whole, or not at all.

    Args:
        path: Folder to make.
        fingerprint: The tokenizer's.
        vocab_size: Of the tokenizer; up to 65,536 the ids take two bytes each.
        supervised: Whether documents come with flags.
        sources: What the documents were made from and how, for `shard.json`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fingerprint: str,
        vocab_size: int,
        supervised: bool = False,
        sources: dict[str, Any] | None = None,
    ) -> None:
        self._path = Path(path)
        self._info = {
            "format": _FORMAT,
            "tokenizer": fingerprint,
            "vocab_size": vocab_size,
            "sources": sources or {},
        }
        self._dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
        self._vocab_size, self._supervised = vocab_size, supervised
        self._ends: list[npt.NDArray[np.int64]] = []
        self._total = 0
        self._ids: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._folder = self._stack.enter_context(atomic_folder(self._path))
        self._tokens = self._open("tokens")
        self._flags = self._open("supervised") if self._supervised else None
        return self

    def _open(self, name: str) -> BinaryIO:
        file = (self._folder / f"{name}.npy").open("wb")
        self._stack.callback(file.close)
        file.write(b" " * _HEADER_BYTES)
        return file

    def add(
        self,
        tokens: npt.NDArray[Any],
        offsets: npt.NDArray[np.int64] | None = None,
        *,
        ids: Sequence[str] = (),
        supervised: npt.NDArray[Any] | None = None,
    ) -> None:
        """Append documents.

        Args:
            tokens: Ids of one document, or of several with their `offsets` (int64 `[k + 1]`).
            offsets: Where each document starts and ends in `tokens`.
            ids: A record id for each document, or none.
            supervised: Flags, as long as `tokens`.

        Raises:
            DataError: An id outside the vocabulary, or flags missing or of another length.
        """
        if len(tokens) and int(tokens.max()) >= self._vocab_size:
            raise DataError(
                f"token {int(tokens.max())} is outside the vocabulary of {self._vocab_size}"
            )
        if (supervised is not None) != self._supervised or (
            supervised is not None and len(supervised) != len(tokens)
        ):
            raise DataError(
                "a supervised shard needs one flag a token for every document, others none"
            )
        ends = np.array([len(tokens)]) if offsets is None else offsets[1:]
        self._ends.append(self._total + ends.astype(np.int64))
        self._total += len(tokens)
        self._ids.extend(ids)
        self._tokens.write(np.ascontiguousarray(tokens, self._dtype).data)
        if self._flags is not None and supervised is not None:
            self._flags.write(np.ascontiguousarray(supervised, np.uint8).data)

    def note(self, **values: Any) -> None:
        """Add entries to `shard.json`."""
        self._info.update(values)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            try:
                self._finish()
            except BaseException as failure:
                if not self._stack.__exit__(type(failure), failure, failure.__traceback__):
                    raise
                return
        self._stack.__exit__(kind, error, trace)

    def _finish(self) -> None:
        total, arrays = self._total, ["tokens", "offsets"]
        _write_header(self._tokens, self._dtype, total)
        if self._flags is not None:
            _write_header(self._flags, np.dtype("u1"), total)
            arrays.append("supervised")
        offsets = np.concatenate([np.zeros(1, np.int64), *self._ends])
        np.save(self._folder / "offsets.npy", offsets)
        documents = len(offsets) - 1
        if self._ids and len(self._ids) != documents:
            raise DataError(f"{len(self._ids)} record ids for {documents} documents")
        counts = {"arrays": arrays, "tokens": total, "documents": documents, "ids": self._ids}
        write_json(self._folder / "shard.json", {**self._info, **counts})


def _write_header(file: BinaryIO, dtype: np.dtype[Any], length: int) -> None:
    """Put a .npy header (NumPy's format 1.0) into the room that was left for it."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({length},), }}"
    body = text.encode().ljust(_HEADER_BYTES - 11) + b"\n"
    file.seek(0)
    file.write(b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body)
    file.flush()
