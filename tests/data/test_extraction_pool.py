"""Many pages in processes: in order, and one bad page costs only itself."""

from __future__ import annotations

import os
import time

import internlm_core as ic
import pytest
from internlm_core.data.extraction import pool
from internlm_core.errors import DataError

PAGES = [f"<p>Page number {n} has some words of its own.</p>" for n in range(40)]


def test_results_come_in_the_order_of_the_pages() -> None:
    results = list(ic.data.extract_pages([*PAGES, "<p></p>"], workers=2))
    alone = list(ic.data.extract_pages([*PAGES, "<p></p>"], workers=0))
    assert results == alone
    assert [r.extracted.text.split()[2] for r in results[:-1] if r.extracted] == [
        str(n) for n in range(40)
    ]
    assert results[-1].reason == "empty_page"


def test_pages_with_their_charset() -> None:
    page = ("<p>déjà vu</p>".encode("cp1252"), "http://a.example/", "windows-1252")
    (result,) = ic.data.extract_pages([page], workers=1)
    assert result.extracted is not None
    assert result.extracted.text == "déjà vu"


def _faulty(task: tuple[str, None, None], method: str) -> pool.PageResult:
    if task[0] == "die":
        os._exit(7)
    if task[0] == "hang":
        time.sleep(600)
    return pool.PageResult(None, "done", task[0])


def _run_faulty(end, method: str) -> None:  # type: ignore[no-untyped-def]
    pool._extract_one = _faulty
    pool._run(end, method)


def test_a_page_that_kills_its_process_or_hangs_is_set_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "_RUN", _run_faulty)
    pages = ["a", "die", "b", "hang", "c", "die", "d"]
    results = list(ic.data.extract_pages(pages, workers=2, timeout=1.0))
    assert [r.reason for r in results] == [
        "done", "crash", "done", "timeout", "done", "crash", "done",
    ]  # fmt: skip
    assert results[1].detail.endswith("code 7")


def test_an_error_of_a_library_is_the_pages_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("odd tree")

    monkeypatch.setattr(pool, "extract", fail)
    (result,) = ic.data.extract_pages(["a"], workers=0)
    assert (result.reason, result.detail) == ("error", "ValueError: odd tree")


def test_leaving_early_ends_the_processes() -> None:
    results = ic.data.extract_pages(PAGES * 10, workers=2)
    assert next(results).extracted is not None
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"timeout": 0}, {"method": "x"}])
def test_wrong_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError):
        ic.data.extract_pages(["a"], **wrong)  # type: ignore[arg-type]
