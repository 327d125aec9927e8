"""Web pages, from WARC files or as files of their own, become records with the page's main text."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from internlm_core._streams import StreamFault, read_blocks
from internlm_core.data.charset import decode
from internlm_core.data.readers.http import (
    BadBody,
    Response,
    decode_body,
    media_type,
    parse_response,
)
from internlm_core.data.readers.text import read_whole
from internlm_core.data.readers.warc import DamagedRecord, read_warc_records
from internlm_core.data.records import BatchBuilder, Rejected
from internlm_core.data.urls import normalise_url, registered_domain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from internlm_core.data.readers.dispatch import ReadLimits
    from internlm_core.data.readers.files import InputFile
    from internlm_core.data.readers.warc import WarcRecord
    from internlm_core.data.records import Batch

__all__ = ["read_html", "read_warc"]

_HTML = {"text/html", "application/xhtml+xml"}
# Some servers send no type, or one that says nothing: the bytes tell.
_UNSAID = {"", "application/octet-stream", "unknown", "unk"}
_RAW_HELD = 1 << 16
_DOCUMENTS = {"response", "resource", "conversion"}


@dataclass
class _Page:
    """A page, or a text that needs no extraction, on its way to a record."""

    body: bytes
    charset: str | None
    keys: dict[str, Any]
    is_html: bool
    reject: Callable[[str, str], Rejected]
    size: int = 0


@dataclass
class _Skipped:
    """A record of the container that is no document."""

    reason: str


_Found = _Page | Rejected | _Skipped


def read_warc(file: InputFile, limits: ReadLimits) -> Iterator[Batch]:
    """Read a `.warc` or `.wet` file, plain, gzip or zstd.

    Responses with status 200 that are HTML give their main text as Markdown, plain text and the
    texts of WET files themselves. Other responses are set aside with status or media type, and
    records of other kinds (requests, metadata, …) are counted.

    Args:
        file: The file; of a damaged one everything before and after the damage is read.
        limits: `record_bytes` bounds a record before and after its content coding is undone.
    """
    return _batches(file, _pages_of_warc(file, limits), limits)


def read_html(files: list[InputFile], limits: ReadLimits) -> Iterator[Batch]:
    """Read HTML files of one source; their path within it becomes the `url`."""

    def pages() -> Iterator[_Found]:
        for file in files:
            data, faults = read_whole(file, limits)
            yield from faults
            if isinstance(data, Rejected):
                yield data
            else:
                yield _Page(
                    data,
                    None,
                    {"url": file.url},
                    True,
                    _rejecter(file, 0, data, len(data)),
                    len(data),
                )

    return _batches(files[0], pages(), limits)


def _rejecter(
    file: InputFile, offset: int, raw: bytes, size: int
) -> Callable[[str, str], Rejected]:
    raw = raw[:_RAW_HELD]

    def reject(reason: str, detail: str) -> Rejected:
        return Rejected.of_line(file.name, reason, detail, None, offset, raw, size)

    return reject


def _pages_of_warc(file: InputFile, limits: ReadLimits) -> Iterator[_Found]:
    faults: list[Rejected] = []
    given = 0

    def blocks() -> Iterator[bytes]:
        nonlocal given
        seam = False

        def note(fault: StreamFault) -> None:
            nonlocal seam
            seam = True
            faults.append(Rejected.of_file(file.name, fault.reason, fault.detail, given))

        try:
            for block in read_blocks(
                file.path, file.compression, expansion=limits.expansion, go_on=note
            ):
                given += len(block)
                # What comes after damage starts a line, whatever came before.
                yield b"\n\n" + block if seam else block
                seam = False
        except StreamFault as fault:
            note(fault)
        except OSError as error:
            detail = f"{error.strerror}; make the file readable and use a new run folder"
            faults.append(Rejected.of_file(file.name, "unreadable_file", detail, given))

    for record in read_warc_records(blocks(), limits.record_bytes):
        if isinstance(record, DamagedRecord):
            yield Rejected.of_line(
                file.name,
                record.reason,
                record.detail,
                None,
                record.offset,
                record.raw,
                record.size,
            )
            if record.reason == "truncated_record" and not faults:
                detail = "the file ends within a record; what came before was read"
                faults.append(Rejected.of_file(file.name, "truncated_file", detail, record.offset))
        else:
            yield _page_of(file, record, limits)
    yield from faults


def _page_of(file: InputFile, record: WarcRecord, limits: ReadLimits) -> _Found:
    kind = record.fields.get("warc-type", "").lower()
    if kind not in _DOCUMENTS:
        return _Skipped(f"warc_{kind or 'untyped'}")
    url = record.fields.get("warc-target-uri", "").strip("<>")
    reject = _rejecter(file, record.offset, record.block, record.size)

    def set_aside(reason: str, detail: str) -> Rejected:
        return Rejected.of_line(
            file.name, reason, f"{detail}: {url}"[:500], None, record.offset, b"", record.size
        )

    if record.too_large:
        return reject("too_large", f"{record.size:,} bytes, over max_record_bytes: {url}"[:500])
    declared = record.fields.get("content-type", "")
    response: Response | None = None
    if kind == "response" and not url.lower().startswith(("dns:", "whois:")):
        response = parse_response(record.block)
        if response is None:
            return reject("not_http", "a response without a status line")
        if response.status != 200:
            return set_aside("http_status", f"status {response.status}")
        declared = response.fields.get("content-type", "")
    response = response or Response(200, {}, record.block)
    mime, charset = media_type(declared)
    is_html = mime in _HTML or (mime in _UNSAID and _begins_like_html(response.body))
    if not is_html and mime != "text/plain":
        return set_aside("media_type", f"media type {mime or '(none)'}")
    try:
        body = decode_body(response, limits.record_bytes, limits.expansion)
    except BadBody as bad:
        return reject(bad.reason, bad.detail)
    keys: dict[str, Any] = {"url": url} if url else {}
    for name in ("warc-record-id", "warc-date", "warc-identified-content-language"):
        if name in record.fields:
            keys[name.replace("-", "_")] = record.fields[name]
    keys["warc_offset"] = record.offset
    return _Page(body, charset, keys, is_html, reject, record.size)


def _begins_like_html(body: bytes) -> bool:
    head = body[:512].lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"\xef\xbb\xbf<"))


def _batches(file: InputFile, found: Iterable[_Found], limits: ReadLimits) -> Iterator[Batch]:
    """Records of pages, in order, however many processes extract them."""
    from internlm_core.data.extraction import extract_pages

    builder = BatchBuilder(file.defaults, limits.batch_bytes)
    waiting: deque[_Found] = deque()

    def html() -> Iterator[tuple[bytes, str | None, str | None]]:
        for item in found:
            waiting.append(item)
            if isinstance(item, _Page) and item.is_html:
                yield item.body, item.keys.get("url"), item.charset
                item.body = b""

    def settle(item: _Found) -> None:
        if isinstance(item, Rejected):
            builder.reject(item)
        elif isinstance(item, _Skipped):
            builder.skip(item.reason)
        else:
            _add_text(builder, item)

    for result in extract_pages(html(), method=file.extraction, workers=limits.workers):
        while not (isinstance(item := waiting.popleft(), _Page) and item.is_html):
            settle(item)
        if result.extracted is None:
            builder.reject(item.reject(result.reason, result.detail or "no text to keep"))
        else:
            page = result.extracted
            _add(builder, item, page.text, page.meta, page.encoding, page.replaced)
        if builder.is_full:
            yield builder.take()
    while waiting:
        settle(waiting.popleft())
        if builder.is_full:
            yield builder.take()
    if not builder.is_empty:
        yield builder.take()


def _add_text(builder: BatchBuilder, page: _Page) -> None:
    read = decode(page.body, page.charset, html=False)
    _add(builder, page, read.text, {}, read.encoding, read.replaced)


def _add(
    builder: BatchBuilder,
    page: _Page,
    text: str,
    meta: dict[str, Any],
    encoding: str | None,
    replaced: int,
) -> None:
    keys = {**page.keys, **meta}
    if encoding is not None:
        keys["charset"] = encoding
    if replaced:
        keys["charset_replaced"] = replaced
        builder.count_repair("charset_replaced")
    # A path within a folder is no address, though `a.html` could be a host.
    address = normalise_url(keys.get("url", ""))
    if address is not None and (domain := registered_domain(address)) is not None:
        keys["domain"] = domain
    builder.add(text, keys, page.size)
