"""`internlm-core serve` as a process: it starts, answers, drains on SIGTERM, and survives a crowd."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from internlm_core import model

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPTS = [f"the tide {word} {number}" for word in ("rises", "falls") for number in range(20)]
TOKENS = 24


@dataclass
class Process:
    """A server of its own."""

    url: str
    process: subprocess.Popen[str]

    def memory(self) -> int:
        """Resident bytes now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    def gauge(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics").text
        return float(re.search(rf"^internlm_{name} (\S+)$", text, re.MULTILINE)[1])


@pytest.fixture
def start(engine: Any, tmp_path: Path) -> Iterator[Any]:
    """Start servers of the random model; those that still run are ended."""
    folder = tmp_path / "tide"
    folder.mkdir()
    engine.tokenizer.save(folder / "tokenizer.json")
    model.save(engine.model, folder)
    running = []

    def run(*options: str) -> Process:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "internlm_core", "serve", str(folder), "--port", str(port)]
        process = subprocess.Popen(
            [*command, *options], stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        url = f"http://127.0.0.1:{port}"
        while True:
            assert process.poll() is None, process.stdout.read()
            with contextlib.suppress(httpx.TransportError):
                assert httpx.get(f"{url}/health").status_code == 200
                return Process(url, process)
            time.sleep(0.05)

    yield run
    for process in running:
        process.kill()
        process.communicate()


def body(prompt: str, **options: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {
        "model": "tide",
        "messages": messages,
        "max_tokens": TOKENS,
        "temperature": 0,
        **options,
    }


def text_of(events: list[str]) -> str:
    made = [json.loads(event.removeprefix("data: ")) for event in events if event != "data: [DONE]"]
    return "".join(c["delta"].get("content") or "" for e in made for c in e["choices"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_answers_end(start: Any, number: int) -> None:
    server = start()
    address = f"{server.url}/v1/chat/completions"
    whole = httpx.post(address, json=body("the tide", max_tokens=400), timeout=60).json()
    wanted = whole["choices"][0]["message"]["content"]
    request = body("the tide", max_tokens=400, stream=True)
    with httpx.stream("POST", address, json=request, timeout=60) as answer:
        lines = answer.iter_lines()
        events = [next(lines)]
        server.process.send_signal(number)
        events += [line for line in lines if line]
    assert events[-1] == "data: [DONE]"
    assert text_of(events) == wanted
    assert server.process.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")


def test_draining_has_an_end(start: Any) -> None:
    """Clients that never read their answer do not keep the server for ever."""
    server = start("--drain", "1")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as idle:
        idle.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_what_can_not_be_served(start: Any, tmp_path: Path) -> None:
    server = start("--model-name", "moon", "--api-key", "k")
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
    found = httpx.get(f"{server.url}/v1/models", headers={"Authorization": "Bearer k"}).json()
    assert found["data"][0]["id"] == "moon"
    taken = server.url.rsplit(":", 1)[1]
    for options, words in (
        ([str(tmp_path / "tide"), "--port", taken], "can't listen"),
        ([str(tmp_path)], "neither a model"),
        ([str(tmp_path / "tide"), "--dialect", "latin"], "unknown dialect"),
        ([str(tmp_path / "tide"), "--deadline", "0"], "deadline"),
    ):
        command = [sys.executable, "-m", "internlm_core", "serve", *options]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode in (1, 2)
        assert words in ended.stderr
        assert "Traceback" not in ended.stderr


async def crowd(server: Process, wanted: dict[str, str], clients: int, until: Any) -> list[str]:
    """Clients that ask until told to stop, some leaving in the middle; returns what each got."""
    address = f"{server.url}/v1/chat/completions"
    outcomes: list[str] = []

    async def one(client: httpx.AsyncClient, rng: random.Random) -> None:
        prompt = rng.choice(PROMPTS)
        kind = rng.choice(["whole", "stream", "leave"])
        request = body(prompt, stream=kind != "whole")
        if kind == "whole":
            answer = await client.post(address, json=request)
            assert answer.status_code == 200, answer.text
            text = answer.json()["choices"][0]["message"]["content"]
        else:
            events: list[str] = []
            async with client.stream("POST", address, json=request) as answer:
                assert answer.status_code == 200
                async for line in answer.aiter_lines():
                    events += [line] if line else []
                    if kind == "leave" and len(events) > rng.randrange(1, 12):
                        outcomes.append("left")
                        return
            assert events[-1] == "data: [DONE]"
            text = text_of(events)
        assert text == wanted[prompt]
        outcomes.append(kind)

    async def loop(number: int) -> None:
        rng = random.Random(number)
        async with httpx.AsyncClient(timeout=120) as client:
            turn = 0
            while until(turn):
                await one(client, rng)
                turn += 1

    await asyncio.gather(*(loop(number) for number in range(clients)))
    return outcomes


def references(engine: Any) -> dict[str, str]:
    """What each prompt is answered when it is alone; all are different, so a mix-up shows."""
    conversations = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    answers = engine.generate(conversations, max_tokens=TOKENS)
    wanted = {prompt: answer.text for prompt, answer in zip(PROMPTS, answers, strict=True)}
    assert len(set(wanted.values())) > 30
    return wanted


def settled(server: Process) -> None:
    """Nothing runs, waits or holds a place in the cache any more."""
    end = time.monotonic() + 30
    names = ("running", "waiting", "cache_blocks_used")
    while any(server.gauge(name) for name in names):
        assert time.monotonic() < end, "what was given up is still there"
        time.sleep(0.05)


def test_a_small_crowd(start: Any, engine: Any) -> None:
    server, wanted = start("--max-running", "8"), references(engine)
    outcomes = asyncio.run(crowd(server, wanted, 12, lambda turn: turn < 3))
    assert len(outcomes) == 36
    assert {"whole", "stream", "left"} == set(outcomes)
    settled(server)


@pytest.mark.slow
def test_two_hundred_clients_for_two_minutes(start: Any, engine: Any) -> None:
    """No answer lost or mixed up, memory flat, what was given up freed."""
    server, wanted = start("--max-running", "16"), references(engine)
    # A first crowd fills caches and pools, so that only what grows with requests grows after it.
    asyncio.run(crowd(server, wanted, 200, lambda turn: turn < 2))
    settled(server)
    before = server.memory()
    end = time.monotonic() + 120
    outcomes = asyncio.run(crowd(server, wanted, 200, lambda _: time.monotonic() < end))
    assert len(outcomes) > 200
    settled(server)
    assert server.memory() < before + (16 << 20)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
