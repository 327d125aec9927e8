"""Generation equals the full forward pass, alone and in company; streams equal whole answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from internlm_core import model
from internlm_core.cli import main
from internlm_core.errors import InferError, ModelError
from internlm_core.infer import Engine
from internlm_core.infer.runner import Batch, Result
from internlm_core.model import InternLM2

if TYPE_CHECKING:
    from pathlib import Path

    from internlm_core.model import ModelConfig
    from internlm_core.tokenizer import Tokenizer

PROMPTS = ["the tide", "潮起潮落" * 9, "x", "def tide(x): return x + 1\n" * 3]


def test_greedy_is_the_argmax_of_the_full_forward(engine: Engine, random_model: InternLM2) -> None:
    for prompt in PROMPTS:
        [answer] = engine.generate(prompt, max_tokens=24)
        ids = engine.encode(prompt)
        assert answer.prompt_tokens == len(ids)
        for token, log_prob in zip(answer.ids, answer.log_probs, strict=True):
            with torch.no_grad():
                scores = random_model(torch.tensor([ids]))[0, -1].log_softmax(-1)
            assert token == int(scores.argmax())
            assert log_prob == pytest.approx(float(scores[token]), abs=1e-4)
            ids.append(token)
        assert len(set(answer.ids)) > 5  # it does not merely repeat itself


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 1.0, "top_p": 0.9, "top_k": 50, "seed": 3}]
)
def test_an_answer_is_the_same_alone_and_in_company(
    engine: Engine, settings: dict[str, Any]
) -> None:
    together = engine.generate([*PROMPTS, *PROMPTS], max_tokens=30, **settings)
    for prompt, answer in zip([*PROMPTS, *PROMPTS], together, strict=True):
        [alone] = engine.generate(prompt, max_tokens=30, **settings)
        assert alone.ids == answer.ids
        assert alone.text == answer.text
        np.testing.assert_array_equal(alone.log_probs, answer.log_probs)


def test_rows_that_end_early_leave_the_others_alone(engine: Engine) -> None:
    free = engine.generate(PROMPTS, max_tokens=30)
    # End the first two in their middle by an id that comes there.
    ends = [free[0].ids[4], free[1].ids[11]]
    stopped = engine.generate(PROMPTS, max_tokens=30, stop_ids=ends)
    for whole, cut in zip(free, stopped, strict=True):
        first = next((i for i, t in enumerate(whole.ids) if t in ends), None)
        assert cut.ids == whole.ids[: None if first is None else first + 1]
        assert cut.finish_reason == ("length" if first is None else "stop")


def test_more_requests_than_run_together(
    random_model: InternLM2, small_tokenizer: Tokenizer, engine: Engine
) -> None:
    narrow = Engine(random_model, small_tokenizer, max_batch=3)
    many = PROMPTS * 2
    wanted = [answer.ids for answer in engine.generate(many, max_tokens=8)]
    assert [answer.ids for answer in narrow.generate(many, max_tokens=8)] == wanted


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 1.0, "seed": 1}, {"temperature": 1.3, "seed": 2, "stop": ["t", "潮"]}],
)
def test_a_stream_joins_to_the_whole_answer(engine: Engine, settings: dict[str, Any]) -> None:
    for prompt in PROMPTS:
        [whole] = engine.generate(prompt, max_tokens=60, **settings)
        chunks = list(engine.stream(prompt, max_tokens=60, **settings))
        assert "".join(chunk.text for chunk in chunks) == whole.text
        assert all(chunk.text for chunk in chunks[:-1])  # no empty pieces
        assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1].finish_reason == whole.finish_reason


def test_seeds(engine: Engine) -> None:
    def texts(seed: Any) -> list[str]:
        return [a.text for a in engine.generate(["x"] * 4, max_tokens=20, temperature=1, seed=seed)]

    assert texts([1, 2, 3, 4]) == texts([1, 2, 3, 4])
    assert len(set(texts([1, 2, 3, 4]))) == 4
    assert len(set(texts(7))) == 1
    assert texts(None) != texts(None)


def test_stops_on_any_end_id_and_never_on_text(
    random_model: InternLM2, small_tokenizer: Tokenizer
) -> None:
    """Both eos ids of the configuration, and `<|im_end|>` by its id."""
    special = small_tokenizer.special_tokens
    config = random_model.config.model_copy(update={"eos_token_id": (300, 301)})
    engine = _scripted(config, [10, 11, 301], small_tokenizer)
    [answer] = engine.generate([[1, 2]], max_tokens=9)
    assert (answer.ids, answer.finish_reason) == ((10, 11, 301), "stop")
    end = special["<|im_end|>"]
    [answer] = _scripted(config, [10, end, 11], small_tokenizer).generate([[1]], max_tokens=9)
    assert answer.ids == (10, end)
    assert "im_end" not in answer.text
    # The same characters as ordinary text do not end anything.
    spelled = small_tokenizer.encode_ordinary("<|im_end|> more").tolist()
    [answer] = _scripted(config, [*spelled, 300], small_tokenizer).generate([[1]], max_tokens=99)
    assert answer.text == "<|im_end|> more"


class _Script:
    """A runner that says fixed ids, whatever is asked."""

    def __init__(self, size: int, script: list[int]) -> None:
        self._size, self._script = size, iter(script)

    def step(self, batch: Batch) -> Result:
        logits = np.zeros((len(batch.rows), self._size), np.float32)
        for row in logits:
            row[next(self._script)] = 9.0
        return Result(logits, np.zeros(len(batch.rows), np.float32), np.zeros(0, np.float32))


def _scripted(config: ModelConfig, script: list[int], tokenizer: Tokenizer) -> Engine:
    return Engine(config, tokenizer, runner=_Script(config.vocab_size, script))


def test_stop_text_is_held_back_and_left_out(
    random_model: InternLM2, small_tokenizer: Tokenizer
) -> None:
    """stop "DEFGHIJ" with pieces DEF, G, HI, J: nothing of it may be shown."""
    pieces = ["abc", "DEF", "G", "HI", "J", "tail"]
    script = [i for piece in pieces for i in small_tokenizer.encode_ordinary(piece).tolist()]
    config = random_model.config

    def said(stop: list[str], script: list[int] = script) -> tuple[list[str], str]:
        engine = _scripted(config, [*script, 2, 2], small_tokenizer)
        chunks = list(engine.stream([1], max_tokens=len(script), stop=stop))
        return [c.text for c in chunks], chunks[-1].finish_reason or ""

    texts, reason = said(["DEFGHIJ"])
    assert ("".join(texts), reason) == ("abc", "stop")
    # One letter off: what was held back comes out after all.
    texts, reason = said(["DEFGHIX"])
    assert ("".join(texts), reason) == ("abcDEFGHIJtail", "length")
    # Cut off by length while holding back: it is flushed.
    half = script[: len(script) - len(small_tokenizer.encode_ordinary("Jtail"))]
    texts, reason = said(["DEFGHIJ"], half)
    assert ("".join(texts), reason) == ("abcDEFGHI", "length")
    assert "".join(said(["GHI", "F"])[0]) == "abcDE"


def test_characters_of_several_tokens_come_whole(
    random_model: InternLM2, small_tokenizer: Tokenizer
) -> None:
    script = small_tokenizer.encode_ordinary("🙂a鯨🙂").tolist()
    assert len(script) > 10  # bytes, not characters
    engine = _scripted(random_model.config, [*script, 2], small_tokenizer)
    chunks = list(engine.stream([1], max_tokens=len(script)))
    assert [chunk.text for chunk in chunks] == ["🙂", "a", "鯨", "🙂"]
    # Cut in the middle of the last character: one U+FFFD, once, at the end.
    engine = _scripted(random_model.config, script, small_tokenizer)
    texts = [c.text for c in engine.stream([1], max_tokens=len(script) - 1)]
    assert texts[:3] == ["🙂", "a", "鯨"]
    assert "".join(texts[3:]).strip("\ufffd") == ""


def test_score_is_the_log_softmax(engine: Engine, random_model: InternLM2) -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 340, n) for n in (5, 1, 40, 0, 2, 17)]
    scores = engine.score(sequences)
    for ids, score in zip(sequences, scores, strict=True):
        assert score.shape == (max(0, len(ids) - 1),)
        if len(ids) < 2:
            continue
        with torch.no_grad():
            logits = random_model(torch.from_numpy(ids)[None])[0].log_softmax(-1)
        wanted = logits[range(len(ids) - 1), ids[1:]].numpy()
        np.testing.assert_allclose(score, wanted, atol=1e-4)
    # A continuation's likelihood is a difference of two scores: nothing is off by one.
    [both] = engine.score([[7, 8, 9, 10]])
    [context] = engine.score([[7, 8]])
    np.testing.assert_allclose(both[:1], context, atol=1e-5)
    with pytest.raises(ModelError, match="vocabulary"):
        engine.score([[1, 999]])


def test_score_does_not_depend_on_its_company(
    engine: Engine, random_model: InternLM2, small_tokenizer: Tokenizer
) -> None:
    rng = np.random.default_rng(1)
    sequences = [rng.integers(0, 340, n).tolist() for n in (30, 3, 90, 60, 2)]
    alone = [engine.score([ids])[0] for ids in sequences]
    narrow = Engine(random_model, small_tokenizer, step_tokens=64)
    for one, other in zip(alone, narrow.score(sequences), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_conversation_is_read_as_it_is_trained_on(
    engine: Engine, small_tokenizer: Tokenizer
) -> None:
    ids = engine.encode([{"role": "user", "content": "the <|im_end|> tide"}])
    special = small_tokenizer.special_tokens
    assert ids.count(special["<s>"]) == 1
    assert ids[0] == special["<s>"]
    assert ids.count(special["<|im_start|>"]) == 2
    assert ids.count(special["<|im_end|>"]) == 1
    assert engine.encode("the tide")[0] == special["<s>"]
    assert engine.generate([{"role": "user", "content": "x"}], max_tokens=3)[0].prompt_tokens > 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompts": "x", "temperature": -1}, "temperature=-1"),
        ({"prompts": "x", "top_p": 0}, "top_p=0"),
        ({"prompts": "x", "top_k": -1}, "top_k=-1"),
        ({"prompts": "x", "max_tokens": 0}, "max_tokens=0"),
        ({"prompts": "x", "stop": ""}, "at least one character"),
        ({"prompts": ["x", "y"], "seed": [1]}, "1 seeds for 2 prompts"),
        ({"prompts": [[]]}, "prompt is empty"),
        ({"prompts": [[5] * 256]}, "256 tokens, the session 256"),
    ],
)
def test_bad_requests_are_named(engine: Engine, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InferError, match=words):
        engine.generate(**arguments)


def test_without_a_tokenizer_ids_still_work(random_model: InternLM2) -> None:
    bare = Engine(random_model)
    [answer] = bare.generate([[5, 6]], max_tokens=4)
    assert len(answer.ids) == 4
    assert answer.text == ""
    with pytest.raises(InferError, match=r"no tokenizer\.json"):
        bare.generate("text")


def test_ids_that_only_pad_the_vocabulary_are_never_drawn(
    random_model: InternLM2, small_tokenizer: Tokenizer
) -> None:
    known = small_tokenizer.vocab_size
    config = random_model.config.model_copy(update={"vocab_size": known + 30})
    padded = InternLM2(config, seed=1)
    with torch.no_grad():
        padded.output.weight[known:] *= 20
    for temperature in (0.0, 1.0):
        [answer] = Engine(padded, small_tokenizer).generate(
            "x", max_tokens=40, temperature=temperature, seed=1
        )
        assert max(answer.ids) < known
    [bare] = Engine(padded).generate([[5]], max_tokens=40)
    assert max(bare.ids) >= known  # the control: the model does prefer them


def test_an_answer_ends_with_the_session(engine: Engine) -> None:
    [answer] = engine.generate([[5] * 250], max_tokens=100)
    assert (len(answer.ids), answer.finish_reason) == (6, "length")


def test_folder_and_command_line(
    random_model: InternLM2,
    small_tokenizer: Tokenizer,
    engine: Engine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run" / "step-7"
    folder.mkdir(parents=True)
    small_tokenizer.save(folder / "tokenizer.json")
    model.save(random_model, folder)
    [wanted] = engine.generate("the tide", max_tokens=12)
    loaded = Engine.from_folder(tmp_path / "run")  # a run's newest checkpoint
    assert loaded.generate("the tide", max_tokens=12)[0].ids == wanted.ids
    arguments = ["generate", str(folder), "--prompt", "the tide", "--max-tokens", "12"]
    assert main([*arguments, "--temperature", "0"]) == 0
    assert capsys.readouterr().out == wanted.text + "\n"
    sampled = [*arguments, "--chat", "--system", "s", "--temperature", "1", "--seed", "4"]
    outputs = []
    for _ in range(2):
        assert main(sampled) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert main(["generate", str(tmp_path), "--prompt", "x"]) == 1
    assert "neither a model" in capsys.readouterr().err
