"""Talking in the terminal, and comparing a checkpoint's template, as a person would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from internlm_core import chat
from internlm_core.cli import main
from internlm_core.errors import DataError, InferError
from internlm_core.infer import Engine
from internlm_core.infer.request import Chunk
from internlm_core.infer.terminal import Conversation

if TYPE_CHECKING:
    from pathlib import Path

    from internlm_core.model import InternLM2

SYSTEM = {"role": "system", "content": "S"}


def talk(engine: Engine, lines: list[str], **settings: object) -> tuple[Conversation, str]:
    """Type lines, then Ctrl-D; gives the conversation and all that was shown."""
    typed, shown = iter(lines), []

    def read(prompt: str) -> str:
        shown.append(prompt)
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    conversation = Conversation(engine, read, shown.append, max_tokens=6, **settings)
    conversation.run()
    return conversation, "".join(shown)


def test_an_answer_is_streamed_and_remembered(engine: Engine) -> None:
    conversation, shown = talk(engine, ["the tide", "", "x"], system="S")
    roles = [message["role"] for message in conversation.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    [alone] = engine.generate([SYSTEM, {"role": "user", "content": "the tide"}], max_tokens=6)
    assert conversation.messages[2]["content"] == alone.text
    # The second answer is one to the whole conversation.
    [second] = engine.generate(conversation.messages[:4], max_tokens=6)
    assert conversation.messages[4]["content"] == second.text
    assert alone.text in shown


def test_longer_texts(engine: Engine) -> None:
    conversation, _ = talk(engine, ["a\\", "b", '"""', "c", "", "潮", '"""'])
    said = [m["content"] for m in conversation.messages if m["role"] == "user"]
    assert said == ["a\nb", "c\n\n潮"]


def test_commands(engine: Engine) -> None:
    lines = ["x", "/history", "/reset", "/system T", "/what", "/help", "y", "/exit", "never"]
    conversation, shown = talk(engine, lines, system="S")
    assert [m["content"] for m in conversation.messages[:2]] == ["T", "y"]
    assert len(conversation.messages) == 3
    assert "user: x\n" in shown
    assert "/what is no command" in shown
    assert "forget the conversation" in shown


def test_a_full_session_says_what_to_do(engine: Engine) -> None:
    conversation, shown = talk(engine, ["x" * 600])
    assert "the session 256" in shown
    assert "/reset starts anew" in shown
    assert conversation.messages == []


def test_ctrl_c_stops_an_answer_and_keeps_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.tokenizer is not None
    ids = tuple(engine.tokenizer.encode_ordinary("half ").tolist())

    def interrupted(*_: object, **__: object) -> object:
        yield Chunk("half ", ids=ids)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "stream", interrupted)
    conversation, shown = talk(engine, ["x", "/history"])
    assert "half  [stopped]" in shown
    assert conversation.messages[-1] == {"role": "assistant", "content": "half "}


def test_a_call_is_shown_and_remembered_as_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = engine.tokenizer
    assert tokenizer is not None
    call = {"kind": "plugin", "body": '{"name": "f", "parameters": {"x": 1}}'}
    turn = {"role": "assistant", "content": "T", "calls": [call]}
    segments = chat.render([turn], tokenizer=tokenizer)
    ids = chat.flatten([s for s in segments if s.supervised])[0].tolist()
    monkeypatch.setattr(engine, "stream", lambda *_, **__: (Chunk("", ids=(i,)) for i in ids))
    conversation, shown = talk(engine, ["x", "/history"])
    assert 'T\n[f] {"x": 1}\n' in shown
    assert "  [plugin] {" in shown
    assert conversation.messages[-1] == turn


def test_a_tokenizer_is_needed(random_model: InternLM2) -> None:
    with pytest.raises(InferError, match=r"no tokenizer\.json"):
        talk(Engine(random_model), [])


def test_chat_in_the_shell(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    from internlm_core import model

    assert engine.tokenizer is not None
    model.save(engine.model, tmp_path)
    engine.tokenizer.save(tmp_path / "tokenizer.json")
    typed = iter(["the tide"])

    def read(_: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    options = ["--temperature", "0", "--max-tokens", "6", "--system", "S"]
    assert main(["chat", *options, str(tmp_path)]) == 0
    [alone] = engine.generate([SYSTEM, {"role": "user", "content": "the tide"}], max_tokens=6)
    assert alone.text in capsys.readouterr().out
    # A rendering that the checkpoint was not tuned with is named.
    (tmp_path / "chat.json").write_text(json.dumps({"dialect": "lagent", "fingerprint": "0"}))
    assert main(["chat", *options, "--dialect", "lmdeploy", str(tmp_path)]) == 0
    message = " ".join(capsys.readouterr().err.split())
    assert message.count("was tuned") == 1
    assert "'lagent', and is served with 'lmdeploy'" in message
    assert main(["chat", "one", "two"]) == 2


def test_the_checkpoints_own_dialect_is_used(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from internlm_core import model

    tokenizer = engine.tokenizer
    assert tokenizer is not None
    model.save(engine.model, tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    stored = tmp_path / "chat.json"
    stored.write_text(json.dumps(chat.describe_rendering(tokenizer, "lagent")))
    call = {"kind": "plugin", "body": {"name": "潮"}}
    asked = [
        {"role": "assistant", "content": "", "calls": [call]},
        {"role": "user", "content": "x"},
    ]

    def ids(dialect: str) -> list[int]:
        parts = chat.render(asked, tokenizer=tokenizer, dialect=dialect, add_generation_prompt=True)
        return chat.flatten(parts)[0].tolist()

    assert ids("lagent") != ids("internlm2")
    with Engine.from_folder(tmp_path) as tuned:
        assert (tuned.dialect.name, tuned.warning) == ("lagent", None)
        assert tuned.encode(asked) == ids("lagent")
    with Engine.from_folder(tmp_path, dialect="internlm2") as other:
        assert other.encode(asked) == ids("internlm2")
        assert "'lagent', and is served with 'internlm2'" in (other.warning or "")
    assert capsys.readouterr().err.count("was tuned") == 1
    stored.write_text(json.dumps({"dialect": "latin", "fingerprint": "0"}))
    with pytest.raises(DataError, match="unknown dialect 'latin'"):
        Engine.from_folder(tmp_path)


def test_check_in_the_shell(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "check", str(test_data / "tokenizers" / "internlm2")]) == 0
    shown = capsys.readouterr().out
    assert "equal     a conversation\n" in shown
    assert "unknown   tools\n" in shown
    assert "no words for: a named turn, tools" in shown
    assert main(["chat", "check", str(test_data / "tokenizers" / "qwen3")]) == 1
    assert "from byte 1\n" in capsys.readouterr().out
    assert main(["chat", "check", str(tmp_path)]) == 1
    assert "has no chat template" in capsys.readouterr().err
