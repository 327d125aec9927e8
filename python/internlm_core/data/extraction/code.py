"""Code: newlines and indentation as they stand in the page, in fences that fit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from internlm_core.data.extraction.tree import outermost, remove_all

if TYPE_CHECKING:
    from internlm_core.data.extraction.keep import Keep

__all__ = ["fence", "put_away_code", "put_away_inline_code"]

_LANGUAGE = re.compile(
    r"(?:^|\s)(?:language-|lang-|highlight-source-|highlight-|brush:\s*|sourceCode\s+)([\w+#.-]+)"
)
_NO_LANGUAGES = frozenset(["default", "none", "nohighlight", "plain", "plaintext", "text", "txt"])
_LINE_NUMBERS = "td.linenos, td.gutter, .linenodiv, span.linenos, span.lineno, .line-numbers-rows, .hljs-ln-numbers"
_TICKS = re.compile("`+")


def put_away_code(tree: Any, body: Any, keep: Keep) -> None:
    """Put away code blocks (`<pre>`, and `<code>` that has line breaks)."""
    remove_all(body.css(_LINE_NUMBERS))
    nodes = outermost(body.css("pre"))
    for node in nodes:
        language = _language(node)
        for line_break in node.css("br"):
            line_break.replace_with("\n")
        text = node.text(deep=True).replace("\r\n", "\n")
        if not text.strip():
            node.decompose()
            continue
        paragraph = tree.create_node("p")
        paragraph.insert_child(keep.block(fence(keep.restore_plain(text), language)))
        node.replace_with(paragraph)


def put_away_inline_code(nodes: list[Any], keep: Keep) -> None:
    """Put away `<code>` outside `<pre>` as code spans (CommonMark 0.31.2, 6.1)."""
    for node in nodes:
        if node.parent is None or node.css_first("code code") is not None:
            continue
        text = node.text(deep=True).strip("\n")
        if not text.strip():
            continue
        if "\n" in text or keep.line_break in text:
            text = re.sub(rf" ?{keep.line_break} ?\n?", "\n", text)
            node.replace_with(f" {keep.block(fence(keep.restore_plain(text), ''))} ")
        else:
            node.replace_with(keep.inline(_span(keep.restore_plain(text))))


def fence(text: str, language: str) -> str:
    """A fenced block whose fence is longer than any run of backticks inside.

    Args:
        text: The code; one newline at its end is the fence's.
        language: Info string, perhaps empty.
    """
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text.removesuffix(chr(10))}\n{ticks}"


def _span(text: str) -> str:
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    ticks = "`" * (longest + 1)
    blank = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{blank}{text}{blank}{ticks}"


def _language(node: Any) -> str:
    candidates = [node, *node.css("code")[:1]]
    parent = node.parent
    for _ in range(2):
        if parent is not None and parent.tag == "div":
            candidates.append(parent)
            parent = parent.parent
    for candidate in candidates:
        match = _LANGUAGE.search(candidate.attributes.get("class") or "")
        if match:
            name = match[1].lower()
            return "" if name in _NO_LANGUAGES else name
    return ""
