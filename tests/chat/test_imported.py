"""A checkpoint's own template beside ours, and the stored fingerprint of a rendering."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from internlm_core import chat
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from internlm_core.tokenizer import Tokenizer

OURS = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def folder_with(tmp_path: Path, template: object, **config: object) -> Path:
    config = {"chat_template": template, "bos_token": "<s>", **config}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_the_published_template(test_data: Path) -> None:
    template = chat.ImportedTemplate.from_folder(test_data / "tokenizers" / "internlm2")
    results = {result.case: result for result in chat.compare_template(template)}
    assert all(
        result.at is None and not result.error for result in results.values() if result.plain
    )
    assert results["two system turns"].at is None
    # It knows no names, tools or calls, and the comparison says so.
    for case in ("a named turn", "tools", "a call and its result"):
        assert results[case].at is not None
        assert results[case].verdict == "unknown"
    assert not any(result.fails for result in results.values())


def test_another_models_template_differs(test_data: Path) -> None:
    template = chat.ImportedTemplate.from_folder(test_data / "tokenizers" / "qwen3")
    results = chat.compare_template(template)
    assert any(result.at is not None for result in results if result.plain)


def test_where_it_differs(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, OURS.replace("<|im_end|>\n", "<|im_end|>"))
    results = chat.compare_template(chat.ImportedTemplate.from_folder(folder))
    first = results[0]
    assert first.theirs is not None
    assert first.at == first.ours.index(b"<|im_end|>\n") + len("<|im_end|>")
    assert first.ours[: first.at] == first.theirs[: first.at]


@pytest.mark.parametrize("form", ["file", "list", "object"])
def test_where_a_template_may_lie(tmp_path: Path, form: str) -> None:
    if form == "file":
        folder = folder_with(tmp_path, "wrong")
        (folder / "chat_template.jinja").write_text(OURS, "utf-8")
    elif form == "list":
        named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": OURS}]
        folder = folder_with(tmp_path, named)
    else:
        folder = folder_with(tmp_path, OURS, bos_token={"content": "<s>"})
    results = chat.compare_template(chat.ImportedTemplate.from_folder(folder))
    assert [result.at for result in results if result.plain] == [None] * 3


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ raise_exception('no system turns') }}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ 10 ** 10000000 }}",
        "{% for a in range(10 ** 9) %}{% endfor %}",
        "{{ nothing.at.all }}",
    ],
)
def test_a_template_is_run_in_a_sandbox(tmp_path: Path, attack: str) -> None:
    template = chat.ImportedTemplate.from_folder(folder_with(tmp_path, attack))
    with pytest.raises(DataError, match="the chat template refuses"):
        template.render([{"role": "user", "content": "x"}])
    assert all(result.error for result in chat.compare_template(template))


def test_templates_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no chat template"):
        chat.ImportedTemplate.from_folder(tmp_path)
    with pytest.raises(DataError, match="not valid Jinja"):
        chat.ImportedTemplate.from_folder(folder_with(tmp_path, "{% for %}"))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(DataError, match="can't be read"):
        chat.ImportedTemplate.from_folder(tmp_path)


def test_a_stored_rendering_is_compared(tmp_path: Path, small_tokenizer: Tokenizer) -> None:
    assert chat.rendering_warning(tmp_path, small_tokenizer) is None
    mark = chat.fingerprint(small_tokenizer, dialect="lagent")
    (tmp_path / "chat.json").write_text(json.dumps({"dialect": "lagent", "fingerprint": mark}))
    assert chat.rendering_warning(tmp_path, small_tokenizer, "lagent") is None
    other = chat.rendering_warning(tmp_path, small_tokenizer, "internlm2")
    assert other is not None
    assert "'lagent', and is served with 'internlm2'" in other
    (tmp_path / "chat.json").write_text(json.dumps({"dialect": "lagent", "fingerprint": "0"}))
    changed = chat.rendering_warning(tmp_path, small_tokenizer, "lagent")
    assert changed is not None
    assert "another rendering of 'lagent'" in changed
    (tmp_path / "chat.json").write_text("[]")
    with pytest.raises(DataError, match="expected an object"):
        chat.stored_rendering(tmp_path)


KNOWS_TOOLS = (
    "{{ bos_token }}"
    "{% if tools %}<|im_start|>system name=<|plugin|>\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    + OURS.removeprefix("{{ bos_token }}")
)


def test_a_template_that_knows_tools_otherwise_contradicts(tmp_path: Path) -> None:
    template = chat.ImportedTemplate.from_folder(folder_with(tmp_path, KNOWS_TOOLS))
    verdicts = {result.case: result.verdict for result in chat.compare_template(template)}
    assert verdicts["a conversation"] == "equal"
    assert verdicts["tools"] == "differs"
    assert verdicts["a named turn"] == "unknown"


def test_a_dialect_is_compared(tmp_path: Path) -> None:
    source = KNOWS_TOOLS.replace("tools | tojson", "[tools[0].function] | tojson")
    template = chat.ImportedTemplate.from_folder(folder_with(tmp_path, source))
    for dialect, verdict in (("lmdeploy", "equal"), ("internlm2", "differs")):
        results = {result.case: result for result in chat.compare_template(template, dialect)}
        assert results["tools"].verdict == verdict


def test_a_template_of_its_own_for_tools(tmp_path: Path) -> None:
    named = [
        {"name": "default", "template": OURS},
        {"name": "tool_use", "template": KNOWS_TOOLS},
        "junk",
    ]
    template = chat.ImportedTemplate.from_folder(folder_with(tmp_path, named))
    messages = [{"role": "user", "content": "U"}]
    assert "name=<|plugin|>" not in template.render(messages)
    assert "name=<|plugin|>" in template.render(messages, [{"name": "f"}])


def test_marks_of_what_an_assistant_says_are_read(tmp_path: Path) -> None:
    source = OURS.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}")
    results = chat.compare_template(
        chat.ImportedTemplate.from_folder(folder_with(tmp_path, source))
    )
    assert [result.at for result in results if result.plain] == [None] * 3


def test_a_refusal_may_hold_anything(tmp_path: Path) -> None:
    source = "{{ raise_exception('\\x1b[2J' ~ 'x' * 5000) }}"
    template = chat.ImportedTemplate.from_folder(folder_with(tmp_path, source))
    with pytest.raises(DataError) as caught:
        template.render([])
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400
    half = chat.ImportedTemplate.from_folder(folder_with(tmp_path, "{{ '\\ud800' }}"))
    assert all(result.at == 0 for result in chat.compare_template(half))
