"""`internlm-core chat DIR` and `internlm-core chat check DIR`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from internlm_core.errors import ConfigError

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]


def register(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.usage = "%(prog)s [options] DIR\n       %(prog)s check [--dialect NAME] DIR"
    parser.add_argument(
        "words",
        nargs="+",
        metavar="[check] DIR",
        help="model folder or training run to talk to; with `check`, compare its chat template with ours",
    )
    parser.add_argument("--dialect", help="written form; the checkpoint's own if not given")
    parser.add_argument("--system", help="a system turn in front")
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest")
    parser.add_argument("--top-k", type=int, default=0, help="0: off")
    parser.add_argument("--top-p", type=float, default=0.8, help="1: off")
    parser.add_argument("--seed", type=int, help="same seed, same answers")
    parser.add_argument("--dtype", help="float32 or bfloat16; as stored if not given")
    parser.add_argument("--device", default="cpu")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if len(options.words) == 2 and options.words[0] == "check":
        return _check(Path(options.words[1]), options.dialect)
    if len(options.words) != 1:
        raise ConfigError("expected `chat DIR` or `chat check DIR`")
    return _talk(Path(options.words[0]), options)


def _talk(folder: Path, options: argparse.Namespace) -> int:
    from internlm_core.infer.engine import Engine
    from internlm_core.infer.terminal import Conversation
    from internlm_core.model.runs import model_folder

    folder = model_folder(folder)
    engine = Engine.from_folder(folder, options.dtype, options.device, dialect=options.dialect)
    # Editing and the arrow keys, where the system has them.
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    conversation = Conversation(
        engine,
        input,
        write,
        system=options.system,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    )
    if sys.stdin.isatty():
        write("/help lists the commands; Ctrl-D leaves.\n")
    conversation.run()
    return 0


def _check(folder: Path, dialect: str | None) -> int:
    """Print what differs, and where first; 1 where the template contradicts ours."""
    from internlm_core import chat
    from internlm_core.model.runs import model_folder

    # A tokenizer's folder will do; of a training run the newest checkpoint is meant.
    if any(folder.glob("step-*")):
        folder = model_folder(folder)
    dialect = dialect or chat.stored_dialect(folder)
    results = chat.compare_template(chat.ImportedTemplate.from_folder(folder), dialect)
    out = sys.stdout.write
    for result in results:
        out(f"{result.verdict:<9} {result.case}\n")
        if result.error:
            out(f"          {result.error}\n")
        elif result.at is not None and result.theirs is not None:
            out(f"          from byte {result.at}\n")
            out(f"          ours:   {_around(result.ours, result.at)}\n")
            out(f"          theirs: {_around(result.theirs, result.at)}\n")
    unknown = [result.case for result in results if result.verdict in ("unknown", "refused")]
    if unknown:
        out(f"the template has no words for: {', '.join(unknown)}\n")
    wrong = [result for result in results if result.fails]
    differ = f"{len(wrong)} of {len(results)} conversations differ from"
    out(f"{differ if wrong else 'no conversation contradicts'} dialect {dialect!r}\n")
    return 1 if wrong else 0


def _around(data: bytes, at: int) -> str:
    """The bytes from a little before `at`, as Python writes them."""
    start = max(0, at - 16)
    while start and data[start] & 0xC0 == 0x80:
        start -= 1
    return repr(data[start : at + 32].decode("utf-8", "replace"))
