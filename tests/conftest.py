"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _find_test_data() -> Path | None:
    folder = Path(os.environ.get("INTERNLM_TEST_DATA", ROOT.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder with real tokenizers and texts; the test is skipped where it is absent."""
    folder = _find_test_data()
    if folder is None:
        pytest.skip(
            "no test data: set INTERNLM_TEST_DATA to the folder that holds tokenizers/ and text/"
        )
    return folder
