"""Finding input files: folders, globs and single files become one ordered list."""

from __future__ import annotations

import glob
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from internlm_core.data.records import RecordDefaults
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FoundFiles", "InputFile", "SourceSpec", "find_files"]

_KINDS = {
    ".txt": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".warc": "warc",
    ".wet": "warc",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_NEVER_COMPRESSED = ("parquet", "pdf")
"""They compress by themselves; a .parquet.gz has no reader here or elsewhere."""


@dataclass(frozen=True)
class SourceSpec:
    """One entry of a corpus: where its files are and what their records are called.

    Attributes:
        path: A file, a folder (read recursively), or a glob pattern; relative to `base`.
        source: Name of the source for records that don't carry one; default: the path's stem.
        lang: Language of records that don't carry one (ISO 639-1).
        snapshot: Crawl or dump of records that don't carry one.
        text_key: Key that holds the text, where it is neither `text` nor `content`.
        extraction: How the main text of HTML pages is found: `trafilatura`, `resiliparse`, `hybrid`.
    """

    path: str
    source: str | None = None
    lang: str | None = None
    snapshot: str | None = None
    text_key: str | None = None
    extraction: str = "trafilatura"


@dataclass(frozen=True)
class InputFile:
    """One file to read.

    Attributes:
        path: Where it is.
        name: What reports call it: the path as it was given, `/` between parts.
        url: Its path within its folder, the address of a record that has no other.
        kind: `text`, `jsonl`, `parquet`, `warc`, `html` or `pdf`.
        compression: `gzip`, `zstd` or `None`.
    """

    path: Path
    name: str
    url: str
    kind: str
    compression: str | None
    defaults: RecordDefaults
    text_key: str | None = None
    extraction: str = "trafilatura"


@dataclass
class FoundFiles:
    """The files of a corpus in reading order, and files in its folders of kinds we don't read."""

    files: list[InputFile] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def _kind_of(path: Path) -> tuple[str, str | None] | None:
    """Kind and compression by the file's name; `None` for a kind we don't read."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression is not None:
        suffixes.pop()
    kind = _KINDS.get(suffixes[-1]) if suffixes else None
    return (
        None if kind is None or (kind in _NEVER_COMPRESSED and compression) else (kind, compression)
    )


def find_files(specs: Iterable[SourceSpec], base: str | Path = ".") -> FoundFiles:
    """List the files of a corpus, sorted within each entry, hidden ones left out.

    A file that two entries name belongs to the first.

    Raises:
        DataError: A path doesn't exist, a pattern matches nothing, or a file named by itself is of
            a kind that has no reader.
    """
    found, seen = FoundFiles(), set()
    for spec in specs:
        for file in _files_of(spec, Path(base), found.skipped):
            real = file.path.resolve()
            if real not in seen:
                seen.add(real)
                found.files.append(file)
    return found


def _files_of(spec: SourceSpec, base: Path, skipped: Counter[str]) -> list[InputFile]:
    top = base / spec.path
    if top.is_dir():
        return _files_below(spec, top, skipped)
    if os.path.lexists(top):
        return [_named_file(spec, top, Path(spec.path))]
    if not glob.has_magic(spec.path):
        raise DataError(f"{top}: no such file or folder; check the path of this source")
    matches = sorted(Path(match) for match in glob.glob(str(top), recursive=True))  # noqa: PTH207 - absolute too
    files = []
    for match in matches:
        given = Path(os.path.relpath(match, base)) if not Path(spec.path).is_absolute() else match
        if match.is_file() and not match.name.startswith("."):
            files.append(_named_file(spec, match, given))
        elif match.is_dir() and not spec.path.endswith("**"):
            files += _files_below(spec, match, skipped)
    if not files:
        raise DataError(f"{top}: the pattern matches no file; check the path of this source")
    return files


def _named_file(spec: SourceSpec, path: Path, given: Path) -> InputFile:
    kind = _kind_of(path)
    if kind is None:
        known = ", ".join([*_KINDS, ".jsonl.gz", ".jsonl.zst"])
        raise DataError(f"{path}: no reader for this kind of file; known are {known}")
    return _input_file(spec, path, given.as_posix(), path.name, kind)


def _files_below(spec: SourceSpec, top: Path, skipped: Counter[str]) -> list[InputFile]:
    files = []
    for folder, folders, names in os.walk(top):
        # Sorting in place fixes the order in which `walk` goes down.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            kind = _kind_of(path)
            if name.startswith("."):
                continue
            if kind is None:
                skipped[path.suffix.lower() or "(no suffix)"] += 1
                continue
            below = path.relative_to(top).as_posix()
            files.append(_input_file(spec, path, (Path(spec.path) / below).as_posix(), below, kind))
    return files


def _input_file(
    spec: SourceSpec, path: Path, name: str, url: str, kind: tuple[str, str | None]
) -> InputFile:
    source = spec.source or Path(spec.path.rstrip("/")).name.split(".")[0].strip("*") or "corpus"
    defaults = RecordDefaults(source, spec.lang, spec.snapshot)
    return InputFile(path, name, url, *kind, defaults, spec.text_key, spec.extraction)
