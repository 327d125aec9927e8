"""The command line, one thin command a room; each room's parser is loaded only when asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING

from internlm_core._core import __version__
from internlm_core.errors import ConfigError, InternlmError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

# Command → (module with `register(parser)`, what it does).
_COMMANDS = {
    "demo": ("internlm_core.demo.commands", "run the whole chain on text found on this machine"),
    "data": (
        "internlm_core.data.commands",
        "read, filter and deduplicate a corpus; draw its report",
    ),
    "tokenizer": (
        "internlm_core.tokenizer.commands",
        "train a tokenizer, pack records into shards",
    ),
    "train": ("internlm_core.train.commands", "pretrain a model on token shards"),
    "generate": ("internlm_core.infer.commands", "continue a prompt or answer a question"),
    "chat": ("internlm_core.infer.chat_commands", "talk to a model; compare its chat template"),
    "serve": ("internlm_core.infer.server.commands", "answer OpenAI's clients over HTTP"),
}

_EXIT_FAILURE, _EXIT_USAGE, _EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 on failure, 2 on wrong usage, 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="internlm-core",
        description="The open InternLM2 chain: raw text to a trained, answering model.",
        epilog="commands:\n" + "\n".join(f"  {n:<10} {h}" for n, (_, h) in _COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"internlm-core {__version__}")
    parser.add_argument("command", choices=_COMMANDS, metavar="command", help="see below")
    command = parser.parse_args(arguments[:1]).command
    module, summary = _COMMANDS[command]
    try:
        sub = argparse.ArgumentParser(prog=f"internlm-core {command}", description=summary)
        importlib.import_module(module).register(sub)
        options = sub.parse_args(arguments[1:])
        return int(options.run(options) or 0)
    except ConfigError as error:
        return _fail(error, _EXIT_USAGE)
    except InternlmError as error:
        return _fail(error, _EXIT_FAILURE)
    except OSError as error:
        # Disk full, no permission: the system's own words name the file.
        return _fail(error, _EXIT_FAILURE)
    except KeyboardInterrupt:
        return _fail("interrupted; run the same command again to go on", _EXIT_INTERRUPTED)


def _fail(error: object, code: int) -> int:
    print(f"internlm-core: {error}", file=sys.stderr)  # noqa: T201
    return code
