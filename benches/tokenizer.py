"""Tokenizers beside `tokenizers` and `tiktoken`: encoding text that was not seen before, training.

Each round loads the tokenizer anew and lets it encode other text first, so that caches are warm but
hold nothing of the text that is timed; repeated text would flatter them. Ids are compared with the
peer's in the same run. Published vocabularies are used where they are staged (see `corpus`), else
one is trained on the spot and read by both sides.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import corpus
from benches.harness import OURS, Contender, Task
from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["tasks"]

# The published pattern of cl100k_base, for both sides of the training task.
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tasks(*, quick: bool) -> Iterator[Task]:
    """Encoding with each vocabulary there is, and training."""
    texts = corpus.mixed(600_000 if quick else 12_000_000)
    warm, unseen = texts.halves()
    kinds = {
        "English": corpus.english(200_000 if quick else 6_000_000),
        "Chinese": corpus.chinese(200_000 if quick else 6_000_000),
        "code": corpus.code(200_000 if quick else 6_000_000),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, file in _vocabularies(Path(folder), warm):
            yield _encoding(f"{name}, mixed", file, warm, unseen)
            if name == "internlm2":
                for kind, part in kinds.items():
                    if part.texts:
                        yield _encoding(f"{name}, {kind}", file, *part.halves())
    yield _training(texts, 2_000 if quick else 16_000)


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
    if file.suffix == ".tiktoken":
        peer = Contender("tiktoken", _tiktoken, arguments, ("tiktoken",))
    else:
        peer = Contender("tokenizers", _hugging_face, arguments, ("tokenizers",))
    return Task(
        room="tokenizer",
        name=f"Encode, {name}",
        unit="MB/s",
        amount=unseen.size / 1e6,
        ours=Contender(OURS, _ours, arguments, ("internlm-core",)),
        peers=(peer,),
        judge=_same_ids,
        facts=unseen.facts(),
    )


def _same_ids(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    import numpy as np

    ours, bounds = results[OURS]
    figures = {OURS: {"tokens": int(bounds[-1])}}
    for name, documents in results.items():
        if name != OURS:
            same = sum(
                np.array_equal(ours[bounds[n] : bounds[n + 1]], ids)
                for n, ids in enumerate(documents)
            )
            figures[name] = {"same_ids": f"{same} of {len(documents)}"}
    return figures


def _ours(file: str, warm: Sequence[str], texts: Sequence[str]) -> Job:
    import polars as pl
    from internlm_core.tokenizer import Tokenizer

    # The reference finds added tokens in any text; ours only where a call allows it.
    allowed = _added_tokens(Path(file))
    before, column = pl.Series(warm), pl.Series(texts)

    def prepare() -> Any:
        tokenizer = Tokenizer.from_file(file, parity=file.endswith(".json"))
        tokenizer.encode_batch(before, allowed_special=allowed)
        return tokenizer

    return Job(
        run=lambda tokenizer: tokenizer.encode_batch(column, allowed_special=allowed),
        prepare=prepare,
    )


def _added_tokens(file: Path) -> list[str]:
    if file.suffix != ".json":
        return []
    return [token["content"] for token in json.loads(file.read_text("utf-8"))["added_tokens"]]


def _hugging_face(file: str, warm: Sequence[str], texts: Sequence[str]) -> Job:
    from tokenizers import Tokenizer

    def prepare() -> Any:
        tokenizer = Tokenizer.from_file(file)
        tokenizer.encode_batch_fast(warm, add_special_tokens=False)
        return tokenizer

    def run(tokenizer: Any) -> list[list[int]]:
        return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return Job(run=run, prepare=prepare, result=_arrays)


def _tiktoken(file: str, warm: Sequence[str], texts: Sequence[str]) -> Job:
    import tiktoken
    from tiktoken_ext import openai_public

    lines = [line.split() for line in Path(file).read_bytes().splitlines() if line]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    # The published constructors fetch the ranks; they are given those of the file instead.
    openai_public.load_tiktoken_bpe = lambda *_, **__: ranks
    name = "o200k_base" if "o200k" in Path(file).name else "cl100k_base"
    values = getattr(openai_public, name)()
    values.pop("explicit_n_vocab", None)
    values["special_tokens"] = {
        token: number for token, number in values["special_tokens"].items() if number >= len(ranks)
    }

    def prepare() -> Any:
        encoding = tiktoken.Encoding(**values)
        for text in warm:
            encoding.encode_ordinary(text)
        return encoding

    def run(encoding: Any) -> list[list[int]]:
        return [encoding.encode_ordinary(text) for text in texts]

    return Job(run=run, prepare=prepare, result=_arrays)


def _arrays(documents: Sequence[Sequence[int]]) -> list[Any]:
    import numpy as np

    return [np.array(ids, np.uint32) for ids in documents]


def _training(texts: corpus.Texts, vocab_size: int) -> Task:
    arguments = (texts.texts, vocab_size)
    return Task(
        room="tokenizer",
        name=f"Train a vocabulary of {vocab_size:,}",
        unit="MB/s",
        amount=texts.size / 1e6,
        ours=Contender(OURS, _our_trainer, arguments, ("internlm-core",)),
        peers=(Contender("tokenizers BpeTrainer", _their_trainer, arguments, ("tokenizers",)),),
        judge=_same_merges,
        facts=texts.facts(),
    )


def _same_merges(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    ours = results[OURS]
    figures: dict[str, dict[str, Any]] = {OURS: {"merges": len(ours)}}
    for name, theirs in results.items():
        if name != OURS:
            same = sum(a == b for a, b in zip(ours, theirs, strict=False))
            figures[name] = {"same_merges": f"{same} of {len(theirs)}"}
    return figures


def _merges(text: str) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(text)["model"]["merges"]]


def _our_trainer(texts: Sequence[str], vocab_size: int) -> Job:
    import polars as pl
    from internlm_core.tokenizer import train

    column = pl.Series(texts)

    def merges(trained: Any) -> list[tuple[str, str]]:
        with tempfile.TemporaryDirectory() as folder:
            trained.save(Path(folder) / "tokenizer.json")
            return _merges((Path(folder) / "tokenizer.json").read_text("utf-8"))

    return Job(
        run=lambda _: train(
            column, vocab_size=vocab_size, first_special=(), last_special=(), quiet=True
        ),
        result=merges,
    )


def _their_trainer(texts: Sequence[str], vocab_size: int) -> Job:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    def run(_: object) -> Any:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(CL100K), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        tokenizer.train_from_iterator(texts, trainer)
        return tokenizer

    return Job(run=run, result=lambda tokenizer: _merges(tokenizer.to_str()))
