"""What the rooms of the benches say about results is right, and can say "wrong"."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest


def test_texts_are_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from benches import corpus

    monkeypatch.setenv("INTERNLM_TEST_DATA", "")
    first, again = corpus.code(200_000), corpus.code(200_000)
    assert first.facts() == again.facts()
    assert 200_000 <= first.size < 200_000 + 80_000
    assert corpus.code(300_000).facts()["digest"] != first.facts()["digest"]
    seen, unseen = first.halves()
    assert len(seen.texts) + len(unseen.texts) == len(first.texts)
    assert not set(seen.texts) & set(unseen.texts)


def test_exact_pairs_are_those_of_the_definition() -> None:
    pytest.importorskip("scipy")
    from benches import dedup

    rng = random.Random(4)
    words = [f"w{n}" for n in range(30)]
    texts = [" ".join(rng.choices(words, k=rng.randrange(0, 40))) for _ in range(30)]
    texts += [dedup._edited(text, rng) for text in texts]
    texts += ["", "!!!", "one two", "One, two!"]
    sets = [set(dedup.shingles(text)) for text in texts]
    for threshold in (0.3, 0.7, 1.0):
        expected = [
            (a, b)
            for a, b in itertools.combinations(range(len(texts)), 2)
            if sets[a] & sets[b] and len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= threshold
        ]
        assert sorted(dedup.exact_pairs(texts, threshold)) == expected
        assert expected


def test_recall_and_precision() -> None:
    from benches.dedup import Flags, flag_quality, quality

    pairs = [(0, 1), (1, 2), (3, 4)]
    assert quality(pairs, [True, False, True, True, False, True]) == {
        "removed": 2,
        "recall": 1.0,
        "precision": 1.0,
    }
    # A chain: 1 and 2 removed for 0, but 2 is not like 0.
    chain = quality(pairs, [True, False, False, True, True, True])
    assert chain == {"removed": 2, "recall": 2 / 3, "precision": 1 / 2}
    # A document that is like no other.
    assert quality(pairs, [True] * 5 + [False]) == {"removed": 1, "recall": 0.0, "precision": 0.0}
    assert flag_quality(pairs, Flags([True, True, False, False, False, True])) == {
        "flagged": 3,
        "recall": 1 / 3,
        "precision": 2 / 3,
    }


def test_planted_copies_lie_on_both_sides_of_the_threshold() -> None:
    pytest.importorskip("scipy")
    from benches import corpus, dedup

    texts = dedup.with_copies(corpus.english(260_000), corpus.code(140_000)).texts
    close = set(dedup.exact_pairs(texts, 0.7))
    assert close
    assert set(dedup.exact_pairs(texts, 0.4)) - close


def test_other_decisions_are_counted() -> None:
    from benches.filter import _judge

    figures = _judge({"internlm-core": [True, False, True], "peer": [True, True, True]})
    assert figures["peer"] == {"kept": "3 of 3", "same_decisions": "2 of 3"}


def test_other_ids_are_counted() -> None:
    from benches.tokenizer import _same_ids

    ours = [np.array([1, 2], np.uint32), np.array([3, 4], np.uint32)]
    theirs = [np.array([1, 2], np.uint32), np.array([3, 5], np.uint32)]
    assert _same_ids({"internlm-core": ours, "peer": theirs})["peer"] == {"same_ids": "1 of 2"}


def test_both_sides_find_the_same_control_tokens(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from internlm_core.tokenizer import train

    from benches import encoders, tokenizer

    train(["the tide rises"] * 3, vocab_size=300, quiet=True).save(tmp_path / "tokenizer.json")
    arguments = (str(tmp_path / "tokenizer.json"), ["the"], ["<s>the<|im_start|> tide", "<s >"])
    results = {}
    for name, tool in (("internlm-core", "internlm-core"), ("peer", "tokenizers")):
        job = encoders.job(tool, *arguments)
        results[name] = job.result(job.run(job.prepare()))
    assert tokenizer._same_ids(results)["peer"] == {"same_ids": "2 of 2"}
    assert 1 in results["peer"][0]


def test_languages_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    from benches import language, manual_pages

    texts = [
        "The file is read line by line, and each of them is printed.",
        "Die Datei wird gelesen.",
    ]
    monkeypatch.setattr(manual_pages, "labelled", lambda *_, **__: (texts, ["en", "de"]))
    for task in language.tasks(quick=True):
        job = task.ours.factory(*task.ours.arguments)
        found = job.result(job.run(job.prepare()))
        judged = task.judge({"internlm-core": found, "peer": ["en", "fr"]})
        assert judged == {"internlm-core": {"accuracy": 1.0}, "peer": {"accuracy": 0.5}}
