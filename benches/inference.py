"""Writing and scoring beside transformers and llama.cpp on the same weights, and the engine beside itself.

Weights are drawn at random: what is timed does not depend on their values. In fp32 all sides must
write the same tokens. A round makes nothing but the answers: models are loaded before, and the
engine's cache is emptied of prefixes by prompts that differ in each round.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.harness import OURS, Contender, Task
from benches.peers import answers
from benches.served import over_http, write_tokenizer
from benches.worker import ROOT, Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["tasks"]

SEED = 20_240_326
SHAPE = {
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 3072,
    "vocab_size": 16_384,
    "max_position_embeddings": 2048,
}
_SMALL = {**SHAPE, "num_hidden_layers": 2, "hidden_size": 256, "vocab_size": 2048}
_PEER = ("transformers", "torch")
_OWN = ("internlm-core", "torch")
_LLAMA = "llama-cpp-python"
_LLAMA_PYTHON = ROOT / ".venv-peers" / _LLAMA / "bin" / "python"
_ROUNDS = itertools.count()


def tasks(*, quick: bool) -> Iterator[Task]:
    """One answer, eight at once, a shared prefix, scores, and what scheduler and server cost."""
    shape = _SMALL if quick else SHAPE
    new = 8 if quick else 48
    with tempfile.TemporaryDirectory() as folder:
        size = _write_weights(Path(folder), shape)
        for dtype in ("float32", "bfloat16"):
            arguments = (folder, dtype, 1, new)
            yield _task(
                f"One answer, {size} M parameters, {dtype}",
                new,
                Contender(OURS, _ours, arguments, _OWN),
                Contender("transformers", _theirs, arguments, _PEER),
                _llama(folder, dtype, new),
                exact=dtype == "float32",
            )
        ours = Contender(f"{OURS}, bfloat16", _ours, (folder, "bfloat16", 1, new), _OWN)
        for dtype in ("int8", "int4"):
            rounded = Contender(OURS, _ours, (folder, dtype, 1, new), _OWN)
            name = f"One answer, {size} M parameters, {dtype}"
            yield _task(name, new, rounded, ours, _llama(folder, dtype, new))
        for dtype in ("float32", "bfloat16"):
            together = Contender(OURS, _ours, (folder, dtype, 8, new), _OWN)
            turns = Contender(f"{OURS}, one at a time", _ours, (folder, dtype, 8, new, 1), _OWN)
            name = f"Eight answers at once, {dtype}"
            yield _task(name, 8 * new, together, turns, most_rounds=2)
        # Most on 8-bit weights, whose steps are short.
        for dtype in ("float32", "int8"):
            served = Contender(f"{OURS}, over HTTP", _http, (folder, dtype, new), _OWN)
            engine = Contender(OURS, _ours, (folder, dtype, 1, new), _OWN)
            bare = Contender(f"{OURS}, decoder alone", _bare, (folder, dtype, new), _OWN)
            name = f"One answer, cost of scheduler and server, {dtype}"
            yield _task(name, new, served, engine, bare)
        count, prefix = (8, 64) if quick else (64, 512)
        shared = (folder, count, prefix)
        yield _task(
            f"{count} prompts that share {prefix} tokens",
            count * (prefix + 16),
            Contender(OURS, _prefix, (*shared, True), _OWN),
            Contender(f"{OURS}, no prefix cache", _prefix, (*shared, False), _OWN),
            most_rounds=1,  # half a minute each, and what counts is how many tokens are read
        )
        lengths = [16, 40, 24, 8] if quick else [400, 60, 250, 120, 31, 300, 180, 90] * 2
        yield _task(
            f"Scores of {len(lengths)} texts of {min(lengths)} to {max(lengths)} tokens, float32",
            sum(lengths),
            Contender(OURS, _our_scores, (folder, lengths), _OWN),
            Contender("transformers", _their_scores, (folder, lengths), _PEER),
        )


def _task(
    name: str,
    tokens: int,
    ours: Contender,
    *peers: Contender,
    exact: bool = False,
    most_rounds: int | None = None,
) -> Task:
    def judge(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        if exact:
            wanted = results[ours.name]["ids"]
            same = {name: result["ids"] == wanted for name, result in results.items()}
            assert all(same.values()), f"other tokens: {same}"
        return {
            name: {key: value for key, value in result.items() if key != "ids"}
            for name, result in results.items()
        }

    return Task(
        room="inference",
        name=name,
        unit="tokens/s",
        amount=tokens,
        ours=ours,
        peers=peers,
        judge=judge,
        facts={"n": tokens},
        most_rounds=most_rounds,
    )


def _llama(folder: str, dtype: str, new: int) -> Contender:
    arguments = (folder, dtype, _prompts(1, 32)[0], new)
    return Contender("llama.cpp", answers.llama_cpp, arguments, (_LLAMA,), _LLAMA_PYTHON)


def _write_weights(folder: Path, shape: Mapping[str, int]) -> float:
    """One draw of weights under both names; how many millions there are."""
    from internlm_core import model as room
    from internlm_core._config import load_config

    config = load_config(room.ModelConfig, {**shape, "eos_token_id": 2, "dtype": "float32"})
    drawn = room.InternLM2(config, seed=SEED)
    room.save(drawn, folder / "ours")
    room.save(drawn, folder / "llama", naming="llama")
    write_tokenizer(folder / "ours", config.vocab_size, SEED)
    return round(config.parameter_count / 1e6)


def _prompts(count: int, length: int, number: int = 0) -> list[list[int]]:
    import numpy as np

    rng = np.random.default_rng((SEED, number))
    drawn: list[list[int]] = rng.integers(3, 2000, (count, length)).tolist()
    return drawn


def _engine(folder: str, dtype: str, **settings: Any) -> Any:
    import torch
    from internlm_core.infer import Engine

    threads = torch.get_num_threads()
    return Engine.from_folder(Path(folder) / "ours", dtype, threads=threads, **settings)


def _ours(folder: str, dtype: str, count: int, new: int, together: int | None = None) -> Job:
    engine = _engine(folder, dtype, max_batch=together or count, prefix_cache=False)
    prompts = _prompts(count, 32)

    def run(_: Any) -> Any:
        return engine.generate(prompts, max_tokens=new, ignore_eos=True)

    return Job(run=run, result=lambda answers: {"ids": [list(a.ids) for a in answers]})


def _http(folder: str, dtype: str, new: int) -> Job:
    return over_http(_engine(folder, dtype, prefix_cache=False), _prompts(1, 32)[0], new)


def _bare(folder: str, dtype: str, new: int) -> Job:
    """The decoder's steps with nothing around them but the choice of the likeliest token."""
    from internlm_core import model as room
    from internlm_core.infer.cpu_runner import CpuRunner
    from internlm_core.infer.runner import Batch, Segment

    model = room.load(Path(folder) / "ours")
    weights = None if dtype == "float32" else dtype
    runner = CpuRunner(
        model.config, model.state_dict(), weights=weights, blocks=64, session_length=1024, threads=1
    )
    [prompt] = _prompts(1, 32)

    def run(_: Any) -> Any:
        ids, start, found = prompt, 0, []
        for _ in range(new):
            segment = Segment(start, len(ids), list(range(-(-(start + len(ids)) // 16))))
            logits = runner.step(Batch(ids, [segment], [len(ids) - 1])).logits[0]
            start += len(ids)
            ids = [int(logits.argmax())]
            found.append(ids[0])
        return found

    return Job(run=run, result=lambda ids: {"ids": [ids]})


def _theirs(folder: str, dtype: str, count: int, new: int) -> Job:
    import torch
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    kind = getattr(torch, dtype)
    model = AutoModelForCausalLM.from_pretrained(Path(folder) / "llama", dtype=kind).eval()
    ids = torch.tensor(_prompts(count, 32))

    def run(_: Any) -> Any:
        with torch.inference_mode():
            return model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=new,
                min_new_tokens=new,
                pad_token_id=2,
            )

    return Job(run=run, result=lambda out: {"ids": out[:, ids.shape[1] :].tolist()})


def _prefix(folder: str, count: int, prefix: int, cached: bool) -> Job:
    engine = _engine(folder, "bfloat16", prefix_cache=cached, max_batch=count)
    before = [0]

    def prepare() -> Any:
        number = next(_ROUNDS)
        before[0] = engine.stats.prefill_tokens
        [start] = _prompts(1, prefix, number)
        return [[*start, *tail] for tail in _prompts(count, 16, number + 1_000_000)]

    def run(prompts: Any) -> Any:
        engine.generate(prompts, max_tokens=1)
        return engine.stats.prefill_tokens - before[0]

    return Job(run=run, prepare=prepare, result=lambda read: {"prefill_tokens": read})


def _texts(lengths: list[int]) -> list[list[int]]:
    return [_prompts(1, length, i)[0] for i, length in enumerate(lengths)]


def _our_scores(folder: str, lengths: list[int]) -> Job:
    engine = _engine(folder, "float32", step_tokens=2048)
    texts = _texts(lengths)
    return Job(
        run=lambda _: engine.score(texts),
        result=lambda found: {"log_prob": sum(float(x.sum()) for x in found)},
    )


def _their_scores(folder: str, lengths: list[int]) -> Job:
    """Batches of 8 of like length, padded: what a user of transformers writes."""
    import torch
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(Path(folder) / "llama", dtype=torch.float32).eval()
    texts = sorted(_texts(lengths), key=len)

    def run(_: Any) -> float:
        total = 0.0
        for first in range(0, len(texts), 8):
            part = texts[first : first + 8]
            longest = max(map(len, part))
            ids = torch.tensor([[*text, *[2] * (longest - len(text))] for text in part])
            mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in part])
            with torch.inference_mode():
                logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
                found = logits.gather(-1, ids[:, 1:, None])[..., 0]
                total += float((found * mask[:, 1:]).sum())
        return total

    return Job(run=run, result=lambda total: {"log_prob": total})
