"""Text for training, packing and measuring, out of files of any kind that holds some."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl

from internlm_core._lines import split_lines
from internlm_core._streams import StreamFault, read_blocks
from internlm_core.errors import DataError
from internlm_core.tokenizer.shards import Shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from internlm_core.tokenizer.tokenize import Tokenizer

__all__ = ["KINDS", "SetAside", "TextFile", "find_texts", "frames_of", "read_frames"]

KINDS = (".jsonl", ".ndjson", ".parquet", ".txt", ".md")
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_KEYS = ("text", "content")
"""Keys that hold the document, the first found wins (WanJuan writes `content`)."""
_BESIDE = ("id", "source", "lang")
ROWS = 4_000
# A frame is full with so much text, too: long documents would make 4,000 of them gigabytes.
_FRAME_BYTES = 16 << 20
# Parts of a long text file, where it need not stay one document.
_PART = 4 << 20
_MOST = 1 << 33
_SHOWN = 20


@dataclass(frozen=True)
class TextFile:
    """A file, or the folder of a token shard.

    Attributes:
        path: Where it is.
        kind: `parquet`, `jsonl`, `text` or `shard`.
        compression: `gzip`, `zstd` or `None`.
    """

    path: Path
    kind: str
    compression: str | None = None


@dataclass
class SetAside:
    """What gave no text: how much, and where the first were; the input still has all of it."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, where: str, why: str, count: int = 1) -> None:
        """Count what is at `where`."""
        self.count += count
        if len(self.first) < _SHOWN:
            self.first.append(f"{where}: {why}")


def find_texts(paths: Iterable[str | Path], *, any_kind: bool = False) -> list[TextFile]:
    """The files to read, those of a folder by name, hidden ones left out.

    Of a run folder of the data pipeline only `kept/` is read; a folder with `shard.json` is a token
    shard.

    Args:
        paths: Files and folders.
        any_kind: Whether a file that is named by itself and of no known kind is text.

    Raises:
        DataError: A path does not exist, is of another kind, or is a folder without any text.
    """
    files: list[TextFile] = []
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        found = list(_below(path)) if path.is_dir() else [file for file in [_file(path)] if file]
        if not found and any_kind and path.is_file():
            found = [TextFile(path, "text")]
        files += found
        if not found:
            known = ", ".join([*KINDS, ".jsonl.gz", ".jsonl.zst", "token shards"])
            raise DataError(f"{path}: no text there; what is read: {known}")
    return files


def _below(folder: Path) -> Iterator[TextFile]:
    if (folder / "shard.json").exists():
        yield TextFile(folder, "shard")
        return
    if (folder / "run.json").exists() and (folder / "kept").is_dir():
        folder = folder / "kept"
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _below(path)
        elif (file := _file(path)) is not None:
            yield file


def _file(path: Path) -> TextFile | None:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind not in KINDS or (kind == ".parquet" and compression):
        return None
    names = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    return TextFile(path, names.get(kind, "text"), compression)


def read_frames(
    files: Iterable[TextFile],
    *,
    tokenizer: Tokenizer | None = None,
    aside: SetAside | None = None,
    whole: bool = True,
) -> Iterator[pl.DataFrame]:
    """Frames of a few thousand documents with `text` and, where the files have them, `id`, `source`, `lang`.

    Args:
        files: Of `find_texts`.
        tokenizer: Decodes token shards; special tokens are left out.
        aside: Counts what can't be read: lines that are no object with a text, rows without one,
            the rest of a damaged file.
        whole: Whether a text file stays one document. Otherwise it comes in parts, cut where every
            pattern of ours cuts, so memory does not depend on its length.

    Raises:
        DataError: A file can't be opened or has no text at all, or a shard comes without its tokenizer.
    """
    aside = SetAside() if aside is None else aside
    for file in files:
        if file.kind == "parquet":
            yield from _parquet(file.path, aside)
        elif file.kind == "jsonl":
            yield from _jsonl(file, aside)
        elif file.kind == "shard":
            yield from _shard(file.path, tokenizer)
        else:
            yield from _text(file, aside, whole=whole)


def frames_of(
    records: Iterable[pl.DataFrame | str | Path],
    *,
    tokenizer: Tokenizer | None = None,
    aside: SetAside | None = None,
) -> Iterator[pl.DataFrame]:
    """As `read_frames`, from frames of records and paths."""
    for item in records:
        if isinstance(item, pl.DataFrame):
            if "text" not in item.columns:
                raise DataError(f"no column 'text'; the frame has {', '.join(item.columns)}")
            yield from item.iter_slices(ROWS)
        else:
            yield from read_frames(find_texts([item]), tokenizer=tokenizer, aside=aside)


