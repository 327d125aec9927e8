"""A small corpus of every kind of file, with duplicates, noise and broken lines."""

from __future__ import annotations

import gzip
import json
import os
import random
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

_SYLLABLES = [
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "la",
    "me",
    "ni",
    "po",
    "ru",
    "sa",
    "te",
    "vi",
    "zo",
    "an",
    "er",
    "in",
    "os",
]


def _vocabulary(rng):
    return ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) for _ in range(3000)]


def make_text(rng, words, sentences=12):
    """Sentences that the rules take for prose."""
    made = []
    for _ in range(sentences):
        some = rng.choices(words, k=rng.randint(8, 14))
        some[2], some[5] = "the", "of"
        made.append(" ".join(some).capitalize() + ".")
    return "\n".join(made)


def write_corpus(folder: Path) -> dict[str, int]:
    """Write the corpus; returns how many records and bad lines it holds."""
    rng = random.Random(11)
    words = _vocabulary(rng)
    texts = [make_text(rng, words) for _ in range(60)]
    rows = [{"text": text, "url": f"http://a.example/{i}", "n": i} for i, text in enumerate(texts)]
    # Edited copies under an older name, exact copies, and pages that rules drop.
    copies = [
        {"text": text.replace("the", "a", 1), "snapshot": "2023", "url": "copy"}
        for text in texts[:8]
    ]
    noise = [{"text": "- item\n" * 50}, {"text": "too short"}, {"text": "# $ % & " * 200}]
    lines = [json.dumps(row).encode() for row in [*rows[:30], *copies, *noise]]
    lines[5:5] = [b'{"text": "cut', b"[1]", b'{"text": "\xff"}', b'{"text": null}']
    (folder / "notes").mkdir(parents=True)
    (folder / "crawl.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    more = b"".join(json.dumps(row).encode() + b"\n" for row in rows[30:40])
    (folder / "more.jsonl.gz").write_bytes(gzip.compress(more, mtime=0))
    last = b"".join(json.dumps(row).encode() + b"\n" for row in [*rows[40:50], rows[3]])
    (folder / "last.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(last))
    pl.DataFrame(rows[50:55]).write_parquet(folder / "table.parquet")
    for number, text in enumerate(texts[55:]):
        (folder / "notes" / f"{number}.md").write_text(f"# Note\n\n{text}\r\n", "utf-8", newline="")
    (folder / "notes" / "empty.txt").write_text("  \n")
    return {"records": 60 + len(copies) + len(noise) + 1 + 1, "bad_lines": 4}


CONFIG = """
shard_bytes = 8000
batch_bytes = 4096

[[sources]]
path = "crawl.jsonl"
source = "webpages"
snapshot = "2024"
lang = "en"

[[sources]]
path = "*.jsonl.*"
source = "books"
lang = "en"

[[sources]]
path = "table.parquet"
lang = "en"

[[sources]]
path = "notes"
lang = "en"
"""


@pytest.fixture
def corpus(tmp_path):
    """A corpus folder with `run.toml` beside its files, and what it holds."""
    folder = tmp_path / "corpus"
    counts = write_corpus(folder)
    (folder / "run.toml").write_text(CONFIG)
    return folder, counts


def _tree(folder):
    """Contents of every file of a run folder that must be the same from run to run."""
    folder = Path(folder)
    skipped = {"timing.json", ".lock"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in skipped
    }


@pytest.fixture
def tree():
    """Function: contents of a run folder that must be equal from run to run, by path."""
    return _tree


@pytest.fixture(scope="session")
def real_documents(test_data: Path) -> list[str]:
    """More than ten thousand real ones: encyclopaedia, plays, a Chinese novel, code."""
    with gzip.open(test_data / "text/en/wiki_summaries_en.json.gz") as file:
        articles = json.load(file)
    articles = list(articles.values()) if isinstance(articles, dict) else articles
    texts = [a if isinstance(a, str) else a["extract"] for a in articles]
    texts += ["\n\n".join(texts[at : at + 5]) for at in range(0, len(texts), 5)]
    for play in sorted((test_data / "text/en/shakespeare_md").rglob("*.md")):
        text = play.read_text()
        texts += [text[at : at + 3000] for at in range(0, len(text), 3000)]
    novel = (test_data / "text/zh/sanguoyanyi.txt").read_text()
    texts += [novel[at : at + 1500] for at in range(0, len(novel), 1500)]
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    texts += [p.read_text(errors="replace")[:20_000] for p in sorted(stdlib.glob("*/*.py"))[:400]]
    return [text for text in texts if text.strip()]


@pytest.fixture
def mixed_corpus() -> pl.DataFrame:
    """Texts in English, Chinese and code, many of them copies, exact or edited, some short or empty."""
    rng = random.Random(5)
    words = [f"word{i}" for i in range(3_000)]
    han = [chr(0x4E00 + i) for i in range(2_000)]
    texts: list[str | None] = ["", None, " ... ", "red kite", "blue heron", "red kite", "三只鸟"]
    sources = ["webpages"] * len(texts)
    while len(texts) < 1_200:
        kind = rng.randrange(4)
        if kind == 0:
            place = rng.randrange(len(texts))
            some = (texts[place] or "").split(" ")
            for _ in range(rng.randrange(4)):
                some[rng.randrange(len(some))] = rng.choice(words)
            texts.append(" ".join(some))
            sources.append(sources[place])
        elif kind == 1:
            texts.append("".join(rng.choices(han, k=rng.randrange(90))))
            sources.append("webpages")
        elif kind == 2:
            name, body = rng.choice(words), rng.choices(words, k=9)
            lines = "".join(f"    {word} = {name}({i})\n" for i, word in enumerate(body))
            texts.append(f"def {name}():\n{lines}")
            sources.append("code")
        else:
            texts.append(" ".join(rng.choices(words, k=rng.randrange(3, 60))))
            sources.append("books")
    # A chain of near-copies, each like its neighbours alone.
    texts += [" ".join(f"link{n}" for n in range(5 * i, 5 * i + 60)) for i in range(30)]
    sources += ["books"] * 30
    count = len(texts)
    return pl.DataFrame(
        {
            "id": [f"{rng.randrange(16**8):08x}-{i}" for i in range(count)],
            "text": texts,
            "source": sources,
            "snapshot": [rng.choice(["2022", "2023", None]) for _ in range(count)],
            "score": [rng.choice([0.5, 0.25, None]) for _ in range(count)],
        }
    )


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """Ray with two workers."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    python = str(Path(__file__).resolve().parents[2] / "python")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        # Workers inherit it. A `runtime_env` would have Ray start processes apart from those it has.
        patch.setenv("PYTHONPATH", python, prepend=os.pathsep)
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=200_000_000,
            # Ray ends idle processes beyond one a CPU after a second, and the steps of a shuffle run in
            # processes of their own: with two CPUs each shuffle would wait ten seconds for new ones.
            _system_config={
                "num_workers_soft_limit": 8,
                "idle_worker_killing_time_threshold_ms": 600_000,
            },
        )
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        yield ray
        ray.shutdown()
