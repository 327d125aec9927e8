"""Stages run once, whatever interrupts the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from internlm_core.demo.config import DemoConfig
from internlm_core.demo.stages import StagedRun
from internlm_core.errors import ConfigError


def test_a_failed_stage_runs_again_and_a_finished_one_does_not(tmp_path: Path) -> None:
    calls: list[str] = []

    def work(name: str, fail: bool = False) -> dict[str, str]:
        calls.append(name)
        if fail:
            raise KeyboardInterrupt
        return {"name": name}

    run = StagedRun(tmp_path, DemoConfig(), resume=False)
    assert run.stage("a", "A", lambda: work("a")) == {"name": "a"}
    with pytest.raises(KeyboardInterrupt):
        run.stage("b", "B", lambda: work("b", fail=True))
    again = StagedRun(tmp_path, DemoConfig(), resume=True)
    assert again.stage("a", "A", lambda: work("a")) == {"name": "a"}
    assert again.stage("b", "B", lambda: work("b")) == {"name": "b"}
    assert calls == ["a", "b", "b"]


def test_an_old_folder_is_not_overwritten(tmp_path: Path) -> None:
    StagedRun(tmp_path, DemoConfig(), resume=False)
    with pytest.raises(ConfigError, match="--resume"):
        StagedRun(tmp_path, DemoConfig(), resume=False)
    with pytest.raises(ConfigError, match="another configuration"):
        StagedRun(tmp_path, DemoConfig(seed=1), resume=True)
