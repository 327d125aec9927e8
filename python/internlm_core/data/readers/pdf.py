"""PDF files: the text layer of their pages, one file a record."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from internlm_core._optional import require
from internlm_core.data.readers.text import read_whole
from internlm_core.data.records import BatchBuilder, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from internlm_core.data.readers.dispatch import ReadLimits
    from internlm_core.data.readers.files import InputFile
    from internlm_core.data.records import Batch

__all__ = ["read_pdf"]

_lock = threading.Lock()
"""PDFium may be in one thread at a time."""


def read_pdf(files: list[InputFile], limits: ReadLimits) -> Iterator[Batch]:
    """Read PDF files of one source; pages are parted by a blank line.

    A file that is encrypted, broken, or without any text (a scan) is rejected with the reason.

    Args:
        files: Files with the same defaults.
        limits: A file, or a text, over `record_bytes` is rejected.

    Raises:
        MissingExtraError: The extra `pdf` is not installed.
    """
    pdfium = require("pypdfium2", extra="pdf")
    builder = BatchBuilder(files[0].defaults, limits.batch_bytes)
    for file in files:
        data, faults = read_whole(file, limits)
        if isinstance(data, Rejected):
            builder.reject(data)
        else:
            _add(builder, file, data, limits.record_bytes, pdfium)
        for fault in faults:
            builder.reject(fault)
        if builder.is_full:
            yield builder.take()
    if not builder.is_empty:
        yield builder.take()


def _add(builder: BatchBuilder, file: InputFile, data: bytes, limit: int, pdfium: Any) -> None:
    def reject(reason: str, detail: str) -> None:
        builder.reject(Rejected.of_line(file.name, reason, detail, None, 0, data, len(data)))

    pages: list[str] = []
    size = 0
    try:
        with _lock, pdfium.PdfDocument(data) as document:
            count = len(document)
            for number in range(count):
                page = document[number]
                layer = page.get_textpage()
                pages.append(layer.get_text_range().replace("\r\n", "\n").strip())
                layer.close()
                page.close()
                size += len(pages[-1])
                if size > limit:
                    reject("too_large", f"more than max_record_bytes = {limit:,} of text")
                    return
    except pdfium.PdfiumError as error:
        encrypted = "password" in str(error).lower() or "security" in str(error).lower()
        reject("encrypted_pdf" if encrypted else "broken_pdf", str(error))
        return
    text = "\n\n".join(page for page in pages if page)
    if not text:
        reject("no_text_layer", f"{count} pages of pictures; recognise their text first (OCR)")
        return
    builder.add(text, {"url": file.url, "pages": count}, len(data))
