"""Charts, tables and text blocks: the right shapes, and nothing of a corpus gets out of its box."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core import report
from internlm_core.report.numbers import log_ticks, ticks

EVIL = "<script>alert(1)</script><img src=http://x.example/a.png onerror=alert(2)>\"'&"

_VOID = {"hr", "meta", "link", "img", "br"}


class _Tags(HTMLParser):
    """Collects elements and checks that they are closed in order."""

    def __init__(self):
        super().__init__()
        self.found, self._open = [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open, tag
        assert self._open.pop() == tag


def elements(markup):
    parser = _Tags()
    parser.feed(str(markup))
    parser.close()
    assert parser._open == []
    return parser.found


def text_of(markup):
    return re.sub(r"<[^>]*>", "", str(markup))


BLOCKS = {
    "bar_chart": lambda t: report.bar_chart(t, {t: (1, 2)}, [report.Segment(t), report.Segment("b", 2)]),
    "funnel": lambda t: report.funnel(t, [(t, 5), ("b", 3)]),
    "histogram": lambda t: report.histogram(t, {t: [1, 2], "b": [3]}, marks=[report.Mark(2, t)]),
    "line_chart": lambda t: report.line_chart(
        t, [report.Line(t, [1, 2], [3, 4]), report.Line("b", [1], [2])],
        x_label=t, y_label=t, marks=[report.Mark(1.5, t)],
    ),
    "table": lambda t: report.table([t], [[t]], caption=t),
    "tiles": lambda t: report.tiles([report.Tile(t, t, t)]),
    "sample": lambda t: report.sample(t, caption=t),
    "fold": lambda t: report.fold(t, report.paragraph(t)),
    "side_by_side": lambda t: report.side_by_side(t, t + " more " + t, captions=(t, t)),
    "empty": lambda t: report.histogram(t, {t: []}),
    "page": lambda t: report.page(t, [report.Section(t, report.paragraph(t), t)], lead=t, footer=t),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_text_is_escaped_wherever_it_enters(name):
    found = elements(BLOCKS[name](EVIL))
    assert found
    for tag, attributes in found:
        assert tag not in ("script", "img", "iframe", "object")
        assert not any(key.startswith("on") for key in attributes)
        for value in attributes.values():
            assert not (value or "").startswith(("http:", "javascript:"))
    # Without escaping the same text would have made elements of its own.
    assert "script" in [tag for tag, _ in elements(f"<p>{EVIL}</p>")]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_any_two_texts_stay_whole_side_by_side(left, right):
    elements(report.side_by_side(left, right))
    elements(report.sample(left))


def test_a_page_loads_nothing_and_is_the_same_twice():
    def draw():
        sections = [
            report.Section(name, block("x")) for name, block in BLOCKS.items() if name != "page"
        ]
        return report.page("t", sections)

    text = draw()
    assert text == draw()
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    for tag, attributes in elements(text):
        assert not attributes.get("src")
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
        assert tag != "script"
    assert not re.search(r"url\(|@import", text)


def test_bars_are_as_long_as_their_values():
    markup = report.bar_chart(
        "t", {"a": (3, 1), "b": (2, 0)}, [report.Segment("x"), report.Segment("y", 2)]
    )
    assert re.findall(r'fill-(\d)" style="width:([\d.]+)%', str(markup)) == [
        ("1", "75.000"),
        ("2", "25.000"),
        ("1", "50.000"),
    ]
    stretched = report.bar_chart(
        "t", {"a": (3, 1), "b": (2, 0)}, [report.Segment("x")] * 2, shares=True
    )
    assert re.findall(r"width:([\d.]+)%", str(stretched)) == ["75.000", "25.000", "100.000"]


def test_a_funnel_says_what_each_step_took():
    words = text_of(
        report.funnel("Documents", [("read", 200), ("after rules", 150), ("kept", 150)])
    )
    assert "200 (100.0 %)" in words
    assert "150 (75.0 %, −50)" in words
    assert words.count("−") == 1


def test_a_histogram_counts_every_finite_value_once():
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.lognormal(5, 2, 5000), [np.nan, np.inf, -np.inf]])
    markup = report.histogram("t", {"kept": values[:3000], "out": values[3000:]})
    hints = re.findall(r"<title>.*?: ([\d,]+) (kept|out)</title>", str(markup))
    totals = {
        name: sum(int(n.replace(",", "")) for n, s in hints if s == name)
        for name in ("kept", "out")
    }
    assert totals == {"kept": 3000, "out": 2000}


def test_the_axis_always_shows_the_threshold():
    markup = str(report.histogram("t", {"a": [1.0, 2.0, 3.0]}, marks=[report.Mark(9.0, "limit")]))
    assert 'style="left:100.000%' in markup
    one_value = str(report.histogram("t", {"a": [5, 5, 5]}))
    assert "<rect" in one_value


def test_curves_keep_their_peaks_and_their_gaps():
    y = np.ones(100_000)
    y[54_321] = 100.0
    y[70_000:80_000] = np.nan
    markup = str(report.line_chart("t", [report.Line("loss", np.arange(100_000), y)]))
    path = re.search(r' d="([^"]+)"', markup)[1]
    assert len(path) < 20_000
    heights = [float(v) for v in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]
    # The peak reaches the top of the axis, 5 % of the span below the edge.
    assert min(heights) == pytest.approx(300 * 0.05 / 1.1, abs=0.2)
    assert path.count("M") == 2


def test_a_curve_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="loss"):
        report.line_chart("t", [report.Line("loss", [1, 2], [1])])


def test_log_values_leave_out_what_has_no_logarithm():
    markup = str(
        report.line_chart("t", [report.Line("a", [0, 1, 2], [0.0, 10.0, 1000.0])], log_y=True)
    )
    path = re.search(r' d="([^"]+)"', markup)[1]
    assert path == "M0.0 300.0 L1000.0 0.0"


def test_differences_are_marked_and_nothing_else():
    left = "The cat sat on the mat. It was warm.\n" + "Same line.\n" * 30 + "End."
    right = "The dog sat on the mat. It was warm.\n" + "Same line.\n" * 30 + "End!"
    markup = str(report.side_by_side(left, right))
    assert re.findall("<mark>(.*?)</mark>", markup) == ["cat", "dog", ".", "!"]
    assert "characters alike" in markup
    assert "<mark>" not in str(report.side_by_side(left, left))
    assert "equal to the last character" in str(report.side_by_side(left, left))


def test_differences_in_chinese_are_marked_by_character():
    markup = str(report.side_by_side("话说天下大势，分久必合。", "话说天下大事，分久必合。"))
    assert re.findall("<mark>(.*?)</mark>", markup) == ["势", "事"]


def test_what_can_not_be_seen_is_shown():
    words = text_of(report.sample("a\x00b\u202ec\u200bd\te\n"))
    assert "a␀b⟨U+202E⟩c⟨U+200B⟩d\te" in words


def test_long_text_is_cut_and_says_so():
    words = text_of(report.sample("x" * 5000, limit=100))
    assert "x" * 100 + "… 4,900 more characters" in words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (report.bytes_text(999), "999 B"),
        (report.bytes_text(1_234_567), "1.2 MB"),
        (report.bytes_text(0), "0 B"),
        (report.share_text(1, 3), "33.3 %"),
        (report.share_text(1, 1_000_000), "< 0.1 %"),
        (report.share_text(999_999, 1_000_000), "> 99.9 %"),
        (report.share_text(0, 0), "–"),
        (report.short_number(1234.5), "1,234"),
        (report.short_number(0.00025), "2.5e-4"),
        (report.count_of(1, "document"), "1 document"),
        (report.count_of(12345, "document"), "12,345 documents"),
    ],
)
def test_numbers_read_well(text, expected):
    assert text == expected


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_within_the_axis(low, width):
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 12
    assert all(low - 1e-6 * width - 1e-9 <= t <= low + width * (1 + 1e-6) + 1e-9 for t in found)


def test_log_ticks_are_powers_of_ten():
    assert log_ticks(3, 5000) == [10, 100, 1000]
    assert len(log_ticks(1e-9, 1e9)) <= 10
    assert len(log_ticks(20, 80)) >= 2
