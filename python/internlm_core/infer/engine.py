"""Generation, streaming and scoring with one loaded model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from internlm_core import chat
from internlm_core._files import read_json
from internlm_core._progress import console
from internlm_core.errors import InferError
from internlm_core.infer.request import Chunk, Completion, Request
from internlm_core.infer.sampling import Sampler, SamplingParams
from internlm_core.infer.text import TextWriter
from internlm_core.model import KVCache, load
from internlm_core.model.allocator import keep_freed_memory
from internlm_core.model.runs import model_folder
from internlm_core.model.scoring import token_log_probs
from internlm_core.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from internlm_core.model import InternLM2

    Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]

__all__ = ["Engine"]

_PREFILL_TOKENS = 8192
"""Most prompt tokens of one forward pass, over all rows: bounds the memory of long prompts."""


class Engine:
    """A model that writes and scores.

    Args:
        model: Its weights' type is the type that is computed in.
        tokenizer: Without one, prompts and answers are ids only.
        session_length: Most tokens of a prompt and its answer; the model's trained length when
            None. Dynamic RoPE scaling is fixed for it, so no request changes another's answer.
        max_batch: Most requests that run together.
    """

    def __init__(
        self,
        model: InternLM2,
        tokenizer: Tokenizer | None = None,
        *,
        session_length: int | None = None,
        max_batch: int = 32,
    ) -> None:
        if model.device.type == "cpu":
            keep_freed_memory()
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.session_length = session_length or model.config.max_position_embeddings
        self._max_batch = max_batch
        special = {} if tokenizer is None else tokenizer.special_tokens
        # A vocabulary padded for the hardware has ids that stand for nothing: never drawn.
        self._known = model.config.vocab_size
        if tokenizer is not None:
            self._known = min(self._known, tokenizer.vocab_size)
        self._hidden = frozenset(special.values())
        ends = {special[name] for name in ("</s>", "<|im_end|>") if name in special}
        self._stop_ids = frozenset(model.config.stop_ids) | ends

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        *,
        session_length: int | None = None,
        max_batch: int = 32,
    ) -> Engine:
        """Load a checkpoint with its tokenizer.

        Args:
            folder: `config.json`, weights and `tokenizer.json`; or a training run, whose newest
                checkpoint is taken.
            dtype: `float32`, `bfloat16`, …; as stored when None.
            device: Where to compute.
            session_length: As for the class.
            max_batch: As for the class.

        Raises:
            ModelError: The configuration can't be used.
            CheckpointError: The weights are missing, cut or altered.
            TokenizerError: `tokenizer.json` can't be read.
        """
        folder = model_folder(folder)
        model = load(folder, dtype=dtype, device=device)
        path = folder / "tokenizer.json"
        tokenizer = Tokenizer.from_file(path) if path.is_file() else None
        if tokenizer is not None:
            _check_rendering(folder, tokenizer)
        return cls(model, tokenizer, session_length=session_length, max_batch=max_batch)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | Sequence[int] | None = None,
        stop: str | Sequence[str] = (),
        stop_ids: Sequence[int] = (),
    ) -> list[Completion]:
        """Continue prompts, many at a time.

        Args:
            prompts: A text, a list of ids or a conversation (a list of messages as for
                `chat.render`); or a list of such.
            max_tokens: Most tokens of each answer.
            temperature: 0 is greedy.
            top_k: 0 turns it off.
            top_p: 1 turns it off.
            seed: One for all (each answer is then what it would be alone), or one each.
            stop: Texts that end an answer and are left out of it.
            stop_ids: Ids that end an answer, besides the end tokens of the model.

        Returns:
            One completion a prompt, in order.

        Raises:
            InferError: A setting is out of range, or a prompt fills the session.
        """
        many = _as_list(prompts)
        seeds: list[int | None] = [seed] * len(many) if _is_one(seed) else list(seed)  # type: ignore[arg-type, list-item]
        if len(seeds) != len(many):
            raise InferError(f"{len(seeds)} seeds for {len(many)} prompts: give one, or one each")
        params = SamplingParams(
            max_tokens, temperature, top_k, top_p, None, _texts(stop), tuple(stop_ids)
        )
        requests = [
            self._request(prompt, replace(params, seed=s))
            for prompt, s in zip(many, seeds, strict=True)
        ]
        for first in range(0, len(requests), self._max_batch):
            for _ in self._run(requests[first : first + self._max_batch]):
                pass
        return [request.completion() for request in requests]

    def stream(
        self,
        prompt: Prompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        stop_ids: Sequence[int] = (),
    ) -> Iterator[Chunk]:
        """Continue one prompt, piece by piece; arguments as for `generate`.

        The pieces join to the text that `generate` gives. A piece never ends inside a character, and
        what may be the start of a stop text is held back until it is clear.
        """
        params = SamplingParams(
            max_tokens, temperature, top_k, top_p, seed, _texts(stop), tuple(stop_ids)
        )
        request = self._request(prompt, params)

        def chunks() -> Iterator[Chunk]:
            for _, shown in self._run([request]):
                if request.finish_reason is not None:
                    yield Chunk(shown, request.finish_reason)
                elif shown:
                    yield Chunk(shown)

        return chunks()

    def score(
        self, sequences: Sequence[Sequence[int] | npt.NDArray[np.integer[Any]]]
    ) -> list[npt.NDArray[np.float32]]:
        """Log-probability of each token given those before it, in nats.

        Args:
            sequences: Lists of ids; no BOS is added.

        Returns:
            For each list of n ids, float32 `[n − 1]`: entry i is log p(ids[i + 1] | ids[0 … i]).

        Raises:
            ModelError: An id is outside the vocabulary.
        """
        arrays = [np.asarray(ids, np.int64) for ids in sequences]
        results = [np.zeros(0, np.float32)] * len(arrays)
        part: list[int] = []
        filled = 0
        # Like lengths side by side: the rows of one pass take about the same time.
        for index in sorted(range(len(arrays)), key=lambda i: len(arrays[i])):
            if len(arrays[index]) < 2:
                continue
            if part and filled + len(arrays[index]) > _PREFILL_TOKENS:
                self._score_packed(arrays, part, results)
                part, filled = [], 0
            part.append(index)
            filled += len(arrays[index])
        if part:
            self._score_packed(arrays, part, results)
        return results

    def _score_packed(
        self,
        arrays: list[npt.NDArray[np.int64]],
        part: list[int],
        results: list[npt.NDArray[np.float32]],
    ) -> None:
        ids = np.concatenate([arrays[i] for i in part])
        bounds = np.cumsum([0] + [len(arrays[i]) for i in part])
        labels = np.append(ids[1:], -1)
        labels[bounds[1:] - 1] = -1
        device = self.model.device
        scores = token_log_probs(
            self.model,
            torch.from_numpy(ids)[None].to(device),
            torch.from_numpy(labels)[None].to(device),
            cu_seqlens=torch.from_numpy(bounds.astype(np.int32)).to(device),
        )[0].cpu()
        for index, first, last in zip(part, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            results[index] = scores[first : last - 1].numpy().copy()

    # ---- one request ----

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids a prompt is read as: one BOS in front of a text; a conversation as rendered.

        Raises:
            InferError: A text without a tokenizer, or an empty prompt.
        """
        if not isinstance(prompt, str) and not _is_conversation(prompt):
            given = [int(i) for i in prompt]  # type: ignore[arg-type]
            if not given:
                raise InferError("the prompt is empty: give at least one token")
            return given
        if self.tokenizer is None:
            raise InferError("there is no tokenizer.json in the model's folder: give ids")
        if isinstance(prompt, str):
            bos = self.model.config.bos_token_id
            text: list[int] = self.tokenizer.encode_ordinary(prompt).tolist()
            return text if bos is None else [bos, *text]
        segments = chat.render(prompt, tokenizer=self.tokenizer, add_generation_prompt=True)  # type: ignore[arg-type]
        rendered: list[int] = chat.flatten(segments)[0].tolist()
        return rendered

    def _request(self, prompt: Prompt, params: SamplingParams) -> Request:
        ids = self.encode(prompt)
        room = self.session_length - len(ids)
        if room < 1:
            raise InferError(
                f"the prompt has {len(ids)} tokens, the session {self.session_length}: shorten it,"
                " or load the engine with a larger session_length"
            )
        if params.stop and self.tokenizer is None:
            raise InferError("stop texts need a tokenizer.json in the model's folder: use stop_ids")
        stops = self._stop_ids | set(params.stop_ids)
        if _is_conversation(prompt) and self.tokenizer is not None:
            stops |= set(chat.stop_ids(chat.ControlIds.of(self.tokenizer)))
        return Request(
            prompt=ids,
            params=params,
            sampler=Sampler(params),
            writer=TextWriter(self.tokenizer, self._hidden, params.stop),
            stop_ids=frozenset(stops),
            limit=min(params.max_tokens, room),
        )

    @torch.no_grad()
    def _run(self, requests: list[Request]) -> Iterator[tuple[int, str]]:
        """Run requests to their ends together; gives (request, text shown) for every token."""
        longest = max(len(r.prompt) + r.limit for r in requests)
        cache = KVCache(
            self.model.config,
            len(requests),
            longest,
            dtype=self.model.dtype,
            device=self.model.device,
            session_length=self.session_length,
        )
        alive = list(range(len(requests)))
        hidden = self._prefill([r.prompt for r in requests], cache)
        while True:
            logits = self.model.logits(hidden).float()
            log_sums = logits.logsumexp(-1).tolist()
            for row, index in enumerate(alive):
                yield index, requests[index].take(logits[row, : self._known], log_sums[row])
            rows = [row for row, index in enumerate(alive) if requests[index].finish_reason is None]
            if not rows:
                return
            if len(rows) < len(alive):
                alive = [alive[row] for row in rows]
                _keep_rows(cache, rows)
            last = [[requests[index].ids[-1]] for index in alive]
            ids = torch.tensor(last, device=self.model.device)
            hidden = self.model.hidden(ids, cache=cache)[:, -1]

    def _prefill(self, prompts: list[list[int]], cache: KVCache) -> Tensor:
        """Read the prompts into the cache; returns the last hidden state of each, `[B, D]`."""
        device, longest = self.model.device, max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
        mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
            mask[row, : len(prompt)] = True
        last = torch.empty(len(prompts), self.model.config.hidden_size, device=device)
        last = last.to(self.model.dtype)
        width = max(1, _PREFILL_TOKENS // len(prompts))
        for first in range(0, longest, width):
            part = slice(first, min(longest, first + width))
            whole = bool(mask[:, part].all())
            hidden = self.model.hidden(
                ids[:, part].to(device),
                mask=None if whole else mask[:, part].to(device),
                cache=cache,
            )
            for row, prompt in enumerate(prompts):
                if part.start <= len(prompt) - 1 < part.stop:
                    last[row] = hidden[row, len(prompt) - 1 - part.start]
        return last


def _keep_rows(cache: KVCache, rows: list[int]) -> None:
    """Drop the rows of finished requests."""
    cache.keys = cache.keys[:, rows]
    cache.values = cache.values[:, rows]
    cache.lengths = cache.lengths[rows]


def _check_rendering(folder: Path, tokenizer: Tokenizer) -> None:
    path = folder / "chat.json"
    if not path.is_file():
        return
    trained = read_json(path)
    if trained.get("fingerprint") != chat.fingerprint(tokenizer):
        console.print(
            f"[yellow]{folder}: was tuned with another rendering of conversations"
            f" ({trained.get('dialect')}); answers may be worse[/yellow]"
        )


def _is_conversation(prompt: Any) -> bool:
    return not isinstance(prompt, str) and len(prompt) > 0 and isinstance(prompt[0], dict)


def _is_one(seed: Any) -> bool:
    return seed is None or isinstance(seed, (int, np.integer))


def _texts(stop: str | Sequence[str]) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Any]:
    single = isinstance(prompts, str) or (
        len(prompts) > 0 and isinstance(prompts[0], (dict, int, np.integer))
    )
    return [prompts] if single else list(prompts)
