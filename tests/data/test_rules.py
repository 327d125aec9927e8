"""Statistics against a slow twin, rules at their bounds, and the faults other filters are known for."""

from __future__ import annotations

import random
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.data.language import detect_language
from internlm_core.data.normalise import normalise_texts
from internlm_core.data.rules import apply_rules, filter_frame, load_rules
from internlm_core.data.statistics import METRICS, metrics
from internlm_core.errors import ConfigError, DataError

PRESETS = ["c4", "fineweb", "gopher", "report", "wanjuan"]


def one(text: str, lang: str | None = "en") -> dict[str, Any]:
    return metrics(pl.Series([text]), lang).row(0, named=True)


def prose(words: int, seed: int = 0) -> str:
    """English-like text without repetition: sentences of twelve different words."""
    rng = random.Random(seed)
    stop = ["the", "of", "and", "to", "that"]
    out = []
    for number in range(words):
        word = "".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randrange(3, 8)))
        out.append(stop[number % 5] if number % 4 == 0 else word)
        if number % 12 == 11:
            out[-1] += "."
    return " ".join(out)


def slow_twin(text: str) -> dict[str, float]:
    """The plain definitions, for text in scripts that write words apart."""
    tokens = text.split()
    words = [t for t in tokens if any(c.isalnum() for c in t)]
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    seen: set[str] = set()
    duplicate = [line for line in lines if line in seen or seen.add(line)]  # type: ignore[func-returns-value]
    chars = sum(map(len, tokens))
    result: dict[str, float] = {
        "chars": len(text),
        "words": len(words),
        "symbol_words": len(tokens) - len(words),
        "unique_words": len(set(words)),
        "mean_word_length": sum(map(len, words)) / max(1, len(words)),
        "lines": len(lines),
        "short_line_share": sum(len(line) <= 30 for line in lines) / max(1, len(lines)),
        "mean_line_length": sum(map(len, lines)) / max(1, len(lines)),
        "longest_line": max(map(len, lines), default=0),
        "duplicate_line_share": len(duplicate) / max(1, len(lines)),
        "hash_word_ratio": text.count("#") / max(1, len(tokens)),
        "newline_share": text.count("\n") / max(1, len(text)),
    }
    for n in (2, 5, 10):
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        covered = [False] * len(tokens)
        if n == 2:
            best, count = Counter(grams).most_common(1)[0] if grams else ((), 0)
            hits = [i for i, gram in enumerate(grams) if gram == best and count > 1]
        else:
            first: set[Any] = set()
            hits = [i for i, gram in enumerate(grams) if gram in first or first.add(gram)]  # type: ignore[func-returns-value]
        for i in hits:
            covered[i : i + n] = [True] * n
        share = sum(len(t) for t, c in zip(tokens, covered, strict=True) if c) / max(1, chars)
        result["top_2gram_share" if n == 2 else f"duplicate_{n}gram_share"] = share
    return result


def check_twin(text: str) -> None:
    got = one(text)
    for name, want in slow_twin(text).items():
        if name == "top_2gram_share":
            # Of equally frequent grams another may be taken.
            continue
        assert got[name] == pytest.approx(want), name


def test_statistics_equal_the_slow_twin_on_real_text(test_data: Path) -> None:
    texts = [
        p.read_text()[:30_000]
        for p in sorted((test_data / "text/en/shakespeare_md").rglob("*.md"))[:6]
    ]
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    texts += [(stdlib / name).read_text()[:30_000] for name in ("ast.py", "os.py", "string.py")]
    for text in texts:
        check_twin(text)


