"""Repairs on a page's text nodes: formulas between delimiters, lines of Chinese."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from internlm_core.data.extraction.tree import INLINE

if TYPE_CHECKING:
    from internlm_core.data.extraction.keep import Keep

__all__ = ["HAS_WIDE", "holds_tex", "join_chinese_lines", "put_away_tex", "tex"]

_WIDE = r"\u2e80-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"
HAS_WIDE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
"""Finds Chinese or Japanese."""
_INNER = re.compile(rf"(?<=[{_WIDE}])[ \t\r]*\n[ \t\r\n]*(?=[{_WIDE}])")
_DOLLARS = re.compile(r"\$[^$\n]*[\\^_{][^$\n]*\$")
_ENDS_OPEN = re.compile(rf"(?<=[{_WIDE}])[ \t\r]*\n[ \t\r\n]*$")
_STARTS_OPEN = re.compile(rf"^[ \t\r]*\n[ \t\r\n]*(?=[{_WIDE}])")
_ENDS = re.compile(rf"[{_WIDE}]$")
_STARTS = re.compile(rf"^\s*[{_WIDE}]")
_TEX = re.compile(
    r"\\\((?P<inline>.{1,2000}?)\\\)"
    r"|\\\[(?P<display>.{1,4000}?)\\\]"
    r"|(?<![\\$])\$\$(?P<dollars>[^$]{1,4000}?)\$\$(?!\$)"
    # One dollar is also money: only what holds a sign of TeX is a formula.
    r"|(?<![\\$\w])\$(?P<dollar>(?=[^$\n]*[\\^_{])[^\s$](?:[^$\n]{0,300}[^\s$\\])?)\$(?![\w$])",
    re.DOTALL,
)
_OPEN = re.compile(r"\\([(\[])(?:(?!\\[)\]]).)*$", re.DOTALL)
_MAX_SIBLINGS = 64


def holds_tex(text: str) -> bool:
    """Whether a page's text has anything that may be a formula between delimiters."""
    if "\\" in text and ("\\(" in text or "\\[" in text):
        return True
    return "$" in text and ("$$" in text or _DOLLARS.search(text) is not None)


def put_away_tex(texts: list[Any], keep: Keep) -> bool:
    r"""Take out formulas between `\(…\)`, `\[…\]`, `$$…$$` and `$…$`.

    Args:
        texts: Text nodes.
        keep: Where the formulas go.

    Returns:
        Whether nodes were replaced, so that the list is stale.
    """
    changed = False
    done: set[int] = set()
    for node in texts:
        if node.mem_id in done:
            continue
        text = node.text_content or ""
        if "\\" not in text and "$" not in text:
            continue
        if _OPEN.search(text):
            text = _with_siblings(node, text, done)
        new = _TEX.sub(lambda match: _away(match, keep), text)
        if new != node.text_content:
            node.replace_with(new)
            changed = True
    return changed


def _away(match: re.Match[str], keep: Keep) -> str:
    kind = match.lastgroup or ""
    formula = match[kind]
    if not formula.strip():
        return match[0]
    return tex(formula, keep, display=kind in ("display", "dollars"))


def _with_siblings(node: Any, text: str, done: set[int]) -> str:
    """Text up to the delimiter that closes what is open, from the elements that follow.

    Markdown that was rendered before MathJax saw it turned `_…_` into emphasis.
    """
    closing = "\\)" if _OPEN.search(text)[1] == "(" else "\\]"  # type: ignore[index]
    pieces, siblings = [text], []
    sibling = node.next
    for _ in range(_MAX_SIBLINGS):
        if sibling is None or not (sibling.tag == "-text" or sibling.tag in INLINE):
            return text
        piece = sibling.text(deep=True) if sibling.tag != "-text" else sibling.text_content or ""
        pieces.append(f"_{piece}_" if sibling.tag in ("em", "i") else piece)
        siblings.append(sibling)
        if closing in piece:
            break
        sibling = sibling.next
    else:
        return text
    for sibling in siblings:
        done.add(sibling.mem_id)
        done.update(child.mem_id for child in sibling.traverse(include_text=True))
        sibling.decompose()
    return "".join(pieces)


def tex(formula: str, keep: Keep, *, display: bool) -> str:
    """Word for a formula in TeX.

    Args:
        formula: Without delimiters.
        keep: Where it is put away.
        display: Whether it stands on lines of its own.
    """
    formula = formula.strip()
    if display:
        return f" {keep.block(f'$${formula}$$')} "
    return keep.inline(f"${' '.join(formula.split())}$")


def join_chinese_lines(texts: list[Any]) -> bool:
    """Take out line ends between Chinese or Japanese characters, which would become blanks.

    Args:
        texts: Text nodes in the page's order, without those of code.

    Returns:
        Whether nodes were replaced, so that the list is stale.
    """
    changed = False
    contents = [node.text_content or "" for node in texts]
    # Before anything is replaced: a node that is out has no parent.
    blocks = [_container(node) for node in texts]
    for number, (node, old) in enumerate(zip(texts, contents, strict=True)):
        if "\n" not in old or (old.isascii() and not old.isspace()):
            continue
        new = _INNER.sub("", old)
        if number + 1 < len(texts) and blocks[number + 1] == blocks[number]:
            new = _ENDS_OPEN.sub("", new) if _STARTS.search(contents[number + 1]) else new
        if number and blocks[number - 1] == blocks[number]:
            new = _STARTS_OPEN.sub("", new) if _ENDS.search(contents[number - 1]) else new
        if new != old:
            node.replace_with(new)
            contents[number] = new
            changed = True
    return changed


def _container(node: Any) -> int | None:
    parent = node.parent
    while parent is not None and parent.tag in INLINE:
        parent = parent.parent
    return None if parent is None else parent.mem_id
