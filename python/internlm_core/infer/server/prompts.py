"""Requests to prompts: what the model reads, what it may call, how it is sampled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from internlm_core import chat
from internlm_core.infer.sampling import SamplingParams
from internlm_core.infer.server.errors import ApiError
from internlm_core.infer.server.protocol import NamedChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from internlm_core.infer.server.protocol import (
        ChatRequest,
        CompletionRequest,
        FunctionTool,
        ResponseFormat,
    )
    from internlm_core.infer.server.settings import ServerSettings
    from internlm_core.tokenizer import Tokenizer

__all__ = ["INTERPRETER_SYSTEM", "Prompt", "chat_prompt", "render_messages", "sampling_of"]

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
        schema: What the engine must write after `forced`; None where it is free.
        closing: Ids that complete such an answer.
        tools: Names that may be called.
        interpreter: Whether code may be sent to the interpreter.
    """

    ids: list[int]
    forced: tuple[int, ...] = ()
    schema: dict[str, Any] | bool | None = None
    closing: tuple[int, ...] = ()
    tools: frozenset[str] = frozenset()
    interpreter: bool = False


def render_messages(
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]] | None,
    tokenizer: Tokenizer,
    dialect: chat.Dialect,
) -> list[int]:
    """Ids of a conversation in OpenAI's form, up to where the model's answer begins."""
    turns = chat.from_openai(messages, dialect)
    segments = chat.render(turns, tools, tokenizer, dialect=dialect, add_generation_prompt=True)
    ids: list[int] = chat.flatten(segments)[0].tolist()
    return ids


def chat_prompt(request: ChatRequest, tokenizer: Tokenizer, dialect: chat.Dialect) -> Prompt:
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
    schema: dict[str, Any] | bool | None
    forced, schema, closing = _forced(choice, functions, interpreter, tokenizer)
    if request.response_format is not None and request.response_format.type != "text":
        if offered:
            raise ApiError(
                400,
                "response_format: an answer of a prescribed form can't call tools; leave one of them"
                " out, or set tool_choice to 'none'",
                "invalid_value",
                "response_format",
            )
        schema = _answer_schema(request.response_format)
    return Prompt([*ids, *forced], forced, schema, closing, names, interpreter)


def _answer_schema(wanted: ResponseFormat) -> dict[str, Any] | bool | None:
    if wanted.json_schema is None:
        return True if wanted.type == "json_object" else None
    # No schema, or an empty one, still means JSON.
    return wanted.json_schema.schema_ or True


def _is_interpreter_turn(message: dict[str, Any]) -> bool:
    name = message.get("name")
    return message.get("role") == "system" and name in ("interpreter", "<|interpreter|>")


def _forced(
    choice: str | NamedChoice,
    functions: Sequence[FunctionTool],
    interpreter: bool,
    tokenizer: Tokenizer,
) -> tuple[tuple[int, ...], dict[str, Any] | None, tuple[int, ...]]:
    """Beginning, schema and end of the call that a tool choice asks for."""
    if choice in ("none", "auto"):
        return (), None, ()
    control = chat.ControlIds.of(tokenizer)

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode_ordinary(text).tolist())

    if isinstance(choice, NamedChoice):
        name = choice.function.name
        named = next((f for f in functions if f.name == name), None)
        if named is None:
            raise ApiError(
                400,
                f"tool_choice names {name!r}, which is not in tools",
                "invalid_value",
                "tool_choice",
            )
        start = f'\n{{"name": {json.dumps(name, ensure_ascii=False)}, "parameters": '
        forced = (control.action_start, control.plugin, *encode(start))
        return forced, _arguments_schema(named), (*encode("}"), control.action_end)
    if functions:
        forced = (control.action_start, control.plugin, *encode("\n"))
        return forced, _calls_schema(functions), (control.action_end,)
    if not interpreter:
        raise ApiError(400, "tool_choice 'required' needs tools", "invalid_value", "tool_choice")
    return (control.action_start, control.interpreter), None, ()


def _arguments_schema(function: FunctionTool) -> dict[str, Any]:
    return {"type": "object", **(function.parameters or {})}


def _calls_schema(functions: Sequence[FunctionTool]) -> dict[str, Any]:
    """Any one call. Definitions move to the root, which references start from."""
    calls: list[dict[str, Any]] = []
    root: dict[str, dict[str, Any]] = {}
    for function in functions:
        arguments = _arguments_schema(function)
        for key in ("$defs", "definitions"):
            for name, definition in arguments.pop(key, {}).items():
                if root.setdefault(key, {}).setdefault(name, definition) != definition:
                    raise ApiError(
                        400,
                        f"tools: two functions define {name!r} in {key}, each its own way: rename one",
                        "invalid_value",
                        "tools",
                    )
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": function.name}, "parameters": arguments},
                "required": ["name", "parameters"],
                "additionalProperties": False,
            }
        )
    return {"anyOf": calls, **root}


def sampling_of(
    request: ChatRequest | CompletionRequest,
    settings: ServerSettings,
    *,
    prompt_tokens: int,
    session: int,
    max_tokens: int,
    vocab_size: int,
    number: int = 0,
    logprobs: int | None = None,
    schema: dict[str, Any] | bool | None = None,
) -> SamplingParams:
    """How one answer of a request is written; `number` tells the answers of one request apart.

    Stop texts are not the engine's: they stop the content, not what stands in a call.

    Raises:
        ApiError: A prompt that fills the session, or an id that is none.
        InferError: A setting that the engine refuses.
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
        if not (key.isascii() and key.isdigit() and len(key) < 12) or int(key) >= vocab_size:
            raise ApiError(
                400, f"logit_bias: {key!r} is no id of a token", "invalid_value", "logit_bias"
            )
        bias[int(key)] = value
    for token in request.stop_token_ids or ():
        if token >= vocab_size:
            raise ApiError(
                400,
                f"stop_token_ids: {token} is no id of a token",
                "invalid_value",
                "stop_token_ids",
            )
    given = {
        name: value
        for name in (
            "top_k",
            "min_p",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
        )
        if (value := getattr(request, name)) is not None
    }
    return SamplingParams(
        max_tokens=min(max_tokens, session - prompt_tokens),
        temperature=settings.temperature if request.temperature is None else request.temperature,
        top_p=settings.top_p if request.top_p is None else request.top_p,
        seed=None if request.seed is None else (request.seed + number) % 2**64,
        logit_bias=bias,
        logprobs=logprobs,
        json_schema=schema,
        stop_ids=tuple(request.stop_token_ids or ()),
        ignore_eos=bool(request.ignore_eos),
        **given,
    )
