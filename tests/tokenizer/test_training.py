"""Training: equal to the reference library, and a function of the counts alone."""

from __future__ import annotations

import random

import polars as pl
import pytest
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer import Tokenizer, train
from internlm_core.tokenizer.training import FIRST_SPECIAL, LAST_SPECIAL

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def reference_merges(texts: list[str], vocab_size: int) -> list[tuple[str, str]]:
    import json

    from tokenizers import Regex, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Reference

    reference = Reference(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CL100K), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    reference.train_from_iterator(texts, trainer)
    return [tuple(pair) for pair in json.loads(reference.to_str())["model"]["merges"]]


def our_merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [tuple(pair) for pair in json.loads(tokenizer._source[1])["model"]["merges"]]


def test_merges_equal_the_reference(corpus: list[str], root: object) -> None:
    pytest.importorskip("tokenizers")
    rng = random.Random(9)
    noise = ["".join(rng.choices("abcab \nxyz的国家是", k=200)) for _ in range(300)]
    for texts in (corpus, noise, ["aaaa aaa aa a" * 50, "abababab" * 40]):
        ours = train(texts, vocab_size=800, first_special=(), last_special=(), quiet=True)
        assert our_merges(ours) == reference_merges(texts, 800)


def test_order_and_threads_do_not_matter(corpus: list[str]) -> None:
    first = train(corpus, vocab_size=600, quiet=True)
    shuffled = list(corpus)
    random.Random(2).shuffle(shuffled)
    assert train(shuffled, vocab_size=600, threads=1, quiet=True).fingerprint == first.fingerprint
    assert train(pl.Series(shuffled), vocab_size=600, quiet=True).fingerprint == first.fingerprint
    halves = (pl.Series(part) for part in (corpus[::2], corpus[1::2]))
    assert train(halves, vocab_size=600, quiet=True).fingerprint == first.fingerprint
    assert train(corpus[:-30], vocab_size=600, quiet=True).fingerprint != first.fingerprint


def test_ties_are_broken_without_regard_to_order() -> None:
    one = train(["bbbaaaddddcccc"] * 2, vocab_size=275, quiet=True)
    two = train(["bbbaaa", "ddddcccc"] * 2, vocab_size=275, quiet=True)
    assert one.n_merges > 0
    assert our_merges(train(["bbbaaaddddcccc"] * 2, vocab_size=275, quiet=True)) == our_merges(one)
    assert two.vocab_size <= 275


def test_special_tokens_have_internlm2_places(small: Tokenizer) -> None:
    names = small.special_tokens
    assert [names[name] for name in FIRST_SPECIAL] == [0, 1, 2]
    last = small.vocab_size - len(LAST_SPECIAL)
    assert [names[name] for name in LAST_SPECIAL] == list(range(last, small.vocab_size))
    assert small.vocab_size == 700


def test_every_learned_token_is_reachable(small: Tokenizer) -> None:
    """Each token that is text is what its own text encodes to, or is built of parts that are."""
    special = set(small.special_tokens.values())
    whole = 0
    for token in set(range(small.vocab_size)) - special:
        text = small.id_to_bytes(token)
        try:
            whole += small.encode(text.decode()).tolist() == [token]
        except UnicodeDecodeError:
            continue
    assert whole > 400


def test_limits(corpus: list[str]) -> None:
    short = train(corpus, vocab_size=700, max_token_length=4, quiet=True)
    special = set(short.special_tokens.values())
    assert max(len(short.id_to_bytes(t)) for t in range(short.vocab_size) if t not in special) <= 4
    rare = train(["abc"], vocab_size=700, quiet=True)
    assert rare.n_merges == 0
    with pytest.raises(TokenizerError, match="vocab_size 100 is below 265"):
        train(corpus, vocab_size=100, quiet=True)
    with pytest.raises(TokenizerError, match="no text"):
        train(["", ""], vocab_size=700, quiet=True)


def test_interrupt_stops_training(corpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from internlm_core.tokenizer import training

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Task, "advance", stop)
    with pytest.raises(KeyboardInterrupt):
        train(iter(corpus), vocab_size=2_000, quiet=True)
