"""Deduplication against brute force, and the faults that other tools are known for."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from internlm_core.data.near_duplicates import dedup, s_curve, signatures
from internlm_core.errors import ConfigError, DataError

WORDS = [f"word{i}" for i in range(2_000)]


def kept(texts: list[str] | pl.DataFrame, **settings: Any) -> list[int]:
    data = texts if isinstance(texts, pl.DataFrame) else pl.Series(texts, dtype=pl.String)
    return dedup(data, **settings)["keep"].arg_true().to_list()


def shingle_set(text: str, n: int = 5) -> set[tuple[str, ...]]:
    """Slow twin of the shingler, for words written apart and Chinese."""
    units, word = [], ""
    for c in text.lower():
        if "\u4e00" <= c <= "\u9fff":
            units += [word, c] if word else [c]
            word = ""
        elif c.isalnum():
            word += c
        elif word:
            units.append(word)
            word = ""
    units += [word] if word else []
    if not units:
        return set()
    if len(units) < n:
        return {tuple(units)}
    return {tuple(units[i : i + n]) for i in range(len(units) - n + 1)}


def jaccard(one: set[Any], two: set[Any]) -> float:
    return len(one & two) / len(one | two) if one | two else 0.0


def edited(text: str, share: float, rng: random.Random) -> str:
    parts = list(text) if "\u4e00" <= text[:1] <= "\u9fff" else text.split(" ")
    for _ in range(int(len(parts) * share)):
        parts[rng.randrange(len(parts))] = rng.choice(WORDS)
    return ("" if parts and len(parts[0]) == 1 and parts[0] > "\u4e00" else " ").join(parts)


@pytest.fixture(scope="module")
def documents(test_data: Path) -> list[str]:
    """Real English, Chinese and code, with copies changed by 0.2 to 6 %."""
    rng = random.Random(7)
    texts = []
    for path in sorted((test_data / "text/en/shakespeare_md").rglob("*.md"))[:12]:
        words = path.read_text().split()
        texts += [" ".join(words[i : i + 180]) for i in range(0, 5_400, 180)]
    novel = (test_data / "text/zh/sanguoyanyi.txt").read_text()
    texts += [novel[i : i + 300] for i in range(0, 45_000, 300)]
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:150]:
        try:
            texts.append(path.read_text("utf-8")[:3_000])
        except UnicodeDecodeError:
            continue
    texts = [text for text in texts if len(text) > 50]
    copies = [edited(text, rng.uniform(0.002, 0.06), rng) for text in rng.sample(texts, 500)]
    texts += copies
    rng.shuffle(texts)
    return texts


def test_brute_force_on_real_documents(documents: list[str]) -> None:
    sets = [shingle_set(text) for text in documents]
    similar = {
        (i, j): s
        for i in range(len(sets))
        for j in range(i)
        if sets[i] and len(sets[i]) * 0.6 <= len(sets[j]) <= len(sets[i]) / 0.6
        if (s := jaccard(sets[i], sets[j])) >= 0.7
    }
    assert len(similar) > 200
    frame = dedup(pl.Series(documents))
    keep, target = frame["keep"].to_list(), frame["duplicate_of"].to_list()
    for row, (stays, other) in enumerate(zip(keep, target, strict=True)):
        if not stays:
            # The promise: similar, truly, to a document that stays.
            assert keep[other]
            assert jaccard(sets[row], sets[other]) >= 0.7
            assert frame["jaccard"][row] == pytest.approx(jaccard(sets[row], sets[other]))
    missed = [pair for pair in similar if keep[pair[0]] and keep[pair[1]]]
    assert len(missed) <= 0.01 * len(similar)


@pytest.mark.slow
def test_recall_and_precision_on_thousands_of_real_documents(test_data: Path) -> None:
    """English, Chinese and code, a fifth of it copies with known edits; pairs by shared shingles."""
    rng = random.Random(8)
    texts: list[str] = []
    for path in sorted((test_data / "text/en/shakespeare_md").rglob("*.md")):
        words = path.read_text().split()
        texts += [" ".join(words[i : i + 150]) for i in range(0, len(words), 150)]
    texts = rng.sample(texts, min(2_500, len(texts)))
    novel = (test_data / "text/zh/sanguoyanyi.txt").read_text()
    texts += [novel[i : i + 250] for i in range(0, 375_000, 250)]
    code = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        source = path.read_text("utf-8", errors="replace")
        code += [source[i : i + 2_000] for i in range(0, len(source), 2_000)]
    texts += rng.sample(code, min(1_500, len(code)))
    texts += [edited(text, rng.uniform(0.002, 0.07), rng) for text in rng.sample(texts, 1_000)]
    rng.shuffle(texts)
    assert len(texts) >= 5_000
    sets = [shingle_set(text) for text in texts]
    having: dict[Any, list[int]] = {}
    similar: dict[int, dict[int, float]] = {row: {} for row in range(len(sets))}
    for row, shingles in enumerate(sets):
        for other in {other for shingle in shingles for other in having.get(shingle, ())}:
            if (value := jaccard(shingles, sets[other])) >= 0.7:
                similar[row][other] = similar[other][row] = value
        for shingle in shingles:
            having.setdefault(shingle, []).append(row)
    keep = dedup(pl.Series(texts))["keep"].to_list()
    removed = [row for row, stays in enumerate(keep) if not stays]
    assert len(removed) > 500
    assert all(any(keep[other] for other in similar[row]) for row in removed), "precision 1.0"
    pairs = [(row, other) for row, others in similar.items() for other in others if other < row]
    assert sum(keep[one] and keep[two] for one, two in pairs) <= 0.01 * len(pairs)
    # Control: a stricter split into bands loses pairs, and that is seen.
    few = dedup(pl.Series(texts), bands=8, rows=16)["keep"].to_list()
    assert sum(few[one] and few[two] for one, two in pairs) > 0.05 * len(pairs)


def test_components_break_the_promise_and_greedy_does_not() -> None:
    chain = [" ".join(f"w{w:03}" for w in range(5 * i, 5 * i + 100)) for i in range(20)]
    assert kept(chain, threshold=0.8) == [0, 3, 6, 9, 12, 15, 18]
    assert kept(chain, threshold=0.8, clusters="components") == [0]
    assert jaccard(shingle_set(chain[0]), shingle_set(chain[19])) < 0.01


def test_order_and_threads_leave_no_trace(documents: list[str]) -> None:
    frame = pl.DataFrame({"id": [f"{i:05}" for i in range(len(documents))], "text": documents})
    want = dedup(frame, threads=1).sort("id")
    assert not want["keep"].all()
    for seed in (1, 2):
        shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
        assert dedup(shuffled, threads=seed).sort("id").equals(want)


def test_keep_order() -> None:
    text = " ".join(WORDS[:60])
    base = {"text": [text, text + " end", text], "id": ["a", "b", "c"]}
    assert kept(pl.DataFrame(base)) == [1]
    assert kept(pl.DataFrame({**base, "snapshot": ["2023", "2022", "2024"]})) == [2]
    assert kept(pl.DataFrame({**base, "score": [0.9, 0.1, None]})) == [0]
    assert kept(pl.DataFrame({**base, "id": ["b", "z", "a"], "text": [text] * 3})) == [2]
    snapshots = pl.DataFrame(
        {**base, "snapshot": ["2024", "2022", "2023"], "score": [0.0, 1.0, 1.0]}
    )
    assert kept(snapshots) == [0]


def test_short_empty_and_symbol_texts() -> None:
    assert kept(["red kite", "blue heron", "red kite", "三只鸟"]) == [0, 1, 3]
    assert kept(["", "   ", "\n", "a real sentence about tides", "!!!", "..."]) == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]
    assert kept(["今天下雨", "明天晴天", "Сегодня дождь", "สวัสดี", "今天下雨"]) == [0, 1, 2, 3]
    assert kept([]) == []
    assert kept(["a\x00b c d e f", "a\x00b c d e f"]) == [0]


def test_arabic_sentences_are_not_alike() -> None:
    rng = random.Random(1)
    letters = "ابتثجحخدذرزسشصضطظعغفقكلمنهوي"
    texts = [" ".join("".join(rng.choices(letters, k=5)) for _ in range(12)) for _ in range(5)]
    assert kept([*texts, texts[2]], threshold=0.95) == [0, 1, 2, 3, 4]


def test_composed_and_decomposed_are_the_same() -> None:
    texts = ["Zoë drank tea at noon", "Zoe\u0308 drank tea at noon", "Zoë  drank tea at noon"]
    assert len(kept(texts)) == 1


def test_no_pair_below_the_threshold_is_reported() -> None:
    a, b = " ".join(WORDS[:100]), " ".join(WORDS[25:125])
    assert jaccard(shingle_set(a), shingle_set(b)) == pytest.approx(0.587, abs=0.01)
    loose = {"permutations": 128, "bands": 64, "rows": 2}
    assert kept([a, b], threshold=0.8, **loose) == [0, 1]
    assert len(kept([a, b], threshold=0.58, **loose)) == 1
    assert len(kept([a, b], threshold=0.8, verify="signature", **loose)) == 2


def test_recall_of_near_copies() -> None:
    rng = random.Random(4)
    texts = []
    for number in range(100):
        words = [f"n{number}x{rng.randrange(10**9)}" for _ in range(200)]
        other = list(words)
        for _ in range(3):
            other[rng.randrange(200)] = f"z{rng.randrange(10**9)}"
        texts += [" ".join(words), " ".join(other)]
    assert len(kept(texts)) <= 101


def test_many_pairs_make_exactly_as_many_clusters() -> None:
    texts = [
        f"text number {i} about topic {i * 7} and place {i * 13} with a tail {i}"
        for i in range(20_000)
    ]
    frame = dedup(pl.Series(texts + texts))
    assert frame["keep"].sum() == 20_000
    assert frame["cluster"].n_unique() == 20_000


def test_a_hot_bucket_costs_no_comparisons() -> None:
    from internlm_core import _core
    from internlm_core.data.near_duplicates import DedupConfig

    unique = [" ".join(WORDS[i : i + 20]) for i in range(0, 1_000, 20)]
    texts = pl.Series(["we use cookies to make this page better for all"] * 50_000 + unique)
    rank = np.arange(len(texts), dtype=np.uint32)
    keep, *_, effort = _core.find_duplicates(texts, None, rank, DedupConfig().options(), 0)
    comparisons = effort[2]
    assert keep.sum() == 51
    assert comparisons < 1_000


def test_code_ignores_layout() -> None:
    one = "def add(first, second):\n    total = first + second\n    return total\n"
    two = one.replace("    ", "\t").replace("first + second", "first+second")
    assert len(kept([one, two], unit="code")) == 1
    other = one.replace("first + second", "second * first - second")
    assert len(kept([one, other], unit="code")) == 2


def test_case_by_setting() -> None:
    texts = ["The Red Kite Flew Over Us", "the red kite flew over us"]
    assert len(kept(texts)) == 1
    assert len(kept(texts, fold=False)) == 2


def test_signatures_never_change() -> None:
    got = signatures(pl.Series(["the quick brown fox jumps over the lazy dog 快速的棕色狐狸"]))
    assert got.shape == (1, 128)
    assert got.dtype == np.uint32
    assert got[0, :4].tolist() == [49_372_785, 111_820_360, 35_192_716, 37_378_118]
    assert (signatures(pl.Series([""]))[0] == 2**32 - 1).all()
    assert signatures(pl.Series([], dtype=pl.String)).shape == (0, 128)


def test_candidates_follow_the_curve() -> None:
    """Share of pairs that share a band, at similarities made to measure, against the formula."""
    rng = random.Random(11)
    for shared in (40, 60, 75):
        pairs = 400
        texts = []
        for number in range(pairs):
            # 100 shingles of one word in the union, `shared` of them in both.
            words = [f"p{number}w{i}x{rng.randrange(10**6)}" for i in range(100)]
            apart = (100 - shared) // 2
            texts += [
                " ".join(words[: shared + apart]),
                " ".join(words[:shared] + words[shared + apart :]),
            ]
        found = signatures(pl.Series(texts), ngram=1)[:, :125].reshape(-1, 2, 25, 5)
        hits = (found[:, 0] == found[:, 1]).all(axis=2).any(axis=1).mean()
        want = s_curve()["probability"][shared]
        assert hits == pytest.approx(want, abs=4 * (want * (1 - want) / pairs) ** 0.5 + 0.005)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bands": 26}, "26 × 5 needs 130 permutations"),
        ({"threshold": 0}, "threshold = 0"),
        ({"ngram": 0}, "ngram = 0"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dedup(pl.Series(["a"]), **settings)


def test_many_bands_and_missing_text() -> None:
    texts = [" ".join(WORDS[i : i + 9]) for i in range(0, 90, 9)]
    assert kept(texts, permutations=512, bands=512, rows=1) == list(range(10))
    with pytest.raises(DataError, match="no column 'text'"):
        dedup(pl.DataFrame({"body": ["x"]}))


def test_repeated_ids_cost_no_row() -> None:
    frame = pl.DataFrame(
        {"id": ["a", "a"], "text": ["one two three four five", "six seven eight nine ten"]}
    )
    with pytest.warns(UserWarning, match="1 rows repeat the id"):
        assert kept(frame) == [0, 1]


# Faults that other tools are known for, by their numbers in our list of cases.


def test_hundreds_of_thousands_of_pairs_are_all_found() -> None:
    """Case 12: keys of 32 bits would collide about ten times here."""
    text = pl.format("tale {} of {} and {} with the end {}", *[pl.col("n") + k for k in range(4)])
    texts = pl.DataFrame({"n": range(300_000)}).select(text=text)["text"]
    frame = dedup(pl.concat([texts, texts]))
    assert frame["keep"].sum() == 300_000
    assert (frame["cluster"].value_counts()["count"] == 2).all()


def test_hash_and_keeps_do_not_depend_on_the_process() -> None:
    """Cases 8 to 10: bytes of signatures, and who stays, under other hash seeds and a round trip."""
    script = (
        "import polars as pl, pickle, hashlib\n"
        "from internlm_core.data.near_duplicates import dedup, signatures\n"
        "texts = pl.Series(['same text', 'other words here', 'same text', 'Same  text!'])\n"
        "slots = pickle.loads(pickle.dumps(signatures(texts)))\n"
        "assert slots.dtype == 'uint32' and (slots == signatures(texts)).all()\n"
        "print(hashlib.sha256(slots.astype('<u4').tobytes()).hexdigest(), dedup(texts).rows())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().startswith("e476a139f013d110d66e119de822d0cc")


def test_the_same_member_stays_on_any_number_of_threads() -> None:
    """Case 22: 1,000 texts, 200 of them with three copies each."""
    rng = random.Random(22)
    texts = [" ".join(rng.choices(WORDS, k=30)) for _ in range(1_000)]
    texts += [text + " edited" for text in texts[:200] for _ in range(3)]
    want = dedup(pl.Series(texts), threads=1)
    assert want["keep"].sum() == 1_000
    for threads in (4, 16):
        assert dedup(pl.Series(texts), threads=threads).equals(want)


def test_one_very_long_text_takes_little_memory() -> None:
    """Case 27: 5,000,000 different words, 256 hashes; nothing of shingles times functions."""
    script = """
        import re
        from pathlib import Path
        import polars as pl
        from internlm_core.data.near_duplicates import signatures
        def peak():  # not `ru_maxrss`, which a child inherits
            return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
        text = " ".join(f"w{i:x}" for i in range(5_000_000))
        series = pl.Series([text])
        before = peak()
        slots = signatures(series, permutations=256)
        more = peak() - before
        assert more < 100 * 1024, more
        # The same as from its parts: the slot of a union is the smaller one.
        words = text.split(" ")
        parts = [" ".join(words[i : i + 100_004]) for i in range(0, 5_000_000, 100_000)]
        assert (signatures(pl.Series(parts), permutations=256).min(axis=0) == slots[0]).all()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_a_crowd_of_one_notice_keeps_one() -> None:
    """Case 28: 300,000 copies and 1,000 other texts; the work is that of 30,000."""
    from internlm_core import _core
    from internlm_core.data.near_duplicates import DedupConfig

    rng = random.Random(28)
    others = [" ".join(rng.choices(WORDS, k=20)) for _ in range(1_000)]

    def run(copies: int) -> tuple[int, int]:
        texts = pl.Series(["this site uses cookies to remember you and others"] * copies + others)
        rank = np.arange(len(texts), dtype=np.uint32)
        keep, *_, effort = _core.find_duplicates(texts, None, rank, DedupConfig().options(), 0)
        return int(keep.sum()), effort[2]

    assert run(300_000) == run(30_000) == (1_001, 0)


