"""Requests to prompts: what the model reads, what it may call, how it is sampled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from internlm_core import chat
from internlm_core.infer.sampling import SamplingParams
from internlm_core.infer.server.backend import Options
from internlm_core.infer.server.errors import ApiError
from internlm_core.infer.server.protocol import NamedChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from internlm_core.infer.server.protocol import ChatRequest, CompletionRequest
    from internlm_core.infer.server.settings import ServerSettings
    from internlm_core.tokenizer import Tokenizer

__all__ = ["INTERPRETER_SYSTEM", "Prompt", "chat_prompt", "options_of", "render_messages"]

INTERPRETER_SYSTEM = (
    "A Python interpreter with a state that lasts is at hand. Send it code when computing, data, files or"
    " plots call for it, and read what it prints before you answer."
)
"""Our words for the interpreter's system turn; a request with its own such turn keeps that."""


@dataclass(frozen=True)
class Prompt:
    """What the model reads, and what its answer may hold.

    Attributes:
        ids: The prompt, ending with `forced`.
        forced: The beginning of the answer where a call must be made.
        tools: Names that may be called.
        interpreter: Whether code may be sent to the interpreter.
    """

    ids: list[int]
    forced: tuple[int, ...] = ()
    tools: frozenset[str] = frozenset()
    interpreter: bool = False


def render_messages(
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]] | None,
    tokenizer: Tokenizer,
    dialect: str,
) -> list[int]:
    """Ids of a conversation in OpenAI's form, up to where the model's answer begins."""
    turns = chat.from_openai(messages, dialect)
    segments = chat.render(turns, tools, tokenizer, dialect=dialect, add_generation_prompt=True)
    ids: list[int] = chat.flatten(segments)[0].tolist()
    return ids


def chat_prompt(request: ChatRequest, tokenizer: Tokenizer, dialect: str) -> Prompt:
    """Render a chat request.

    Raises:
        ApiError: A tool choice that no tool fits.
        DataError: A message that can't be rendered.
    """
    choice = "auto" if request.tool_choice is None else request.tool_choice
    offered = [] if choice == "none" else request.tools or []
    functions = [tool.function for tool in offered if tool.function is not None]
    names = frozenset(function.name for function in functions)
    interpreter = any(tool.type == "code_interpreter" for tool in offered)
    messages = list(request.messages)
    if interpreter and not any(_is_interpreter_turn(message) for message in messages):
        leading = 0
        while leading < len(messages) and messages[leading].get("role") in ("system", "developer"):
            leading += 1
        turn = {"role": "system", "name": "interpreter", "content": INTERPRETER_SYSTEM}
        messages.insert(leading, turn)
    tools = [f.model_dump(exclude_none=True, exclude={"strict"}) for f in functions]
    ids = render_messages(messages, tools, tokenizer, dialect)
    forced = _forced(choice, names, interpreter, tokenizer)
    return Prompt([*ids, *forced], forced, names, interpreter)


def _is_interpreter_turn(message: dict[str, Any]) -> bool:
    name = message.get("name")
    return message.get("role") == "system" and name in ("interpreter", "<|interpreter|>")


def _forced(
    choice: str | NamedChoice, names: frozenset[str], interpreter: bool, tokenizer: Tokenizer
) -> tuple[int, ...]:
    """The beginning of the call that a tool choice asks for."""
    if choice in ("none", "auto"):
        return ()
    control = chat.ControlIds.of(tokenizer)
    if isinstance(choice, NamedChoice):
        name = choice.function.name
        if name not in names:
            raise ApiError(
                400,
                f"tool_choice names {name!r}, which is not in tools",
                "invalid_value",
                "tool_choice",
            )
        start = f'\n{{"name": {json.dumps(name, ensure_ascii=False)}, "parameters": '
        return (
            control.action_start,
            control.plugin,
            *tokenizer.encode_ordinary(start.rstrip(" ")).tolist(),
        )
    if not names and not interpreter:
        raise ApiError(400, "tool_choice 'required' needs tools", "invalid_value", "tool_choice")
    if not names:
        return (control.action_start, control.interpreter)
    return (control.action_start, control.plugin) if not interpreter else (control.action_start,)


def options_of(
    request: ChatRequest | CompletionRequest,
    settings: ServerSettings,
    *,
    prompt_tokens: int,
    session: int,
    max_tokens: int,
    stop_ids: frozenset[int],
    vocab_size: int,
    number: int = 0,
    top_log_probs: int = 0,
) -> Options:
    """How one answer of a request is written; `number` tells the answers of one request apart.

    Raises:
        ApiError: A prompt that fills the session, or a bias for an id that does not exist.
    """
    most = min(session - 1, settings.max_prompt_tokens or session)
    if prompt_tokens > most:
        raise ApiError(
            400,
            f"the prompt has {prompt_tokens} tokens, at most {most} are allowed: shorten it",
            "context_length_exceeded",
            "messages",
        )
    bias: dict[int, float] = {}
    for key, value in (request.logit_bias or {}).items():
        token = int(key) if key.isascii() and key.isdigit() and len(key) < 12 else vocab_size
        if token >= vocab_size:
            raise ApiError(
                400, f"logit_bias: {key!r} is no id of a token", "invalid_value", "logit_bias"
            )
        bias[token] = value
    temperature = settings.temperature if request.temperature is None else request.temperature
    seed = None if request.seed is None else (request.seed + number) % 2**64
    return Options(
        SamplingParams(
            max_tokens=min(max_tokens, session - prompt_tokens),
            temperature=temperature,
            top_k=request.top_k or 0,
            top_p=settings.top_p if request.top_p is None else request.top_p,
            seed=seed,
        ),
        stop_ids,
        logit_bias=bias,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        top_log_probs=top_log_probs,
    )
