"""OpenAI's form of a conversation to ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from internlm_core.chat.dialects import Dialect, dialect_of
from internlm_core.errors import DataError

__all__ = ["INTERPRETER", "from_openai", "is_openai"]

INTERPRETER = "code_interpreter"
"""The name under which code for the interpreter is a function call in OpenAI's form."""

_PLAIN = {"system": "system", "developer": "system", "user": "user", "environment": "environment"}


def is_openai(message: Any) -> bool:
    """Whether a message has something that only OpenAI's form has."""
    return isinstance(message, Mapping) and (
        message.get("role") in ("developer", "tool", "function")
        or "tool_calls" in message
        or "function_call" in message
        or isinstance(message.get("content"), list)
    )


def from_openai(
    messages: Sequence[Mapping[str, Any]], dialect: str | Dialect = "internlm2"
) -> list[dict[str, Any]]:
    """Messages for `render` from messages of the chat completions API.

    `developer` is read as `system`, `tool` becomes an environment turn named after the call that it
    answers, calls of `code_interpreter` become code for the interpreter, text parts are joined. Our own
    role `environment` and field `calls` pass through. The caller's messages stay as they are.

    Raises:
        DataError: A message that has no such form; it is numbered.
    """
    dialect = dialect_of(dialect)
    made: list[dict[str, Any]] = []
    kinds: dict[str, str] = {}
    for number, message in enumerate(messages):
        where = f"message {number}"
        if not isinstance(message, Mapping):
            raise DataError(f"{where}: expected an object, found {type(message).__name__}")
        role = message.get("role")
        if not isinstance(role, str):
            raise DataError(f"{where}: role {role!r} is no text")
        if message.get("function_call") is not None or role == "function":
            raise DataError(
                f"{where}: functions have become tools: write tool_calls and role 'tool'"
            )
        turn: dict[str, Any]
        content = _text(message.get("content"), where)
        if role in _PLAIN:
            turn = {"role": _PLAIN[role], "content": content}
        elif role == "assistant":
            wrapped = _list(message, "tool_calls", where)
            calls = _list(message, "calls", where)
            calls += [_call(call, dialect, where, kinds) for call in wrapped]
            turn = {"role": "assistant", "content": content}
            if calls:
                turn["calls"] = calls
        elif role == "tool":
            turn = {"role": "environment", "content": content}
            kind = kinds.get(str(message.get("tool_call_id")), "plugin")
            if dialect.named_results:
                turn["name"] = kind
        else:
            expected = ", ".join([*_PLAIN, "assistant", "tool"])
            raise DataError(f"{where}: role {role!r} is not one of {expected}")
        if role != "tool" and message.get("name") is not None:
            turn["name"] = message["name"]
        made.append(turn)
    return made


def _list(message: Mapping[str, Any], key: str, where: str) -> list[Any]:
    given = message.get(key)
    if given is not None and not isinstance(given, (list, tuple)):
        raise DataError(f"{where}: {key} must be a list, not {type(given).__name__}")
    return list(given or ())


def _text(content: Any, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, Sequence):
        raise DataError(f"{where}: content must be a string or a list of parts")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else part
        text = part.get("text") if isinstance(part, Mapping) else None
        if kind != "text" or not isinstance(text, str):
            raise DataError(f"{where}: a part of type {kind!r} is no text; only text is understood")
        texts.append(text)
    return "".join(texts)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _call(call: Any, dialect: Dialect, where: str, kinds: dict[str, str]) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise DataError(f"{where}: a tool call needs a function with a name")
    name, arguments = function["name"], function.get("arguments") or "{}"
    try:
        parsed = _loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: the arguments of {name!r} are not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise DataError(f"{where}: the arguments of {name!r} must be a JSON object")
    kinds[str(call.get("id"))] = "interpreter" if name == INTERPRETER else "plugin"
    if name == INTERPRETER:
        code = parsed.get("code")
        if not isinstance(code, str):
            raise DataError(f"{where}: the arguments of {name!r} must be an object with 'code'")
        return {"kind": "interpreter", "body": f"```python\n{code}\n```"}
    if dialect.rewrites_calls or not isinstance(arguments, str):
        return {"kind": "plugin", "body": {"name": name, "parameters": parsed}}
    quoted = json.dumps(name, ensure_ascii=False)
    return {"kind": "plugin", "body": f'{{"name": {quoted}, "parameters": {arguments}}}'}