@pytest.mark.parametrize("kind", ["dictionary", "large", "view", "sliced", "chunked"])
def test_strings_of_any_arrow_type(kind: str) -> None:
    """Cases 36 and 37: dictionary, 64-bit offsets, views, slices with an offset, many chunks."""
    pa = pytest.importorskip("pyarrow")
    texts = ["x y z", "p q r", "x y z", "s t u v w x"]
    plain = pa.array(texts)
    columns = {
        "dictionary": plain.dictionary_encode(),
        "large": plain.cast(pa.large_string()),
        "view": plain.cast(pa.string_view()),
        "sliced": pa.array(["before", *texts, "after"]).slice(1, 4),
        "chunked": pa.chunked_array([texts[:1], [], texts[1:3], texts[3:]]),
    }
    want = kept(texts)
    assert dedup(columns[kind])["keep"].arg_true().to_list() == want == [0, 1, 3]
    table = pa.table({"id": ["a", "b", "c", "d"], "text": columns[kind]})
    assert dedup(table)["id"].filter(dedup(table)["keep"]).to_list() == ["a", "b", "d"]
    assert dedup(columns[kind], max_memory="1MB").equals(dedup(columns[kind]))


@pytest.mark.parametrize("kind", ["pandas", "pandas categories", "pyarrow", "duckdb", "polars"])
def test_tables_of_other_libraries_with_nulls(kind: str) -> None:
    """Through the Arrow PyCapsule interface; a missing text is like nothing, also like no other."""
    rows: dict[str, list[Any]] = {
        "id": ["a", "b", "c", "d", "e"],
        "text": ["x y z", None, "X, y z!", None, "s t u v w x"],
        "snapshot": ["2022", "2022", None, None, "2023"],
    }
    frame = pl.DataFrame(rows)
    table: Any
    match kind:
        case "polars":
            table = frame.lazy()
        case "pyarrow":
            table = pytest.importorskip("pyarrow").table(rows)
        case "duckdb":
            pytest.importorskip("pyarrow")
            table = pytest.importorskip("duckdb").sql("select * from frame")
        case _:
            pandas = pytest.importorskip("pandas")
            table = pandas.DataFrame(rows)
            if kind == "pandas categories":
                table["text"] = pandas.Categorical(table["text"])
    found = dedup(table)
    assert found.equals(dedup(frame))
    assert found.select("id", "keep", "duplicate_of").rows() == [
        ("a", True, None),
        ("b", True, None),
        ("c", False, "a"),
        ("d", True, None),
        ("e", True, None),
    ]


