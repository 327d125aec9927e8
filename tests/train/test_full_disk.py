"""A disk that is really full: a small one is mounted where the system lets a person do so."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Runs in a namespace of its own, whose disk is gone with it.
SCRIPT = """
import json, subprocess, sys
from pathlib import Path

from internlm_core import train
from internlm_core.errors import CheckpointError
from internlm_core.train import checkpoint

config, shard, disk = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
try:
    train.run(config, shard, disk / "run", quiet=True)
except CheckpointError as error:
    print(error)
kept = checkpoint.newest(disk / "run")  # its hashes are compared
print(kept.name, *(path.name for path in kept.parent.glob(".partial-*")))
subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
print(train.run(config, shard, disk / "run", quiet=True).name)
"""


def _mounting(disk: Path, size: str) -> list[str]:
    mount = f"mount -t tmpfs -o size={size} tmpfs {disk}"
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mount} && "$@"', "sh"]


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(
    settings: Callable[..., dict[str, Any]], shard: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run([*_mounting(disk, "1m"), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    config = settings(keep=9)
    command = [sys.executable, "-c", SCRIPT, json.dumps(config), str(shard), str(disk)]
    done = subprocess.run(
        [*_mounting(disk, "1m"), *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said, kept, last = done.stdout.splitlines()
    assert f"no space left on the disk; {kept} is untouched" in said
    assert kept in ("step-3", "step-6")  # and nothing half written beside it
    assert last == "step-20"
