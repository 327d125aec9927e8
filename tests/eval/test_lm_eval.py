"""lm-eval over local YAML and data: its figures are those of a full forward pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from internlm_core.errors import InferError
from internlm_core.eval import lm_eval as ours
from internlm_core.infer import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from internlm_core.model import InternLM2
    from internlm_core.tokenizer import Tokenizer

# The harness and its libraries warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def model(make_random_model: Callable[..., InternLM2]) -> InternLM2:
    torch.set_num_threads(1)
    return make_random_model(seed=3, max_position_embeddings=64)


@pytest.fixture(scope="module")
def engine(model: InternLM2, small_tokenizer: Tokenizer) -> Iterator[Engine]:
    with Engine(model, small_tokenizer, threads=1) as made:
        yield made


def forward(model: InternLM2, ids: list[int]) -> torch.Tensor:
    """Log p of every next token, fp64 `[n, V]`."""
    with torch.no_grad():
        return model(torch.tensor([ids]))[0].double().log_softmax(-1)


def summed(model: InternLM2, before: list[int], after: list[int]) -> tuple[float, bool]:
    scores = forward(model, [*before, *after])[len(before) - 1 : -1]
    own = scores[torch.arange(len(after)), torch.tensor(after)]
    return float(own.sum()), bool((scores.argmax(-1) == torch.tensor(after)).all())


@pytest.mark.parametrize(
    ("context", "continuation"),
    [
        ("the tide", " rises"),
        ("", "x"),
        ("the tide  ", "rises"),
        ("潮起", "潮落"),
        ("a" * 200, "b"),
    ],
)
def test_log_likelihood_is_the_full_forwards(
    engine: Engine, model: InternLM2, context: str, continuation: str
) -> None:
    made = ours.EngineAdapter(engine)
    before, after = made.pair(context, continuation)
    bos = engine.config.bos_token_id
    assert before[0] == bos
    assert bos not in [*before[1:], *after]
    assert engine.tokenizer is not None
    assert engine.tokenizer.decode(before[1:] + after) == context + continuation
    [(value, greedy)] = made.score_pairs([(before, after)])
    if len(before) + len(after) > 64:
        before = [before[0], *before[len(before) - 63 + len(after) :]]
        assert len(before) + len(after) == 64
    wanted = summed(model, before, after)
    assert value == pytest.approx(wanted[0], abs=1e-3)
    assert greedy == wanted[1]


def test_greedy_is_told(engine: Engine) -> None:
    made = ours.EngineAdapter(engine)
    before, _ = made.pair("the tide", "x")
    [answer] = engine.generate(before, max_tokens=3)
    other = [*answer.ids[:2], (answer.ids[2] + 1) % 300]
    results = made.score_pairs([(before, list(answer.ids)), (before, other)])
    assert [greedy for _, greedy in results] == [True, False]


def test_a_long_text_is_scored_once_a_token(engine: Engine, model: InternLM2) -> None:
    made = ours.EngineAdapter(engine)
    short = "the tide rises"
    bos = engine.config.bos_token_id
    assert bos is not None
    assert made.roll(short) == pytest.approx(summed(model, [bos], made.encode(short))[0], abs=1e-3)
    ids = made.encode("the tide rises and falls; " * 20)
    total = made.roll("the tide rises and falls; " * 20)
    assert len(ids) > 128
    # Windows of 63: the first from BOS, later ones from the token before.
    expected, before = 0.0, bos
    for first in range(0, len(ids) - len(ids) % 63, 63):
        part = ids[first : first + 63]
        expected += summed(model, [before], part)[0]
        before = part[-1]
    rest = len(ids) % 63
    if rest:
        last = ids[len(ids) - 63 - 1 : len(ids)]
        expected += summed(model, last[: 64 - rest], last[64 - rest :])[0]
    assert total == pytest.approx(expected, abs=1e-2)


def test_answers(engine: Engine) -> None:
    made = ours.EngineAdapter(engine)
    [free] = engine.generate("the tide", max_tokens=12)
    stop = free.text[4]
    texts = made.write(
        [("the tide", {"max_gen_toks": 12}), ("the tide", {"until": [stop], "max_gen_toks": 12})]
    )
    assert texts == [free.text, free.text.split(stop)[0]]


def test_a_tokenizer_is_needed(model: InternLM2) -> None:
    with (
        Engine(model, threads=1) as engine,
        pytest.raises(InferError, match=r"no tokenizer\.json"),
    ):
        ours.EngineAdapter(engine)


CHOICE = """
task: tide_choice
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list:
  - metric: acc
"""
WRITE = """
task: tide_write
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 6, do_sample: false}}
metric_list:
  - metric: exact_match
"""


def test_tasks_from_a_folder(
    engine: Engine, model: InternLM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval", reason="no lm-eval: pip install 'internlm-core[eval]'")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    made = ours.EngineAdapter(engine)
    questions: list[dict[str, Any]] = []
    for number, question in enumerate(("the tide", "潮起潮落", "def tide(x):")):
        choices = [" rises", " falls", " x"]
        values = [summed(model, *made.pair(question, " " + choice))[0] for choice in choices]
        best = max(range(3), key=lambda i: values[i])
        [answer] = made.write([(question, {"max_gen_toks": 6, "until": ["\n\n"]})])
        # The second of three is made wrong, in both tasks.
        questions.append(
            {
                "question": question,
                "choices": choices,
                "gold": (best + 1) % 3 if number == 1 else best,
                "answer": "no" if number == 1 else answer,
            }
        )
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(q) + "\n" for q in questions))
    (tmp_path / "choice.yaml").write_text(CHOICE.format(data=data))
    (tmp_path / "write.yaml").write_text(WRITE.format(data=data))
    result = ours.evaluate(engine, ["tide_choice", "tide_write"], tmp_path)
    assert result["results"]["tide_choice"]["acc,none"] == pytest.approx(2 / 3)
    assert result["results"]["tide_write"]["exact_match,none"] == pytest.approx(2 / 3)
    assert len(result["samples"]["tide_choice"]) == 3
    limited = ours.evaluate(engine, ["tide_choice"], tmp_path, limit=1)
    assert limited["results"]["tide_choice"]["acc,none"] == 1
    with pytest.raises(InferError, match="defines no task named other; it has tide_choice"):
        ours.evaluate(engine, ["other"], tmp_path)
