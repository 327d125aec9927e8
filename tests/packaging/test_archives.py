"""The wheel and the source archive carry everything: an editable install hides what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGE = "python/internlm_core"


def maturin(*arguments: str, root: Path) -> None:
    """Run maturin; its output is shown when the test fails."""
    command = [sys.executable, "-m", "maturin", *arguments]
    subprocess.run(command, cwd=root, check=True, stdout=sys.stderr)


def package_files(root: Path) -> set[str]:
    """Every file that belongs to the package, as paths below `internlm_core/`."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", PACKAGE, "kernels"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    files = {path.removeprefix(f"{PACKAGE}/") for path in listing}
    files.discard("kernels")  # the link itself
    assert {"kernels/__init__.py", "cli.py", "py.typed"} <= files
    return files


def names_below(prefix: str, names: Iterable[str]) -> set[str]:
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built with the developers' profile, which reuses what is compiled already."""
    out = tmp_path_factory.mktemp("wheel")
    maturin("build", "--profile", "release", "--locked", "--out", str(out), root=root)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    maturin("sdist", "--out", str(out), root=root)
    (path,) = out.glob("*.tar.gz")
    return path


def test_wheel_carries_the_package(root: Path, wheel: Path) -> None:
    assert "-cp310-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert package_files(root) - names_below("internlm_core/", names) == set()
    assert any(name.endswith("_core.abi3.so") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_sdist_carries_the_sources(root: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
        top = members[0].name.partition("/")[0]
        names = names_below(f"{top}/", (member.name for member in members if not member.isdir()))
        links = [member.name for member in members if member.issym() or member.islnk()]
    assert links == [], "a link in the archive would dangle where it is unpacked"
    assert package_files(root) - names_below(f"{PACKAGE}/", names) == set()
    rust = {str(path.relative_to(root)) for path in (root / "rust").rglob("*.rs")}
    assert rust - names == set()
    assert {"Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md"} <= names


def use_installed(folder: Path) -> None:
    """Import kernels and the extension from an installed copy, away from the source tree."""
    code = "import internlm_core, internlm_core.kernels as k, internlm_core._core as c; print(k.__file__, c.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for file in run.stdout.split():
        assert Path(file).is_relative_to(folder)


def install(archive: Path, folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", *arguments]
    subprocess.run([*command, "--target", str(folder), str(archive)], check=True)


def test_installed_wheel_works(wheel: Path, tmp_path: Path) -> None:
    install(wheel, tmp_path, "--python", sys.executable)
    use_installed(tmp_path)


@pytest.mark.slow
def test_installed_sdist_works(sdist: Path, tmp_path: Path) -> None:
    install(sdist, tmp_path, "--python", sys.executable)
    use_installed(tmp_path)


def test_editable_install_reaches_the_kernels(root: Path) -> None:
    import internlm_core.kernels

    file = internlm_core.kernels.__file__
    assert file is not None
    assert Path(file).resolve() == root / "kernels" / "__init__.py"
