"""The code of the guides runs, and their links lead somewhere."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WITH_CODE = [
    page for page in PAGES if re.search(r"^```(python|sh|console)$", page.read_text("utf-8"), re.M)
]
# What a page makes itself, so that its folder must not hold it yet.
MADE = {
    "tokenizer.md": ("shards",),
    "vocabulary.md": ("tokenizer.json",),
    "README.md": ("tokenizer.json", "shards", "run"),
    "training.md": ("tokenizer.json", "shards", "run", "sft-shard", "sft"),
}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_CODE, ids=_name)
def test_the_code_of_a_page_runs(
    page: Path,
    read_blocks: Callable[[Path], list[Any]],
    run_page: Callable[[Path], int],
    guide_folder: Callable[..., Path],
) -> None:
    blocks = read_blocks(page)
    expected = sum(
        1 if block.language == "python" else len(block.commands)
        for block in blocks
        if block.runs and block.language in ("python", "sh", "console")
    )
    guide_folder(*MADE.get(page.name, ()))
    assert run_page(page) == expected


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        assert found.is_relative_to(ROOT)
        if anchor:
            assert anchor in _anchors(found), f"{page.name}: {target}"


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    kept = (c for head in heads for c in (*head.lower(), "\n"))
    # As hosts make them: letters, digits, hyphens and underscores stay, blanks become hyphens.
    text = "".join(c for c in kept if unicodedata.category(c)[0] in "LN" or c in "-_ \n")
    return {line.replace(" ", "-") for line in text.splitlines()}


def test_every_guide_is_listed() -> None:
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        if page.name != "index.md":
            assert f"({page.name})" in index
    decisions = (ROOT / "docs" / "decisions" / "index.md").read_text("utf-8")
    for page in (ROOT / "docs" / "decisions").glob("0*.md"):
        assert f"({page.name})" in decisions


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set()
    for page in PAGES:
        text = page.read_text("utf-8")
        named |= set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
    assert {"demo", "test", "bench"} <= named
    assert named <= targets


def test_hooks_are_local_and_call_what_is_there() -> None:
    yaml = pytest.importorskip("yaml")
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in repos[0]["hooks"]:
        tool = hook["entry"].split()[0]
        assert tool == "cargo" or tool.removeprefix(".venv/bin/") in makefile


# --- controls -----------------------------------------------------------------------------------


def _page(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


def test_a_block_that_fails_names_its_line(tmp_path: Path, run_page: Callable[[Path], int]) -> None:
    page = _page(
        tmp_path, "# Title\n\n```python\nx = 1\n```\n\n```python\nassert x == 1\n1 / 0\n```\n"
    )
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(page)
    last = caught.traceback[-1]
    assert (str(last.path), last.lineno + 1) == (str(page), 9)


def test_a_block_that_is_not_run_must_compile(
    tmp_path: Path, run_page: Callable[[Path], int]
) -> None:
    assert run_page(_page(tmp_path, "<!-- no-run -->\n```python\nraise ValueError\n```\n")) == 0
    with pytest.raises(SyntaxError):
        run_page(_page(tmp_path, "<!-- no-run -->\n```python\nif:\n```\n"))


def test_a_command_that_fails_is_noticed(tmp_path: Path, run_page: Callable[[Path], int]) -> None:
    page = _page(
        tmp_path,
        "```sh\nmake demo\ninternlm-core train pretrain --config none \\\n  --shards x --out y\n```\n",
    )
    with pytest.raises(AssertionError, match="exit 2"):
        run_page(page)


def test_what_is_made_smaller_must_be_there(
    tmp_path: Path, read_blocks: Callable[[Path], list[Any]]
) -> None:
    page = tmp_path / "README.md"
    page.write_text(
        '```sh\ninternlm-core train pretrain --config demo\n```\n\n```python\nrun("demo")\n```\n'
    )
    shell, python = read_blocks(page)
    assert shell.commands == [["train", "pretrain", "--config", "tiny.toml"]]
    assert python.code == 'run("tiny.toml")\n'
    page.write_text('```python\nrun("demo")\n```\n')
    with pytest.raises(ValueError, match="no code holds --config demo"):
        read_blocks(page)
