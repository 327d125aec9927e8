"""Bad input, limits, and requests that end early."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest
from internlm_core.errors import InferError
from internlm_core.infer.constrain import Grammars

HEADERS = {"Authorization": "Bearer sk-test", "Content-Type": "application/json"}
CHAT = {"messages": [{"role": "user", "content": "the tide"}]}


def post(served: Any, path: str = "/v1/chat/completions", **options: Any) -> httpx.Response:
    options = {"headers": HEADERS, "timeout": 30, **options}
    return httpx.post(f"{served.url}{path}", **options)


def until(condition: Any, seconds: float = 20) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def nested(depth: int) -> bytes:
    return b'{"messages": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\xff\xfe{}", 400),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', 400),
        (b"{", 400),
        (b"", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"messages": []}', 400),
        (b'{"messages": [3]}', 400),
        (b'{"messages": [{"role": "user", "content": {"a": 1}}]}', 400),
        (b'{"messages": [{"role": ["user"], "content": "x"}]}', 400),
        (b'{"messages": [{"role": "user", "name": "a\\nb", "content": "x"}]}', 400),
        (b'{"messages": [{"role": "assistant", "tool_calls": 5}]}', 400),
        (b'{"messages": [{"role": "assistant", "tool_calls": [5]}]}', 400),
        (b'{"messages": [{"role": "assistant", "calls": 5}]}', 400),
        (nested(100_000), 400),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', 400),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1e400}', 400),
        (b'{"messages": [{"role": "user", "content": "' + b"x" * (10 << 20) + b'"}]}', 413),
    ],
)
def test_bad_bodies(real: Any, body: bytes, status: int) -> None:
    answer = post(real, content=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]


def test_ten_megabytes_without_a_length(real: Any) -> None:
    def parts() -> Any:
        for _ in range(160):
            yield b" " * 65536

    answer = post(real, content=parts())
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_lone_surrogates_are_replaced(real: Any) -> None:
    body = b'{"max_tokens": 1, "messages": [{"role": "user", "content": "\\ud800 x"}]}'
    assert post(real, content=body).status_code == 200
    assert post(real, "/tokenize", content=b'{"text": "\\ud800"}').status_code == 200


def test_unknown_paths_and_methods(real: Any) -> None:
    for answer, status in (
        (httpx.get(f"{real.url}/v1/nothing"), 404),
        (httpx.get(f"{real.url}/v1/chat/completions"), 405),
    ):
        assert answer.status_code == status
        assert answer.json()["error"]["message"]


def test_keys(real: Any, serving: Any) -> None:
    for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic sk-test"}):
        for path in ("/v1/models", "/metrics"):
            answer = httpx.get(f"{real.url}{path}", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{real.url}/health").json()["status"] == "ok"
    with serving(api_key=None) as free:
        assert httpx.get(f"{free.url}/v1/models").status_code == 200


def test_tokenize(real: Any, engine: Any) -> None:
    answer = post(real, "/tokenize", json={"text": "the tide<s>"}).json()
    assert answer["tokens"] == engine.tokenizer.encode("the tide<s>").tolist()
    answer = post(real, "/tokenize", json=CHAT).json()
    assert answer["tokens"] == engine.encode(CHAT["messages"])
    assert answer["count"] == len(answer["tokens"])
    assert post(real, "/tokenize", json={}).status_code == 400


def test_metrics(real: Any) -> None:
    def value(name: str) -> float:
        lines = httpx.get(f"{real.url}/metrics", headers=HEADERS).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = value("internlm_completion_tokens_total")
    assert post(real, json={**CHAT, "max_tokens": 7}).status_code == 200
    assert value("internlm_completion_tokens_total") == before + 7
    assert value('internlm_requests_total{route="/v1/chat/completions",status="200"}') >= 1
    assert value("internlm_running") == 0
    httpx.get(f"{real.url}/secret-path")
    assert "secret-path" not in httpx.get(f"{real.url}/metrics", headers=HEADERS).text


def test_prompt_limit(serving: Any) -> None:
    with serving(max_prompt_tokens=20) as served:
        answer = post(served, json={"messages": [{"role": "user", "content": "x" * 30}]})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        assert "at most 20" in answer.json()["error"]["message"]


def test_a_full_queue_is_429(serving: Any, script: Any) -> None:
    with serving(script()) as served:
        served.backend.full = True
        for stream in (False, True):
            answer = post(served, json={**CHAT, "stream": stream})
            assert answer.status_code == 429
            assert answer.headers["Retry-After"] == "1"
            assert answer.json()["error"]["type"] == "rate_limit_error"


def test_the_engines_queue_has_a_limit(serving: Any) -> None:
    with serving(max_running=1, max_waiting=1) as served:
        answers: list[int] = []

        def ask() -> None:
            answers.append(post(served, json={**CHAT, "max_tokens": 300}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(answers) == {200, 429}
        assert post(served, json={**CHAT, "max_tokens": 2}).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_the_deadline(serving: Any, script: Any, stream: bool) -> None:
    slow = script()
    slow.pause = 0.2
    with serving(slow, deadline=0.5) as served:
        served.say("x" * 60)
        answer = post(served, json={**CHAT, "stream": stream})
        if stream:
            last = answer.text.strip().split("\n\n")[-1].removeprefix("data: ")
            error = json.loads(last)["error"]
        else:
            assert answer.status_code == 408
            error = answer.json()["error"]
        assert error["code"] == "deadline_exceeded"
        until(lambda: slow.made[0].cancelled.is_set())


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels(real: Any, stream: bool) -> None:
    backend = real.backend
    body = {**CHAT, "max_tokens": 450, "stream": stream, "n": 4, "logit_bias": {"300": 1}}
    with httpx.Client(timeout=60) as client:
        if stream:
            with client.stream("POST", f"{real.url}/v1/chat/completions", headers=HEADERS, json=body) as answer:  # fmt: skip
                next(answer.iter_lines())
                until(lambda: backend.gauges()["running"] > 0)
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(
                    f"{real.url}/v1/chat/completions", headers=HEADERS, json=body, timeout=0.15
                )
    until(lambda: not any(backend.gauges()[n] for n in ("running", "waiting", "cache_blocks_used")))


@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_engine(serving: Any, script: Any, stream: bool) -> None:
    broken = script()
    with serving(broken) as served:
        for failure, status in ((InferError("no numbers"), 503), (ZeroDivisionError("x"), 500)):
            broken.replies.append(failure)
            answer = post(served, json={**CHAT, "stream": stream})
            if stream:
                error = json.loads(answer.text.strip().split("\n\n")[-1][6:])["error"]
            else:
                assert answer.status_code == status
                error = answer.json()["error"]
            assert error["type"] == "server_error"
        # The next request is served.
        assert post(served, json=CHAT).status_code == 200


def test_a_slow_schema_holds_up_nobody(real: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on = threading.Event(), threading.Event()
    made = Grammars.constraint

    def slow(grammars: Grammars, params: Any) -> Any:
        entered.set()
        assert go_on.wait(30)
        return made(grammars, params)

    monkeypatch.setattr(Grammars, "constraint", slow)
    body = {**CHAT, "max_tokens": 4, "response_format": {"type": "json_object"}}
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(post(real, json=body)))
    asking.start()
    try:
        assert entered.wait(20)
        assert httpx.get(f"{real.url}/health", timeout=10).status_code == 200
        assert post(real, json={**CHAT, "max_tokens": 2}, timeout=10).status_code == 200
    finally:
        go_on.set()
        asking.join()
    assert answers[0].status_code == 200
