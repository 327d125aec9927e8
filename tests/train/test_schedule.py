"""Learning rates and phase borders, exactly."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from internlm_core._config import load_config, preset_names
from internlm_core.errors import ConfigError
from internlm_core.model import ModelConfig
from internlm_core.train import ScheduleConfig, TrainConfig
from internlm_core.train.config import Plan
from internlm_core.train.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable


def test_cosine_at_its_corners() -> None:
    schedule = ScheduleConfig(peak_lr=3e-4, warmup_share=0.01, final_ratio=0.1)
    rates = [learning_rate(schedule, step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(3e-5, rel=1e-12)  # 1/10 of the way up
    assert rates[9] == 3e-4
    assert rates[9 + 495] == pytest.approx(1.65e-4, rel=1e-12)  # half way down: the mean
    assert rates[-1] == pytest.approx(3e-5, rel=1e-12)
    assert max(rates) == 3e-4
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))


def test_linear_and_constant() -> None:
    linear = ScheduleConfig(peak_lr=1.0, kind="linear", warmup_share=0, final_ratio=0)
    assert [learning_rate(linear, s, 4) for s in range(4)] == [0.75, 0.5, 0.25, 0.0]
    constant = ScheduleConfig(peak_lr=1.0, kind="constant", warmup_share=0.5)
    assert [learning_rate(constant, s, 4) for s in range(4)] == [0.5, 1.0, 1.0, 1.0]
    assert learning_rate(ScheduleConfig(peak_lr=1.0, warmup_share=0), 0, 1) == pytest.approx(0.1)


def _phase(name: str, tokens: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "tokens": tokens, "sequence_length": 8, "batch_tokens": 10} | more


def test_phases_share_a_schedule_until_one_has_its_own() -> None:
    own = {"peak_lr": 1e-3, "kind": "constant", "warmup_share": 0}
    config = load_config(
        TrainConfig,
        {
            "phases": [_phase("a", 60), _phase("b", 35), _phase("c", 20, schedule=own)],
            "schedule": {"peak_lr": 1.0, "warmup_share": 0.2, "final_ratio": 0.1},
            "micro_batch_tokens": 8,
        },
    )
    plan = Plan(config, [60, 35, 20])
    assert plan.steps == [6, 4, 2]
    assert plan.ends() == [6, 10, 12]
    assert [plan.phase_of(s) for s in (0, 5, 6, 9, 10, 11)] == [
        (0, 0), (0, 5), (1, 0), (1, 3), (2, 0), (2, 1),
    ]  # fmt: skip
    assert [plan.target(s) for s in (0, 5, 6, 8, 9, 11)] == [10, 60, 10, 30, 35, 20]
    rates = [plan.lr(s) for s in range(12)]
    assert rates[:10] == [learning_rate(config.schedule, s, 10) for s in range(10)]
    assert rates[9] == pytest.approx(0.1)
    assert rates[10:] == [1e-3, 1e-3]


@pytest.mark.parametrize("name", ["demo", "1.8b", "7b", "20b"])
def test_presets_hold_the_reports_numbers(name: str) -> None:
    config = load_config(TrainConfig, name, package="internlm_core.train")
    assert config.optimizer.betas == (0.9, 0.95)
    assert config.optimizer.eps == 1e-8
    assert config.optimizer.weight_decay == 0.1
    assert config.schedule.final_ratio == 0.1
    if name == "demo":
        return
    windows = [(p.sequence_length, p.rope_theta, p.share) for p in config.phases]
    assert windows == [(4096, 5e4, 0.9), (32768, 1e6, 0.09), (32768, 1e6, 0.01)]
    assert config.phases[1].short_fraction == 0.5
    assert config.phases[1].short_length == 4096
    assert config.schedule.peak_lr == 3e-4
    assert config.phases[0].batch_tokens == (5_000_000 if name == "20b" else 4_000_000)
    parameters = {"1.8b": 1_889_110_016, "7b": 7_737_708_544, "20b": 19_861_149_696}
    assert load_config(ModelConfig, config.model).parameter_count == parameters[name]


def test_all_presets_are_known() -> None:
    assert preset_names("internlm_core.train") == ["1.8b", "20b", "7b", "demo"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"phases": [{"name": "a", "tokens": 5, "share": 0.5}]}, "exactly one of tokens"),
        ({"phases": [{"name": "a"}]}, "exactly one of tokens"),
        ({"phases": [{"name": "a", "share": 0.5}]}, "total_tokens"),
        ({"phases": [_phase("a", 5), _phase("a", 5)]}, "different names"),
        ({"phases": [_phase("a", 5, batch_tokens=4)]}, "at least sequence_length"),
        ({"micro_batch_tokens": 16}, "must hold a window of 64"),
        ({"phases": [_phase("a", 5, mixture={"x": 0.0})]}, "mixture weights"),
        ({"dtype": "fp16"}, "dtype"),
        ({"sede": 1}, "sede"),
    ],
)
def test_impossible_settings_are_named(
    settings: Callable[..., dict[str, Any]], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(TrainConfig, settings(**change))


def test_the_guides_configuration_is_valid(root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "training.md").read_text("utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "run.toml").write_text("\n".join(blocks))
    config = load_config(TrainConfig, tmp_path / "run.toml")
    assert [phase.name for phase in config.phases] == ["short", "long"]
    assert config.phases[0].mixture == {"webpages": 0.8, "code": 0.2}
    assert (config.parallel.tensor, config.parallel.shard) == (2, "full")


def test_the_readmes_7b_run_is_the_preset(root: Path, tmp_path: Path) -> None:
    text = (root / "README.md").read_text("utf-8")
    [block] = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "7b.toml").write_text(block)
    shown = load_config(TrainConfig, tmp_path / "7b.toml")
    preset = load_config(TrainConfig, "7b", package="internlm_core.train")
    for key in ("schedule", "optimizer", "parallel", "total_tokens", "micro_batch_tokens",
                "activation_checkpointing", "dtype", "seed"):  # fmt: skip
        assert getattr(shown, key) == getattr(preset, key), key
    # The window before is the length of short pieces that the preset spells out.
    phases = [phase.model_copy(update={"short_length": None}) for phase in preset.phases]
    assert list(shown.phases) == phases
    assert load_config(ModelConfig, shown.model) == load_config(ModelConfig, preset.model)
