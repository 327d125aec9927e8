"""Bytes of unknown encoding to text."""

from __future__ import annotations

from typing import NamedTuple

from internlm_core import _core

__all__ = ["Decoded", "decode"]


class Decoded(NamedTuple):
    """Text, and how it was read.

    Attributes:
        text: The text, without a byte-order mark at its start.
        encoding: Name by the WHATWG Encoding Standard in lower case (`utf-8`, `gb18030`, …).
        replaced: How many U+FFFD in `text` stand for bytes that are no text in this encoding.
        evidence: What settled the encoding: `bom`, `http`, `meta` or `content`.
    """

    text: str
    encoding: str
    replaced: int
    evidence: str


def decode(data: bytes, http_charset: str | None = None, html: bool = True) -> Decoded:
    """Decode bytes; never fails, for what can't be read costs one U+FFFD and is counted.

    A byte-order mark is believed before the label of the HTTP header, that before what the page
    says in `<meta>` or an XML declaration, and that before what the bytes look like. A label that
    the bytes contradict (more than 1 % of U+FFFD, or valid UTF-8 under another name) is passed
    over. Labels mean what the WHATWG Encoding Standard says: `gb2312` and `gbk` are gb18030,
    `iso-8859-1` is windows-1252, `shift_jis` is windows-31j.

    Args:
        data: The bytes.
        http_charset: The `charset` parameter of the Content-Type header; an unknown one is ignored.
        html: Whether the bytes may name their encoding themselves.
    """
    return Decoded(*_core.decode_bytes(data, http_charset, html))
