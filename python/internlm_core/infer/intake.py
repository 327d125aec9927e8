"""Prompts and settings to what the loop works on; all that can be wrong with them is said here."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from internlm_core import chat
from internlm_core.errors import InferError, ModelError
from internlm_core.infer.constrain import Grammars
from internlm_core.infer.request import Handle, Sequence
from internlm_core.infer.sampling import Sampler, SamplingParams
from internlm_core.infer.text import TextWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Sequence as Many

    from internlm_core.model import ModelConfig
    from internlm_core.tokenizer import Tokenizer

    Prompt = str | Many[int] | Many[Mapping[str, Any]]

__all__ = ["Intake", "as_list", "is_id", "params_of"]


class Intake:
    """Makes requests of prompts.

    Args:
        config: The model's.
        tokenizer: Without one, prompts are ids.
        session_length: Most tokens of a prompt and its answer.
        room: Tokens that the cache holds.
        known: Ids from this one on stand for nothing.
        cancel: Ends a request; for its handle.
        dialect: Written form of conversations.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer | None,
        session_length: int,
        room: int,
        known: int,
        cancel: Callable[[Handle], None],
        dialect: chat.Dialect,
    ) -> None:
        self._config, self._tokenizer, self._dialect = config, tokenizer, dialect
        self._session_length, self._room, self._cancel = session_length, room, cancel
        special = {} if tokenizer is None else tokenizer.special_tokens
        self._known = known
        self._hidden = frozenset(special.values())
        ends = {special[name] for name in ("</s>", "<|im_end|>") if name in special}
        self._stop_ids = frozenset(config.stop_ids) | ends
        self._numbers = itertools.count()
        self._grammars: Grammars | None = None
        self._making = threading.Lock()

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
        if self._tokenizer is None:
            raise InferError("there is no tokenizer.json in the model's folder: give ids")
        if isinstance(prompt, str):
            bos = self._config.bos_token_id
            text: list[int] = self._tokenizer.encode_ordinary(prompt).tolist()
            if bos is None and not text:
                raise InferError("the prompt is empty: give at least one token")
            return text if bos is None else [bos, *text]
        segments = chat.render(
            prompt,  # type: ignore[arg-type]
            tokenizer=self._tokenizer,
            dialect=self._dialect,
            add_generation_prompt=True,
        )
        rendered: list[int] = chat.flatten(segments)[0].tolist()
        return rendered

    def check_ids(self, ids: list[int]) -> None:
        """Raise ModelError for an id outside the vocabulary."""
        entries = self._config.vocab_size
        if ids and not (min(ids) >= 0 and max(ids) < entries):
            raise ModelError(
                f"ids run from {min(ids)} to {max(ids)}, the vocabulary has {entries} entries; were"
                " they made with this model's tokenizer?"
            )

    def check_room(self, tokens: int) -> None:
        """Raise InferError where the cache can't hold so many tokens."""
        room = self._room
        if tokens > room:
            raise InferError(
                f"{tokens} tokens may be needed and the cache holds {room}: lower max_tokens, or load"
                " the engine with more cache_tokens"
            )

    def request(
        self, prompt: Prompt, params: SamplingParams, request_id: str | None = None
    ) -> tuple[Handle, list[Sequence]]:
        """A handle, and the answers to write for it.

        Raises:
            InferError: The prompt fills the session or the cache, or a setting can't be used.
            ModelError: An id is outside the vocabulary.
        """
        ids, conversation = self.encode(prompt), _is_conversation(prompt)
        name = f"request-{next(self._numbers)}" if request_id is None else request_id
        handle = Handle(name, params.n, self._cancel)
        return handle, [
            self._sequence(handle, ids, params, i, conversation) for i in range(params.n)
        ]

    def _sequence(
        self, handle: Handle, ids: list[int], params: SamplingParams, index: int, conversation: bool
    ) -> Sequence:
        room = self._session_length - len(ids)
        if room < 1:
            raise InferError(
                f"the prompt has {len(ids)} tokens, the session {self._session_length}: shorten it,"
                " or load the engine with a larger session_length"
            )
        self.check_ids(ids)
        self.check_ids([*params.stop_ids, *params.logit_bias])
        if unknown := [i for i in params.logit_bias if i >= self._known]:
            raise InferError(f"logit_bias: id {unknown[0]} stands for nothing in the vocabulary")
        if params.stop and self._tokenizer is None:
            raise InferError("stop texts need a tokenizer.json in the model's folder: use stop_ids")
        stops = set(params.stop_ids)
        if not params.ignore_eos:
            stops |= self._stop_ids
            if conversation and self._tokenizer is not None:
                stops |= set(chat.stop_ids(chat.ControlIds.of(self._tokenizer)))
        limit = min(params.max_tokens, room)
        self.check_room(len(ids) + limit)
        constraint = None
        if params.constrained:
            if self._tokenizer is None:
                raise InferError("a prescribed form needs a tokenizer.json in the model's folder")
            with self._making:
                if self._grammars is None:
                    self._grammars = Grammars(self._tokenizer, self._stop_ids)
            constraint = self._grammars.constraint(params)
        return Sequence(
            handle,
            ids,
            params,
            index,
            sampler=Sampler(params, index, ids, constraint),
            writer=TextWriter(self._tokenizer, self._hidden, params.stop),
            stop_ids=frozenset(stops),
            limit=limit,
        )


def params_of(sampling: SamplingParams | None, settings: dict[str, Any]) -> SamplingParams:
    """Settings, with those given by name on top."""
    if sampling is None:
        return SamplingParams(**settings)
    return SamplingParams(**(sampling.model_dump() | settings)) if settings else sampling


def _is_conversation(prompt: Any) -> bool:
    return not isinstance(prompt, str) and len(prompt) > 0 and isinstance(prompt[0], dict)


def is_id(value: Any) -> bool:
    """Whether it is one whole number."""
    return isinstance(value, (int, np.integer))


def as_list(prompts: Prompt | Many[Prompt]) -> list[Any]:
    """One prompt or many, as a list."""
    single = isinstance(prompts, str) or (
        len(prompts) > 0 and isinstance(prompts[0], (dict, int, np.integer))
    )
    return [prompts] if single else list(prompts)
