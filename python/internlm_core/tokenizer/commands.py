"""`internlm-core tokenizer`: train, pack, encode, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import polars as pl

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
    inspect.set_defaults(run=_inspect)


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
    from internlm_core.errors import TokenizerError
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
    for path in options.text:
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise TokenizerError(f"{path}: can't be read: {error.strerror}") from None
        count = tokenizer.count(text)
        ratio = len(text.encode()) / max(1, count)
        console.print(f"{path}: {count:,} tokens, {ratio:.2f} bytes a token", markup=False)
    return 0
