"""A file or folder is whole or absent, whatever happens while it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from internlm_core._files import (
    FolderBusyError,
    atomic_folder,
    atomic_path,
    folder_lock,
    read_json,
    remove_leftovers,
    write_json,
)


class Fault(Exception):
    """Stands for a full disk or a bug."""


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"n": 1})
    with pytest.raises(Fault), atomic_path(tmp_path / "a.json") as partial:
        partial.write_text("half")
        raise Fault
    assert read_json(tmp_path / "a.json") == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_folder_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "step-1"
    with atomic_folder(folder) as partial:
        (partial / "weights").write_text("one")
    with pytest.raises(Fault), atomic_folder(folder) as partial:
        (partial / "weights").write_text("two")
        raise Fault
    assert (folder / "weights").read_text() == "one"
    with atomic_folder(folder) as partial:
        (partial / "other").write_text("three")
    assert [path.name for path in folder.iterdir()] == ["other"]


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    with pytest.raises(Fault), atomic_folder(tmp_path / "kept") as partial:
        killed = tmp_path / f"{partial.name[: len('.partial-')]}deadbeef-x"
        killed.mkdir()
        (killed / "file").write_text("half")
        raise Fault
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(OSError, match="No space left"), atomic_path(tmp_path / "a") as partial:
        partial.symlink_to(full)
        with partial.open("w") as file:
            file.write("x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_one_holder_at_a_time(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path),
        pytest.raises(FolderBusyError, match="another run"),
        folder_lock(tmp_path),
    ):
        pass
    with folder_lock(tmp_path):
        pass
