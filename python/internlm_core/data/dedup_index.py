"""Deduplication of dumps that come one after another: an index folder of what was kept so far.

    index.json            format, settings, segments with their files' digests; written last
    chunk-N.*             band keys, identities, keep order of the kept documents, from document N on
    records-N-M.parquet   their ids and texts, for exact confirmation and for names

A document of the index is never removed for a new one; a new one goes if it is like one of the index,
or like a new one that comes before it in keep order.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from internlm_core import _core
from internlm_core._config import load_config
from internlm_core._files import (
    atomic_path,
    file_digest,
    folder_lock,
    read_json,
    remove_leftovers,
    write_json,
)
from internlm_core.data.dedup_input import text_frame, text_frames
from internlm_core.data.dedup_on_disk import (
    Decisions,
    ParquetTexts,
    all_ids,
    as_frame,
    decide,
    sign,
    staged,
)
from internlm_core.data.near_duplicates import DedupConfig
from internlm_core.data.run_folder import disk_errors
from internlm_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from internlm_core.data.dedup_on_disk import Texts

__all__ = ["DedupIndex"]

FORMAT = 1

_MEMORY = 1_000_000_000
"""Bytes to work in where nothing else is said."""


class DedupIndex:
    """Documents that were kept so far, on disk; make one with `create`, `open` or `at`.

    Attributes:
        folder: Where it lies.
        config: What its documents were compared by.
    """

    def __init__(self, folder: Path, config: DedupConfig, manifest: dict[str, Any]) -> None:
        self.folder, self.config, self._manifest = folder, config, manifest

    @classmethod
    def create(cls, folder: str | Path, **settings: Any) -> DedupIndex:
        """Make an empty index.

        Args:
            folder: A new or empty folder.
            **settings: Fields of `DedupConfig`.

        Raises:
            ConfigError: A setting is impossible, or the folder holds something.
        """
        folder, config = Path(folder), load_config(DedupConfig, settings)
        if config.clusters != "greedy":
            raise ConfigError(
                "an index needs clusters='greedy': components could join documents of the index "
                "that are already in use"
            )
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if any(entry.name != ".lock" for entry in folder.iterdir()):
                raise ConfigError(f"{folder} is not empty; choose another folder for the index")
            index = cls(folder, config, {"segments": []})
            index._write_manifest([])
        return index

    @classmethod
    def open(cls, folder: str | Path, *, check: bool = True, **settings: Any) -> DedupIndex:
        """Open an index.

        Args:
            folder: Where it lies.
            check: Compare the digests of its files with their bytes.
            **settings: Fields of `DedupConfig` that it must have.

        Raises:
            DataError: There is none, it is of a newer format, or it is damaged; the file is named.
            ConfigError: It was made with other settings; they are named with both values.
        """
        folder = Path(folder)
        path = folder / "index.json"
        try:
            manifest = read_json(path)
            checksum = manifest.pop("checksum")
        except (OSError, orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: no index of documents ({path.name}: {error})") from None
        if manifest.get("format") != FORMAT:
            raise DataError(
                f"{path}: format {manifest.get('format')}, this version reads {FORMAT}; "
                "make the index anew"
            )
        if checksum != _checksum(manifest):
            raise DataError(f"{path}: damaged, its checksum does not fit; make the index anew")
        config = load_config(DedupConfig, manifest["settings"])
        index = cls(folder, config, manifest)
        if settings:
            index.require(load_config(DedupConfig, {**manifest["settings"], **settings}))
        if check:
            index._check_files()
        return index

    @classmethod
    def at(cls, folder: str | Path, config: DedupConfig) -> DedupIndex:
        """Open the index in a folder, or make it there.

        Raises:
            ConfigError: The one that is there was made with other settings.
            DataError: The one that is there is damaged.
        """
        if not (Path(folder) / "index.json").exists():
            return cls.create(folder, **_settings(config))
        index = cls.open(folder)
        index.require(config)
        return index

    def require(self, config: DedupConfig) -> None:
        """Raise a `ConfigError` that names each setting that differs, with both values."""
        mine, other = _settings(self.config), _settings(config)
        lines = [
            f"{name} is {mine[name]!r} there, {other[name]!r} now"
            for name in mine
            if mine[name] != other[name]
        ]
        if lines:
            raise ConfigError(
                f"the index {self.folder} was made with other settings: {'; '.join(lines)}. "
                "Use those, or make another index"
            )

    @property
    def documents(self) -> int:
        """How many documents it holds."""
        return sum(segment["documents"] for segment in self._manifest["segments"])

    @property
    def segments(self) -> pl.DataFrame:
        """`name` and `documents` of each addition, in order."""
        rows = [{k: s[k] for k in ("name", "documents")} for s in self._manifest["segments"]]
        return pl.DataFrame(rows, schema={"name": pl.String, "documents": pl.Int64})

    def query(self, data: Any, *, max_memory: int | None = None, threads: int = 0) -> pl.DataFrame:
        """Compare documents with the index and with each other, and change nothing.

        Args:
            data: As for `dedup`; a frame needs `id`.
            max_memory: Bytes to work in.
            threads: 0 means all cores.

        Returns:
            As `dedup`, with ids as strings; `duplicate_of` and `cluster` may be of the index.

        Raises:
            DataError: There are no ids or no texts, the index is damaged, or the disk is full.
        """
        return self._take(data, None, max_memory, threads)

    def add(
        self,
        data: Any,
        *,
        name: str = "",
        max_memory: int | None = None,
        threads: int = 0,
    ) -> pl.DataFrame:
        """As `query`, and the documents that stay become part of the index.

        Killed before it returns, it has added nothing.

        Args:
            data: As for `query`.
            name: What the addition is called in `segments`, for instance the dump's name.
            max_memory: Bytes to work in.
            threads: 0 means all cores.
        """
        return self._take(data, name, max_memory, threads)

    def fuse(
        self, other: DedupIndex, *, max_memory: int | None = None, threads: int = 0
    ) -> pl.DataFrame:
        """Add the documents of another index, which stays as it is; those of this one win.

        Raises:
            ConfigError: They were made with different settings.
        """
        self.require(other.config)
        if self.folder.resolve() == other.folder.resolve():
            raise ConfigError(f"{self.folder}: an index can't be fused with itself")
        texts: list[Texts] = list(other.texts())
        name = f"fused from {other.folder.name}"
        memory = max_memory or _MEMORY
        with self.locked(), self._temporary() as work:
            found = self.compare(texts, work, memory=memory, threads=threads, name=name)
            return as_frame(found, all_ids(texts))

    def texts(self, segments: int | None = None) -> list[ParquetTexts]:
        """The documents of the first `segments` segments, all by default."""
        chosen = self._manifest["segments"][:segments]
        names = [file["name"] for segment in chosen for file in segment["files"]]
        return [ParquetTexts(self.folder / name) for name in names if name.startswith("records-")]

    def _take(
        self, data: Any, name: str | None, max_memory: int | None, threads: int
    ) -> pl.DataFrame:
        memory = max_memory or _MEMORY
        streamed = isinstance(data, (str, os.PathLike, pl.LazyFrame))
        if isinstance(data, pl.LazyFrame):
            _require_ids(data.collect_schema().names())
        elif not streamed:
            _require_ids(getattr(data, "columns", None) or getattr(data, "column_names", ()))
        with self.locked(), self._temporary() as temporary:
            frames = text_frames(data, memory // 16) if streamed else text_frame(data)
            texts = staged(frames, temporary, memory)
            found = self.compare(texts, temporary / "w", memory=memory, threads=threads, name=name)
            return as_frame(found, all_ids(texts).cast(pl.String))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the index for this process, and clear what a killed one left.

        Raises:
            FolderBusyError: Another process holds it.
        """
        with folder_lock(self.folder):
            remove_leftovers(self.folder)
            yield

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=self.folder) as name:
            yield Path(name)

    def compare(
        self,
        texts: Sequence[Texts],
        work_folder: Path,
        *,
        memory: int,
        threads: int = 0,
        quiet: bool = True,
        name: str | None = None,
        token: str | None = None,
    ) -> Decisions:
        """Compare documents with the index, and add those that stay: `query` and `add` for stages.

        The caller holds `locked`.

        Args:
            texts: The documents.
            work_folder: Where the files of the work go; it goes on from them after a kill.
            memory: Bytes to work in.
            threads: 0 means all cores.
            quiet: Show no progress.
            name: What the addition is called; `None` adds nothing.
            token: Says which run this is: when it has been added before, the documents are compared
                with what was there before it, as then, and not added again.
        """
        known = [segment["token"] for segment in self._manifest["segments"]]
        before = known.index(token) if token is not None and token in known else len(known)
        earlier = self.texts(before)
        counts = [segment["documents"] for segment in self._manifest["segments"][:before]]
        work_folder.mkdir(parents=True, exist_ok=True)
        work = _core.DedupWork(
            str(work_folder),
            self.config.options(),
            memory,
            0,
            (str(self.folder), counts),
            threads,
        )
        sign(work, texts, self.config, memory, quiet=quiet)
        found = decide(work, texts, self.config, earlier=earlier, quiet=quiet)
        found.name_targets([*earlier, *texts], as_strings=True)
        if name is not None and before == len(known):
            self._add(work, texts, found, name, token)
        return found

    def _add(
        self,
        work: _core.DedupWork,
        texts: Sequence[Texts],
        found: Decisions,
        name: str,
        token: str | None,
    ) -> None:
        first = self.documents
        for path in self.folder.glob("records-*.parquet"):
            # What a killed addition left.
            if int(path.name.split("-")[1]) >= first:
                path.unlink()
        with disk_errors(self.folder):
            documents = work.add_to(str(self.folder), found.keep)
            start = number = 0
            for source in texts:
                keep = pl.Series(found.keep[found.fixed + start :][: source.rows])
                start += source.rows
                if keep.any():
                    self._write_records(source.read().filter(keep), first, number)
                    number += 1
            files = sorted(self._files_from(first))
            entries = [
                {
                    "name": path.name,
                    "bytes": path.stat().st_size,
                    # Chunks have a checksum of their own, which is compared whenever they are used.
                    "sha256": file_digest(path) if path.suffix == ".parquet" else None,
                }
                for path in files
            ]
            segment = {"name": name, "documents": documents, "token": token, "files": entries}
            self._write_manifest([*self._manifest["segments"], segment])

    def _write_records(self, frame: pl.DataFrame, first: int, number: int) -> None:
        frame = frame.with_columns(pl.col("id").cast(pl.String))
        path = self.folder / f"records-{first:010}-{number:06}.parquet"
        with atomic_path(path) as partial:
            frame.write_parquet(partial, compression="zstd", compression_level=3)

    def _files_from(self, first: int) -> list[Path]:
        found = [*self.folder.glob("records-*.parquet"), *self.folder.glob("chunk-*.*")]
        return [path for path in found if int(path.stem.split("-")[1]) >= first]

    def _write_manifest(self, segments: list[dict[str, Any]]) -> None:
        manifest = {"format": FORMAT, "settings": _settings(self.config), "segments": segments}
        write_json(self.folder / "index.json", {**manifest, "checksum": _checksum(manifest)})
        self._manifest = manifest

    def _check_files(self) -> None:
        for segment in self._manifest["segments"]:
            for file in segment["files"]:
                path = self.folder / file["name"]
                if not path.is_file():
                    raise DataError(f"{path}: missing from the index; restore it from a copy")
                if path.stat().st_size != file["bytes"]:
                    raise DataError(
                        f"{path}: damaged: {path.stat().st_size} bytes, not {file['bytes']}; "
                        "restore it from a copy"
                    )
                if file["sha256"] and file_digest(path) != file["sha256"]:
                    raise DataError(
                        f"{path}: damaged: its bytes are not those that were written (SHA-256); "
                        "restore it from a copy"
                    )


def _settings(config: DedupConfig) -> dict[str, Any]:
    """What an index depends on."""
    fields = DedupConfig.model_fields.keys() - {"max_memory"}
    return {name: getattr(config, name) for name in sorted(fields)}


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _require_ids(names: Any) -> None:
    if "id" not in list(names):
        raise DataError(
            "an index names documents by their ids: give a frame with the columns id and text"
        )
