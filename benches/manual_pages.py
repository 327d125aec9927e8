"""Manual pages in many languages, from Debian's packages that `make texts` fetches: labelled text."""

from __future__ import annotations

import gzip
import io
import random
import re
import tarfile
from typing import TYPE_CHECKING

from benches.corpus import ARCHIVES, SEED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["labelled"]

_FOLDERS = {"zh_CN": "zh", "zh_TW": "zh", "pt_BR": "pt"}
_ESCAPE = re.compile(r"\\(?:f(?:\[[^\]]*\]|\(..|.)|s[+-]?\d+|\*?\[[^\]]*\]|\*?\(..|[&%/,|^:])")
_ENGLISH = {"the", "of", "and", "is"}
_FEWEST_LETTERS = 40
_OTHER_SCRIPT = {"zh", "ja", "ru", "uk", "el", "mk", "sr"}


def labelled(per_language: int, *, whole: bool) -> tuple[list[str], list[str]]:
    """Texts and their languages, the same each time; nothing where no archive is.

    Args:
        per_language: Most texts of a language.
        whole: Whole pages, else paragraphs of at least 40 letters.
    """
    pages: dict[str, list[list[str]]] = {}
    for archive in sorted(ARCHIVES.glob("manpages-*.deb")):
        for lang, page in _pages(archive):
            kept = [p for p in page if _is_translated(p, lang)]
            if len(kept) * 2 > len(page):
                pages.setdefault(lang, []).append(kept)
    texts, labels = [], []
    for lang, found in sorted(pages.items()):
        own = ["\n\n".join(p) for p in found] if whole else [text for p in found for text in p]
        own = [
            text for text in dict.fromkeys(own) if sum(map(str.isalpha, text)) >= _FEWEST_LETTERS
        ]
        random.Random(SEED).shuffle(own)
        texts += own[:per_language]
        labels += [lang] * len(own[:per_language])
    return texts, labels


def _is_translated(text: str, lang: str) -> bool:
    """Whether a paragraph is no English one that was left as it is, and no list of options."""
    words = text.lower().split()
    if text.startswith(("-", "[", "<")):
        return False
    letters = [c for c in text if c.isalpha()]
    if sum(word in _ENGLISH for word in words) >= 0.08 * len(words):
        return False
    return lang not in _OTHER_SCRIPT or 2 * sum(c > "\x7f" for c in letters) > len(letters)


def _pages(archive: Path) -> Iterator[tuple[str, list[str]]]:
    """Language and paragraphs of each page."""
    data, at = archive.read_bytes(), 8
    while at < len(data):
        # An ar archive: a name of 16 bytes, and the size in digits at 48.
        name, size = data[at : at + 16].decode().strip(), int(data[at + 48 : at + 58])
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(data[at + 60 : at + 60 + size])) as tar:
                for member in tar:
                    if not (member.isfile() and member.name.endswith(".gz")):
                        continue
                    _, _, path = member.name.partition("/man/")
                    folder = path.split("/")[0]
                    file = tar.extractfile(member)
                    if file is None or not path:
                        continue
                    try:
                        text = gzip.decompress(file.read()).decode()
                    except UnicodeDecodeError:
                        continue
                    yield _FOLDERS.get(folder, folder), _paragraphs(text)
        at += 60 + size + size % 2


def _paragraphs(roff: str) -> list[str]:
    """Running text between macros, without font changes; what has other escapes is left out."""
    found: list[str] = []
    lines: list[str] = []
    for line in [*roff.split("\n"), "."]:
        if line[:1] not in (".", "'") and line.strip():
            lines.append(line)
        elif lines:
            text = " ".join(lines).replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "/")
            text = _ESCAPE.sub("", text).strip()
            if "\\" not in text:
                found.append(text)
            lines = []
    return found
