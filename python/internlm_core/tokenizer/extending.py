"""A vocabulary made of another one's first ranks and of new tokens for Chinese, as InternLM2's is."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from internlm_core._core import BpeTokenizer
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer.tokenize import Tokenizer
from internlm_core.tokenizer.training import FIRST_SPECIAL, LAST_SPECIAL, columns, train

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import polars as pl

__all__ = ["extend"]


def extend(
    base: Tokenizer,
    texts: pl.Series | Iterable[str] | Iterable[pl.Series],
    *,
    base_tokens: int = 60_000,
    new_tokens: int = 32_397,
    spare: int = 147,
    multiple: int = 128,
    pattern: Literal["gpt2", "cl100k", "qwen", "o200k"] = "cl100k",
    min_frequency: int = 2,
    max_token_length: int = 0,
    max_memory: int = 0,
    state: str | Path | None = None,
    threads: int = 0,
    quiet: bool = False,
) -> Tokenizer:
    """Append tokens learned on the Chinese parts of texts to the first ranks of a vocabulary.

    The base's ids and merges stay as they are: new merges rank after them. A token is appended only if
    the base lacks it and its bytes merge into it under the ranks before it, so each can be reached. The
    defaults are the counts of InternLM2's published vocabulary, which sum to 92,544 (InternLM2 report,
    §3.2.1, whose own sum does not close).

    Args:
        base: A vocabulary over bytes whose ids rise with its merges (a `.tiktoken` file).
        texts: Texts; only their runs of Han characters are learned from.
        base_tokens: How many of the base's first ranks are kept.
        new_tokens: How many to append; fewer if the texts hold no more.
        spare: Special tokens at the end, named and unused together.
        multiple: The size is padded to a multiple of it with more unused ones.
        pattern: How the base cuts text.
        min_frequency: A pair seen less often is not joined.
        max_token_length: Longest new token in bytes, 0 for no limit.
        max_memory: As of `train`.
        state: As of `train`: a folder to go on from after a crash.
        threads: 0 means all cores; the result does not depend on it.
        quiet: Show no progress.

    Raises:
        TokenizerError: The base has fewer ranks, or another order of ids; a count that is no size; or
            the texts hold no Chinese.
    """
    named = len(FIRST_SPECIAL) + len(LAST_SPECIAL)
    if base_tokens < 256 or new_tokens < 0 or spare < named or multiple < 1:
        raise TokenizerError(
            f"base_tokens={base_tokens} (256 or more), new_tokens={new_tokens} (0 or more), "
            f"spare={spare} ({named} or more), multiple={multiple} (1 or more)"
        )
    lines = base._core.to_tiktoken().splitlines()  # noqa: SLF001 -- a class of this room
    if len(lines) < base_tokens:
        raise TokenizerError(f"base_tokens={base_tokens}: the base has {len(lines)} ranks")
    pieces = [base64.b64decode(line.split()[0]) for line in lines[:base_tokens]]
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    # What the base has already is skipped: as many more are learned as it could have.
    known = sum(min(piece) >= 0x80 for piece in pieces)
    learned = train(
        _han(texts),
        vocab_size=256 + new_tokens + known,
        first_special=(),
        last_special=(),
        pattern=pattern,
        min_frequency=min_frequency,
        max_token_length=max_token_length,
        max_memory=max_memory,
        state=state,
        threads=threads,
        quiet=quiet,
    )
    for token in range(256, learned.vocab_size):
        if len(ranks) - base_tokens == new_tokens:
            break
        piece = learned.id_to_bytes(token)
        # The last rank joins what is left: reachable if two parts are left.
        if piece not in ranks and len(_merged(piece, ranks)) == 2:
            ranks[piece] = len(ranks)
    size = len(ranks) + spare
    unused = spare - named + -size % multiple
    names = [*FIRST_SPECIAL, *(f"[UNUSED_TOKEN_{i}]" for i in range(unused)), *LAST_SPECIAL]
    file = "".join(f"{base64.b64encode(p).decode()} {rank}\n" for p, rank in ranks.items())
    specials = [(name, len(ranks) + number) for number, name in enumerate(names)]
    core = BpeTokenizer.from_tiktoken(file.encode(), pattern, specials)
    return Tokenizer(core, ("hf", core.to_hf(), "", "0"))


def _han(texts: pl.Series | Iterable[str] | Iterable[pl.Series]) -> Iterator[pl.Series]:
    for column in columns(texts):
        yield column.drop_nulls().str.extract_all(r"\p{Han}+").explode().drop_nulls()


def _merged(piece: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """What the bytes of a piece merge into."""
    parts = [piece[at : at + 1] for at in range(len(piece))]
    while len(parts) > 1:
        joined = [left + right for left, right in pairwise(parts)]
        rank, at = min((ranks.get(pair, len(ranks)), at) for at, pair in enumerate(joined))
        if rank == len(ranks):
            break
        parts[at : at + 2] = [joined[at]]
    return parts
