"""Tokenizers beside their peers: encoding, loading, decoding as ids come.

Rows of encoding say what was seen before: "cold" nothing, "unseen" (no word after the vocabulary's
name) other text, "repeated" the same text; caches make the last the fastest by far, and a corpus is
the second. Each round loads the tokenizer anew. Ids are compared in the same run. Ours is beside
itself where only the ratio tells something: two threads, one long document, worst-case text.
Published vocabularies are used where they are staged (see `corpus`), else one is trained on the spot
and read by both sides.
"""

from __future__ import annotations

import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import corpus, encoders
from benches.harness import OURS, Contender, Task
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["tasks"]

_ORDINARY = f"{OURS}, ordinary text"
_ONE_THREAD = f"{OURS}, one thread"
_DOCUMENT = 16 << 10
_SHORT = f"{OURS}, documents of 16 KB"


def tasks(*, quick: bool) -> Iterator[Task]:
    """Encoding with each vocabulary there is."""
    texts = corpus.mixed(600_000 if quick else 12_000_000)
    warm, unseen = texts.halves()
    kinds = {
        "English": corpus.english(200_000 if quick else 6_000_000),
        "Chinese": corpus.chinese(200_000 if quick else 6_000_000),
        "code": corpus.code(200_000 if quick else 6_000_000),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, file in _vocabularies(Path(folder), warm):
            mixed = f"{name}, mixed"
            yield _encoding(mixed, file, warm, unseen)
            yield _encoding(f"{mixed}, cold", file, corpus.Texts([], ""), unseen)
            yield _encoding(f"{mixed}, repeated", file, unseen, unseen)
            if name != "internlm2":
                continue
            for kind, part in kinds.items():
                if part.texts:
                    yield _encoding(f"{name}, {kind}", file, *part.halves())
            if (os.cpu_count() or 1) > 1:
                longer = corpus.mixed(600_000 if quick else 40_000_000)
                yield _threads(mixed, file, *longer.halves())
            yield _long(name, file, warm, unseen, 200_000 if quick else 4_000_000)
            yield _worst(name, file, warm, unseen, 40_000 if quick else 850_000)
            yield _loading(name, file)
            yield _streaming(name, file, unseen)


def _vocabularies(folder: Path, texts: corpus.Texts) -> Iterator[tuple[str, Path]]:
    staged = corpus.staged_folder()
    names = {
        "internlm2": "internlm2/tokenizer.json",
        "qwen3": "qwen3/tokenizer.json",
        "cl100k": "cl100k_base.tiktoken",
        "o200k": "o200k_base.tiktoken",
    }
    if staged is not None:
        found = {name: staged / "tokenizers" / file for name, file in names.items()}
        present = {name: path for name, path in found.items() if path.is_file()}
        if present:
            yield from present.items()
            return
    from internlm_core.tokenizer import train

    for suffix, special in (
        (".json", {}),
        (".tiktoken", {"first_special": (), "last_special": ()}),
    ):
        trained = train(texts.texts, vocab_size=16_000, quiet=True, **special)
        path = folder / f"tokenizer{suffix}" if suffix == ".json" else folder / "cl100k.tiktoken"
        trained.save(path)
        yield f"trained here ({suffix})", path


def _encoding(name: str, file: Path, warm: corpus.Texts, unseen: corpus.Texts) -> Task:
    arguments = (str(file), warm.texts, unseen.texts)
    known = encoders.PEERS.get(name.split(",")[0])
    peers = known or (("tiktoken",) if file.suffix == ".tiktoken" else ("tokenizers",))
    threads = len(os.sched_getaffinity(0))
    return Task(
        room="tokenizer",
        name=f"Encode, {name}" + (f", {threads} threads" if threads > 1 else ""),
        unit="MB/s",
        amount=unseen.size / 1e6,
        ours=_contender(OURS, arguments),
        peers=tuple(_contender(peer, arguments) for peer in peers),
        judge=_same_ids,
        facts=unseen.facts(),
    )


def _contender(tool: str, arguments: tuple[Any, ...]) -> Contender:
    package = encoders.ENCODERS[tool].package
    return Contender(tool, encoders.job, (tool, *arguments), (package,))


def _same_ids(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    import numpy as np

    ours = results[OURS]
    figures: dict[str, dict[str, Any]] = {OURS: {"tokens": _tokens(ours)}}
    for name, documents in results.items():
        if name != OURS:
            same = sum(map(np.array_equal, ours, documents))
            figures[name] = {"same_ids": f"{same} of {len(ours)}"}
    return figures


def _tokens(documents: Sequence[Any]) -> int:
    return sum(len(ids) for ids in documents)


def _threads(name: str, file: Path, warm: corpus.Texts, unseen: corpus.Texts) -> Task:
    """Two threads beside one, whatever the harness keeps the others to.

    On more text than the other rows: within their 30 ms a system may not have noticed yet that it woke
    both threads on one core.
    """
    arguments = (str(file), warm.texts, unseen.texts)
    packages = ("internlm-core",)
    return Task(
        room="tokenizer",
        name=f"Encode, {name}, two threads beside one",
        unit="MB/s",
        amount=unseen.size / 1e6,
        ours=Contender(OURS, encoders.ours_on, (2, *arguments), packages),
        peers=(Contender(_ONE_THREAD, encoders.ours_on, (1, *arguments), packages),),
        judge=_same_ids,
        facts=unseen.facts(),
    )


def _long(name: str, file: Path, warm: corpus.Texts, unseen: corpus.Texts, size: int) -> Task:
    """One long document: beside the peers, and beside ours on the same text in short ones."""
    whole = "\n".join(unseen.texts).encode()[:size]
    parts = [whole[start : start + _DOCUMENT] for start in range(0, len(whole), _DOCUMENT)]
    # A cut may go through a character: what is left of it is dropped.
    long, *short = (part.decode(errors="ignore") for part in (whole, *parts))
    one = corpus.Texts([long], unseen.source)
    task = _encoding(f"{name}, one document of {len(whole) / 1e6:.1f} MB", file, warm, one)
    cut = Contender(_SHORT, encoders.job, (OURS, str(file), warm.texts, short), ("internlm-core",))

    def judge(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        # A cut makes other ids, so the peers are compared alone.
        figures = _same_ids({tool: ids for tool, ids in results.items() if tool != _SHORT})
        if _SHORT in results:
            figures[_SHORT] = {"documents": len(short), "tokens": _tokens(results[_SHORT])}
        return figures

    return replace(task, peers=(*task.peers, cut), judge=judge)


def _worst(name: str, file: Path, warm: corpus.Texts, prose: corpus.Texts, length: int) -> Task:
    """The peer is our own speed on ordinary text: the ratio is what the worst text leaves of it."""
    rng = random.Random(corpus.SEED)
    letters = "abcdefghijklmnopqrstuvwxyz"
    base64 = letters + letters.upper() + "0123456789+/"
    texts = [c * length for c in "a^ "] + ["的" * (length // 3), "\n    " * (length // 5)]
    texts += ["".join(rng.choices(some, k=length)) for some in (letters, base64)]
    worst = corpus.Texts(texts, "runs of one character, random letters, base64")
    # Equal amounts of both, so that times can be compared as speeds are; none of it twice.
    some, size = [], 0
    for text in prose.texts:
        if size < worst.size:
            some.append(text)
            size += len(text.encode())
    arguments = (OURS, str(file), warm.texts, some)
    plain = Contender(_ORDINARY, encoders.job, arguments, ("internlm-core",))
    task = _encoding(f"{name}, worst-case text", file, warm, worst)
    amounts = {OURS: len(worst.texts), _ORDINARY: len(some)}

    def judge(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        return {
            tool: {"tokens": _tokens(results[tool]), "texts": amounts[tool]} for tool in results
        }

    facts = {**worst.facts(), "bytes_of_ordinary_text": size}
    return replace(task, peers=(plain,), judge=judge, facts=facts)


def _loading(name: str, file: Path) -> Task:
    arguments = (str(file), "the tide")
    return Task(
        room="tokenizer",
        name=f"Load, {name}",
        unit="loads/s",
        amount=1,
        ours=Contender(OURS, encoders.loading, (OURS, *arguments), ("internlm-core",)),
        peers=tuple(
            Contender(
                peer, encoders.loading, (peer, *arguments), (encoders.ENCODERS[peer].package,)
            )
            for peer in encoders.PEERS[name]
        ),
        judge=_same_ids,
        facts={"bytes": file.stat().st_size},
    )


def _streaming(name: str, file: Path, texts: corpus.Texts) -> Task:
    some = texts.texts[:400]
    return Task(
        room="tokenizer",
        name=f"Decode id by id, {name}",
        unit="MB/s",
        amount=sum(len(text.encode()) for text in some) / 1e6,
        ours=Contender(OURS, _our_stream, (str(file), some), ("internlm-core",)),
        peers=(
            Contender("tokenizers DecodeStream", _their_stream, (str(file), some), ("tokenizers",)),
        ),
        judge=_same_text,
        facts=corpus.Texts(some, texts.source).facts(),
    )


def _same_text(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    ours = results[OURS]
    figures: dict[str, dict[str, Any]] = {OURS: {"texts": len(ours)}}
    for name, texts in results.items():
        if name != OURS:
            # The published decoder drops one leading space; ours loses nothing.
            pairs = zip(ours, texts, strict=True)
            same = sum(theirs in (text, text.removeprefix(" ")) for text, theirs in pairs)
            figures[name] = {"same_texts": f"{same} of {len(texts)}"}
    return figures


def _our_stream(file: str, texts: Sequence[str]) -> Job:
    from internlm_core.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_file(file, parity=True)
    documents = [tokenizer.encode(text).tolist() for text in texts]

    def run(_: object) -> list[str]:
        decoded = []
        for ids in documents:
            stream = tokenizer.stream()
            push = stream.push
            decoded.append("".join([push(token) for token in ids]) + stream.flush())
        return decoded

    return Job(run=run)


def _their_stream(file: str, texts: Sequence[str]) -> Job:
    from tokenizers import Tokenizer
    from tokenizers.decoders import DecodeStream

    tokenizer = Tokenizer.from_file(file)
    documents = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]

    def run(_: object) -> list[str]:
        decoded = []
        for ids in documents:
            step = DecodeStream(skip_special_tokens=False).step
            decoded.append("".join([step(tokenizer, token) or "" for token in ids]))
        return decoded

    return Job(run=run)
