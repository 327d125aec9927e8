"""What `import internlm_core` may load, and what the package offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "polars", "numpy", "triton", "pydantic", "rich", "transformers", "tokenizers")


def modules_after(code: str) -> set[str]:
    """Top-level modules loaded in a fresh interpreter after `code`."""
    code += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    assert modules_after("import internlm_core").isdisjoint(HEAVY)


def test_the_check_above_can_fail() -> None:
    assert "numpy" in modules_after("import internlm_core, numpy")


@pytest.mark.parametrize("room", ["data", "tokenizer", "chat"])
def test_data_rooms_do_without_torch(room: str) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['triton'] = None; "
        f"import internlm_core; [getattr(internlm_core.{room}, n) for n in dir(internlm_core.{room})]"
    )
    assert modules_after(code) >= {"internlm_core"}


def test_rooms_are_attributes() -> None:
    import internlm_core

    for room in internlm_core.__all__:
        assert getattr(internlm_core, room) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        internlm_core.nothing  # noqa: B018


def test_missing_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from internlm_core._optional import require
    from internlm_core.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"internlm-core\[train\]"):
        require("torch", extra="train")
