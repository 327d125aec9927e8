"""JSON lines: one bad line costs one line, whatever is wrong with it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import orjson

from internlm_core._lines import split_lines
from internlm_core._streams import StreamFault, read_blocks
from internlm_core.data.records import TEXT_KEYS, BatchBuilder, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from internlm_core._lines import Line
    from internlm_core.data.readers.files import InputFile
    from internlm_core.data.records import Batch

__all__ = ["read_jsonl"]

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class _BadLine(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read_jsonl(
    file: InputFile,
    batch_bytes: int,
    line_bytes: int,
    expansion: float = float("inf"),
    rest: tuple[int, int, Iterable[bytes]] | None = None,
) -> Iterator[Batch]:
    """Read a `.jsonl` file, plain, gzip or zstd.

    Args:
        file: The file.
        batch_bytes: Bytes of lines in a batch.
        line_bytes: Longest line that is read; a longer one is rejected.
        expansion: Most bytes that may come out for a compressed one (see `read_blocks`).
        rest: What is left to be read, if not all: number and offset of its first line, its bytes.
    """
    number, offset, blocks = rest or (
        1,
        0,
        read_blocks(file.path, file.compression, expansion=expansion),
    )
    builder = BatchBuilder(file.defaults, batch_bytes)
    keys = (file.text_key,) if file.text_key else TEXT_KEYS
    fault: StreamFault | OSError | None = None

    def blocks_before_fault() -> Iterator[bytes]:
        nonlocal fault
        try:
            yield from blocks
        except (StreamFault, OSError) as error:
            fault = error

    end = offset
    for line in split_lines(blocks_before_fault(), line_bytes, number, offset):
        end = line.offset + line.size
        try:
            _add_line(builder, line, keys, line_bytes)
        except _BadLine as bad:
            cut = fault is not None and not line.ended
            reason = "truncated_line" if cut else bad.reason
            builder.reject(
                Rejected.of_line(
                    file.name, reason, bad.detail, line.number, line.offset, line.data, line.size
                )
            )
        if builder.is_full:
            yield builder.take()
    if isinstance(fault, StreamFault):
        builder.reject(Rejected.of_file(file.name, fault.reason, fault.detail, end))
    elif fault is not None:
        detail = f"{fault.strerror}; make the file readable and use a new run folder"
        builder.reject(Rejected.of_file(file.name, "unreadable_file", detail, end))
    if not builder.is_empty:
        yield builder.take()


def _add_line(builder: BatchBuilder, line: Line, keys: tuple[str, ...], limit: int) -> None:
    if line.size > limit:
        raise _BadLine(
            "too_large", f"{line.size:,} bytes, over the limit max_record_bytes = {limit:,}"
        )
    data = line.data
    if line.number == 1 and data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
        builder.count_repair("bom")
    if not data or data.isspace():
        return
    try:
        row = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        row, surrogates = _parse_leniently(data, error)
        if surrogates:
            builder.count_repair("surrogate")
    if not isinstance(row, dict):
        raise _BadLine("not_an_object", f"a JSON {_json_name(row)} instead of an object")
    for key in keys:
        if key in row:
            text = row.pop(key)
            break
    else:
        named = " or ".join(repr(key) for key in keys)
        raise _BadLine("text_missing", f"no key {named} among {', '.join(list(row)[:8]) or 'none'}")
    if text is None:
        raise _BadLine("text_missing", f"{key!r} is null")
    if not isinstance(text, str):
        raise _BadLine("text_not_a_string", f"{key!r} is a {_json_name(text)}")
    builder.add(text, row, line.size)


def _parse_leniently(data: bytes, error: orjson.JSONDecodeError) -> tuple[Any, bool]:
    """What Python's own writers produce but JSON forbids: lone surrogates (mended), NaN (null)."""
    try:
        text = data.decode()
    except UnicodeDecodeError as wrong:
        raise _BadLine(
            "invalid_utf8", f"byte 0x{data[wrong.start]:02x} at {wrong.start} of the line"
        ) from None
    try:
        value = json.loads(text, parse_constant=lambda _: None)
        plain = json.dumps(value, ensure_ascii=False)
        mended = _LONE_SURROGATE.sub("\ufffd", plain)
        return orjson.loads(mended), mended != plain
    except (ValueError, RecursionError):
        raise _BadLine("broken_json", str(error)) from None


def _json_name(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
