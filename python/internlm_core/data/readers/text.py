"""Plain text and Markdown: a file is a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._streams import StreamFault, read_blocks
from internlm_core.data.charset import decode
from internlm_core.data.records import BatchBuilder, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from internlm_core.data.readers.dispatch import ReadLimits
    from internlm_core.data.readers.files import InputFile
    from internlm_core.data.records import Batch

__all__ = ["read_texts", "read_whole"]

_CONTROLS = bytes({*range(9), *range(14, 27), 28, 29, 30, 31, 127})


def read_texts(files: list[InputFile], limits: ReadLimits) -> Iterator[Batch]:
    """Read `.txt` and `.md` files of one source; their path within it becomes the `url`.

    A file in another encoding than UTF-8 is converted, and `meta` says from which (`charset`).

    Args:
        files: Files with the same defaults.
        limits: `batch_bytes` of text make a batch; a file over `record_bytes` is rejected.
    """
    builder = BatchBuilder(files[0].defaults, limits.batch_bytes)
    for file in files:
        _add_file(builder, file, limits)
        if builder.is_full:
            yield builder.take()
    if not builder.is_empty:
        yield builder.take()


def _add_file(builder: BatchBuilder, file: InputFile, limits: ReadLimits) -> None:
    data, faults = read_whole(file, limits)
    if isinstance(data, Rejected):
        builder.reject(data)
    else:
        _add_text(builder, file, data)
    for fault in faults:
        builder.reject(fault)


def _add_text(builder: BatchBuilder, file: InputFile, data: bytes) -> None:
    keys: dict[str, object] = {"url": file.url}
    try:
        builder.add(data.decode(), keys, len(data))
        return
    except UnicodeDecodeError:
        read = decode(data, html=False)
    if not read.encoding.startswith("utf-16") and _is_binary(data):
        builder.reject(_rejected(file, "not_text", "more control characters than text has", data))
        return
    keys["charset"] = read.encoding
    if read.encoding != "utf-8":
        builder.count_repair("charset")
    if read.replaced:
        keys["charset_replaced"] = read.replaced
        builder.count_repair("charset_replaced")
    builder.add(read.text, keys, len(data))


def _is_binary(data: bytes) -> bool:
    head = data[:4096]
    return (len(head) - len(head.translate(None, _CONTROLS))) * 50 > len(head)


def read_whole(file: InputFile, limits: ReadLimits) -> tuple[bytes | Rejected, list[Rejected]]:
    """The bytes of a file that is one document, or why there are none; then faults of the file."""
    pieces: list[bytes] = []
    size, limit = 0, limits.record_bytes
    try:
        for block in read_blocks(file.path, file.compression, expansion=limits.expansion):
            size += len(block)
            pieces.append(block)
            if size > limit:
                detail = f"more than max_record_bytes = {limit:,} bytes in one file"
                return _rejected(file, "too_large", detail, b"".join(pieces)), []
    except StreamFault as fault:
        of_file = Rejected.of_file(file.name, fault.reason, fault.detail, size)
        if fault.reason != "trailing_garbage":
            # Half a document is no document.
            whole = b"".join(pieces)
            return _rejected(file, "truncated_line", fault.detail, whole), [of_file]
        return b"".join(pieces), [of_file]
    except OSError as error:
        detail = f"{error.strerror}; make the file readable and use a new run folder"
        return Rejected.of_file(file.name, "unreadable_file", detail), []
    return b"".join(pieces), []


def _rejected(file: InputFile, reason: str, detail: str, data: bytes) -> Rejected:
    return Rejected.of_line(file.name, reason, detail, None, 0, data, len(data))
