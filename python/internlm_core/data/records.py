"""The record: one document with its identity and origin, and what could not become one.

Columns of a record frame, in order (`SCHEMA`):

| column | type | meaning |
|---|---|---|
| id | String | 32 hex digits, xxh3-128 of source, url and text |
| text | String | the document, valid UTF-8 without NUL and byte-order marks |
| source | String | kind of corpus: webpages, books, techlit, code, … |
| url | String | address, or the path of a file within its folder; may be null |
| lang | String | ISO 639-1 code, null until it is known |
| lang_score | Float32 | certainty of `lang`, 0 to 1; null where it was given, not detected |
| snapshot | String | name of the crawl or dump; the newest wins in deduplication |
| meta | String | JSON object with every key of the input that is not ours; null when empty |
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from internlm_core import _core

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SCHEMA",
    "TEXT_KEYS",
    "Batch",
    "BatchBuilder",
    "RecordDefaults",
    "Rejected",
    "join_meta",
    "normalise_urls",
    "repair_text",
    "with_ids",
]

SCHEMA: dict[str, type[pl.DataType]] = {
    "id": pl.String,
    "text": pl.String,
    "source": pl.String,
    "url": pl.String,
    "lang": pl.String,
    "lang_score": pl.Float32,
    "snapshot": pl.String,
    "meta": pl.String,
}

TEXT_KEYS = ("text", "content")
"""Keys that hold the document, the first found wins (WanJuan writes `content`)."""

_LANGUAGE = re.compile(r"[a-z]{2}")
_RAW_LIMIT = 64 * 1024
"""Bytes of a rejected line that are kept beside its address; the input has the rest."""


@dataclass(frozen=True)
class Rejected:
    """A line, row or file that gave no record, with its address and the reason.

    Attributes:
        file: Name of the input file.
        reason: A stable word: `invalid_utf8`, `broken_json`, `not_an_object`, `text_missing`,
            `text_not_a_string`, `too_large`, `truncated_line`, `truncated_file`, `damaged_file`,
            `trailing_garbage`, `unreadable_file`, `no_text_column`, …; docs/pipeline.md has them all.
        detail: What was found and, where there is one, the remedy.
        line: Physical line or row, counted from 1; `None` for a fault of the file.
        offset: Offset in bytes in the decompressed file; `None` where it has no meaning.
        raw: The bytes themselves, cut at 64 KiB.
        size: Length of the line in bytes before the cut.
        is_record: Whether this stands for a record of the input; a fault of a file does not.
    """

    file: str
    reason: str
    detail: str
    line: int | None = None
    offset: int | None = None
    raw: bytes = b""
    size: int = 0
    is_record: bool = True

    @classmethod
    def of_line(
        cls,
        file: str,
        reason: str,
        detail: str,
        line: int | None,
        offset: int | None,
        raw: bytes,
        size: int,
    ) -> Rejected:
        """A line, row or document; `raw` is what is at hand of its `size` bytes."""
        return cls(file, reason, detail, line, offset, raw[:_RAW_LIMIT], size)

    @classmethod
    def of_file(cls, file: str, reason: str, detail: str, offset: int | None = None) -> Rejected:
        """A fault of a whole file, or of its rest from `offset` on."""
        return cls(file, reason, detail, offset=offset, is_record=False)

    def to_json(self) -> bytes:
        """One JSON line: `raw` where the bytes are UTF-8, `raw_base64` where they are not."""
        entry: dict[str, Any] = {"file": self.file, "line": self.line, "offset": self.offset}
        entry |= {"reason": self.reason, "detail": self.detail, "bytes": self.size}
        entry["is_record"] = self.is_record
        if len(self.raw) < self.size:
            entry["raw_cut"] = True
        try:
            entry["raw"] = self.raw.decode()
        except UnicodeDecodeError:
            entry["raw_base64"] = base64.b64encode(self.raw).decode()
        return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True)
class RecordDefaults:
    """What a record gets where its input does not say: see `SCHEMA`."""

    source: str
    lang: str | None = None
    snapshot: str | None = None


@dataclass
class Batch:
    """Records read together, what was rejected between them, and how many texts were mended."""

    records: pl.DataFrame
    rejected: list[Rejected] = field(default_factory=list)
    repaired: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    """Records of a container that are no documents, by kind."""


class BatchBuilder:
    """Collects records until a batch is full.

    Args:
        defaults: Values for what the input leaves out.
        limit: Bytes of text (and of rejected lines) after which the batch is full.
    """

    def __init__(self, defaults: RecordDefaults, limit: int) -> None:
        self._defaults, self._limit = defaults, limit
        self._clear()

    def _clear(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA}
        self._rejected: list[Rejected] = []
        self._repaired: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether the batch has reached its limit."""
        return self._bytes >= self._limit

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._rejected and not self._columns["text"] and not self._skipped

    def add(self, text: str, keys: Mapping[str, Any], size: int) -> None:
        """Add a record: its text, its other keys, and the bytes it took in the input."""
        row = _split_keys(keys, self._defaults)
        row["text"] = text
        for name, values in self._columns.items():
            values.append(row[name])
        self._bytes += size

    def reject(self, rejected: Rejected) -> None:
        """Set a line aside."""
        self._rejected.append(rejected)
        self._bytes += len(rejected.raw)

    def count_repair(self, kind: str) -> None:
        """Note that a text was mended on the way in."""
        self._repaired[kind] += 1

    def skip(self, kind: str) -> None:
        """Count something that is no document."""
        self._skipped[kind] += 1

    def take(self) -> Batch:
        """Give what was collected and start anew."""
        frame, repaired = repair_text(pl.DataFrame(self._columns, schema=SCHEMA))
        frame = with_ids(normalise_urls(frame))
        batch = Batch(frame, self._rejected, self._repaired + repaired, self._skipped)
        self._clear()
        return batch


