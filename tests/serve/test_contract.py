"""The OpenAPI file keeps its word: whatever is sent, the answer is one that it documents, and no 5xx."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx
import pytest

schemathesis = pytest.importorskip("schemathesis", reason="no schemathesis: it is in the extra dev")

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.core.failures import FailureGroup  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

KEY = {"Authorization": "Bearer sk-test"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PATHS = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/tokenize",
    "/health",
    "/metrics",
}


def fuzz(url: str, examples: int) -> set[str]:
    """Send made-up requests to every operation; returns the paths."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", headers=KEY)
    paths = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        paths.add(operation.path)
        for mode in schemathesis.GenerationMode:
            strategy = operation.as_strategy(generation_mode=mode)

            @seed(7)
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                report_multiple_bugs=False,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def send(case: Any) -> None:
                case.call_and_validate(headers=KEY, checks=CHECKS, timeout=60)

            if mode is schemathesis.GenerationMode.POSITIVE:
                send()
                continue
            # An operation that takes nothing has no wrong input.
            with contextlib.suppress(Unsatisfiable):
                send()
    return paths


def test_every_operation_keeps_its_word(serving: Any) -> None:
    # Few tokens an answer: what is tested is what may be asked, not how much is written.
    with serving(max_tokens=2, max_prompt_tokens=200, deadline=1.0) as served:
        assert fuzz(served.url, 6) >= PATHS
        assert httpx.get(f"{served.url}/health").status_code == 200


@pytest.mark.slow
def test_every_operation_keeps_its_word_at_length(serving: Any) -> None:
    with serving(max_tokens=2, max_prompt_tokens=200, deadline=1.0) as served:
        assert fuzz(served.url, 150) >= PATHS
        assert httpx.get(f"{served.url}/health").status_code == 200


def test_a_server_that_fails_is_noticed(serving: Any, script: Any) -> None:
    """The control: an engine that breaks gives 500, which the checks see."""
    broken = script()
    broken.replies.extend([ZeroDivisionError()] * 1000)
    with (
        serving(broken, max_tokens=2) as served,
        pytest.raises(FailureGroup) as caught,
    ):
        fuzz(served.url, 20)
    assert "Server error" in "".join(map(str, caught.value.exceptions))


def test_errors_are_documented(real: Any) -> None:
    made = httpx.get(f"{real.url}/openapi.json", headers=KEY).json()
    for path in ("/v1/chat/completions", "/v1/completions"):
        documented = made["paths"][path]["post"]["responses"]
        assert {"200", "400", "401", "404", "408", "413", "429"} <= set(documented)
        assert "422" not in documented
        for status, response in documented.items():
            if status != "200":
                name = response["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
                assert "error" in made["components"]["schemas"][name]["properties"]
        assert "text/event-stream" in documented["200"]["content"]
