"""From input files to batches of records, whatever the kinds of the files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from internlm_core.data.readers.jsonl import read_jsonl
from internlm_core.data.readers.pages import read_html, read_warc
from internlm_core.data.readers.parquet import read_parquet
from internlm_core.data.readers.pdf import read_pdf
from internlm_core.data.readers.text import read_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from internlm_core.data.readers.files import InputFile
    from internlm_core.data.records import Batch

__all__ = ["InputGroup", "ReadLimits", "group_files", "read_batches"]


@dataclass(frozen=True)
class ReadLimits:
    """How much is held at once.

    Attributes:
        batch_bytes: Bytes of text in a batch of lines or text files.
        batch_rows: Rows in a batch of a Parquet file.
        record_bytes: Longest line, text file, page or Parquet text that is read.
        expansion: Most bytes that may come out for a compressed one: for a file once a GiB has come
            out, for a page once a MiB has.
        workers: Processes that extract the text of pages; default: one a processor, 0: none.
    """

    batch_bytes: int = 32 * 1024 * 1024
    batch_rows: int = 8_192
    record_bytes: int = 16 * 1024 * 1024
    expansion: float = 200.0
    workers: int | None = None


@dataclass(frozen=True)
class InputGroup:
    """Files read together: one, or neighbouring files of one source that are a document each."""

    files: list[InputFile]

    @property
    def kind(self) -> str:
        """Kind of the files."""
        return self.files[0].kind


# Small files in one batch: a run over a million notes needs no million of parts.
_TEXTS_IN_GROUP = 4_096
_GROUPED = ("text", "html", "pdf")


def group_files(files: Iterable[InputFile]) -> list[InputGroup]:
    """Put neighbouring files that are a document each together, keeping the order."""
    groups: list[InputGroup] = []
    for file in files:
        last = groups[-1] if groups else None
        if (
            last is not None
            and last.kind == file.kind
            and file.kind in _GROUPED
            and (last.files[0].defaults, last.files[0].extraction)
            == (file.defaults, file.extraction)
            and len(last.files) < _TEXTS_IN_GROUP
        ):
            last.files.append(file)
        else:
            groups.append(InputGroup([file]))
    return groups


def read_batches(group: InputGroup, limits: ReadLimits | None = None) -> Iterator[Batch]:
    """Read the files of a group; the same input and limits always give the same batches.

    Damaged input never raises: it comes as `Batch.rejected`.
    """
    limits = limits or ReadLimits()
    if group.kind == "text":
        return read_texts(group.files, limits)
    if group.kind == "html":
        return read_html(group.files, limits)
    if group.kind == "pdf":
        return read_pdf(group.files, limits)
    (file,) = group.files
    if group.kind == "warc":
        return read_warc(file, limits)
    if group.kind == "jsonl":
        return read_jsonl(file, limits.batch_bytes, limits.record_bytes, limits.expansion)
    return read_parquet(file, limits.batch_rows, limits.record_bytes)
