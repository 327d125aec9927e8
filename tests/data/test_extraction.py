# ruff: noqa: ISC004
"""Main text of pages: known faults of extractors as pages with the right text, for every method."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import internlm_core as ic
import pytest
from internlm_core.data.extraction import METHODS, NoText, extract
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST = "The first paragraph says what a tide is, in words enough to be taken for running text."
SECOND = "The second one tells how the moon pulls the sea, and why there are two tides a day here."


@pytest.fixture(params=METHODS)
def text_of(request: pytest.FixtureRequest) -> Callable[[str | bytes], str]:
    """Main text by each method; empty where there is none."""

    def run(html: str | bytes) -> str:
        found = ic.data.extract_html(html, method=request.param)
        return found.text if found else ""

    return run


Run = "Callable[[str | bytes], str]"


def test_unknown_inline_elements_are_transparent(text_of: Run) -> None:
    assert text_of("<p>Sjätte <nobr>AP-fonden</nobr> is here.</p>") == "Sjätte AP-fonden is here."
    assert text_of("<p>Two <my-word>new</my-word> words.</p>") == "Two new words."


@pytest.mark.parametrize("inner", ["<p>{0}</p><p>{1}</p>", "<article><br>{0}<p>{1}</p></article>"])
def test_each_paragraph_stands_once_and_in_order(text_of: Run, inner: str) -> None:
    page = f"<body><nav>menu</nav><article><h1>T</h1>{inner.format(FIRST, SECOND)}</article></body>"
    text = text_of(page)
    assert (text.count(FIRST), text.count(SECOND)) == (1, 1)
    assert text.index(FIRST) < text.index(SECOND)


def test_a_paragraph_that_the_page_repeats_is_kept_as_often_at_most(text_of: Run) -> None:
    page = f"<body><article><p>{FIRST}</p><p>{SECOND}</p><p>{FIRST}</p></article></body>"
    assert 1 <= text_of(page).count(FIRST) <= 2


def test_list_of_spans_and_list_under_body(text_of: Run) -> None:
    page = (
        f"<body><p>{FIRST}</p><ul><li><span class=x>You have the right..</span></li>"
        f"<li>two<ol><li>nested</li></ol></li></ul><p>{SECOND}</p></body>"
    )
    items = "- You have the right..\n- two\n    1. nested"
    assert text_of(page) == f"{FIRST}\n\n{items}\n\n{SECOND}"


@pytest.mark.parametrize(
    "code",
    [
        "<pre><code>def f(x):\n    if x:\n        return 1\n</code></pre>",
        "<pre><span class=k>def</span> <span>f</span>(x):\n    if x:\n        return 1\n</pre>",
        "<pre>def f(x):<br>    if x:<br>        return 1</pre>",
        "<table class=highlighttable><tr><td class=linenos><pre>1\n2\n3</pre></td><td><pre>"
        "def f(x):\n    if x:\n        return 1</pre></td></tr></table>",
    ],
)
def test_code_keeps_its_lines_and_indentation(text_of: Run, code: str) -> None:
    text = text_of(f"<body><p>{FIRST}</p>{code}<p>{SECOND}</p></body>")
    block = "```\ndef f(x):\n    if x:\n        return 1\n```"
    assert text == f"{FIRST}\n\n{block}\n\n{SECOND}"


def test_code_that_holds_a_fence_gets_a_longer_one(text_of: Run) -> None:
    text = text_of('<p>So:</p><pre class="language-md">```\n\\(a\\) $x_1$\n\n\n\n\tb  \n```</pre>')
    assert text == "So:\n\n````md\n```\n\\(a\\) $x_1$\n\n\n\n\tb  \n```\n````"


def test_code_spans(text_of: Run) -> None:
    text = text_of(f"<p>{FIRST} Call <code>a_b(*c)</code> or <code>x`y</code> now.</p>")
    assert text == f"{FIRST} Call `a_b(*c)` or ``x`y`` now."


@pytest.mark.parametrize(
    ("html", "formula"),
    [
        (
            "<math><semantics><mrow><mn>1.33</mn></mrow><annotation "
            'encoding="application/x-tex">1.33\\times 10^{-4}</annotation></semantics></math>',
            r"$1.33\times 10^{-4}$",
        ),
        (r"\(a_1 &lt; a_2\)", "$a_1 < a_2$"),
        (r"\(a<em>1 + b</em>1\)", "$a_1 + b_1$"),
        ("$x_1 * y^*$", "$x_1 * y^*$"),
        ('<script type="math/tex">a_1 < b*c</script>', "$a_1 < b*c$"),
        ("<math><mfrac><mi>α</mi><msup><mi>x</mi><mn>2</mn></msup></mfrac></math>",
         r"$\frac{\alpha }{x^{2}}$"),
        (
            '<span class="katex"><span class="katex-mathml"><math><semantics><mi>a</mi><annotation '
            'encoding="application/x-tex">a_b</annotation></semantics></math></span><span '
            'class="katex-html" aria-hidden="true">ab</span></span>',
            "$a_b$",
        ),
        (
            '<span class="mwe-math-element"><span style="display: none"><math '
            r'alttext="{\displaystyle e^{x}}"><mi>e</mi></math></span></span>',
            "$e^{x}$",
        ),
    ],
)  # fmt: skip
def test_formulas(text_of: Run, html: str, formula: str) -> None:
    assert (
        text_of(f"<p>{FIRST} We write {html} whenever.</p>")
        == f"{FIRST} We write {formula} whenever."
    )


@pytest.mark.parametrize(
    "html",
    [
        r"<p>\[ a_1 &lt; b \]</p>",
        "<p>$$a_1 &lt; b$$</p>",
        '<script type="math/tex; mode=display">a_1 < b</script>',
        '<math display="block" alttext="a_1 &lt; b"><mi>a</mi></math>',
    ],
)
def test_display_formulas_stand_alone(text_of: Run, html: str) -> None:
    text = text_of(f"<body><p>{FIRST}</p>{html}<p>{SECOND}</p></body>")
    assert text == f"{FIRST}\n\n$$a_1 < b$$\n\n{SECOND}"


def test_money_is_no_formula(text_of: Run) -> None:
    page = f"<p>{FIRST} It costs $5 or $6, in C:\\a_b $7.</p>"
    assert text_of(page).endswith("It costs $5 or $6, in C:\\a_b $7.")


def test_tables_keep_empty_cells_spans_and_formulas(text_of: Run) -> None:
    page = (
        f"<body><p>{FIRST}</p><table><tr><th>a</th><th>b|c</th></tr><tr><td></td><td>1</td></tr>"
        r"<tr><td colspan=2>\(x_1\)</td></tr></table>"
        f"<p>{SECOND}</p></body>"
    )
    table = "| a | b\\|c |\n| --- | --- |\n|  | 1 |\n| $x_1$ |  |"
    assert text_of(page) == f"{FIRST}\n\n{table}\n\n{SECOND}"


def test_headings_with_and_without_links(text_of: Run) -> None:
    page = f"<body><h1><a>The quick brown fox</a></h1><p>{FIRST}</p><h3>More</h3><p>{SECOND}</p></body>"
    assert text_of(page) == f"# The quick brown fox\n\n{FIRST}\n\n### More\n\n{SECOND}"


def test_chinese_page_without_blanks(text_of: Run) -> None:
    sentences = [
        "潮水每天涨落两次，月亮的引力使海水向它聚拢，所以一天之内会有两次高潮和两次低潮出现。"
    ] * 4
    paragraphs = [f"第{n}段{s}" for n, s in zip("一二三四", sentences, strict=True)]
    page = (
        '<body><div class=nav><a href="/">首页</a> <a href="/x">新闻</a></div><div class=content>'
        + "".join(f"<p>{p}</p>" for p in paragraphs)
        + "</div><div class=footer>版权所有 ICP备12345号</div></body>"
    )
    text = text_of(page)
    assert text == "\n\n".join(paragraphs)


def test_no_blank_inside_chinese_sentences(text_of: Run) -> None:
    page = "<p>我们\n  今天<b>\n去</b>学校，<a href='/x'>学</a><em>习</em>\n中文 and\nhome too. 张三 李四</p>"
    assert text_of(page) == "我们今天去学校，学习中文 and home too. 张三 李四"


def test_soft_hyphens_go(text_of: Run) -> None:
    page = "<p>Unter\u00adnehmen und Unter&shy;nehmer und Unter&#173;nahme.</p>"
    assert text_of(page) == "Unternehmen und Unternehmer und Unternahme."


@pytest.mark.parametrize(
    "how",
    [
        'style="display:none"', 'style="color: red; DISPLAY : none !important"', "hidden",
        'aria-hidden="true"', 'style="visibility:hidden"',
    ],
)  # fmt: skip
def test_hidden_text_is_left_out(text_of: Run, how: str) -> None:
    page = f"<body><p {how}>HIDDENSPAM <b {how}>twice</b></p><p>{FIRST}</p><p>{SECOND}</p></body>"
    assert text_of(page) == f"{FIRST}\n\n{SECOND}"
    # What is not hidden stays, so the test above can fail.
    shown = page.replace(f"<p {how}", '<p style="overflow:hidden"').replace(f"<b {how}", "<b")
    assert "HIDDENSPAM" in text_of(shown)


def test_twenty_thousand_nested_elements(text_of: Run) -> None:
    assert text_of("<div>" * 20_000 + "deep text here" + "</div>" * 20_000) == "deep text here"
    page = f"<body><p>{FIRST}</p>" + "<ul><li>" * 20_000 + "low" + "</ul>" * 20_000
    assert FIRST in text_of(page)


def test_verse_keeps_its_lines(text_of: Run) -> None:
    assert text_of("<p>床前明月光<br>疑是地上霜</p>") == "床前明月光\n疑是地上霜"
    assert (
        text_of("<p>line one<br/>line two<br><br>line three</p>")
        == "line one\nline two\n\nline three"
    )


@pytest.mark.parametrize("page", ["", "  \n", "<script>1</script>", b"", "\0", "<p>&nbsp;</p>"])
@pytest.mark.parametrize("method", METHODS)
def test_empty_pages_say_so(page: str | bytes, method: str) -> None:
    assert ic.data.extract_html(page, method=method) is None
    assert extract(page, method=method) == NoText("empty_page")


def test_bytes_are_decoded_and_the_encoding_told() -> None:
    page = f"<meta charset=gb2312><p>{'床前明月光，疑是地上霜。' * 5}</p>".encode("gb18030")
    found = ic.data.extract_html(page)
    assert found is not None
    assert (found.text, found.encoding) == ("床前明月光，疑是地上霜。" * 5, "gb18030")
    told = ic.data.extract_html("<p>déjà vu</p>".encode("cp1252"), charset="windows-1252")
    assert told is not None
    assert told.text == "déjà vu"


def test_title_author_and_date() -> None:
    page = (
        '<head><title>T | Site</title><meta property="og:title" content="T"><meta name=author content="A B">'
        '<script type="application/ld+json">{"datePublished": "2024-03-05T10:00"}</script></head>'
        f"<body><p>{FIRST}</p></body>"
    )
    found = ic.data.extract_html(page)
    assert found is not None
    assert found.meta == {"title": "T", "author": "A B", "date": "2024-03-05"}


def test_words_that_stand_for_parts_are_never_those_of_the_page(text_of: Run) -> None:
    page = f"<p>{FIRST} qxzk0z qxzkh1z qxzkbreakz <code>a</code></p>"
    assert text_of(page) == f"{FIRST} qxzk0z qxzkh1z qxzkbreakz `a`"


def test_unknown_method() -> None:
    with pytest.raises(DataError, match=r"'fast'.*hybrid, trafilatura, resiliparse"):
        ic.data.extract_html("<p>a</p>", method="fast")


def test_the_same_whatever_ran_before_and_in_threads() -> None:
    pages = [
        f"<article><h1>{n}</h1><p>{FIRST}</p><p>{SECOND}</p><p>{SECOND * (n % 3)}</p></article>"
        for n in range(8)
    ]

    def texts(order: list[int], into: dict[int, set[str]]) -> None:
        for number in order:
            for method in METHODS:
                found = ic.data.extract_html(pages[number], method=method)
                into.setdefault(number, set()).add(f"{method}{found.text if found else ''}")

    seen: list[dict[int, set[str]]] = [{} for _ in range(4)]
    threads = [
        threading.Thread(target=texts, args=([*range(n, 8), *range(n), *range(8)[::-1]], seen[n]))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == seen[0] for one in seen)
    assert all(len(texts) == len(METHODS) for texts in seen[0].values())


def test_hybrid_asks_the_careful_one_where_its_two_picks_differ() -> None:
    sure = extract(f"<body><article><p>{FIRST}</p><p>{SECOND}</p></article></body>")
    assert not isinstance(sure, NoText)
    assert (sure.method, sure.confidence) == ("resiliparse", 1.0)
    column = "<div><p>" + "</p><p>".join(f"{n} {FIRST}" for n in range(4)) + "</p></div>"
    other = column.replace("tide", "wave")
    doubtful = extract(f"<body><section>{column}</section><section>{other}</section></body>")
    assert not isinstance(doubtful, NoText)
    assert doubtful.method == "trafilatura"
    assert doubtful.confidence is not None
    assert doubtful.confidence < 0.85


@pytest.mark.parametrize("folder", ["debian-handbook-zh-CN", "debian-handbook-en-US"])
def test_pages_of_a_book(test_data, folder: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import tarfile

    with tarfile.open(test_data / "text" / "html" / f"{folder}.tar.gz") as archive:
        names = sorted(n for n in archive.getnames() if n.endswith(".html"))[20:60:4]
        pages = [archive.extractfile(name).read() for name in names]  # type: ignore[union-attr]
    for page in pages:
        found = ic.data.extract_html(page)
        careful = ic.data.extract_html(page, method="trafilatura")
        assert found is not None
        assert careful is not None
        assert len(found.text) > 0.4 * len(careful.text)
        assert not re.search(r"qxzk|\u00ad", found.text)
