"""lm-eval's tasks on our engine (EleutherAI's lm-evaluation-harness, extra `eval`).

Its own YAML tasks are used as they are; `evaluate` reads them from a folder, with data beside them, so
that nothing is fetched.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from internlm_core._optional import require
from internlm_core.errors import InferError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from internlm_core.infer import Engine

__all__ = ["EngineAdapter", "adapter", "evaluate"]


class EngineAdapter:
    """What lm-eval asks of a model, answered by an engine; `adapter` makes an `lm_eval` model of it.

    A context gets exactly one BOS. As lm-eval's own models do, blanks at the end of a context are read
    with the continuation, and what exceeds the session is cut from the left.

    Args:
        engine: Scores and writes; it needs a tokenizer.
        max_gen_toks: Most tokens of an answer where a task names none.

    Raises:
        InferError: The engine has no tokenizer.
    """

    def __init__(self, engine: Engine, max_gen_toks: int = 256) -> None:
        if engine.tokenizer is None:
            raise InferError("there is no tokenizer.json in the model's folder: lm-eval needs one")
        self._engine, self._tokenizer = engine, engine.tokenizer
        self._max_gen_toks = max_gen_toks
        start = engine.config.bos_token_id
        if start is None:
            start = engine.tokenizer.special_tokens.get("</s>", 0)
        self._start = start

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without BOS."""
        ids: list[int] = self._tokenizer.encode_ordinary(text).tolist()
        return ids

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of both, BOS in front of the context."""
        blanks = len(context) - len(context.rstrip())
        if blanks:
            context, continuation = context[:-blanks], context[-blanks:] + continuation
        before, whole = self.encode(context), self.encode(context + continuation)
        if whole[: len(before)] != before:
            # A token would span the border: the model reads the context as it is in generation.
            return [self._start, *before], self.encode(continuation)
        return [self._start, *before], whole[len(before) :]

    def score_pairs(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """For each (context, continuation): summed log p in nats, and whether greedy writes it."""
        room = self._engine.session_length
        cut = [self._fit(before, after, room) for before, after in pairs]
        scores = self._engine.score([before + after for before, after in cut])
        sums: list[float] = []
        greedy: list[bool | None] = []
        for (_, after), all_scores in zip(cut, scores, strict=True):
            own = all_scores[len(all_scores) - len(after) :]
            sums.append(float(own.sum(dtype="float64")))
            # More than half of the probability is the greatest; with less it must be tried.
            greedy.append(True if (own > -0.6931).all() else None)
        unknown = [i for i, known in enumerate(greedy) if known is None]
        handles = [
            self._engine.submit(
                cut[i][0], max_tokens=len(cut[i][1]), temperature=0.0, ignore_eos=True
            )
            for i in unknown
        ]
        for i, handle in zip(unknown, handles, strict=True):
            written = [token for event in handle for token in event.token_ids]
            greedy[i] = written == cut[i][1]
        return [(value, bool(known)) for value, known in zip(sums, greedy, strict=True)]

    def _fit(self, before: list[int], after: list[int], room: int) -> tuple[list[int], list[int]]:
        if len(after) >= room:
            raise InferError(
                f"a continuation of {len(after)} tokens does not fit in the session of {room}"
            )
        keep = room - len(after)
        # BOS stays in front of what is left.
        return before if len(before) <= keep else [
            before[0],
            *before[len(before) - keep + 1 :],
        ], after

    def roll(self, text: str) -> float:
        """Log p of a whole text in nats; one longer than the session in windows, each token once."""
        utils = require("lm_eval.utils", extra="eval")
        windows = utils.get_rolling_token_windows(
            token_list=self.encode(text),
            prefix_token=self._start,
            max_seq_len=self._engine.session_length - 1,
            context_len=1,
        )
        pairs = [utils.make_disjoint_window(window) for window in windows]
        sequences = [[*before, *after] for before, after in pairs]
        scores = self._engine.score(sequences)
        return sum(
            float(own[len(own) - len(after) :].sum(dtype="float64"))
            for own, (_, after) in zip(scores, pairs, strict=True)
        )

    def write(self, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        """Answers to (context, settings of lm-eval's `generation_kwargs`)."""
        handles = []
        for context, settings in asked:
            until = settings.get("until") or []
            most = int(settings.get("max_gen_toks") or self._max_gen_toks)
            most = min(most, self._engine.session_length - 1)
            ids, _ = self._fit(
                [self._start, *self.encode(context)], [0] * most, self._engine.session_length
            )
            sample = bool(settings.get("do_sample")) and settings.get("temperature", 1.0) > 0
            handles.append(
                self._engine.submit(
                    ids,
                    max_tokens=most,
                    temperature=float(settings.get("temperature", 1.0)) if sample else 0.0,
                    top_p=float(settings.get("top_p") or 1.0),
                    seed=settings.get("seed"),
                    stop=tuple(s for s in ([until] if isinstance(until, str) else until) if s),
                )
            )
        return ["".join(event.text for event in handle) for handle in handles]


def adapter(engine: Engine, max_gen_toks: int = 256) -> Any:
    """An `lm_eval.api.model.LM` over an engine, for `lm_eval.simple_evaluate(model=…)`.

    Raises:
        InferError: The engine has no tokenizer.
        MissingExtraError: lm-eval is not installed.
    """
    made = EngineAdapter(engine, max_gen_toks)
    base = require("lm_eval.api.model", extra="eval").LM

    class EngineLM(base):  # type: ignore[misc, valid-type]
        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            return made.score_pairs([made.pair(*request.args) for request in requests])

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            return [made.roll(request.args[0]) for request in requests]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            return made.write([request.args for request in requests])

    return EngineLM()


def evaluate(
    engine: Engine,
    tasks: Sequence[str],
    include_path: str | Path,
    *,
    num_fewshot: int | None = None,
    limit: int | None = None,
    seed: int = 1234,
) -> dict[str, Any]:
    """Run lm-eval's tasks from a folder of YAML files, without the network.

    Args:
        engine: The model.
        tasks: Names of tasks that the folder defines.
        include_path: The folder. `data_files` in a task are found from the working directory, or
            are absolute.
        num_fewshot: Examples in front of each question; as the task says when None.
        limit: Only the first so many questions.
        seed: Of all that lm-eval draws.

    Returns:
        lm-eval's own result: `results` (task → metric → value), `samples`, versions.

    Raises:
        InferError: The engine has no tokenizer, or the folder does not define a task.
        MissingExtraError: lm-eval is not installed.
    """
    # Read when its libraries are imported; who wants the hub sets them to 0.
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(name, "1")
    harness = require("lm_eval", extra="eval")
    manager = require("lm_eval.tasks", extra="eval").TaskManager(
        include_path=str(include_path), include_defaults=False
    )
    missing = [task for task in tasks if task not in manager.all_tasks]
    if missing:
        raise InferError(
            f"{include_path}: defines no task named {', '.join(missing)}; it has"
            f" {', '.join(sorted(manager.all_tasks)) or 'none'}"
        )
    result: dict[str, Any] = harness.simple_evaluate(
        model=adapter(engine),
        tasks=list(tasks),
        task_manager=manager,
        num_fewshot=num_fewshot,
        limit=limit,
        bootstrap_iters=0,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    return result