def test_unused_slots_are_pointed_out() -> None:
    with pytest.warns(UserWarning, match=r"20 × 5 leaves 28 of 128 slots unused; bands=25"):
        dedup(pl.Series(["a text"]), bands=20)


def test_unlike_texts_score_nothing() -> None:
    """A weak family makes disjoint texts score above a half."""
    rng = random.Random(3)
    texts = [" ".join(f"d{i}w{rng.randrange(10**9)}" for _ in range(60)) for i in range(400)]
    slots = signatures(pl.Series(texts))
    equal = [(slots[i] == slots[i + 200]).mean() for i in range(200)]
    assert np.mean(equal) < 0.001


def test_one_row_or_none_is_a_valid_input() -> None:
    for texts in ([], [""], ["a b c"]):
        assert dedup(pl.Series(texts, dtype=pl.String), threads=16)["keep"].all()
        on_disk = dedup(pl.Series(texts, dtype=pl.String), max_memory="1MB")
        assert on_disk["keep"].to_list() == [True] * len(texts)


def test_a_forked_process_has_threads_of_its_own() -> None:
    """Calls share their threads, which a fork does not take along."""
    script = """
        import os, signal
        import polars as pl
        from internlm_core import _core
        from internlm_core.data import DedupConfig
        texts, options = pl.Series(["a text"] * 1_000), DedupConfig().options()
        _core.minhash_band_keys(texts, None, options, 2)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            _core.minhash_band_keys(texts, None, options, 2)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
