"""Plain text and Markdown: a file is a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core.data.readers.streams import StreamFault, read_blocks
from internlm_core.data.records import BatchBuilder, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from internlm_core.data.readers.files import InputFile
    from internlm_core.data.records import Batch

__all__ = ["read_texts"]

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_texts(files: list[InputFile], batch_bytes: int, record_bytes: int) -> Iterator[Batch]:
    """Read `.txt` and `.md` files of one source; their path within it becomes the `url`.

    A file in UTF-16 with a byte-order mark is converted; one in another encoding is rejected, for
    guessing an encoding in silence would damage the text.

    Args:
        files: Files with the same defaults.
        batch_bytes: Bytes of text in a batch.
        record_bytes: Longest file that is read.
    """
    builder = BatchBuilder(files[0].defaults, batch_bytes)
    for file in files:
        _add_file(builder, file, record_bytes)
        if builder.is_full:
            yield builder.take()
    if not builder.is_empty:
        yield builder.take()


def _add_file(builder: BatchBuilder, file: InputFile, limit: int) -> None:
    pieces, size = [], 0
    try:
        for block in read_blocks(file.path, file.compression):
            size += len(block)
            pieces.append(block)
            if size > limit:
                detail = f"more than max_record_bytes = {limit:,} bytes in one file"
                builder.reject(_rejected(file, "too_large", detail, b"".join(pieces)))
                return
    except StreamFault as fault:
        if fault.reason != "trailing_garbage":
            # Half a document is no document.
            builder.reject(_rejected(file, "truncated_line", fault.detail, b"".join(pieces)))
            builder.reject(Rejected.of_file(file.name, fault.reason, fault.detail, size))
            return
        builder.reject(Rejected.of_file(file.name, fault.reason, fault.detail, size))
    except OSError as error:
        detail = f"{error.strerror}; make the file readable and use a new run folder"
        builder.reject(Rejected.of_file(file.name, "unreadable_file", detail))
        return
    data = b"".join(pieces)
    try:
        if data.startswith(_UTF16_MARKS):
            text = data.decode("utf-16")
            builder.count_repair("utf16")
        else:
            text = data.decode()
    except UnicodeDecodeError as wrong:
        detail = f"byte 0x{data[wrong.start]:02x} at {wrong.start}; convert the file to UTF-8"
        builder.reject(_rejected(file, "invalid_utf8", detail, data))
        return
    builder.add(text, {"url": file.url}, size)


def _rejected(file: InputFile, reason: str, detail: str, data: bytes) -> Rejected:
    return Rejected.of_line(file.name, reason, detail, None, 0, data, len(data))
