"""Generation, streaming and scoring with one loaded model."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from internlm_core import chat
from internlm_core._progress import console
from internlm_core.chat.dialects import dialect_of
from internlm_core.errors import InferError
from internlm_core.infer.blocks import BlockPool
from internlm_core.infer.intake import Intake, as_list, is_id, params_of
from internlm_core.infer.loading import automatic_blocks, make_runner, read
from internlm_core.infer.loop import Loop
from internlm_core.infer.request import Chunk, Completion, Handle, Sequence
from internlm_core.infer.runner import PAGE
from internlm_core.infer.sampling import SamplingParams
from internlm_core.infer.scheduler import Scheduler
from internlm_core.model import InternLM2, load
from internlm_core.model.runs import model_folder
from internlm_core.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Sequence as Many
    from pathlib import Path

    import numpy.typing as npt
    import torch
    from typing_extensions import Self

    from internlm_core.infer.runner import Runner
    from internlm_core.infer.scheduler import Stats
    from internlm_core.model import ModelConfig

    Prompt = str | Many[int] | Many[Mapping[str, Any]]

__all__ = ["Engine"]


class Engine:
    """A model that writes and scores.

    A thread of its own runs the model while there is work; any thread may call. On a CPU the Rust
    decoder computes, from its own packed copy of the weights; on CUDA torch and Triton do.

    Args:
        model: A model, or its configuration where `runner` is given.
        tokenizer: Without one, prompts and answers are ids only.
        weights: `int8` or `int4`: weights rounded in groups of 128, on a CPU.
        round_head: With them the output head, to 8 bits; else it keeps its type.
        kv_dtype: Type of cached keys and values: `float32`, `bfloat16` or `int8`; the weights' when
            None.
        session_length: Most tokens of a prompt and its answer; the model's trained length when
            None. Dynamic RoPE scaling is fixed for it, so no request changes another's answer.
        max_batch: Most requests that run together.
        step_tokens: Most tokens of a step: longer prompts are read in parts, between which the
            answers of others go on.
        cache_tokens: Room of the cache in tokens; when None, for `max_batch` full sessions or 0.3 of
            the free memory (0.8 on CUDA), whichever is less.
        prefix_cache: Keep the keys and values of earlier prompts while there is room.
        threads: Of the CPU decoder; 0: all cores.
        dialect: Written form of conversations.
        runner: Computes instead; for tests and other devices.

    Raises:
        InferError: A setting that can't be used.
        DataError: No dialect has that name.

    Attributes:
        config: The model's configuration.
        dialect: Written form of conversations.
        warning: Set by `from_folder` where the checkpoint was tuned with another rendering.
    """

    def __init__(
        self,
        model: InternLM2 | ModelConfig,
        tokenizer: Tokenizer | None = None,
        *,
        weights: str | None = None,
        round_head: bool = True,
        kv_dtype: str | None = None,
        session_length: int | None = None,
        max_batch: int = 32,
        step_tokens: int = 512,
        cache_tokens: int | None = None,
        prefix_cache: bool = True,
        threads: int = 0,
        dialect: str | chat.Dialect = "internlm2",
        runner: Runner | None = None,
        _state: dict[str, Any] | None = None,
    ) -> None:
        self.config: ModelConfig = model.config if isinstance(model, InternLM2) else model
        self.tokenizer = tokenizer
        self.dialect: chat.Dialect = dialect_of(dialect)
        self.warning: str | None = None
        self.session_length = session_length or self.config.max_position_embeddings
        for name, value in (("max_batch", max_batch), ("step_tokens", step_tokens)):
            if value < 1:
                raise InferError(f"{name}={value}: must be at least 1")
        if self.session_length < 2:
            raise InferError(f"session_length={session_length}: must be at least 2")
        self._model = model if isinstance(model, InternLM2) else None
        self._folder: tuple[Path, Any, Any] | None = None
        blocks = automatic_blocks(
            self.config, self._model, kv_dtype, self.session_length, max_batch, cache_tokens
        )
        if runner is None:
            runner = make_runner(
                self.config,
                self._model if _state is None else _state,
                weights=weights,
                round_head=round_head,
                kv_dtype=kv_dtype,
                blocks=blocks,
                session_length=self.session_length,
                threads=threads,
            )
        self._pool = BlockPool(blocks, PAGE)
        scheduler = Scheduler(self._pool, max_batch, step_tokens, prefix_cache=prefix_cache)
        # A vocabulary padded for the hardware has ids that stand for nothing: never drawn.
        known = self.config.vocab_size
        if tokenizer is not None:
            known = min(known, tokenizer.vocab_size)
        self._loop = Loop(runner, scheduler, known)
        self._intake = Intake(
            self.config,
            tokenizer,
            self.session_length,
            blocks * PAGE,
            known,
            self._loop.cancel,
            self.dialect,
        )
        weakref.finalize(self, self._loop.stop)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        *,
        dialect: str | chat.Dialect | None = None,
        **settings: Any,
    ) -> Engine:
        """Load a checkpoint with its tokenizer.

        Warns where the checkpoint was tuned with another rendering of conversations.

        Args:
            folder: `config.json`, weights (AWQ's 4-bit ones too) and `tokenizer.json`; or a training
                run, whose newest checkpoint is taken.
            dtype: `float32`, `bfloat16`, or on a CPU `int8` and `int4`, which round the weights as
                they are loaded; as stored when None.
            device: Where to compute.
            dialect: Written form of conversations; the one the checkpoint was tuned with when None.
            settings: As for the class.

        Raises:
            ModelError: The configuration can't be used.
            CheckpointError: The weights are missing, cut or altered.
            TokenizerError: `tokenizer.json` can't be read.
            DataError: `chat.json` can't be read, or a dialect isn't known.
            InferError: A type or a setting that can't be used.
        """
        folder = model_folder(folder)
        path = folder / "tokenizer.json"
        tokenizer = Tokenizer.from_file(path) if path.is_file() else None
        dialect = chat.stored_dialect(folder) if dialect is None else dialect
        warning = None if tokenizer is None else chat.rendering_warning(folder, tokenizer, dialect)
        if warning is not None:
            console.print(f"[yellow]{warning}[/yellow]")
        model, state, weights = read(folder, dtype, device)
        settings = {"weights": weights, **settings}
        engine = cls(model, tokenizer, dialect=dialect, _state=state, **settings)
        engine.warning = warning
        if isinstance(model, InternLM2):
            engine._folder = (folder, dtype if weights is None else None, device)
        if state is not None:
            # The decoder has its own copy.
            engine._model = None
        return engine

    # ---- writing ----

    def submit(
        self,
        prompt: Prompt,
        sampling: SamplingParams | None = None,
        *,
        request_id: str | None = None,
        **settings: Any,
    ) -> Handle:
        """Hand in a request and go on; from any thread, also that of an event loop.

        Args:
            prompt: As for `generate`.
            sampling: Settings, or give them by name.
            request_id: Its name in the events; numbered when None.
            settings: Fields of `SamplingParams`.

        Returns:
            A handle to iterate over, `for` or `async for`, and to `cancel()`.

        Raises:
            InferError: A setting is out of range, the prompt fills the session, or a schema can't be
                used.
        """
        handle, sequences = self._intake.request(prompt, params_of(sampling, settings), request_id)
        self._loop.submit(sequences)
        return handle

    def generate(
        self,
        prompts: Prompt | Many[Prompt],
        sampling: SamplingParams | Many[SamplingParams] | None = None,
        *,
        seed: int | Many[int] | None = None,
        **settings: Any,
    ) -> list[Completion]:
        """Continue prompts, many at a time.

        Args:
            prompts: A text, a list of ids or a conversation (a list of messages as for
                `chat.render`); or a list of such.
            sampling: Settings of all, or one each.
            seed: One for all (each answer is then what it would be alone), or one each.
            settings: Fields of `SamplingParams`, instead.

        Returns:
            The completions of each prompt, `n` of them, in order.

        Raises:
            InferError: A setting is out of range, or a prompt fills the session.
        """
        many = as_list(prompts)
        if isinstance(sampling, (list, tuple)):
            chosen = list(sampling)
        else:
            seeds: list[Any] = [seed] * len(many)
            if seed is not None and not is_id(seed):
                seeds = list(seed)  # type: ignore[arg-type]
            if len(seeds) != len(many):
                raise InferError(f"{len(seeds)} seeds for {len(many)} prompts: one, or one each")
            given = [{} if s is None else {"seed": int(s)} for s in seeds]
            chosen = [params_of(sampling, settings | s) for s in given]  # type: ignore[arg-type]
        if len(chosen) != len(many):
            raise InferError(f"{len(chosen)} settings for {len(many)} prompts: one, or one each")
        requests = [self._intake.request(p, params) for p, params in zip(many, chosen, strict=True)]
        # All at once: one bad prompt stops all before any work, and the steps are the same each time.
        self._loop.submit([sequence for _, sequences in requests for sequence in sequences])
        handles = [handle for handle, _ in requests]
        try:
            return [done for handle in handles for done in _collect(handle)]
        except BaseException:
            for handle in handles:
                handle.cancel()
            raise

    def stream(
        self, prompt: Prompt, sampling: SamplingParams | None = None, **settings: Any
    ) -> Iterator[Chunk]:
        """Continue one prompt, piece by piece; arguments as for `generate`.

        The pieces join to the text that `generate` gives. A piece never ends inside a character, and
        what may be the start of a stop text is held back until it is clear. Closing the iterator
        ends the request.
        """
        params = params_of(sampling, settings)
        if params.n != 1:
            raise InferError(f"n={params.n}: a stream is of one answer; use submit")
        handle = self.submit(prompt, params)

        def chunks() -> Iterator[Chunk]:
            ids: list[int] = []
            logprobs: list[Any] = []
            try:
                for event in handle:
                    ids.extend(event.token_ids)
                    logprobs.extend(event.logprobs or ())
                    if event.text or event.finish_reason is not None:
                        yield Chunk(event.text, event.finish_reason, tuple(ids), tuple(logprobs))
                        ids, logprobs = [], []
            finally:
                if not handle.done:
                    handle.cancel()

        return chunks()

    # ---- scoring ----

    def score(
        self, sequences: Many[Many[int] | npt.NDArray[np.integer[Any]]]
    ) -> list[npt.NDArray[np.float32]]:
        """Log-probability of each token given those before it, in nats.

        Many lists share a step, without padding; they run beside what is being written.

        Args:
            sequences: Lists of ids; no BOS is added.

        Returns:
            For each list of n ids, float32 `[n − 1]`: entry i is log p(ids[i + 1] | ids[0 … i]).

        Raises:
            ModelError: An id is outside the vocabulary.
            InferError: A list is longer than the session.
        """
        lists = [np.asarray(ids, np.int64).tolist() for ids in sequences]
        work = []
        for number, ids in enumerate(lists):
            self._intake.check_ids(ids)
            if len(ids) > self.session_length:
                raise InferError(
                    f"list {number} has {len(ids)} tokens, the session {self.session_length}: cut it,"
                    " or load the engine with a larger session_length"
                )
            self._intake.check_room(len(ids))
            handle = Handle(f"score-{number}", 1, self._loop.cancel)
            score = np.zeros(max(0, len(ids) - 1), np.float32)
            work.append(Sequence(handle, ids, SamplingParams(), score=score))
        # Like lengths side by side: steps are full, and few lists are cut.
        queued = sorted((s for s in work if len(s.prompt) > 1), key=lambda s: len(s.prompt))
        if queued:
            self._loop.submit(queued)
        try:
            for sequence in queued:
                for _ in sequence.handle:
                    pass
        except BaseException:
            for sequence in queued:
                sequence.handle.cancel()
            raise
        return [s.score for s in work if s.score is not None]

    # ---- the rest ----

    @property
    def model(self) -> InternLM2:
        """The torch model, read again where the engine came from a folder and packed it.

        Raises:
            InferError: There is none: the folder's weights are AWQ's, or a runner was given.
        """
        if self._model is None:
            if self._folder is None:
                raise InferError("this engine has no torch model")
            folder, dtype, device = self._folder
            self._model = load(folder, dtype=dtype, device=device)
        return self._model

    @property
    def stats(self) -> Stats:
        """Tokens read, found, written and scored since the engine was made."""
        return self._loop.stats

    @property
    def load(self) -> dict[str, int]:
        """Requests running and waiting, and blocks of the cache in use and in all."""
        running, waiting, used = self._loop.load
        return {"running": running, "waiting": waiting, "used": used, "blocks": self._pool.count}

    def close(self) -> None:
        """End all requests and the thread. The engine can't be used afterwards."""
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids a prompt is read as: one BOS in front of a text; a conversation as rendered.

        Raises:
            InferError: A text without a tokenizer, or an empty prompt.
        """
        return self._intake.encode(prompt)


def _collect(handle: Handle) -> list[Completion]:
    """The answers of a request, once they are finished."""
    events = list(handle)
    done = []
    for index in sorted({event.index for event in events}):
        own = [event for event in events if event.index == index]
        logprobs = tuple(x for event in own for x in event.logprobs or ())
        last = own[-1]
        done.append(
            Completion(
                text="".join(event.text for event in own),
                ids=tuple(i for event in own for i in event.token_ids),
                log_probs=np.array([x.log_prob for x in logprobs], np.float32),
                finish_reason=last.finish_reason or "cancelled",
                prompt_tokens=last.prompt_tokens,
                cached_tokens=last.cached_tokens,
                index=index,
                logprobs=logprobs,
            )
        )
    return done
