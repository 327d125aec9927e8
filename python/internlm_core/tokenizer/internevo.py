"""Token shards from and to InternEvo's files.

`x.bin` has a JSON object a line with the key `tokens`; `x.bin.meta` is a NumPy array, int64 `[n, 2]`, of each
line's byte offset and number of tokens (InternEvo, tools/tokenizer.py and data/tokenized/json_dataset.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from internlm_core._files import atomic_path
from internlm_core.errors import DataError
from internlm_core.tokenizer.shards import Shard, ShardWriter

if TYPE_CHECKING:
    from internlm_core.tokenizer.tokenize import Tokenizer

__all__ = ["export_internevo", "import_internevo"]


def export_internevo(shard: Shard, path: str | Path) -> Path:
    """Write a shard's documents as `path` (`.bin`) and `path` + `.meta`; gives the path of the latter."""
    path = Path(path)
    meta, at = np.empty((len(shard), 2), np.int64), 0
    beside = path.with_name(path.name + ".meta")
    with atomic_path(path) as partial, partial.open("wb") as file:
        for number, ids in enumerate(shard):
            line = json.dumps({"tokens": ids.tolist()}).encode() + b"\n"
            file.write(line)
            meta[number] = at, len(ids)
            at += len(line)
    with atomic_path(beside) as partial, partial.open("wb") as file:
        np.save(file, meta)
    return beside


def import_internevo(path: str | Path, tokenizer: Tokenizer, out: str | Path) -> Shard:
    """Make a shard of InternEvo's files; the tokenizer is the one that made them.

    Raises:
        DataError: A file that can't be read, a line that is no list of ids of the vocabulary, or one that
            is not where `.meta` says; names file and line.
    """
    path = Path(path)
    beside = path.with_name(path.name + ".meta")
    try:
        meta = np.load(beside, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{beside}: can't be read as a NumPy array: {error}") from None
    if meta.ndim != 2 or meta.shape[1] != 2 or meta.dtype.kind not in "iu":
        raise DataError(f"{beside}: shape {meta.shape} of {meta.dtype}, expected integers [n, 2]")
    writer = ShardWriter(
        out,
        fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        sources={"internevo": path.name},
    )
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from None
    with file, writer:
        at = number = 0
        for number, line in enumerate(file, 1):
            if number > len(meta):
                raise DataError(f"{path}:{number}: {beside.name} lists only {len(meta)} lines")
            try:
                ids = np.array(json.loads(line)["tokens"], dtype=object)
                if ids.ndim != 1 or any(type(i) is not int or i < 0 for i in ids):
                    raise ValueError("expected whole numbers")
                tokens = ids.astype(np.uint32)
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise DataError(
                    f"{path}:{number}: no line with a list 'tokens' ({error})"
                ) from None
            if meta[number - 1].tolist() != [at, len(tokens)]:
                raise DataError(
                    f"{path}:{number}: {len(tokens)} tokens at byte {at}, but {beside.name} says "
                    f"{meta[number - 1, 1]} at byte {meta[number - 1, 0]}; make the files again"
                )
            try:
                writer.add(tokens)
            except DataError as error:
                raise DataError(f"{path}:{number}: {error}") from None
            at += len(line)
        if number != len(meta):
            raise DataError(f"{path}: {number} lines, but {beside.name} lists {len(meta)}")
    return Shard.open(out, fingerprint=tokenizer.fingerprint)
