"""Statistics and encoding cost no more instructions a byte than when the figures were stored."""

from __future__ import annotations

import shutil

import pytest


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("valgrind") is None or shutil.which("cargo") is None,
    reason="needs valgrind and cargo",
)
def test_instructions_a_byte() -> None:
    from internlm_core._files import read_json

    from benches import instructions

    stored = read_json(instructions.FIGURES)
    counted = instructions.measure(instructions.build())
    assert counted.keys() == stored.keys()
    for name, figure in counted.items():
        assert figure <= stored[name] * (1 + instructions.TOLERANCE), (
            f"{name}: {figure} instructions a byte, stored {stored[name]}; where the cost is wanted, "
            "store it: python -m benches.instructions --write"
        )


def test_texts_are_the_same_each_time() -> None:
    from benches import instructions

    assert instructions.texts() == instructions.texts()
    assert all(len(text) > 20_000 for text in instructions.texts().values())
