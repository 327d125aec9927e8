"""Instructions a byte of the statistics and of encoding, counted by Callgrind: equal on any load, to the digit.

`python -m benches.instructions` compares with the stored figures, `--write` stores new ones. What is
counted is the difference between many rounds over a generated text and few, so start-up falls out.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from internlm_core._files import read_json, write_json
from internlm_core.tokenizer import train

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FIGURES", "TOLERANCE", "build", "measure", "texts"]

ROOT = Path(__file__).resolve().parent.parent
FIGURES = Path(__file__).resolve().parent / "results" / "instructions.json"
# Compilers differ; what a change of algorithm costs shows well above this.
TOLERANCE = 0.15
_DOCUMENT = 2_000


def texts() -> dict[str, str]:
    """English-like, Chinese-like and code-like text, always the same; documents parted by U+001E."""
    rng = random.Random(9)
    syllables = [
        "ka",
        "lo",
        "mi",
        "ter",
        "sen",
        "pro",
        "al",
        "den",
        "tor",
        "est",
        "con",
        "ria",
        "ver",
        "lum",
        "and",
        "the",
        "of",
    ]
    words = ["".join(rng.choices(syllables, k=rng.choice([1, 1, 2, 2, 3]))) for _ in range(4_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    characters = [chr(0x4E00 + rng.randrange(0x2000)) for _ in range(2_500)]
    ranks = [1 / (rank + 20) for rank in range(len(characters))]

    def english() -> str:
        lines = []
        for _ in range(8):
            some = rng.choices(words, weights, k=rng.randint(12, 60))
            some[-1] += "."
            lines.append(" ".join(some).capitalize())
        return "\n".join(lines)

    def chinese() -> str:
        clauses = ["".join(rng.choices(characters, ranks, k=rng.randint(5, 14))) for _ in range(60)]
        return "，".join(clauses[:30]) + "。\n" + "。".join(clauses[30:]) + "。"

    def code() -> str:
        names = rng.choices(words, weights, k=90)
        lines = [
            f"    {a} = self.{b}({c}, {rng.randrange(99)})"
            for a, b, c in zip(names[::3], names[1::3], names[2::3], strict=True)
        ]
        return f"def {names[0]}(self):\n" + "\n".join(lines)

    made = {"english": english, "chinese": chinese, "code": code}
    return {
        name: "\x1e".join(make() for _ in range(_DOCUMENT // 20)) for name, make in made.items()
    }


def build() -> dict[str, Path]:
    """The example programs that measure files, by crate, built for release."""
    programs = {"internlm-text": "throughput", "internlm-bpe": "encode"}
    for crate, example in programs.items():
        command = ["cargo", "build", "--release", "--locked", "-q", "-p", crate]
        subprocess.run([*command, "--example", example], cwd=ROOT, check=True)
    folder = ROOT / "target" / "release" / "examples"
    return {crate: folder / example for crate, example in programs.items()}


def measure(programs: dict[str, Path]) -> dict[str, float]:
    """Instructions a byte for each text.

    Raises:
        FileNotFoundError: valgrind is not installed.
    """
    if shutil.which("valgrind") is None:
        raise FileNotFoundError("valgrind is not installed: apt-get install valgrind")
    figures = {}
    made = texts()
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "tokenizer.json"
        train(list(made.values()), vocab_size=4_000, quiet=True).save(vocabulary)
        for name, text in made.items():
            size = len(text.encode())
            path = Path(folder) / f"{name}.txt"
            path.write_text(text, "utf-8")
            few, many = (
                _count([programs["internlm-text"], "--rounds", rounds, path]) for rounds in (1, 4)
            )
            figures[name] = round((many - few) / 3 / size, 2)
            # A length and that many bytes for each text. A round starts with an empty cache.
            path.write_bytes(
                b"".join(
                    len(part).to_bytes(4, "little") + part for part in text.encode().split(b"\x1e")
                )
            )
            nothing = Path(folder) / "nothing"
            nothing.write_bytes(b"")
            few, many = (
                _count([programs["internlm-bpe"], vocabulary, path, nothing, rounds])
                for rounds in (1, 4)
            )
            figures[f"encode {name}"] = round((many - few) / 3 / size, 2)
    return figures


def _count(command: Sequence[object]) -> int:
    done = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(str(word) for word in command),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise RuntimeError(f"no count in Callgrind's words: {done.stderr[-500:]}")
    return int(found[1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.instructions", description=__doc__)
    parser.add_argument("--write", action="store_true", help="store the figures")
    options = parser.parse_args()
    figures = measure(build())
    known = read_json(FIGURES) if FIGURES.is_file() else {}
    for name, figure in figures.items():
        print(f"{name}: {figure} instructions a byte, stored {known.get(name, 'nothing')}")
    if options.write:
        write_json(FIGURES, figures)
        return 0
    over = [name for name, figure in figures.items() if figure > known[name] * (1 + TOLERANCE)]
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
