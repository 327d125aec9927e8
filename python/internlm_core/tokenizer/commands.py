"""`internlm-core tokenizer`: train, pack, encode, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import polars as pl
    from rich.text import Text

    from internlm_core.tokenizer.tokenize import Tokenizer

__all__ = ["register"]


def register(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    commands = parser.add_subparsers(dest="action", required=True)
    train = commands.add_parser("train", help="learn a vocabulary from record files (Parquet)")
    train.add_argument("records", type=Path, nargs="+", help="Parquet files or folders with them")
    train.add_argument("--out", type=Path, required=True, help="tokenizer.json to write")
    train.add_argument("--vocab-size", type=int, required=True)
    train.add_argument("--min-frequency", type=int, default=2)
    train.add_argument("--max-token-length", type=int, default=0, help="in bytes; 0: no limit")
    train.add_argument(
        "--max-memory", type=int, default=0, help="bytes for counts, the rest on disk; 0: no bound"
    )
    train.add_argument("--pattern", default="cl100k", choices=["gpt2", "cl100k", "qwen", "o200k"])
    train.add_argument("--threads", type=int, default=0, help="0: all cores")
    train.set_defaults(run=_train)
    pack = commands.add_parser("pack", help="encode record files into token shards, one a file")
    pack.add_argument("records", type=Path, nargs="+", help="Parquet files or folders with them")
    pack.add_argument("--tokenizer", type=Path, required=True)
    pack.add_argument("--out", type=Path, required=True, help="folder for the shards")
    pack.add_argument("--threads", type=int, default=0, help="0: all cores")
    pack.set_defaults(run=_pack)
    encode = commands.add_parser("encode", help="show the tokens of a text")
    encode.add_argument("text")
    encode.add_argument("--tokenizer", type=Path, required=True)
    encode.add_argument("--special", action="store_true", help="take special tokens from the text")
    encode.set_defaults(run=_encode)
    inspect = commands.add_parser("inspect", help="describe a vocabulary")
    inspect.add_argument("tokenizer", type=Path, help="tokenizer.json, its folder, or .tiktoken")
    inspect.add_argument(
        "--text", type=Path, action="append", default=[], help="measure bytes a token on this file"
    )
    inspect.add_argument("--html", type=Path, help="page with the first text's tokens coloured")
    inspect.set_defaults(run=_inspect)
    compare = commands.add_parser("compare", help="bytes a token of two vocabularies on texts")
    compare.add_argument("first", type=Path)
    compare.add_argument("second", type=Path)
    compare.add_argument("--text", type=Path, action="append", required=True)
    compare.add_argument("--html", type=Path, help="page with the figures as bars")
    compare.set_defaults(run=_compare)
    extend = commands.add_parser("extend", help="first ranks of a vocabulary, and Chinese tokens")
    extend.add_argument("records", type=Path, nargs="+", help="Parquet files with Chinese text")
    extend.add_argument("--base", type=Path, required=True, help="a .tiktoken file")
    extend.add_argument("--out", type=Path, required=True, help="tokenizer.json to write")
    extend.add_argument("--base-tokens", type=int, default=60_000)
    extend.add_argument("--new-tokens", type=int, default=32_397)
    extend.add_argument("--spare", type=int, default=147)
    extend.add_argument("--multiple", type=int, default=128)
    extend.add_argument("--pattern", default="cl100k", choices=["gpt2", "cl100k", "qwen", "o200k"])
    extend.add_argument("--text", type=Path, action="append", default=[], help="compare on this")
    extend.add_argument("--html", type=Path, help="page with that comparison as bars")
    extend.set_defaults(run=_extend)


def _files(paths: list[Path]) -> list[Path]:
    from internlm_core.errors import DataError

    files = []
    for path in paths:
        found = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not found or not found[0].exists():
            raise DataError(f"{path}: no Parquet file there")
        files.extend(found)
    return files


def _texts(files: list[Path]) -> Iterator[pl.Series]:
    from internlm_core.tokenizer.packing import frames_of

    for frame in frames_of(files):
        yield frame["text"]


def _train(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.tokenizer.training import train

    trained = train(
        _texts(_files(options.records)),
        vocab_size=options.vocab_size,
        min_frequency=options.min_frequency,
        max_token_length=options.max_token_length,
        max_memory=options.max_memory,
        pattern=options.pattern,
        threads=options.threads,
    )
    trained.save(options.out)
    console.print(
        f"{options.out}: {trained.vocab_size} tokens, fingerprint {trained.fingerprint[:12]}"
    )
    return 0


def _pack(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.tokenizer.packing import pack
    from internlm_core.tokenizer.tokenize import Tokenizer

    tokenizer, total = Tokenizer.from_file(options.tokenizer), 0
    for number, file in enumerate(_files(options.records)):
        shard = pack([file], tokenizer, options.out / f"shard-{number:05}", threads=options.threads)
        total += shard.n_tokens
    tokenizer.save(options.out / "tokenizer.json")
    console.print(f"{options.out}: {total:,} tokens in {number + 1} shards")
    return 0


def _encode(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.tokenizer.tokenize import Tokenizer

    tokenizer = Tokenizer.from_file(options.tokenizer)
    allowed: Literal["all"] | tuple[str, ...] = "all" if options.special else ()
    ids = tokenizer.encode(options.text, allowed_special=allowed).tolist()
    for token in ids:
        console.print(f"{token:>7}  {tokenizer.id_to_bytes(token)!r}", markup=False)
    console.print(
        f"{len(ids)} tokens, {len(options.text.encode()) / max(1, len(ids)):.2f} bytes a token"
    )
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.tokenizer.tokenize import Tokenizer

    tokenizer = Tokenizer.from_file(options.tokenizer)
    special = set(tokenizer.special_tokens.values())
    pieces = [tokenizer.id_to_bytes(token) for token in range(tokenizer.vocab_size)]
    ordinary = [piece for token, piece in enumerate(pieces) if token not in special and piece]
    longest = sorted(ordinary, key=len, reverse=True)[:8]
    console.print(f"{options.tokenizer}", markup=False)
    console.print(f"fingerprint    {tokenizer.fingerprint}")
    console.print(f"ids            {tokenizer.vocab_size:,}, {tokenizer.n_merges:,} merges")
    for name, token in sorted(tokenizer.special_tokens.items(), key=lambda item: item[1]):
        console.print(f"special        {token:>7}  {name}", markup=False)
    lengths = sum(map(len, ordinary)) / max(1, len(ordinary))
    console.print(f"token length   {lengths:.1f} bytes on average")
    for piece in longest:
        console.print(f"longest        {len(piece):>4} bytes  {piece[:60]!r}", markup=False)
    from internlm_core.tokenizer.describing import coloured_html, describe

    texts = _read(options.text)
    found = describe(tokenizer, texts)
    console.print(f"unreachable    {len(found.unreachable):,} of the tokens that are text")
    for token in found.unreachable[:8]:
        console.print(f"unreachable    {token:>7}  {tokenizer.id_to_bytes(token)!r}", markup=False)
    console.print(f"parts          {found.parts:,} tokens are a part of a character")
    if texts:
        console.print(f"coverage       {found.coverage:.1%} of the tokens occur in the texts")
    for name, _, count, ratio in found.texts.iter_rows():
        console.print(f"{name}: {count:,} tokens, {ratio:.2f} bytes a token", markup=False)
    if texts:
        start = next(iter(texts.values()))[:400]
        console.print(_coloured(tokenizer, start))
        if options.html:
            _write(options.html, coloured_html(tokenizer, next(iter(texts.values()))))
    return 0


def _coloured(tokenizer: Tokenizer, text: str) -> Text:
    from rich.text import Text

    shown, at = Text(), 0
    colours = ("black on cyan", "black on green", "black on yellow", "black on magenta")
    for number, (start, end) in enumerate(tokenizer.encode_with_offsets(text)[1].tolist()):
        shown.append(text[max(start, at) : end], colours[number % len(colours)])
        at = max(at, end)
    return shown


def _read(paths: list[Path]) -> dict[str, str]:
    from internlm_core.errors import TokenizerError

    try:
        return {str(path): path.read_bytes().decode("utf-8", "replace") for path in paths}
    except OSError as error:
        raise TokenizerError(f"{error.filename}: can't be read: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    from internlm_core._files import atomic_path

    with atomic_path(path) as partial:
        partial.write_text(text, "utf-8")


def _show(first: Tokenizer, second: Tokenizer, texts: list[Path], page: Path | None) -> None:
    from internlm_core._progress import console
    from internlm_core.tokenizer.describing import compare, comparison_page

    table = compare(first, second, _read(texts))
    console.print("bytes a token: first, second, second over first")
    for name, _, one, two, change in table.iter_rows():
        console.print(f"{name}: {one:.2f}  {two:.2f}  {change:.3f}", markup=False)
    if page:
        _write(page, comparison_page(table))


def _compare(options: argparse.Namespace) -> int:
    from internlm_core.tokenizer.tokenize import Tokenizer

    first, second = Tokenizer.from_file(options.first), Tokenizer.from_file(options.second)
    _show(first, second, options.text, options.html)
    return 0


def _extend(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.tokenizer.extending import extend
    from internlm_core.tokenizer.tokenize import Tokenizer

    base = Tokenizer.from_file(options.base, pattern=options.pattern)
    made = extend(
        base,
        _texts(_files(options.records)),
        base_tokens=options.base_tokens,
        new_tokens=options.new_tokens,
        spare=options.spare,
        multiple=options.multiple,
        pattern=options.pattern,
    )
    made.save(options.out)
    console.print(f"{options.out}: {made.vocab_size:,} ids", markup=False)
    if options.text:
        _show(base, made, options.text, options.html)
    return 0
