"""Languages of short, mixed and altered texts: the known faults of other detectors."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from internlm_core.data.language import detect_language

REPORT = "The committee will publish its report about the river next week. "


def lang(text: str) -> str:
    return detect_language(pl.Series([text]))["lang"][0]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("北京大观园", "zh"),
        ("陣陣秋風處處地奔走", "zh"),
        ("音楽イベント", "ja"),
        ("消色トナー", "ja"),
        ("裁判の周辺のラオスにUターンした元元兵士", "ja"),
        ("加州继续迎来灾难性降雨", "zh"),
        ("서울시는 오늘 새로운 정책을 발표했다.", "ko"),
        ("hello China", "en"),
        ("Al furjan", "und"),
        ("Python 3.11", "und"),
        ("2024-01-01 12:00", "und"),
        ("！！！", "und"),
        ("def main(): return 0", "und"),
        ("", "und"),
        ("Wczoraj wieczorem poszliśmy do kina, żeby obejrzeć nowy film.", "pl"),
        ("Vi vet ennå ikke hvor mange som kommer til møtet i morgen kveld.", "nb"),
        ("Οι μαθητές διαβάζουν ένα καινούργιο βιβλίο στη βιβλιοθήκη.", "el"),
        ("Los niños juegan en el parque mientras sus padres leen el periódico.", "es"),
    ],
)
def test_short_texts(text: str, want: str) -> None:
    assert lang(text) == want


def test_few_characters_are_scored_low() -> None:
    scores = detect_language(pl.Series(["東京都庁前", "hello China", REPORT]))["lang_score"]
    assert scores[0] < 0.6
    assert scores[1] < 0.6
    assert scores[2] > 0.8


@pytest.mark.parametrize(
    "text",
    [
        REPORT * 50,
        REPORT * 5_000,
        REPORT.upper(),
        REPORT + "0123456789 2024-01-01 12:00",
        REPORT + "https://exemple.fr/le/chat/dort/sur/la/table?et=les",
    ],
)
def test_what_does_not_change_the_language(text: str) -> None:
    assert lang(text) == "en"


def test_the_larger_part_of_a_mixed_page_decides() -> None:
    chinese = "委员会将在下周公布关于这条河的报告。"
    english, other = len(REPORT.encode()), len(chinese.encode())
    page = REPORT * round(6000 / english), chinese * round(4000 / other)
    assert lang("".join(page)) == "en"
    assert lang("".join(reversed(page))) == "en"
    assert lang(REPORT * round(3000 / english) + chinese * round(7000 / other)) == "zh"


def test_scripts_of_chinese(test_data: Path) -> None:
    novel = (test_data / "text/zh/sanguoyanyi.txt").read_text()
    found = detect_language(pl.Series([novel[:2_000], "我們說漢語", "山水", REPORT]), script=True)
    assert found["script"].to_list() == ["Hans", "Hant", None, None]
    assert detect_language(pl.Series([novel])).columns == ["lang", "lang_score"]


def test_threads_and_nulls_do_not_matter() -> None:
    texts = pl.Series([None, REPORT, "今天天气很好我们去公园散步吧", ""] * 50)
    found = detect_language(texts, threads=1)
    assert found.equals(detect_language(texts, threads=3))
    assert found["lang"][:4].to_list() == ["und", "en", "zh", "und"]
    assert detect_language(pl.Series([], dtype=pl.String)).height == 0
