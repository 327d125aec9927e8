"""Texts to measure on: what this machine has, and staged texts where they lie; always the same.

Found: the standard library's sources, `pydoc`'s topics, READMEs of installed packages, and plays
and a novel out of the archives that `make texts` fetches. Staged, in the folder that
`INTERNLM_TEST_DATA` names (or ../shared/data): encyclopaedia summaries, plays, Chinese reviews.
Setting `INTERNLM_TEST_DATA` to nothing leaves the staged ones out.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_core.demo import found_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Texts", "chinese", "code", "english", "mixed", "staged_folder"]

ROOT = Path(__file__).resolve().parent.parent
ARCHIVES = ROOT / ".cache" / "texts"
SEED = 20_240_326
# Long documents are cut, so that a few of them are not the whole corpus.
_LONGEST = 20_000


@dataclass(frozen=True)
class Texts:
    """Documents in a fixed order."""

    texts: list[str]
    source: str

    @property
    def size(self) -> int:
        """Bytes in UTF-8."""
        return sum(len(text.encode()) for text in self.texts)

    def facts(self) -> dict[str, Any]:
        """What a row says about its input."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(text.encode() + b"\0")
        return {
            "n": len(self.texts),
            "bytes": self.size,
            "source": self.source,
            "digest": digest.hexdigest()[:16],
        }

    def halves(self) -> tuple[Texts, Texts]:
        """Every other document, and the rest."""
        return Texts(self.texts[::2], self.source), Texts(self.texts[1::2], self.source)


def staged_folder() -> Path | None:
    """Folder of staged texts and tokenizers, if there is one."""
    named = os.environ.get("INTERNLM_TEST_DATA")
    if named == "":
        return None
    folder = ROOT.parent / "shared" / "data" if named is None else Path(named)
    return folder if folder.is_dir() else None


def english(size: int) -> Texts:
    """Prose: encyclopaedia and plays where staged; plays, topics, READMEs and docstrings."""
    staged, found = _staged_english(), _found_english()
    return _choose(f"{'staged' if staged else 'found'} English", [*staged, *found], size)


def chinese(size: int) -> Texts:
    """Prose: reviews where staged, and chapters of a novel."""
    staged = _staged_chinese()
    chapters = [d.text for d in found_text.novel_chapters(ARCHIVES)]
    return _choose(f"{'staged' if staged else 'found'} Chinese", [*staged, *chapters], size)


def code(size: int) -> Texts:
    """Python: the standard library's sources."""
    return _choose("Python sources", [d.text for d in found_text.standard_library()], size)


def mixed(size: int) -> Texts:
    """Half English, a quarter each of Chinese and code (by bytes, as far as there is enough)."""
    parts = [english(size // 2), chinese(size // 4), code(size // 4)]
    texts = [text for part in parts for text in part.texts]
    random.Random(SEED).shuffle(texts)
    return Texts(texts, ", ".join(part.source for part in parts if part.texts))


def _staged_english() -> list[str]:
    folder = staged_folder()
    if folder is None:
        return []
    texts = []
    articles = folder / "text" / "en" / "wiki_summaries_en.json.gz"
    if articles.is_file():
        with gzip.open(articles) as file:
            values = json.load(file).values()
        texts += [value["extract"] for value in values if value["extract"]]
    for path in sorted((folder / "text" / "en" / "openshakespeare").glob("*.txt")):
        texts.append(path.read_text("utf-8", errors="replace"))
    return texts


def _found_english() -> list[str]:
    documents = [
        *found_text.play_scenes(ARCHIVES),
        *found_text.topics(),
        *found_text.package_readmes(),
    ]
    docstrings = [item.text for item in found_text.docstrings() if len(item.text) > 400]
    return [document.text for document in documents] + docstrings


def _staged_chinese() -> list[str]:
    folder = staged_folder()
    if folder is None:
        return []
    texts = []
    for name in ("reviews_pos", "reviews_neg"):
        path = folder / "text" / "zh" / f"{name}.txt.gz"
        if path.is_file():
            texts += [line for line in _lines(path) if len(line) >= 60]
    return texts


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            yield line.rstrip("\n")


def _choose(source: str, texts: Sequence[str], size: int) -> Texts:
    """A seeded choice of pieces up to `size` bytes."""
    pieces = [
        text[start : start + _LONGEST] for text in texts for start in range(0, len(text), _LONGEST)
    ]
    random.Random(SEED).shuffle(pieces)
    chosen, total = [], 0
    for piece in pieces:
        if total >= size:
            break
        if piece.strip():
            chosen.append(piece)
            total += len(piece.encode())
    return Texts(chosen, source)
