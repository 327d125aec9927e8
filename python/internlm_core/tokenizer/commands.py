"""`internlm-core tokenizer`: train, extend, pack; encode, inspect, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_core.errors import TokenizerError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from internlm_core.tokenizer.reading import SetAside, TextFile

__all__ = ["register"]

_PATTERNS = ["gpt2", "cl100k", "qwen", "o200k"]
_RECORDS = (
    "files or folders: Parquet, .jsonl and .txt (.gz, .zst), a run folder of the data pipeline"
)


def register(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    from internlm_core.tokenizer import inspect_commands

    commands = parser.add_subparsers(dest="action", required=True)
    train = commands.add_parser("train", help="learn a vocabulary")
    train.add_argument("records", type=Path, nargs="+", help=f"{_RECORDS}, token shards")
    train.add_argument("--out", type=Path, required=True, help="tokenizer.json to write")
    train.add_argument("--vocab-size", type=int, required=True)
    train.add_argument(
        "--byte-fallback", action="store_true", help="over characters, with <0xNN> and ▁"
    )
    train.add_argument(
        "--coverage", type=float, default=0.9995, help="share of the characters with a token"
    )
    train.add_argument("--digits", type=int, default=0, help="most in a token; 0: by the pattern")
    train.add_argument("--one-script", action="store_true", help="no token mixes scripts")
    train.add_argument(
        "--script-limit", action="append", default=[], metavar="SCRIPT=N", help="as Han=30000"
    )
    train.add_argument(
        "--first-special", action="append", metavar="NAME", help="with the first ids"
    )
    train.add_argument("--last-special", action="append", metavar="NAME", help="with the last ids")
    train.add_argument(
        "--tokenizer", type=Path, help="that made the token shards among the records"
    )
    _add_learning(train)
    train.set_defaults(run=_train)
    extend = commands.add_parser("extend", help="first ranks of a vocabulary, and Chinese tokens")
    extend.add_argument("records", type=Path, nargs="+", help=_RECORDS)
    extend.add_argument("--base", type=Path, required=True, help="a .tiktoken file")
    extend.add_argument("--out", type=Path, required=True, help="tokenizer.json to write")
    extend.add_argument("--base-tokens", type=int, default=60_000)
    extend.add_argument("--new-tokens", type=int, default=32_397)
    extend.add_argument("--spare", type=int, default=147)
    extend.add_argument("--multiple", type=int, default=128)
    extend.add_argument("--text", type=Path, action="append", default=[], help="compare on this")
    extend.add_argument("--html", type=Path, help="page with that comparison as bars")
    _add_learning(extend)
    extend.set_defaults(run=_extend)
    pack = commands.add_parser("pack", help="encode record files into token shards")
    pack.add_argument("records", type=Path, nargs="+", help=_RECORDS)
    pack.add_argument("--tokenizer", type=Path, required=True)
    pack.add_argument("--out", type=Path, required=True, help="folder for the shards")
    pack.add_argument(
        "--shard-mb", type=int, default=64, help="smaller files are put together up to so much"
    )
    pack.add_argument("--threads", type=int, default=0, help="0: all cores")
    pack.set_defaults(run=_pack)
    inspect_commands.add(commands)


def _add_learning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--min-frequency", type=int, default=2)
    parser.add_argument("--max-token-length", type=int, default=0, help="in bytes; 0: no limit")
    parser.add_argument(
        "--max-memory", type=int, default=0, help="bytes for counts, the rest on disk; 0: no bound"
    )
    parser.add_argument("--pattern", default="cl100k", choices=_PATTERNS)
    parser.add_argument(
        "--state", type=Path, help="folder to go on from after a crash; default: OUT.training"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")


def _learning(options: argparse.Namespace) -> dict[str, Any]:
    names = ("min_frequency", "max_token_length", "max_memory", "pattern", "threads")
    state = options.state or options.out.with_name(f"{options.out.name}.training")
    return {**{name: getattr(options, name) for name in names}, "state": state}


def _limits(pairs: Iterable[str]) -> dict[str, int]:
    limits = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if not name or not number.isdecimal():
            raise TokenizerError(f"--script-limit {pair}: expected SCRIPT=N, as Han=30000")
        limits[name] = int(number)
    return limits


def _train(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.tokenizer.reading import SetAside, find_texts, texts_of
    from internlm_core.tokenizer.tokenize import Tokenizer
    from internlm_core.tokenizer.training import FIRST_SPECIAL, LAST_SPECIAL, train

    aside = SetAside()
    decoder = Tokenizer.from_file(options.tokenizer) if options.tokenizer else None
    trained = train(
        texts_of(find_texts(options.records), tokenizer=decoder, aside=aside),
        vocab_size=options.vocab_size,
        byte_fallback=options.byte_fallback,
        coverage=options.coverage,
        digits=options.digits,
        one_script=options.one_script,
        script_limits=_limits(options.script_limit),
        first_special=FIRST_SPECIAL if options.first_special is None else options.first_special,
        last_special=LAST_SPECIAL if options.last_special is None else options.last_special,
        **_learning(options),
    )
    trained.save(options.out)
    _tell(aside)
    console.print(
        f"{options.out}: {trained.vocab_size} tokens, fingerprint {trained.fingerprint[:12]}"
    )
    return 0


def _tell(aside: SetAside) -> None:
    from internlm_core._progress import console

    if aside.count:
        console.print(f"set aside: {aside.count:,} lines or files that gave no text")
        for where in aside.first:
            console.print(f"set aside: {where}", markup=False)


def _extend(options: argparse.Namespace) -> int:
    from internlm_core._progress import console
    from internlm_core.tokenizer.extending import extend
    from internlm_core.tokenizer.inspect_commands import show_comparison
    from internlm_core.tokenizer.reading import SetAside, find_texts, texts_of
    from internlm_core.tokenizer.tokenize import Tokenizer

    aside = SetAside()
    base = Tokenizer.from_file(options.base, pattern=options.pattern)
    made = extend(
        base,
        texts_of(find_texts(options.records), aside=aside),
        base_tokens=options.base_tokens,
        new_tokens=options.new_tokens,
        spare=options.spare,
        multiple=options.multiple,
        **_learning(options),
    )
    made.save(options.out)
    _tell(aside)
    new = min(made.special_tokens.values()) - options.base_tokens
    console.print(
        f"{options.out}: {made.vocab_size:,} ids, {options.base_tokens:,} of the base, {new:,} new",
        markup=False,
    )
    if options.text:
        show_comparison(base, made, options.text, options.html)
    return 0


def _pack(options: argparse.Namespace) -> int:
    from internlm_core._files import folder_lock, remove_leftovers
    from internlm_core._progress import console
    from internlm_core.tokenizer.packing import pack
    from internlm_core.tokenizer.reading import find_texts
    from internlm_core.tokenizer.tokenize import Tokenizer

    tokenizer, total = Tokenizer.from_file(options.tokenizer), 0
    groups = _groups(find_texts(options.records), options.shard_mb << 20)
    with folder_lock(options.out):
        remove_leftovers(options.out)
        for number, group in enumerate(groups):
            paths = [file.path for file in group]
            shard = pack(
                paths, tokenizer, options.out / f"shard-{number:05}", threads=options.threads
            )
            total += shard.n_tokens
            _tell_packed(shard.info)
        tokenizer.save(options.out / "tokenizer.json")
    console.print(f"{options.out}: {total:,} tokens in {len(groups)} shards")
    return 0


def _groups(files: list[TextFile], most: int) -> list[list[TextFile]]:
    """Files in order, small ones together: a shard for each of a million pages would be none."""
    groups: list[list[TextFile]] = []
    size = most
    for file in files:
        own = file.path.stat().st_size
        if not groups or size + own > most or file.kind != groups[-1][-1].kind:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += own
    return groups


def _tell_packed(info: dict[str, Any]) -> None:
    from internlm_core.tokenizer.reading import SetAside

    found = info.get("set_aside", {})
    _tell(SetAside(found.get("count", 0), found.get("first", [])))
