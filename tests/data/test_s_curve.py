"""Which pairs become candidates: the formula at every similarity, for several splits into bands."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from internlm_core import _core
from internlm_core.cli import main
from internlm_core.data.near_duplicates import DedupConfig, s_curve, signatures

UNION = 20
PAIRS = 40_000
"""A share of so many pairs has a standard error of at most 0.0025."""
SPLITS = [(25, 5), (16, 8), (9, 13), (42, 3)]


def pairs(shared: int) -> tuple[pl.Series, pl.Series]:
    """Texts with `shared` words in common, of 20 in both together; no word comes twice elsewhere."""
    first = shared * 10**8
    words = [
        (pl.int_range(PAIRS) * UNION + place + first).cast(pl.String) for place in range(UNION)
    ]
    half = shared + (UNION - shared) // 2
    columns = [words[:half], words[:shared] + words[half:]]
    frame = pl.select(
        pl.concat_str(one, separator=" ").alias(str(side)) for side, one in enumerate(columns)
    )
    return frame["0"], frame["1"]


@pytest.fixture(scope="module")
def slots() -> dict[int, tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]]:
    """Signatures of pairs by how many of 20 words they share."""
    made = {}
    for shared in range(1, UNION):
        one, two = pairs(shared)
        made[shared] = signatures(one, ngram=1), signatures(two, ngram=1)
    return made


def largest_distance(
    slots: dict[int, tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]],
    bands: int,
    rows: int,
    promised: tuple[int, int],
) -> float:
    """Between the share of pairs that share a band and what another split promises."""
    distances = []
    for shared, (one, two) in slots.items():
        equal = (one == two)[:, : bands * rows].reshape(-1, bands, rows)
        found = equal.all(axis=2).any(axis=1).mean()
        want = s_curve(*promised)["probability"][shared * 5]
        distances.append(abs(float(found) - want))
    return max(distances)


@pytest.mark.parametrize("split", SPLITS)
def test_candidates_are_within_a_hundredth_of_the_curve(slots, split: tuple[int, int]) -> None:
    assert largest_distance(slots, *split, split) < 0.01


def test_the_comparison_can_fail(slots) -> None:
    assert largest_distance(slots, 16, 8, (25, 5)) > 0.1
    # One band the less is seen already.
    assert largest_distance(slots, 24, 5, (25, 5)) > 0.01
    # A family whose functions are not independent: the same five slots in every band.
    weak = {
        shared: (np.tile(one[:, :5], 25), np.tile(two[:, :5], 25))
        for shared, (one, two) in slots.items()
    }
    assert largest_distance(weak, 25, 5, (25, 5)) > 0.1


@pytest.mark.parametrize("split", SPLITS)
def test_keys_are_equal_where_bands_are(slots, split: tuple[int, int]) -> None:
    """What is grouped by is the slots of a band and nothing else."""
    bands, rows = split
    options = DedupConfig(ngram=1, bands=bands, rows=rows).options()
    for shared in (5, 12, 18):
        keys = [_core.minhash_band_keys(texts, None, options)[1] for texts in pairs(shared)]
        one, two = slots[shared]
        equal = (one == two)[:, : bands * rows].reshape(-1, bands, rows).all(axis=2)
        assert ((keys[0] == keys[1]) == equal).all()


def test_the_curve_of_any_split_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "dedup", "--s-curve", "--set", "bands=16", "--set", "rows=8"]) == 0
    printed = capsys.readouterr()
    assert "16 bands of 8 rows" in printed.out + printed.err
    assert "0.7: 61.3%" in printed.out + printed.err
    assert "0.95" in printed.out + printed.err
    assert main(["data", "dedup"]) != 0
    assert "--out" in capsys.readouterr().err
