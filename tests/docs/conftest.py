"""Guides as tests: their blocks are read from Markdown and run in a folder that has what they name."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NO_RUN = "<!-- no-run -->"
_FILE = re.compile(r"<!-- file: ([\w.-]+) -->")
# What would take minutes, made smaller: page → text in its code → text that is run instead.
SMALLER = {
    "README.md": {'"demo"': '"tiny.toml"', "--config demo": "--config tiny.toml"},
    "training.md": {
        '"demo"': '"tiny.toml"',
        "--config demo": "--config tiny.toml",
        "2_000_000": "4_096",
        '"sft"': '"tiny-sft.toml"',
        "* 1000": "* 50",
    },
}

_TINY = """
total_tokens = 4_096
dtype = "fp32"
micro_batch_tokens = 512
threads = 1
[model]
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
intermediate_size = 64
[[phases]]
{phase}
sequence_length = 128
batch_tokens = 512
"""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    path: Path
    line: int
    """Of its first line of code, from 1."""
    language: str
    code: str
    runs: bool
    """False where the page says `no-run`."""
    file: str | None = None
    """Name under which the block lies in the folder, where the page says `file: NAME`."""

    @property
    def commands(self) -> list[list[str]]:
        """Our own commands in a shell block, split into words; other lines are for people."""
        joined = self.code.replace("\\\n", " ")
        lines = (line.strip().removeprefix("$ ") for line in joined.splitlines())
        own = (line for line in lines if line.startswith("internlm-core "))
        return [shlex.split(line, comments=True)[1:] for line in own]

    def compiled(self) -> Any:
        """Python code; errors name the page and its line."""
        return compile("\n" * (self.line - 1) + self.code, str(self.path), "exec")


def _read(path: Path) -> list[Block]:
    text = path.read_text("utf-8")
    blocks = []
    changes = SMALLER.get(path.name, {})
    unused = set(changes)
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        code = match[2]
        for old, new in changes.items():
            unused -= {old} if old in code else set()
            code = code.replace(old, new)
        line = text.count("\n", 0, match.start(2)) + 1
        named = _FILE.fullmatch(before)
        file = named[1] if named else None
        blocks.append(Block(path, line, match[1], code, before != _NO_RUN, file))
    if unused:
        raise ValueError(f"{path}: no code holds {', '.join(sorted(unused))}; mend SMALLER")
    return blocks


@pytest.fixture(scope="session")
def read_blocks() -> Callable[[Path], list[Block]]:
    """Fenced blocks of a Markdown file, in order, as they are to be run."""
    return _read


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small lose more to threads than they gain."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run_page() -> Callable[[Path], int]:
    """Run a page from top to bottom in the working folder; returns how many blocks ran."""

    def run(path: Path) -> int:
        from internlm_core.cli import main

        names: dict[str, Any] = {"__name__": "__main__"}
        count = 0
        for block in _read(path):
            if block.file:
                Path(block.file).write_text(block.code, "utf-8")
            elif block.language == "python":
                code = block.compiled()
                if block.runs:
                    exec(code, names)
                    count += 1
            elif block.language in ("sh", "console") and block.runs:
                for command in block.commands:
                    code = main(command)
                    assert code == 0, f"{path}:{block.line}: internlm-core {command}: exit {code}"
                    count += 1
        return count

    return run


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what the guides name: records, a vocabulary, shards, a model and a tuned one."""
    import internlm_core as ic
    import polars as pl
    from internlm_core.demo import found_text

    folder = tmp_path_factory.mktemp("workshop")
    found = (item.text for item in found_text.docstrings() if len(item.text) > 1_000)
    pages = list(itertools.islice(found, 120))
    frame = pl.DataFrame(
        {"id": [f"{n:032x}" for n in range(len(pages))], "text": pages}
    ).with_columns(pl.lit("webpages").alias("source"), pl.lit("en").alias("lang"))
    frame.write_parquet(folder / "crawl.parquet")
    (folder / "raw").mkdir()
    for number, text in enumerate(pages):
        (folder / "raw" / f"page-{number:03}.txt").write_text(text, "utf-8")
    (folder / "sample.txt").write_text(pages[0], "utf-8")
    (folder / "kept").mkdir()
    frame.write_parquet(folder / "kept" / "part-00000.parquet")
    tok = ic.tokenizer.train(frame["text"], vocab_size=16_384, quiet=True)
    tok.save(folder / "tokenizer.json")
    ic.tokenizer.pack([frame], tok, folder / "shards" / "webpages" / "shard-00000")
    tok.save(folder / "shards" / "tokenizer.json")
    ic.tokenizer.pack([frame[:20]], tok, folder / "held-out")
    (folder / "tiny.toml").write_text(_TINY.format(phase='share = 1.0\nname = "all"'))
    tuning = _TINY.replace("total_tokens = 4_096\n", "").format(phase="epochs = 1")
    (folder / "tiny-sft.toml").write_text(tuning)
    ic.train.run(
        folder / "tiny.toml",
        folder / "shards",
        folder / "run",
        tokenizer=folder / "tokenizer.json",
        quiet=True,
    )
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]
    ic.align.pack_conversations([turns] * 50, tok, folder / "sft-shard", quiet=True)
    ic.align.sft(
        folder / "tiny-sft.toml", folder / "run", folder / "sft-shard", folder / "sft", quiet=True
    )
    return folder


@pytest.fixture
def guide_folder(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """A copy of the workshop as working folder, without what the page itself makes."""

    def enter(*made_by_the_page: str) -> Path:
        folder = tmp_path / "workshop"
        shutil.copytree(workshop, folder)
        for name in made_by_the_page:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        monkeypatch.chdir(folder)
        return folder

    return enter
