"""HTTP responses as WARC files hold them: status, media type, and the body without its codings."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard

from internlm_core import _core
from internlm_core.data.readers.warc import parse_fields
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BadBody", "Response", "decode_body", "media_type", "parse_response"]

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b[^\n]*\n")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';,]+)", re.IGNORECASE)
_PLAUSIBLE = 1 << 20
"""Bytes that may come out whatever went in: the ratio tells nothing about less."""


class BadBody(Exception):  # noqa: N818 - a fault of the input, caught by the reader
    """A body that can't be decoded; `reason` is `bad_content_coding` or `too_large`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Response:
    """A response: status, header fields (names in lower case), body as it was sent."""

    status: int
    fields: dict[str, str]
    body: bytes


def media_type(content_type: str) -> tuple[str, str | None]:
    """Media type in lower case and charset label of a Content-Type header."""
    label = _CHARSET.search(content_type)
    return content_type.partition(";")[0].strip().lower(), label[1] if label else None


def parse_response(block: bytes) -> Response | None:
    """Split a response into its parts; `None` where it does not begin with a status line."""
    status = _STATUS.match(block)
    if status is None:
        return None
    # Without fields the blank line follows at once.
    end = _BLANK_LINE.search(block, status.end() - 2)
    if end is None:
        return Response(int(status[1]), parse_fields(block[status.end() :]), b"")
    return Response(
        int(status[1]), parse_fields(block[status.end() : end.start()]), block[end.end() :]
    )


def decode_body(response: Response, limit: int, expansion: float) -> bytes:
    """The body without transfer and content codings.

    Crawlers often decode a body and leave the header as it was: what does not look coded is taken
    as it is.

    Args:
        response: The response.
        limit: Most bytes that may come out.
        expansion: Most bytes that may come out for one that went in, beyond the first MiB.

    Raises:
        BadBody: The coding is damaged or unknown, or too much comes out.
    """
    body = response.body
    if "chunked" in response.fields.get("transfer-encoding", "").lower():
        body = _join_chunks(body)
    codings = response.fields.get("content-encoding", "").lower().replace(",", " ").split()
    for coding in reversed(codings):
        if body:
            body = _decode(body, coding.removeprefix("x-"), limit, expansion)
    if len(body) > limit:
        raise BadBody("too_large", f"{len(body):,} bytes, over max_record_bytes = {limit:,}")
    return body


def _join_chunks(body: bytes) -> bytes:
    """Chunks joined; the body itself where it is not in chunks; a cut last chunk as far as it goes."""
    pieces: list[bytes] = []
    at = 0
    while chunk := _CHUNK.match(body, at):
        size = int(chunk[1], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(body[chunk.end() : chunk.end() + size])
        at = chunk.end() + size
        if at >= len(body):
            return b"".join(pieces)
        end = re.compile(rb"\r?\n").match(body, at)
        if end is None:
            break
        at = end.end()
    return body


def _decode(body: bytes, coding: str, limit: int, expansion: float) -> bytes:
    most = min(limit, max(_PLAUSIBLE, int(len(body) * expansion)))
    try:
        decoder = _DECODERS[coding]
        decoded = decoder(body, most)
    except (KeyError, zlib.error, zstandard.ZstdError, DataError) as error:
        if _looks_like_text(body):
            return body
        why = "not known" if isinstance(error, KeyError) else str(error)
        raise BadBody("bad_content_coding", f"Content-Encoding {coding!r}: {why}") from None
    if decoded is None:
        setting = "max_record_bytes" if most == limit else "max_expansion"
        raise BadBody("too_large", f"more than {most:,} bytes of {coding} ({setting})")
    return decoded


def _looks_like_text(body: bytes) -> bool:
    head = body[:512]
    return not any(byte < 9 or 13 < byte < 27 for byte in head)


def _inflate(body: bytes, most: int) -> bytes | None:
    """Gzip or zlib, in several members too; a cut end gives what is there."""
    pieces: list[bytes] = []
    size = 0
    while body:
        engine = zlib.decompressobj(wbits=47)
        try:
            piece = engine.decompress(body, most - size + 1)
        except zlib.error:
            # Rubbish after a member costs nothing.
            if pieces:
                break
            raise
        pieces.append(piece)
        size += len(piece)
        if size > most:
            return None
        body = engine.unused_data
    return b"".join(pieces)


def _deflate(body: bytes, most: int) -> bytes | None:
    try:
        return _inflate(body, most)
    except zlib.error:
        # Many servers send it bare, without the zlib frame that the name stands for.
        piece = zlib.decompressobj(wbits=-15).decompress(body, most + 1)
        return piece if len(piece) <= most else None


def _zstd(body: bytes, most: int) -> bytes | None:
    with zstandard.ZstdDecompressor().stream_reader(body) as reader:
        piece = reader.read(most + 1)
    return piece if len(piece) <= most else None


def _as_it_is(body: bytes, most: int) -> bytes | None:
    return body if len(body) <= most else None


_DECODERS: dict[str, Callable[[bytes, int], bytes | None]] = {
    "gzip": _inflate,
    "deflate": _deflate,
    "br": _core.decode_brotli,
    "zstd": _zstd,
    "identity": _as_it_is,
    "none": _as_it_is,
    "utf-8": _as_it_is,
}
