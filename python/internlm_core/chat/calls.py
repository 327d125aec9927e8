"""The body of a plugin call: JSON to names and arguments, the arguments byte for byte as written."""

from __future__ import annotations

import json
from typing import NoReturn

__all__ = ["ARGUMENTS", "BLANK", "read_calls"]

BLANK = " \t\n\r"
ARGUMENTS = ("parameters", "arguments")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def read_calls(body: str) -> list[tuple[str, str]]:
    """Names and arguments of the calls in one action block.

    Args:
        body: `{"name": …, "parameters": {…}}` (`arguments` is read too), several of them in a row,
            or a list of them.

    Returns:
        `(name, arguments)` of each, the arguments as they are spelled in the body.

    Raises:
        ValueError: It is anything else; the message says what.
    """
    try:
        at = _skip(body, 0)
        in_list = body[at : at + 1] == "["
        if in_list:
            at = _skip(body, at + 1)
        calls = []
        while True:
            call, at = _call(body, at)
            calls.append(call)
            at = _skip(body, at)
            if in_list and body[at : at + 1] == "]":
                at = _skip(body, at + 1)
                break
            if in_list:
                at = _skip(body, _expect(body, at, ","))
            elif at == len(body):
                break
        if at != len(body):
            raise ValueError(f"text after the call at character {at}")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return calls


def _call(text: str, at: int) -> tuple[tuple[str, str], int]:
    """One call that starts at `at`, and where it ends."""
    name: str | None = None
    arguments: str | None = None
    at = _skip(text, _expect(text, at, "{"))
    while text[at : at + 1] != "}":
        _expect(text, at, '"')
        key, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _expect(text, _skip(text, at), ":"))
        value, at = _DECODER.raw_decode(text, start)
        if key == "name" and name is None and isinstance(value, str):
            name = value
        elif key in ARGUMENTS and arguments is None and isinstance(value, dict):
            arguments = text[start:at]
        elif key == "name" or key in ARGUMENTS:
            raise ValueError(f"{key!r} occurs twice, or is of the wrong type")
        at = _skip(text, at)
        if text[at : at + 1] != "}":
            at = _skip(text, _expect(text, at, ","))
            if text[at : at + 1] == "}":
                raise ValueError(f"a comma before the end at character {at}")
    if not name:
        raise ValueError("it has no 'name'")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError("its name is half a character")
    return (name, "{}" if arguments is None else arguments), at + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in BLANK:
        at += 1
    return at


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        found = repr(text[at]) if at < len(text) else "its end"
        raise ValueError(f"expected {character!r} at character {at}, found {found}")
    return at + 1
