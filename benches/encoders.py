"""How each library loads a vocabulary and encodes, for the tasks of `tokenizer`.

Every encoder is `load(file) -> tokenizer` and `encode(tokenizer, texts) -> result`; `documents` turns
a result into an array of ids a text, after the clock has stopped.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ENCODERS", "PEERS", "Encoder", "job", "loading", "ours_on"]


@dataclass(frozen=True)
class Encoder:
    """One library."""

    load: Callable[[str], Any]
    encode: Callable[[Any, Sequence[str]], Any]
    documents: Callable[[Any], list[Any]]
    package: str
    texts: Callable[[Sequence[str]], Any] = list


def _split(result: tuple[Any, Any]) -> list[Any]:
    import numpy as np

    ids, bounds = result
    return np.split(np.asarray(ids), np.asarray(bounds[1:-1], dtype=np.int64))


def _arrays(documents: Sequence[Any]) -> list[Any]:
    import numpy as np

    return [np.asarray(ids, dtype=np.uint32) for ids in documents]


def _name(file: str) -> str:
    return "o200k_base" if "o200k" in Path(file).name else "cl100k_base"


def _ours_load(file: str) -> Any:
    from internlm_core.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_file(file, parity=file.endswith(".json"))
    # The references find a file's added tokens in any text; ours only where a call allows it.
    # InternLM2's file has none: their names are in another one, which the references don't read.
    has_added = file.endswith(".json") and "internlm2" not in file
    return tokenizer, "all" if has_added else ()


def _ours_encode(loaded: Any, texts: Any) -> Any:
    tokenizer, added = loaded
    return tokenizer.encode_batch(texts, allowed_special=added)


def _ours_texts(texts: Sequence[str]) -> Any:
    import polars as pl

    return pl.Series(texts)


def _hugging_face_load(file: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(file)


def _hugging_face_encode(tokenizer: Any, texts: Sequence[str]) -> Any:
    return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _tiktoken_load(file: str) -> Any:
    import tiktoken
    from tiktoken_ext import openai_public

    lines = [line.split() for line in Path(file).read_bytes().splitlines() if line]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    # The published constructors fetch the ranks; they are given those of the file instead.
    openai_public.load_tiktoken_bpe = lambda *_, **__: ranks
    values = getattr(openai_public, _name(file))()
    values.pop("explicit_n_vocab", None)
    special = values["special_tokens"].items()
    values["special_tokens"] = {token: number for token, number in special if number >= len(ranks)}
    return tiktoken.Encoding(**values)


def _tiktoken_encode(encoding: Any, texts: Sequence[str]) -> Any:
    if len(os.sched_getaffinity(0)) > 1:
        return encoding.encode_ordinary_batch(texts)
    return [encoding.encode_ordinary(text) for text in texts]


def _gigatoken_load(file: str) -> Any:
    from gigatoken import Tokenizer

    return Tokenizer(file) if file.endswith(".json") else Tokenizer.from_tiktoken(file)


def _gigatoken_encode(tokenizer: Any, texts: Sequence[str]) -> Any:
    return tokenizer.encode_batch(texts, parallel=len(os.sched_getaffinity(0)) > 1)


def _gigatoken_documents(result: Any) -> list[Any]:
    import awkward

    return [awkward.to_numpy(ids) for ids in result]


def _fastokens_load(file: str) -> Any:
    from fastokens import Tokenizer

    if file.endswith(".json"):
        return Tokenizer.from_file(file)
    return Tokenizer.from_tiktoken(file, encoding=_name(file))


def _fastokens_encode(tokenizer: Any, texts: Sequence[str]) -> Any:
    return tokenizer.encode_batch_flat(texts, add_special_tokens=False)


def _fastokens_documents(result: Any) -> list[Any]:
    import numpy as np

    ids, bounds = result
    return _split((np.frombuffer(ids, np.uint32), np.frombuffer(bounds, np.uint64)))


def _quicktok_load(file: str) -> Any:
    import quicktok

    # It brings its own copies of the published vocabularies.
    return quicktok.get_encoding("qwen3" if file.endswith(".json") else _name(file))


def _quicktok_encode(tokenizer: Any, texts: Sequence[str]) -> Any:
    return tokenizer.encode_batch(texts, threads=len(os.sched_getaffinity(0)), with_special=False)


ENCODERS = {
    "internlm-core": Encoder(_ours_load, _ours_encode, _split, "internlm-core", _ours_texts),
    "tokenizers": Encoder(_hugging_face_load, _hugging_face_encode, _arrays, "tokenizers"),
    "tiktoken": Encoder(_tiktoken_load, _tiktoken_encode, _arrays, "tiktoken"),
    "gigatoken": Encoder(_gigatoken_load, _gigatoken_encode, _gigatoken_documents, "gigatoken"),
    "fastokens": Encoder(_fastokens_load, _fastokens_encode, _fastokens_documents, "fastokens"),
    "quicktok": Encoder(_quicktok_load, _quicktok_encode, _split, "quicktok-v1"),
}
# Who reads which vocabulary. The others named in the guide give other ids or don't load it.
PEERS = {
    "internlm2": ("tokenizers", "fastokens", "gigatoken"),
    "qwen3": ("tokenizers", "fastokens", "gigatoken", "quicktok"),
    "cl100k": ("tiktoken", "gigatoken", "quicktok", "fastokens"),
    "o200k": ("tiktoken", "gigatoken", "quicktok", "fastokens"),
}


def job(tool: str, file: str, before: Sequence[str], texts: Sequence[str]) -> Job:
    """Each round: load anew and encode `before`, then encode `texts` on the clock."""
    encoder = ENCODERS[tool]
    earlier, now = encoder.texts(before), encoder.texts(texts)

    def prepare() -> Any:
        tokenizer = encoder.load(file)
        if len(before):
            encoder.encode(tokenizer, earlier)
        return tokenizer

    return Job(
        run=lambda tokenizer: encoder.encode(tokenizer, now),
        prepare=prepare,
        result=encoder.documents,
    )


def ours_on(threads: int, file: str, before: Sequence[str], texts: Sequence[str]) -> Job:
    """The same for ours alone, on this many threads."""
    # The harness may keep all it starts to one core.
    os.sched_setaffinity(0, range(threads))
    earlier, now = _ours_texts(before), _ours_texts(texts)

    def prepare() -> Any:
        tokenizer, _ = _ours_load(file)
        tokenizer.encode_batch(earlier, threads=threads)
        return tokenizer

    return Job(
        run=lambda tokenizer: tokenizer.encode_batch(now, threads=threads),
        prepare=prepare,
        result=_split,
    )


def loading(tool: str, file: str, text: str) -> Job:
    """Load, and encode a text, for some work may wait for the first one."""
    encoder = ENCODERS[tool]
    texts = encoder.texts([text])
    return Job(
        run=lambda _: encoder.encode(encoder.load(file), texts),
        result=encoder.documents,
    )