@settings(max_examples=100, deadline=None)
@given(st.text("ab cd.\n#é—", max_size=200))
def test_statistics_equal_the_slow_twin_on_any_text(text: str) -> None:
    check_twin(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_every_value_is_finite(text: str) -> None:
    assert all(value == value and abs(value) < 1e12 for value in one(text).values())


def test_table_and_columns_agree() -> None:
    frame = metrics(pl.Series(["a", None, ""]), compression=True)
    assert frame.columns == list(METRICS)
    assert frame.height == 3
    assert metrics(pl.Series([], dtype=pl.String)).height == 0


def test_threads_do_not_matter() -> None:
    texts = pl.Series([prose(n, n) for n in range(1, 300)])
    assert metrics(texts, "en", threads=1).equals(metrics(texts, "en", threads=3))


def keeps(
    text: str, preset: str = "gopher", lang: str | None = "en", source: str = "webpages"
) -> str | None:
    frame = pl.DataFrame({"id": ["x"], "text": [text], "lang": [lang], "source": [source]})
    row = filter_frame(frame, preset).row(0, named=True)
    assert row["keep"] == (row["reason"] is None)
    return row["reason"]


@pytest.mark.parametrize("preset", PRESETS)
def test_each_rule_at_its_bounds(preset: str) -> None:
    """The bound itself passes and the next value does not, for every rule of every preset."""
    from internlm_core.data.rules import RuleSet

    text = prose(200)
    for profile, lang, source in (
        ("words", "en", "web"),
        ("characters", "zh", "web"),
        ("code", "en", "code"),
    ):
        for rule in getattr(load_rules(preset), profile):
            frame = pl.DataFrame({"text": [text], "lang": [lang], "source": [source]})
            value = float(metrics(frame["text"], lang)[rule.metric][0])
            for bound, inside in (("min", -1), ("max", 1)):
                if getattr(rule, bound) is None:
                    continue
                for offset, keep in ((0.0, True), (-inside * 1e-9, rule.metric == "none")):
                    moved = rule.model_copy(
                        update={"min": None, "max": None, bound: value + offset}
                    )
                    if rule.metric.startswith("stop_word") and lang != "en":
                        continue
                    rules = RuleSet(**{profile: (moved,)})
                    row = apply_rules(frame, rules)[0].row(0, named=True)
                    assert row["keep"] is (keep or offset == 0.0), (rule.reason, bound, offset)
                    if not row["keep"]:
                        assert row["reason"] == rule.reason
                        assert row["value"] == value
                        assert row["threshold"] == pytest.approx(value + offset)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_rule_has_its_origin_and_chinese_its_own(preset: str) -> None:
    from importlib import resources

    text = (resources.files("internlm_core.data") / "presets" / f"{preset}.toml").read_text()
    rules = [line for line in text.splitlines() if "reason =" in line]
    loaded = load_rules(preset)
    assert len(rules) == sum(map(len, loaded.profiles()))
    for line in rules:
        assert len(line.partition("},")[2].strip(" #")) > 5, line
    by_words = {rule.metric: (rule.min, rule.max) for rule in loaded.words}
    by_characters = {rule.metric: (rule.min, rule.max) for rule in loaded.characters}
    assert by_characters != by_words
    # Characters are no words: what is about a word's length or its stop words has no place there.
    assert not {"mean_word_length", "stop_words", "stop_word_share"} & by_characters.keys()


def test_the_guide_lists_every_statistic(root: Path) -> None:
    guide = (root / "docs" / "filters.md").read_text()
    for name, meaning in METRICS.items():
        assert f"| `{name}` | {meaning} |" in guide, name


def test_word_count_on_both_sides() -> None:
    assert keeps(prose(49)) == "gopher.word_count"
    assert keeps(prose(50)) is None
    assert keeps("") == "gopher.word_count"
    assert keeps("!!! ???") == "gopher.word_count"


def test_well_spaced_text_is_no_repetition() -> None:
    text = "".join(prose(12, n) + "\n\n\n\n" for n in range(10))
    assert keeps(text) is None


def test_bullets_of_all_kinds() -> None:
    for mark in ("- ", "* ", "• ", "‣ ", "   - "):
        text = "\n".join(mark + prose(6, n).rstrip(".") for n in range(20))
        assert keeps(text) == "gopher.bullet_lines", mark
    assert keeps(prose(60) + "\n-5 degrees at night") is None


def test_sound_chinese_is_kept_and_repetition_is_not(test_data: Path) -> None:
    novel = (test_data / "text/zh/sanguoyanyi.txt").read_text()
    for preset in PRESETS:
        assert keeps(novel[2_000:5_000], preset, "zh") is None, preset
    assert keeps("点击这里下载软件，" * 100, "gopher", "zh") is not None
    assert keeps("今天天气很好我们去公园散步" * 8, "gopher", "zh") is not None


def test_stop_words_belong_to_a_language() -> None:
    rng = random.Random(1)
    spanish = ["de", "la", "que", "casa", "perro", "gato", "libro", "mesa", "verde", "camino"]
    text = ". ".join(" ".join(rng.sample(spanish, 6)) + f" palabra{n}" for n in range(20)) + "."
    assert keeps(text, lang="es") is None
    assert keeps(text, lang="en") == "gopher.stop_words"
    assert keeps(text, lang=None) is None


def test_code_has_its_own_rules() -> None:
    code = "\n".join(f"def f{n}(x):\n    return [x ** {n}, {{x: {n}}}]\n" for n in range(30))
    assert keeps(code, source="code") is None
    assert keeps(code, source="webpages") is not None
    assert keeps("x = '" + "a" * 1_100 + "'\n" + code, source="code") == "code.longest_line"


def test_noise_is_dropped() -> None:
    rng = random.Random(3)
    assert keeps("\n".join("- home" for _ in range(120)), "report") is not None
    assert keeps("".join(rng.choice("#$%&*@~^|\\<>{}") for _ in range(2_000)), "report") is not None


def test_overrides_and_their_faults() -> None:
    rules = load_rules("gopher", ["gopher.word_count.min=10"])
    assert rules.words[0].min == 10
    assert apply_rules(pl.DataFrame({"text": [prose(20)]}), rules)[0]["keep"].all()
    for wrong, words in (
        (["gopher.word_cuont.min=10"], "one of the reasons"),
        (["gopher.word_count.min=ten"], "'ten' is no number"),
        (["gopher.word_count=10"], "REASON.min"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_rules("gopher", wrong)
    with pytest.raises(ConfigError, match="unknown preset 'gofer'"):
        load_rules("gofer")
    with pytest.raises(ConfigError, match=r"words\.0\.metric = 'wrods'.*unknown statistic"):
        load_rules({"words": [{"reason": "a", "metric": "wrods", "min": 1}]})
    with pytest.raises(ConfigError, match="needs min or max"):
        load_rules({"words": [{"reason": "a", "metric": "words"}]})
    with pytest.raises(DataError, match="no column 'text'"):
        apply_rules(pl.DataFrame({"body": ["x"]}), rules)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_normalising_twice_is_once(text: str) -> None:
    once = normalise_texts(pl.Series([text]))
    assert normalise_texts(once).equals(once)
    assert "\r" not in once[0]
    assert "\0" not in once[0]


def test_normalising_keeps_what_is_said() -> None:
    texts = pl.Series(["\ufeffa\r\nb\x00", "e\u0301", "def f():\n    return 1\n", None])
    assert normalise_texts(texts).to_list() == ["a\nb", "é", "def f():\n    return 1\n", None]


def test_languages_of_real_text(test_data: Path) -> None:
    play = next(iter(sorted((test_data / "text/en/shakespeare_md").rglob("*.md")))).read_text()
    novel = (test_data / "text/zh/sanguoyanyi.txt").read_text()
    texts = [play[i : i + 1_500] for i in range(0, 60_000, 1_500)]
    texts += [novel[i : i + 400] for i in range(0, 16_000, 400)]
    found = detect_language(pl.Series(texts))
    assert (found["lang"][:40] == "en").mean() > 0.95
    assert (found["lang"][40:] == "zh").all()
    assert found["lang_score"].is_between(0, 1).all()