def _split_keys(keys: Mapping[str, Any], defaults: RecordDefaults) -> dict[str, Any]:
    """Our columns from `keys`; what is not ours, or has an impossible type, goes into `meta`."""
    row: dict[str, Any] = {
        "id": None,
        "source": defaults.source,
        "url": None,
        "lang": defaults.lang,
        "lang_score": None,
        "snapshot": defaults.snapshot,
        "meta": None,
    }
    meta: Any = None
    foreign: dict[str, Any] = {}
    for key, value in keys.items():
        if key == "meta":
            meta = value
        elif (
            (key in ("source", "url", "snapshot") and isinstance(value, str))
            or (key == "lang" and isinstance(value, str) and _LANGUAGE.fullmatch(value))
            or (key == "lang_score" and isinstance(value, float))
        ):
            row[key] = value
        elif key in row and value is None:
            continue
        else:
            foreign[key] = value
    row["meta"] = join_meta(meta, foreign)
    return row


def join_meta(meta: Any, foreign: dict[str, Any]) -> str | None:
    """The record's own `meta` (an object, or JSON text of one) joined with its foreign keys."""
    if isinstance(meta, str):
        try:
            parsed = orjson.loads(meta)
        except orjson.JSONDecodeError:
            parsed = None
        if isinstance(parsed, dict):
            if not foreign:
                return meta if parsed else None
            meta = parsed
    if meta is not None:
        overlap = not isinstance(meta, dict) or not meta.keys().isdisjoint(foreign)
        foreign = {**foreign, "meta": meta} if overlap else {**meta, **foreign}
    return orjson.dumps(foreign).decode() if foreign else None


def repair_text(frame: pl.DataFrame) -> tuple[pl.DataFrame, Counter[str]]:
    """Remove NUL characters and byte-order marks from `text`; returns how many texts had them."""
    marks = {"nul": "\0", "bom": "\ufeff"}
    text = pl.col("text")
    found = frame.select(
        text.str.contains(mark, literal=True).sum().alias(kind) for kind, mark in marks.items()
    ).row(0, named=True)
    repaired: Counter[str] = Counter()
    for kind, mark in marks.items():
        if found[kind]:
            repaired[kind] = found[kind]
            text = text.str.replace_all(mark, "", literal=True)
    return (frame.with_columns(text) if repaired else frame), repaired


def normalise_urls(frame: pl.DataFrame) -> pl.DataFrame:
    """Give web addresses in `url` one spelling; where that changed one, `meta` has `url_found`."""
    found = frame["url"]
    normal = pl.Series(_core.normalise_urls(found)).alias("url")
    changed = (normal != found).fill_null(value=False).arg_true()
    if not len(changed):
        return frame
    meta = frame["meta"].to_list()
    for row in changed:
        meta[row] = join_meta(meta[row], {"url_found": found[row]})
    return frame.with_columns(
        pl.coalesce(normal, found).alias("url"), pl.Series("meta", meta, dtype=pl.String)
    )


def with_ids(frame: pl.DataFrame, threads: int = 0) -> pl.DataFrame:
    """Give each record its id, the hash of its source, url and text; columns as in `SCHEMA`.

    The id is always that of what is stored. Another one that a record came with, in a column `id`
    of `frame`, is kept in `meta`.
    """
    ids = _core.record_ids(frame["source"], frame["url"], frame["text"], threads)
    own = pl.Series(ids).alias("id")  # polars takes the name from Arrow, which has none
    if "id" in frame.columns:
        foreign = (frame["id"] != own).fill_null(value=False).arg_true()
        if len(foreign):
            meta = frame["meta"].to_list()
            for row in foreign:
                meta[row] = join_meta(meta[row], {"id": frame[row, "id"]})
            frame = frame.with_columns(pl.Series("meta", meta, dtype=pl.String))
    return frame.with_columns(own).select(list(SCHEMA))
