"""`make` tells a newcomer what there is and what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


def make(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=root,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_bare_make_lists_every_target(root: Path) -> None:
    run = make(root)
    assert run.returncode == 0
    for target in re.findall(r"^([a-z-]+):.*## ", (root / "Makefile").read_text(), re.M):
        assert f"make {target}" in run.stdout


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH folder with the shell's own tools, to which a test adds what the machine 'has'."""
    for tool in ("bash", "make", "sed", "awk", "find", "test", "grep", "env"):
        found = shutil.which(tool)
        if found is not None:
            (tmp_path / tool).symlink_to(found)
    return tmp_path


def test_doctor_names_the_missing_tool_and_the_remedy(root: Path, bare_path: Path) -> None:
    run = make(root, "doctor", PATH=str(bare_path))
    assert run.returncode == 2
    assert "no C compiler" in run.stderr
    assert "apt-get install build-essential" in run.stderr
    (bare_path / "cc").symlink_to("/bin/true")
    run = make(root, "doctor", PATH=str(bare_path))
    assert "no Rust toolchain" in run.stderr


def test_doctor_is_content_here(root: Path) -> None:
    run = make(root, "doctor")
    assert run.returncode == 0, run.stderr


def test_only_our_own_build_uses_the_environment(root: Path) -> None:
    # A package that comes as source only needs build tools of its own (rouge-score: wheel).
    flags = re.findall(r"--no-build-isolation\S*(?: [a-z][\w-]*)?", (root / "Makefile").read_text())
    assert set(flags) == {"--no-build-isolation-package internlm-core"}


def test_lock_covers_every_direct_dependency(root: Path) -> None:
    text = (root / "pyproject.toml").read_text()
    locked = {
        re.split(r"[=\[ ;]", line)[0].lower()
        for line in (root / "requirements.lock").read_text().splitlines()
        if line and not line.startswith("#")
    }
    section = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    wanted = {
        re.split(r"[\[>=<; ]", name)[0].lower()
        for name in re.findall(r'"([A-Za-z][^"]*)"', section)
    }
    wanted -= {"internlm-core", "tomli"}
    assert wanted - locked == set()
    assert "torch" in wanted
