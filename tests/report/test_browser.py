"""A page in headless Chromium: it draws, loads nothing, and fits wide and narrow windows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from internlm_core import report
from internlm_core.data import Pipeline, PipelineConfig
from internlm_core.demo.config import DemoConfig
from internlm_core.demo.page import write_page

EVIL = "<script>document.title='owned'</script><img src='http://127.0.0.1:9/x.png'>"

pytestmark = pytest.mark.browser


def look(browser, path, width):
    """Open a page; returns console messages, requested addresses and figures of the layout."""
    browser.set_window_size(width, 900)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(path.as_uri())
    console = [entry["message"] for entry in browser.get_log("browser")]
    requests = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            requests.append(message["params"]["request"]["url"])
    return console, requests


LAYOUT = """
document.querySelectorAll('details').forEach(d => d.open = true);
const wide = [];
for (const e of document.querySelectorAll('body *')) {
  const box = e.getBoundingClientRect();
  const scrolls = e.closest('.table, .sides, pre');
  if (box.right > document.documentElement.clientWidth + 1 && !scrolls) wide.push(e.outerHTML.slice(0, 120));
}
const size = s => [...document.querySelectorAll(s)].map(e => {
  const b = e.getBoundingClientRect(); return [b.width, b.height]; });
return {scroll: document.documentElement.scrollWidth, client: document.documentElement.clientWidth,
        wide: wide, charts: size('.chart'), plots: size('.area svg'), rects: size('rect'),
        bars: size('.bar'), scripts: document.scripts.length};
"""


def check_layout(browser, plots):
    layout = browser.execute_script(LAYOUT)
    assert layout["scroll"] <= layout["client"], layout["wide"]
    assert layout["wide"] == []
    assert layout["scripts"] == 0
    assert len(layout["plots"]) == plots
    for kind in ("charts", "plots", "bars"):
        assert layout[kind], kind
        for width, height in layout[kind]:
            assert width > 80, kind
            assert height > 8, kind
    assert all(width > 0 and height > 0 for width, height in layout["rects"])


@pytest.fixture
def sample_page(tmp_path):
    rng = np.random.default_rng(0)
    long_word = "x" * 3000
    parts = [
        report.Section("Bars", report.bar_chart("b", {"a" * 60: (5, 2), EVIL: (1, 0)},
                       [report.Segment("k"), report.Segment("d", 2)])),
        report.Section("Plots", report.stack([
            report.histogram("h", {"k": rng.normal(size=500), "d": rng.normal(3, 1, 100)},
                             marks=[report.Mark(2, "a long label of a threshold, as they come")]),
            report.line_chart("l", [report.Line("train", range(100), rng.random(100))],
                              x_label="step", y_label="loss"),
        ], columns=True)),
        report.Section("Text", report.stack([
            report.sample(EVIL + long_word, caption=EVIL),
            report.side_by_side(EVIL + long_word, long_word),
            report.table(["a"] * 9, [["value of some length"] * 9]),
        ])),
    ]  # fmt: skip
    path = tmp_path / "page.html"
    path.write_text(report.page("Page", parts, footer="f"), "utf-8")
    return path


@pytest.mark.parametrize("width", [1280, 500])
def test_a_page_draws_and_fits(browser, sample_page, width):
    console, requests = look(browser, sample_page, width)
    assert console == []
    assert requests == [sample_page.as_uri()]
    assert browser.title == "Page"
    check_layout(browser, plots=2)


def test_a_phone_sees_it_too(browser, sample_page):
    """400 px: narrower than a window can be made, so the device is emulated."""
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        look(browser, sample_page, 1280)
        check_layout(browser, plots=2)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_checks_would_notice(browser, tmp_path):
    """A page with a request, a script and an element that sticks out fails each check."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<div style='width:3000px'>w</div><script src='http://127.0.0.1:9/a.js'></script>"
    )
    console, requests = look(browser, path, 1280)
    assert len(requests) == 2
    assert console
    layout = browser.execute_script(LAYOUT)
    assert layout["scroll"] > layout["client"]
    assert layout["wide"]
    assert layout["scripts"] == 1


def found_pages():
    """Topics of Python's own manual, with copies and noise that a run drops and sets aside."""
    from pydoc_data.topics import topics

    texts = [text for _, text in sorted(topics.items())][:60]
    copies = [text.replace("the", "a", 1) for text in texts[:6]]
    noise = ["- home\n" * 60, "too short", "# $ % & " * 200, EVIL, "很短"]
    lines = [json.dumps({"text": text, "source": "books"}) for text in [*texts, *copies]]
    lines += [json.dumps({"text": text, "source": EVIL}) for text in noise]
    return "\n".join([*lines, '{"text": "cut', f'{{"text": "{EVIL}'])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "pages.jsonl").write_text(found_pages(), "utf-8")
    config = PipelineConfig.model_validate({"sources": [{"path": "pages.jsonl", "lang": "en"}]})
    summary = Pipeline(config, folder).run(folder / "records", quiet=True)
    assert summary.kept > 20
    assert summary.dropped > 6
    return folder


@pytest.mark.parametrize("width", [1280, 500])
def test_the_report_of_a_run(browser, run_folder, width):
    path = run_folder / "records" / "report.html"
    console, requests = look(browser, path, width)
    assert console == []
    assert requests == [path.as_uri()]
    check_layout(browser, plots=browser.page_source.count('class="area"'))
    text = browser.find_element("tag name", "body").text
    counts = json.loads((path.parent / "run.json").read_text("utf-8"))["counts"]
    reasons = {row["reason"] for row in counts if row["reason"]}
    assert len(reasons) > 3
    for part in ("Duplicates", "broken_json", EVIL, *reasons):
        assert part in text, part
    assert browser.find_elements("tag name", "mark"), "differences of copies are marked"


def test_the_report_of_the_demo(browser, run_folder):
    losses = [[step, 9 - step / 50] for step in range(100)]
    held_out = [
        {
            "when": when,
            "loss": 9.0,
            "within": {"loss": 8.5, "labels": 4},
            "beyond": beyond,
            "by_source": {EVIL: [9.0, 4]},
            "by_position": [[0, 256, 9.0, 4], [256, 512, 8.0, 4]],
        }
        for when, beyond in (("before", None), ("after " + EVIL, {"loss": 8.0, "labels": 4}))
    ]
    summary = {
        "tokenizer": {"bytes_per_token": {"en": 3.5, EVIL: 1.0}},
        "pretrain": {"held_out": held_out, "losses": losses},
        "sft": {"before": 7.0, "after": 5.0, "losses": losses},
        "samples": {
            "samples": [{"prompt": "玄德曰", "text": EVIL * 40}],
            "question": {"question": EVIL, "answer": "x" * 2000},
        },
    }
    path = write_page(run_folder, DemoConfig(), summary)
    console, requests = look(browser, path, 1280)
    assert console == []
    assert requests == [path.as_uri()]
    check_layout(browser, plots=browser.page_source.count('class="area"'))
    curves = browser.find_elements("css selector", "polyline, path.line, .area path")
    assert len(curves) >= 2, "both loss curves are drawn"
    assert browser.title == "From raw text to answers"
