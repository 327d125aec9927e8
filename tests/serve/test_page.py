"""The page at `/` in headless Chromium: streaming, stop, regenerate, folded calls, two languages."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.browser

CALL = (
    '<|action_start|><|plugin|>\n{"name": "weather", "parameters": {"city": "上海"}}<|action_end|>'
)


class Page:
    """What a person does and sees."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser = browser
        for kind in ("browser", "performance"):
            browser.get_log(kind)
        browser.get(url)
        self.fill("key", "sk-test")

    def run(self, script: str, *values: Any) -> Any:
        return self.browser.execute_script(script, *values)

    def fill(self, name: str, text: str) -> None:
        self.run("document.getElementById(arguments[0]).value = arguments[1]", name, text)

    def click(self, name: str) -> None:
        self.run("document.getElementById(arguments[0]).click()", name)

    def ask(self, text: str) -> None:
        self.browser.find_element("id", "input").send_keys(text)
        self.click("send")

    def until(self, condition: Callable[[], Any]) -> Any:
        end = time.monotonic() + 30
        while not (value := condition()):
            assert time.monotonic() < end, self.run("return document.body.innerText")
            time.sleep(0.02)
        return value

    def idle(self) -> None:
        self.until(lambda: self.run("return !document.getElementById('send').disabled"))

    def texts(self) -> list[str]:
        return self.run(
            "return [...document.querySelectorAll('article .text')].map(e => e.textContent)"
        )

    def see(self, selector: str) -> list[str]:
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )


@pytest.fixture
def page(browser: Any, scripted: Any) -> Page:
    return Page(browser, scripted.url)


def test_a_conversation(page: Page, scripted: Any) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"> 你好 🙂"
    scripted.say(f"{evil}<|im_end|>", "second<|im_end|>")
    page.ask("hello 潮")
    page.idle()
    assert page.texts() == ["hello 潮", evil]
    page.ask("more")
    page.idle()
    assert page.texts()[-1] == "second"
    assert page.browser.title == "tide"
    # The model has read the conversation.
    read = scripted.tokenizer.decode(scripted.backend.asked[1][0])
    assert f"user\nhello 潮<|im_end|>\n<|im_start|>assistant\n{evil}<|im_end|>" in read
    page.click("reset")
    assert page.texts() == []


def test_it_streams_and_stops(page: Page, scripted: Any) -> None:
    scripted.backend.pause = 0.05
    scripted.say("abcdefgh" * 60)
    page.ask("count")
    page.until(lambda: len(page.texts()) == 2 and len(page.texts()[1]) > 3)
    page.click("stop")
    page.idle()
    said = page.texts()[1]
    assert 3 < len(said) < 400
    assert page.see(".error") == ["stopped"]
    page.until(lambda: scripted.backend.made[0].cancelled.is_set())


def test_regenerate(page: Page, scripted: Any) -> None:
    scripted.say("one<|im_end|>", "two<|im_end|>")
    page.ask("q")
    page.idle()
    page.click("again")
    page.idle()
    assert page.texts() == ["q", "two"]
    first, second = (asked[0] for asked in scripted.backend.asked)
    assert first == second


def test_calls_are_folded_and_answered(page: Page, scripted: Any) -> None:
    scripted.say(f"I look.{CALL}<|im_end|>", "22 °C<|im_end|>")
    page.fill("tools", json.dumps([{"type": "function", "function": {"name": "weather"}}]))
    page.ask("weather?")
    page.idle()
    assert page.run("return document.querySelector('details.call').open") is False
    assert page.see("details.call summary") == ["Call: weather"]
    assert json.loads(page.see("details.call pre")[0]) == {"city": "上海"}
    page.run("document.querySelector('.results textarea').value = '{\"t\": 22}'")
    page.run("document.querySelector('.results button').click()")
    page.until(lambda: page.texts()[-1] == "22 °C")
    read = scripted.tokenizer.decode(scripted.backend.asked[1][0])
    assert 'environment name=<|plugin|>\n{"t": 22}<|im_end|>' in read


def test_failures_are_shown(page: Page, scripted: Any) -> None:
    page.fill("key", "wrong")
    page.ask("q")
    page.idle()
    assert page.see(".error") == ["the API key is missing or wrong"]
    page.fill("key", "sk-test")
    page.fill("tools", "[")
    page.ask("r")
    page.idle()
    assert page.see(".error") == ["The tools are not valid JSON"]
    page.fill("tools", "")
    scripted.say('<|action_start|><|plugin|>{"name": "rm"}<|action_end|><|im_end|>')
    page.ask("s")
    page.idle()
    assert page.see(".warning")[0].startswith("undeclared_call")


def test_languages_layout_and_addresses(page: Page, scripted: Any) -> None:
    labels = "return [...document.querySelectorAll('[data-words]')].map(e => e.textContent)"
    english = page.run(labels)
    assert "Regenerate" in english
    page.click("language")
    chinese = page.run(labels)
    assert "重新生成" in chinese
    assert all(chinese)
    assert not set(english) & set(chinese)
    assert page.run("return document.documentElement.lang") == "zh-CN"
    scripted.say("x" * 400 + "<|im_end|>")
    page.ask("w" * 300)
    page.idle()
    for width in (360, 1280):
        page.browser.set_window_size(width, 800)
        size = page.run(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert size[0] <= size[1]
    requested = []
    for entry in page.browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            requested.append(message["params"]["request"]["url"])
    assert all(url.startswith((scripted.url, "data:")) for url in requested)
    assert [e for e in page.browser.get_log("browser") if e["level"] == "SEVERE"] == []
