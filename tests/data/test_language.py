"""Languages of short, mixed and altered texts: the known faults of other detectors."""

from __future__ import annotations

import gzip
import html
import json
import re
import tarfile
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


def test_mixed_pages_say_their_shares() -> None:
    chinese = "委员会将在下周公布关于这条河的报告。"
    english, other = len(REPORT.encode()), len(chinese.encode())
    for size in (2_000, 50_000):
        for order in (1, -1):
            parts = [REPORT * round(0.6 * size / english), chinese * round(0.4 * size / other)]
            page = "\n".join(parts[::order])
            found = detect_language(pl.Series([page]), script=True, languages=True).row(
                0, named=True
            )
            shares = {row["lang"]: row["share"] for row in found["languages"]}
            # Of letters: of the English bytes a sixth are blanks.
            assert list(shares) == ["en", "zh"]
            assert shares["en"] == pytest.approx(0.57, abs=0.06)
            assert sum(shares.values()) == pytest.approx(1, abs=0.01)
            assert (found["lang"], found["script"]) == ("en", "Hans")
            # The other language is not much smaller, so the score is not high.
            assert 0.45 < found["lang_score"] < 0.75


def test_languages_of_one_script_are_told_apart() -> None:
    french = "La commission publiera la semaine prochaine son rapport sur la rivière et les ponts. "
    page = "\n".join([REPORT * 12, french * 6])
    rows = detect_language(pl.Series([page, REPORT * 9]), languages=True)["languages"].to_list()
    assert [row["lang"] for row in rows[0]] == ["en", "fr"]
    assert rows[0][1]["share"] == pytest.approx(0.38, abs=0.08)
    assert rows[1] == [{"lang": "en", "share": 1.0}]


def test_chinese_beside_japanese() -> None:
    chinese = "委员会将在下周公布关于这条河的报告，村里的人都在等待，没有人知道结果会怎样。\n"
    japanese = "委員会は来週、この川についての報告書を公表する予定です。村の人々は待っています。\n"
    texts = pl.Series(
        [japanese * 9 + chinese * 4, chinese * 9 + japanese * 4, japanese * 9, chinese * 9]
    )
    found = detect_language(texts, languages=True)
    assert found["lang"].to_list() == ["ja", "zh", "ja", "zh"]
    told = [[row["lang"] for row in rows] for rows in found["languages"]]
    assert told == [["ja", "zh"], ["zh", "ja"], ["ja"], ["zh"]]


def test_scripts_of_chinese(test_data: Path) -> None:
    novel = (test_data / "text/zh/sanguoyanyi.txt").read_text()
    mixed = "我们说汉语。" * 3 + "我們說漢語。"
    texts = pl.Series([novel[:2_000], "我們說漢語", "山水", REPORT, mixed])
    found = detect_language(texts, script=True)
    assert found["script"].to_list() == ["Hans", "Hant", None, None, "Hans"]
    assert found["script_share"].to_list() == [1, 1, 0, 0, 0.75]
    assert detect_language(pl.Series([novel])).columns == ["lang", "lang_score"]


def test_pages_of_a_book_in_three_languages(test_data: Path) -> None:
    """The same book's pages: language and script of each, and no page in two languages by mistake."""
    for edition, lang_, script in [
        ("zh-CN", "zh", "Hans"),
        ("zh-TW", "zh", "Hant"),
        ("en-US", "en", None),
    ]:
        pages = _pages(test_data / f"text/html/debian-handbook-{edition}.tar.gz")
        # Some pages of the Chinese editions are not translated.
        if lang_ == "zh":
            pages = [
                text for text in pages if len(re.findall(r"[\u4e00-\u9fff]", text)) > len(text) / 5
            ]
        texts = pl.Series(pages)
        found = detect_language(texts, script=True)
        right = (found["lang"] == lang_) & found["script"].eq_missing(pl.Series([script]))
        assert len(texts) > 5
        assert right.mean() > 0.97


def _pages(path: Path) -> list[str]:
    pages = []
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith((".html", ".html.gz")) and member.isfile():
                data = tar.extractfile(member).read()
                data = gzip.decompress(data) if member.name.endswith(".gz") else data
                text = re.sub(
                    r"(?s)<(script|style|pre|code|tt).*?</\1>|<[^>]+>", " ", data.decode()
                )
                if len(text) > 2_000:
                    pages.append(html.unescape(text))
    return pages


def test_facts_go_into_meta(tmp_path: Path) -> None:
    from internlm_core.data import Pipeline, PipelineConfig

    chinese = "委員會將在下週公布關於這條河的報告，村裡的人都在等待。"
    rows = [
        {"text": REPORT * 20, "url": "en"},
        {"text": chinese * 20, "url": "hant", "meta": {"title": "河"}, "n": 1},
        {"text": REPORT * 20 + "\n" + chinese * 10, "url": "mixed"},
        {"text": "def main():\n    return 0\n" * 9, "url": "code", "source": "code"},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    config = PipelineConfig(
        sources=[{"path": "in.jsonl"}], filter={"enabled": False}, dedup={"enabled": False}
    )
    kept = pl.read_parquet(
        Pipeline(config, tmp_path).run(tmp_path / "out", quiet=True).folder / "kept"
    )
    found = {row["url"]: row for row in kept.iter_rows(named=True)}
    meta = {url: json.loads(row["meta"] or "{}") for url, row in found.items()}
    assert {url: row["lang"] for url, row in found.items()} == {
        "en": "en", "hant": "zh", "mixed": "en", "code": None,
    }  # fmt: skip
    assert meta["en"] == meta["code"] == {}
    assert meta["hant"] == {"title": "河", "n": 1, "lang_script": "Hant"}
    assert list(meta["mixed"]["languages"]) == ["en", "zh"]


def test_rules_follow_language_and_source() -> None:
    """Mixed, traditional, Japanese and code pages get the rules that fit them."""
    from internlm_core.data.rules import filter_frame, load_rules

    rules = {
        kind: [{"reason": f"is.{kind}", "metric": "words", "max": 0}]
        for kind in ("words", "characters", "code")
    }
    hant = "委員會將在下週公布關於這條河的報告，村裡的人都在等待。"
    japanese = "委員会は来週、この川についての報告書を公表する予定です。"
    pages = {
        "mixed, more English": (REPORT * 12 + hant * 6, None, "words"),
        "mixed, more Chinese": (REPORT * 4 + hant * 12, None, "characters"),
        "traditional": (hant * 9, None, "characters"),
        "Japanese": (japanese * 9, None, "characters"),
        "code": ("def main():\n    return 0\n" * 9, "code", "code"),
        "code with Chinese comments": (f"# {hant}\nx = 1\n" * 9, "code", "code"),
    }
    frame = pl.DataFrame(
        {
            "text": [page[0] for page in pages.values()],
            "source": [page[1] for page in pages.values()],
        }
    )
    frame = frame.with_columns(detect_language(frame["text"]))
    decided = filter_frame(frame, load_rules(rules))["reason"].to_list()
    assert decided == [f"is.{page[2]}" for page in pages.values()]


def test_threads_and_nulls_do_not_matter() -> None:
    texts = pl.Series([None, REPORT, "今天天气很好我们去公园散步吧", ""] * 50)
    found = detect_language(texts, threads=1)
    assert found.equals(detect_language(texts, threads=3))
    assert found["lang"][:4].to_list() == ["und", "en", "zh", "und"]
    assert detect_language(pl.Series([], dtype=pl.String)).height == 0
