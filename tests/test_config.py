"""Configuration: what is wrong is named with its key, value and what was expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from internlm_core._config import Config, load_config
from internlm_core.errors import ConfigError
from pydantic import Field

if TYPE_CHECKING:
    from pathlib import Path


class Inner(Config):
    threshold: float = Field(0.7, ge=0, le=1)


class Outer(Config):
    name: str = "x"
    inner: Inner = Inner()


def test_defaults_file_and_override(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "file"\n[inner]\nthreshold = 0.5\n')
    assert load_config(Outer).inner.threshold == 0.7
    config = load_config(Outer, file, overrides=["inner.threshold=0.9", "name=set"])
    assert (config.name, config.inner.threshold) == ("set", 0.9)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["inner.treshold=0.9"], ["inner.treshold", "0.9", "unknown key", "threshold"]),
        (["inner.threshold=7"], ["inner.threshold = 7", "less than or equal to 1"]),
        (["inner.threshold=high"], ["inner.threshold = 'high'", "valid number"]),
        (["inner"], ["expected key=value"]),
        (["name.deep=1", "name=2"], ["name"]),
    ],
)
def test_errors_name_key_value_expectation(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, {}, overrides=overrides)
    for word in words:
        assert word in str(caught.value)


def test_broken_and_missing_files(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("name = \n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not valid TOML: .*line 1"):
        load_config(Outer, file)
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(Outer, tmp_path / "none.toml")
