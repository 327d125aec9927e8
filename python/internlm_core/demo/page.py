"""The demo's report: the data room's sections, and what the model learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from internlm_core import __version__
from internlm_core._files import atomic_path
from internlm_core.data.report import sections as data_sections
from internlm_core.report import Line, Section, line_chart, page, paragraph, sample, stack, table

if TYPE_CHECKING:
    from pathlib import Path

    from internlm_core.demo.config import DemoConfig

__all__ = ["write_page"]


def write_page(out: Path, config: DemoConfig, summary: dict[str, Any]) -> Path:
    """Draw `report.html`: the same bytes however often the run was interrupted."""
    parts = [
        *data_sections(out / "records"),
        Section("Tokens", _tokens(summary)),
        Section("Learning", _learning(summary, config)),
        Section("Samples", _samples(summary)),
    ]
    text = page(
        "From raw text to answers",
        parts,
        lead="The whole chain on text found on this machine.",
        footer=f"internlm-core {__version__}, seed {config.seed}",
    )
    with atomic_path(out / "report.html") as partial:
        partial.write_text(text, "utf-8")
    return out / "report.html"


def _tokens(summary: dict[str, Any]) -> Any:
    rows = sorted(summary["tokenizer"]["bytes_per_token"].items())
    return table(["held-out text", "bytes a token"], rows, numbers=[1])


def _learning(summary: dict[str, Any], config: DemoConfig) -> Any:
    def line(name: str, losses: list[list[float]]) -> Line:
        return Line(name, [step for step, _ in losses], [loss for _, loss in losses])

    first, last = config.pretrain.short_window, config.pretrain.long_window
    points = summary["pretrain"]["held_out"]
    sources = sorted(points[0]["by_source"])
    heads = ["held-out loss, nats a token", "all", f"positions below {first}"]
    heads += [f"positions {first} to {last - 1}", *sources]
    rows = [
        [
            point["when"],
            f"{point['loss']:.3f}",
            *(
                "–" if part is None else f"{part['loss']:.3f}"
                for part in (point["within"], point["beyond"])
            ),
            *(f"{point['by_source'][name][0]:.3f}" for name in sources),
        ]
        for point in points
    ]
    tuned = [[f"{when} fine-tuning", f"{summary['sft'][when]:.3f}"] for when in ("before", "after")]
    return stack(
        [
            table(heads, rows, numbers=range(1, len(heads))),
            line_chart(
                "Held-out loss by position in the window",
                [
                    Line(
                        point["when"],
                        [(begin + end) / 2 for begin, end, *_ in point["by_position"]],
                        [loss for _, _, loss, _ in point["by_position"]],
                    )
                    for point in points[1:]
                ],
                x_label="position",
                y_label="nats a token",
            ),
            line_chart(
                f"Pretraining loss (windows of {first}, then {last} tokens)",
                [line("pretraining", summary["pretrain"]["losses"])],
                x_label="step",
                y_label="nats a token",
            ),
            table(["loss of answers", "nats a token"], tuned, numbers=[1]),
            line_chart(
                "Fine-tuning loss",
                [line("fine-tuning", summary["sft"]["losses"])],
                x_label="step",
                y_label="nats a token",
            ),
        ]
    )


def _samples(summary: dict[str, Any]) -> Any:
    question = summary["samples"]["question"]
    return stack(
        [
            *(
                sample(item["prompt"] + item["text"], caption=f"after {item['prompt']!r}")
                for item in summary["samples"]["samples"]
            ),
            paragraph(f"Question: {question['question']}"),
            sample(question["answer"], caption="answer of the fine-tuned model"),
        ]
    )
