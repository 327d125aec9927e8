"""`internlm-core tokenizer encode`, `inspect` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import polars as pl

    from internlm_core.tokenizer.tokenize import Tokenizer

__all__ = ["add", "show_comparison"]

_TEXT = "text file, records (told apart by language and source) or folder; can be repeated"
_SHOWN = 8


def add(commands: Any) -> None:
    """Describe these commands' options."""
    encode = commands.add_parser("encode", help="show the tokens of a text")
    encode.add_argument("text")
    encode.add_argument("--tokenizer", type=Path, required=True)
    encode.add_argument("--special", action="store_true", help="take special tokens from the text")
    encode.set_defaults(run=_encode)
    inspect = commands.add_parser("inspect", help="describe a vocabulary")
    inspect.add_argument("tokenizer", type=Path, help="tokenizer.json, its folder, or .tiktoken")
    inspect.add_argument("--text", type=Path, action="append", default=[], help=_TEXT)
    inspect.add_argument("--html", type=Path, help="page with the first text's tokens coloured")
    inspect.set_defaults(run=_inspect)
    compare = commands.add_parser("compare", help="bytes a token of two vocabularies on texts")
    compare.add_argument("first", type=Path)
    compare.add_argument("second", type=Path)
    compare.add_argument("--text", type=Path, action="append", required=True, help=_TEXT)
    compare.add_argument("--html", type=Path, help="page with the figures as bars")
    compare.set_defaults(run=_compare)


def _encode(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.tokenizer.tokenize import Tokenizer

    tokenizer = Tokenizer.from_file(options.tokenizer)
    allowed: Literal["all"] | tuple[str, ...] = "all" if options.special else ()
    ids = tokenizer.encode(options.text, allowed_special=allowed).tolist()
    for token in ids:
        console.print(f"{token:>7}  {tokenizer.id_to_bytes(token)!r}", markup=False, soft_wrap=True)
    size = len(options.text.encode("utf-8", "replace"))
    console.print(f"{len(ids)} tokens, {size / max(1, len(ids)):.2f} bytes a token")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.tokenizer.describing import describe
    from internlm_core.tokenizer.showing import coloured_html, coloured_text
    from internlm_core.tokenizer.tokenize import Tokenizer

    tokenizer = Tokenizer.from_file(options.tokenizer)
    first: list[str] = []
    found = describe(tokenizer, _frames(options.text, first))
    console.print(f"{options.tokenizer}", markup=False, soft_wrap=True)
    console.print(f"fingerprint    {tokenizer.fingerprint}")
    console.print(f"ids            {tokenizer.vocab_size:,}, {tokenizer.n_merges:,} merges")
    for name, token in sorted(tokenizer.special_tokens.items(), key=lambda item: item[1]):
        console.print(f"special        {token:>7}  {name}", markup=False, soft_wrap=True)
    for token in found.longest[:_SHOWN]:
        piece = tokenizer.id_to_bytes(token)
        console.print(
            f"longest        {len(piece):>4} bytes  {piece[:60]!r}", markup=False, soft_wrap=True
        )
    console.print(f"unreachable    {len(found.unreachable):,} of the tokens that are text")
    for token in found.unreachable[:_SHOWN]:
        console.print(
            f"unreachable    {token:>7}  {tokenizer.id_to_bytes(token)!r}",
            markup=False,
            soft_wrap=True,
        )
    console.print(f"parts          {found.parts:,} tokens are a part of a character")
    if not options.text:
        return 0
    console.print(f"coverage       {found.coverage:.1%} of the tokens occur in the texts")
    console.print(
        f"whole          {found.whole:.1%} of the bytes are in tokens of whole characters"
    )
    for by, name, _, _, count, ratio in found.texts.iter_rows():
        console.print(
            f"{by} {name}: {count:,} tokens, {ratio:.2f} bytes a token",
            markup=False,
            soft_wrap=True,
        )
    text = first[0] if first else ""
    console.print(coloured_text(tokenizer, text[:400]))
    if options.html:
        _write(options.html, coloured_html(tokenizer, text))
    return 0


def _frames(paths: list[Path], first: list[str]) -> Iterator[pl.DataFrame]:
    """Frames of what lies at the paths, with the path each came from; `first` gets the first text."""
    import polars as pl

    from internlm_core.tokenizer.reading import find_texts, read_frames

    for path in paths:
        for file in find_texts([path], any_kind=True):
            for frame in read_frames([file]):
                if not first and frame.height:
                    first.append(frame["text"][0])
                yield frame.with_columns(pl.lit(str(path)).alias("file"))


def _write(path: Path, text: str) -> None:
    from internlm_core._files import atomic_path

    with atomic_path(path) as partial:
        partial.write_text(text, "utf-8")


def show_comparison(
    first: Tokenizer, second: Tokenizer, texts: list[Path], page: Path | None
) -> None:
    """Print how two vocabularies fit texts, and draw it on a page."""
    from internlm_core._progress import console
    from internlm_core.tokenizer.describing import compare
    from internlm_core.tokenizer.showing import comparison_page

    table = compare(first, second, _frames(texts, []))
    console.print("bytes a token: first, second, second over first")
    for by, name, _, one, two, change in table.iter_rows():
        console.print(
            f"{by} {name}: {one:.2f}  {two:.2f}  {change:.3f}", markup=False, soft_wrap=True
        )
    if page:
        _write(page, comparison_page(table))


def _compare(options: argparse.Namespace) -> int:
    from internlm_core.tokenizer.tokenize import Tokenizer

    first, second = Tokenizer.from_file(options.first), Tokenizer.from_file(options.second)
    show_comparison(first, second, options.text, options.html)
    return 0