def _parquet(path: Path, aside: SetAside) -> Iterator[pl.DataFrame]:
    try:
        scan = pl.scan_parquet(path, glob=False)
        names = scan.collect_schema().names()
        key = next((key for key in _KEYS if key in names), None)
        if key is None:
            raise DataError(f"{path}: no column 'text'; it has {', '.join(names)}")
        beside = [name for name in _BESIDE if name in names]
        chosen = scan.select(pl.col(key).cast(pl.String).alias("text"), *beside)
        for batch in chosen.collect_batches(chunk_size=ROWS, maintain_order=True):
            for frame in batch.iter_slices(ROWS):
                missing = frame["text"].null_count()
                if missing:
                    aside.add(str(path), f"{missing} rows whose {key!r} is null", missing)
                yield frame.drop_nulls("text")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: can't be read as Parquet: {error}") from None


def _blocks(file: TextFile, aside: SetAside) -> Iterator[bytes]:
    """Bytes of the file; of a damaged one what comes before the damage."""
    try:
        yield from read_blocks(file.path, file.compression)
    except StreamFault as fault:
        aside.add(str(file.path), f"{fault.reason}: {fault.detail}")
    except OSError as error:
        raise DataError(f"{file.path}: can't be read: {error.strerror}") from None


def _jsonl(file: TextFile, aside: SetAside) -> Iterator[pl.DataFrame]:
    rows: list[dict[str, str | None]] = []
    size = 0
    for line in split_lines(_blocks(file, aside), _MOST):
        if not line.data or line.data.isspace():
            continue
        row = _row(line.data.removeprefix(codecs.BOM_UTF8))
        if isinstance(row, str):
            aside.add(f"{file.path}:{line.number}", row)
            continue
        rows.append(row)
        size += line.size
        if len(rows) == ROWS or size > _FRAME_BYTES:
            yield _frame(rows)
            rows, size = [], 0
    if rows:
        yield _frame(rows)


def _row(data: bytes) -> dict[str, str | None] | str:
    """The columns of one line, or what is wrong with it."""
    try:
        value: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return f"no JSON ({error})"
    if not isinstance(value, dict):
        return "no JSON object"
    key = next((key for key in _KEYS if key in value), None)
    if key is None:
        return "neither 'text' nor 'content'"
    if not isinstance(value[key], str):
        return f"{key!r} is no string"
    row: dict[str, str | None] = {"text": value[key]}
    for name in _BESIDE:
        given = value.get(name)
        row[name] = given if given is None or isinstance(given, str) else str(given)
    return row


def _frame(rows: list[dict[str, str | None]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, dict.fromkeys(("text", *_BESIDE), pl.String))
    # An id for each, or none: a shard can't name some of its documents.
    return frame.drop([name for name in _BESIDE if frame[name].null_count()])


def _shard(path: Path, tokenizer: Tokenizer | None) -> Iterator[pl.DataFrame]:
    if tokenizer is None:
        raise DataError(f"{path}: a token shard; say which tokenizer made it, to read it as text")
    shard = Shard.open(path, fingerprint=tokenizer.fingerprint)
    special = np.array(list(tokenizer.special_tokens.values()), np.uint32)
    for start in range(0, len(shard), ROWS):
        texts = []
        for number in range(start, min(start + ROWS, len(shard))):
            ids = shard[number]
            texts.append(tokenizer.decode(ids[~np.isin(ids, special)]))
        frame = pl.DataFrame({"text": texts}, {"text": pl.String})
        names = shard.ids[start : start + ROWS]
        yield frame.with_columns(pl.Series("id", names, pl.String)) if names else frame


def _text(file: TextFile, aside: SetAside, *, whole: bool) -> Iterator[pl.DataFrame]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    held, size = [], 0
    for block in _blocks(file, aside):
        text = decoder.decode(block)
        held.append(text)
        size += len(text)
        if not whole and size >= _PART:
            part = "".join(held)
            cut = _border(part)
            if cut:
                yield pl.DataFrame({"text": [part[:cut]]})
            held, size = [part[cut:]], len(part) - cut
    rest = "".join([*held, decoder.decode(b"", final=True)])
    if rest:
        yield pl.DataFrame({"text": [rest]})


def _border(text: str) -> int:
    """Behind the last line end between what is no white space and a letter or digit. 0: none.

    There every pattern cuts, whatever follows. In a text with other line ends only, one of those.
    """
    at, other = text.rfind("\n"), 0
    while at > 0:
        if at + 1 < len(text) and text[at + 1].isalnum():
            if not text[at - 1].isspace():
                return at + 1
            other = other or at + 1
        at = text.rfind("\n", 0, at)
    return other if len(text) > 4 * _PART else 0


def texts_of(files: Sequence[TextFile], **options: Any) -> Iterator[pl.Series]:
    """Only the texts of `read_frames`."""
    for frame in read_frames(files, whole=False, **options):
        yield frame["text"]
