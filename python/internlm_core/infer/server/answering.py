"""Tokens of one answer to what a client sees: text without stop texts, calls, warnings, log-probabilities."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from internlm_core import chat
from internlm_core.chat.openai import INTERPRETER
from internlm_core.infer.text import StopMatcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Sequence

    from internlm_core.infer.server.backend import Generation, Token
    from internlm_core.tokenizer import Tokenizer

__all__ = ["Answer", "Piece", "log_prob_entry", "usage_of"]


@dataclass
class Piece:
    """What a few tokens add to an answer.

    Attributes:
        text: More of the content.
        calls: Complete calls, in OpenAI's form; where they are shown while written, pieces of calls.
        interpreter_calls: Those of them that are code for the interpreter: id, code, and the text as
            written, with its fence.
        warnings: Blocks that are no calls.
        log_probs: One entry a token that was read since the last piece.
        finish_reason: None but in the last piece: `stop`, `length` or `tool_calls`.
    """

    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    interpreter_calls: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    log_probs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.calls or self.warnings or self.finish_reason)


class Answer:
    """Reads one generation.

    Args:
        generation: Gives the tokens; it is cancelled as soon as the answer is complete.
        tokenizer: Decodes.
        stops: Stop texts.
        tools: Names that may be called; None where the text is no chat: all ids are text.
        interpreter: Whether code may be sent to the interpreter.
        parallel: Whether one turn may hold several calls.
        forced: Ids the prompt ends with that are part of the answer (a call that must be made).
        closing: Ids that complete a call which was prescribed, once the engine has written it.
        as_written: Whether calls are shown while they are written: where their form is prescribed,
            none has to be taken back.
        log_probs: Whether entries of log-probabilities are made.
    """

    def __init__(
        self,
        generation: Generation,
        tokenizer: Tokenizer,
        *,
        stops: Sequence[str] = (),
        tools: Collection[str] | None = None,
        interpreter: bool = False,
        parallel: bool = True,
        forced: Iterable[int] = (),
        closing: Iterable[int] = (),
        as_written: bool = False,
        log_probs: bool = False,
    ) -> None:
        self._generation, self._tokenizer = generation, tokenizer
        self._chat, self._parallel, self._log_probs = tools is not None, parallel, log_probs
        self._closing, self._as_written = tuple(closing), as_written
        self._matcher = StopMatcher(stops)
        self._special = frozenset(tokenizer.special_tokens.values())
        self._stream = tokenizer.stream()
        if tools is not None:
            self._parser = chat.ReplyParser(
                tokenizer, tools, interpreter=interpreter, partial_calls=as_written
            )
            # A call may be named already by what the prompt ends with.
            self._opened = self._parser.push(forced)
        self._entries: list[dict[str, Any]] = []
        self._calls = 0
        self.completion_tokens = self.cached_tokens = 0

    async def pieces(self) -> AsyncIterator[Piece]:
        """Pieces as they come; the last, and only it, has a finish reason."""
        finish: str | None = None
        try:
            async for token in self._generation:
                self.completion_tokens += 1
                self.cached_tokens = max(self.cached_tokens, token.cached_tokens)
                if self._log_probs and not token.end:
                    self._entries.append(log_prob_entry(self._tokenizer, token))
                # An end token is no text; what it means in a chat the parser knows.
                shown = not token.end or (self._chat and token.id in self._special)
                ids = (token.id,) if shown else ()
                if token.finish_reason == "stop" and self._closing:
                    ids = (*(() if token.end else ids), *self._closing)
                piece = self._read(ids)
                finish = piece.finish_reason or token.finish_reason
                if finish is not None:
                    yield self._last(piece, finish)
                    return
                if piece:
                    yield piece
            # The backend ended it without a reason: it was cancelled.
            yield self._last(Piece(), "stop")
        finally:
            self._generation.cancel()

    async def whole(self) -> Piece:
        """All pieces as one."""
        whole = Piece()
        async for piece in self.pieces():
            whole.text += piece.text
            whole.calls += piece.calls
            whole.interpreter_calls += piece.interpreter_calls
            whole.warnings += piece.warnings
            whole.log_probs += piece.log_probs
            whole.finish_reason = piece.finish_reason
        return whole

    def _read(self, ids: Iterable[int]) -> Piece:
        """The text and calls that ids complete; `finish_reason` where the answer ends with them."""
        piece = Piece()
        if not self._chat:
            texts = (self._stream.push(i) for i in ids if i not in self._special)
            piece.text = self._matcher.push("".join(texts))
        else:
            closed = self._parser.only_calls_may_follow
            opened, self._opened = self._opened, []
            self._take([*opened, *self._parser.push(ids)], piece, closed=closed)
        if self._matcher.found is not None:
            piece.finish_reason = "stop"
        return self._with_entries(piece)

    def _take(self, events: Iterable[Any], piece: Piece, *, closed: bool) -> None:
        for event in events:
            if isinstance(event, chat.Call):
                if self._calls and not self._parallel:
                    continue
                if not self._as_written:
                    self._give(event, piece)
                self._calls += 1
                closed = True
                if not self._parallel:
                    piece.finish_reason = "stop"
            elif isinstance(event, chat.TextDelta):
                if closed:
                    # After a call a turn ends: more text was written in someone else's name.
                    piece.finish_reason = "stop"
                    continue
                piece.text += self._matcher.push(event.text)
            elif isinstance(event, chat.CallStart):
                piece.calls.append(_opening(event.index, event.name, ""))
            elif isinstance(event, chat.CallDelta):
                piece.calls.append({"index": event.index, "function": {"arguments": event.text}})
            else:
                piece.warnings.append({"code": event.code, "message": event.message})
                if event.withdrawn:
                    # Cut off by a limit. What follows is the same text again, as content.
                    return

    def _give(self, call: chat.Call, piece: Piece) -> None:
        """A call in OpenAI's form; code for the interpreter is a call of `code_interpreter`."""
        name, arguments = call.name, call.arguments
        if call.kind == "interpreter":
            name, code = INTERPRETER, chat.code_of(call.arguments)
            arguments = json.dumps({"code": code}, ensure_ascii=False)
        made = _opening(self._calls, name, arguments)
        piece.calls.append(made)
        if call.kind == "interpreter":
            piece.interpreter_calls.append({"id": made["id"], "code": code, "text": call.arguments})

    def _with_entries(self, piece: Piece) -> Piece:
        if piece:
            piece.log_probs, self._entries = self._entries, []
        return piece

    def _last(self, piece: Piece, finish: str) -> Piece:
        """Add what was held back, now that no more comes."""
        if self._matcher.found is None:
            if self._chat:
                rest = Piece()
                self._take(self._parser.finish(), rest, closed=self._parser.only_calls_may_follow)
                piece.text += rest.text
                piece.warnings += rest.warnings
            else:
                piece.text += self._matcher.push(self._stream.flush())
            if self._matcher.found is None:
                piece.text += self._matcher.flush()
        piece.finish_reason = "tool_calls" if self._calls and finish == "stop" else finish
        piece.log_probs += self._entries
        self._entries = []
        return piece


def _opening(index: int, name: str, arguments: str) -> dict[str, Any]:
    """A call, or the first piece of one."""
    return {
        "index": index,
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def usage_of(prompt_tokens: int, answers: Sequence[Answer]) -> dict[str, Any]:
    """OpenAI's usage object."""
    written = sum(answer.completion_tokens for answer in answers)
    cached = max((answer.cached_tokens for answer in answers), default=0)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": written,
        "total_tokens": prompt_tokens + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def log_prob_entry(tokenizer: Tokenizer, token: Token) -> dict[str, Any]:
    """One entry of OpenAI's `logprobs.content`."""

    def entry(ident: int, log_prob: float) -> dict[str, Any]:
        return {
            "token": tokenizer.id_to_token(ident),
            "logprob": max(log_prob, -9999.0),
            "bytes": list(tokenizer.id_to_bytes(ident)),
        }

    return {
        **entry(token.id, token.log_prob),
        "top_logprobs": [entry(ident, log_prob) for ident, log_prob in token.top],
    }
