"""Exit codes and messages of the command line."""

from __future__ import annotations

import pytest
from internlm_core import cli
from internlm_core.errors import ConfigError, DataError


def test_wrong_command_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["bake"])
    assert caught.value.code == 2
    assert "invalid choice: 'bake'" in capsys.readouterr().err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for command in ("demo", "data", "tokenizer", "train", "generate", "chat", "serve"):
        assert command in text


@pytest.mark.parametrize(
    "command", ["demo", "data", "tokenizer", "train", "generate", "chat", "serve"]
)
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    assert f"internlm-core {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("bad key"), 2),
        (DataError("bad file"), 1),
        (OSError(28, "No space left on device", "x.parquet"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failures_become_exit_codes(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(cli.importlib, "import_module", fail)
    assert cli.main(["data"]) == code
    line = capsys.readouterr().err
    assert line.startswith("internlm-core: ")
    assert "Traceback" not in line
