"""The demo's raw corpus: found text written out in the formats that real corpora come in.

Some documents are planted on purpose, so that the stages have something to find: edited copies
(near-duplicates, under an older snapshot name), exact copies, pages of noise, broken lines.
"""

from __future__ import annotations

import gzip
import random
from typing import TYPE_CHECKING

import orjson
import polars as pl
import zstandard

from internlm_core._files import atomic_folder
from internlm_core.demo import found_text
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from internlm_core.demo.config import CorpusConfig
    from internlm_core.demo.found_text import Document

__all__ = ["SNAPSHOT", "write_corpus"]

SNAPSHOT, OLDER_SNAPSHOT = "found-2", "found-1"


def write_corpus(out: Path, config: CorpusConfig, texts: Path | None, seed: int) -> dict[str, int]:
    """Write the raw files below `out`; returns documents and bytes by kind.

    Args:
        out: Folder to make; it appears whole or not at all.
        config: Sizes and counts.
        texts: Folder with the optional archives, or `None`.
        seed: Fixes which files are taken and what is planted.

    Raises:
        DataError: This machine has no text at all.
    """
    plays = list(found_text.play_scenes(texts))
    novel = list(found_text.novel_chapters(texts))
    topics = list(found_text.topics())
    readmes = _within(found_text.package_readmes(), config.readme_bytes, seed)
    code = _within(found_text.standard_library(), config.code_bytes, seed)
    modules = _modules_of_docstrings(found_text.docstrings())
    if not plays:
        # Without the archives the library's own text takes their place.
        code = _within(found_text.standard_library(), config.code_bytes * 3, seed)
    found = [*plays, *novel, *topics, *readmes, *code, *modules]
    if not found:
        raise DataError("no text found on this machine: the Python standard library is missing")
    planted = _plant([d for d in found if d.source != "readme"], config, random.Random(seed))
    with atomic_folder(out) as folder:
        for document in plays:
            _write_text(folder / f"{document.name}.md", document.text)
        for document in topics:
            _write_text(folder / f"{document.name}.txt", document.text)
        _write_jsonl_zst(folder / "novel.jsonl.zst", novel)
        _write_parquet(folder / "code.parquet", code)
        _write_jsonl_gz(folder / "docs.jsonl.gz", [*modules, *readmes])
        _write_planted(folder / "planted.jsonl", planted)
    kinds = {
        "plays": plays, "novel": novel, "topics": topics, "readmes": readmes,
        "code": code, "docstrings": modules, "planted": planted,
    }  # fmt: skip
    counts = {f"{kind}_documents": len(documents) for kind, documents in kinds.items()}
    sizes = {f"{kind}_bytes": sum(map(_size, documents)) for kind, documents in kinds.items()}
    return {**counts, **sizes}


def _size(document: Document) -> int:
    return len(document.text.encode())


def _within(documents: Iterable[Document], limit: int, seed: int) -> list[Document]:
    """A seeded choice of documents up to `limit` bytes, in their first order."""
    documents = list(documents)
    order = list(range(len(documents)))
    random.Random(seed).shuffle(order)
    chosen, total = [], 0
    for index in order:
        size = _size(documents[index])
        if total + size <= limit:
            chosen.append(index)
            total += size
    return [documents[index] for index in sorted(chosen)]


def _modules_of_docstrings(items: Iterable[found_text.Docstring]) -> list[Document]:
    """One reference page a module, made of its docstrings."""
    pages: dict[str, list[str]] = {}
    for item in items:
        page = f"**{item.name}**\n\n    {item.signature}\n\n{item.text}\n"
        pages.setdefault(item.module, []).append(page)
    return [
        found_text.Document(f"docstrings/{module}", f"# {module}\n\n" + "\n".join(parts), "docs")
        for module, parts in sorted(pages.items())
    ]


def _plant(found: list[Document], config: CorpusConfig, rng: random.Random) -> list[Document]:
    """Edited copies, exact copies and noise; `meta` says what was done, for whoever looks."""
    long_enough = [d for d in found if 1_000 <= len(d.text) <= 50_000]
    originals = rng.sample(
        long_enough, min(config.near_copies + config.exact_copies, len(long_enough))
    )
    planted = []
    for number, document in enumerate(originals):
        near = number < config.near_copies
        text = _edited(document.text, rng) if near else document.text
        meta = {"planted": "near-copy" if near else "copy", "copy_of": document.name}
        planted.append(found_text.Document(f"planted/{number:03}", text, document.source, meta))
    for number in range(config.noise_pages):
        text = _noise(number, rng)
        name = f"noise/{number:03}"
        planted.append(found_text.Document(name, text, "webpages", {"planted": "noise"}))
    return planted


def _edited(text: str, rng: random.Random) -> str:
    """Replace one line in fifty (at least one) by another of the same text."""
    lines = text.split("\n")
    for _ in range(max(1, len(lines) // 50)):
        lines[rng.randrange(len(lines))] = rng.choice(lines)
    return "\n".join(lines)


def _noise(number: int, rng: random.Random) -> str:
    """Pages of the kinds that crawls are full of: menus, keyword lists, broken characters."""
    words = ["home", "login", "cart", "offer", "click", "here", "best", "price", "free", "next"]
    if number % 3 == 0:
        return "\n".join(f"- {rng.choice(words)}" for _ in range(120))
    if number % 3 == 1:
        return " ".join(rng.choice(words) for _ in range(60)) * 12
    return "".join(rng.choice("#$%&*@~^|\\<>{}") for _ in range(2_000))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _row(document: Document) -> dict[str, object]:
    url = f"found:///{document.name}"
    return {"text": document.text, "source": document.source, "url": url, **document.meta}


def _write_jsonl_zst(path: Path, documents: list[Document]) -> None:
    lines = b"".join(orjson.dumps(_row(d)) + b"\n" for d in documents)
    path.write_bytes(zstandard.ZstdCompressor().compress(lines))


def _write_jsonl_gz(path: Path, documents: list[Document]) -> None:
    lines = b"".join(orjson.dumps(_row(d)) + b"\n" for d in documents)
    path.write_bytes(gzip.compress(lines, mtime=0))


def _write_parquet(path: Path, documents: list[Document]) -> None:
    schema = {"text": pl.String, "source": pl.String, "url": pl.String}
    pl.DataFrame([_row(d) for d in documents], schema=schema).write_parquet(path)


def _write_planted(path: Path, documents: list[Document]) -> None:
    lines = [orjson.dumps({**_row(d), "snapshot": OLDER_SNAPSHOT}) for d in documents]
    # What a real crawl holds as well: a cut line, a wrong type, bytes that are no UTF-8.
    lines[1:1] = [b'{"text": "cut off in the mid', b'{"text": 42}', b'{"text": "bad \xff byte"}']
    path.write_bytes(b"\n".join(lines) + b"\n")
