"""Boilerplate lines: what goes, what stays, in English and Chinese, and rules of one's own."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from internlm_core.data.line_rules import load_line_rules
from internlm_core.data.normalise import normalise
from internlm_core.errors import ConfigError

BODY = "The tide rises twice a day, and nobody in the village looks at the clock."
正文 = "潮水每天涨落两次，村里没有人看钟。"


def cleaned(text: str, lines: object = "boilerplate") -> str:
    return normalise(pl.Series([text]), lines=lines)["text"][0]


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("cookie_notice", "This website uses cookies to improve your experience."),
        ("cookie_notice", "We and our 30 partners use cookies to personalise ads and content."),
        ("cookie_notice", "By continuing to use this site you agree to our use of cookies."),
        ("cookie_notice", "Accept all cookies"),
        ("cookie_notice", "本网站使用cookies以提升您的体验，继续浏览即表示同意。"),
        ("javascript_notice", "Please enable JavaScript to view the comments."),
        ("javascript_notice", "请启用 JavaScript 后重新加载页面"),
        ("advertisement", "ADVERTISEMENT"),
        ("advertisement", "Story continues below advertisement"),
        ("licence_number", "京ICP备12345678号-1"),
        ("licence_number", "沪公网安备 31010102001234号"),
        ("licence_number", "增值电信业务经营许可证：B2-20201234"),
        ("copyright", "© 2021 Example Media Ltd. All rights reserved."),
        ("copyright", "Copyright © 2001-2020 Example"),
        ("copyright", "某某网 版权所有"),
        ("copyright", "未经授权不得转载"),
        ("editor", "（责任编辑：张三）"),
        ("read_more", "Read more »"),
        ("read_more", "[Continue reading →](http://a.example/)"),
        ("read_more", "点击查看全文>>"),
        ("share_button", "**Share this:**"),
        ("share_button", "Share on Facebook"),
        ("share_button", "分享到：微信 微博 QQ空间"),
        ("share_button", "微信扫一扫"),
        ("subscribe", "Sign up for our weekly newsletter"),
        ("comment_button", "Leave a comment"),
        ("comment_button", "发表评论"),
        ("related", "## Related articles"),
        ("related", "猜你喜欢"),
        ("skip_link", "Skip to main content"),
        ("skip_link", "返回顶部"),
        ("breadcrumb", "Home > News > Local"),
        ("breadcrumb", "您的位置：首页 > 新闻 > 正文"),
        ("pager", "« Previous post"),
        ("pager", "上一篇：潮水的故事"),
        ("print_button", "Printer-friendly version"),
        ("print_button", "字号：大 中 小"),
        ("menu", "Home | About us | Contact | Privacy policy"),
        ("menu", "首页 | 关于我们 | 联系我们 | 网站地图"),
    ],
)
def test_what_goes(reason: str, line: str) -> None:
    text = f"{BODY}\n\n{line}"
    found = normalise(pl.Series([text]))
    assert found["text"][0] == BODY
    assert found["edits"][0][f"line.{reason}"] == 1
    assert found["characters"][0][f"line.{reason}"] == len(line)


@pytest.mark.parametrize(
    "line",
    [
        "The European directive says that this website uses of cookies must be explained.",
        "We use cookies and milk for breakfast.",
        (
            "She wrote: © 2020 is what the label said, and the court did not agree with it at all, for the "
            "sign alone makes no right."
        ),
        "Home is where the heart is.",
        "Share this bread with those who have none, said the old man.",
        "To read more about the tide, ask the harbour master.",
        "JavaScript is a programming language that runs in browsers.",
        "Next, page through the book.",
        "News of the ship came in spring.",
        "版权保护的历史很长，这里只能略说一二。",
        "首页上写着他的名字。",
        "编辑部的故事",
        "分享是一种快乐。",
        "上一篇文章里我们谈到潮水。",
        "He will sign up for our crew.",
        "Advertisements for the play were on every wall.",
    ],
)
def test_what_stays(line: str) -> None:
    for text in (f"{BODY}\n{line}\n{BODY} Again.", f"{BODY}\n{line}", line):
        assert cleaned(text) == text


def test_menus_go_by_rows_and_footers_by_place() -> None:
    menu = "- [Home](/)\n- [About us](/about)\n\n- News"
    assert cleaned(f"{menu}\n\n{BODY}") == BODY
    assert cleaned(f"Home\nNews\n{BODY}") == f"Home\nNews\n{BODY}"
    assert cleaned(f"首页\n关于我们\n联系我们\n{正文}") == 正文
    middle = f"{BODY}\n© 2020 Example\n{正文}"
    assert cleaned(middle) == middle
    assert cleaned(f"{正文}\nLeave a comment\n© 2020 Example\n\n京ICP备12345678号") == 正文


@pytest.mark.parametrize(
    "block",
    [
        "```html\nShare this\n© 2020\n```",
        "~~~\nRead more\n~~~",
        "    Share this",
        "\tRead more",
        "$$\nShare this\n$$",
        "\\[\nRead more\n\\]",
        "\\begin{verbatim}\nHome\n\nNews\nAbout\n\\end{verbatim}",
        "| Home | News | About |\n|---|---|---|\n| Share this | Read more | x |",
    ],
)
def test_code_formulas_and_tables_stay_whole(block: str) -> None:
    text = f"{BODY}\n\n{block}"
    assert cleaned(text) == text
    assert cleaned(f"{text}\n\nShare this") == text


def test_code_and_the_switch() -> None:
    text = "Share this\nprint(1)"
    assert normalise(pl.Series([text]), "code")["text"][0] == text
    assert cleaned(text, None) == cleaned(text, "none") == text


def test_c4_rules() -> None:
    text = f"A heading\n{BODY}\nThis needs Javascript to run well.\nToo few words.\nIt goes on and on...\n{正文}"
    assert cleaned(text, "c4") == f"{BODY}\n{正文}"


def test_rules_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'extends = "boilerplate"\nwithout = ["read_more"]\n'
        "[[lines]]\nreason = 'signature'\npattern = 'Sent from my \\w+'\n"
    )
    text = f"{BODY}\nRead more\nSent from my phone\nShare this"
    assert cleaned(text, path) == f"{BODY}\nRead more"
    other = tmp_path / "other.toml"
    other.write_text("extends = 'mine.toml'\n")
    assert cleaned(text, str(other)) == f"{BODY}\nRead more"
    # The first of the rules that match gives the reason.
    first = {"lines": [{"reason": "mine", "pattern": "Share.*"}], "extends": "boilerplate"}
    assert load_line_rules(first).lines[0].reason == "mine"
    assert normalise(pl.Series([text]), lines=first)["edits"][0]["line.mine"] == 1


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"lines": [{"reason": "a", "pattern": "("}]}, "(?s)line rule 0.*'a'"),
        ({"lines": [{"reason": "a", "pattern": "x", "place": "top"}]}, "place"),
        ({"lines": [{"reason": "a", "pattern": "x", "words": 3}]}, "words"),
        ({"extends": "boilerplate", "without": ["nothing"]}, "nothing.*menu"),
        ({"without": ["menu"]}, "extends"),
        ("boilerplates", "boilerplate, c4"),
    ],
)
def test_wrong_rules_are_named(rules: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_line_rules(rules)


def test_a_circle_is_no_endless_loop(tmp_path: Path) -> None:
    path = tmp_path / "round.toml"
    path.write_text("extends = 'round.toml'\n")
    with pytest.raises(ConfigError, match="circle"):
        load_line_rules(path)


def test_real_documents_keep_their_text(test_data: Path) -> None:
    """Books and encyclopaedia hold no boilerplate: nearly nothing may go, and twice is once."""
    import gzip
    import json

    packed = json.loads(
        gzip.decompress((test_data / "text/en/wiki_summaries_en.json.gz").read_bytes())
    )
    texts = [str(text) for text in (packed.values() if isinstance(packed, dict) else packed)][:3000]
    texts += [
        path.read_text() for path in sorted((test_data / "text/en/shakespeare_md").rglob("*.md"))
    ]
    texts += (test_data / "text/zh/sanguoyanyi.txt").read_text().split("\n\n")
    crawled = (test_data / "text/en/c4_demo.jsonl").read_text().splitlines()
    crawled = [json.loads(line)["text"] for line in crawled]
    found = normalise(pl.Series([*texts, *crawled]))
    counts = found["edits"].struct.unnest()
    lines = counts.select(pl.sum_horizontal(pl.selectors.starts_with("line."))).to_series()
    assert lines.head(len(texts)).sum() <= 2
    again = normalise(found["text"])
    assert again["text"].equals(found["text"])
