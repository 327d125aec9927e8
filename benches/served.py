"""An engine behind its HTTP server, asked over loopback by a client that only reads bytes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import string
import threading
from typing import TYPE_CHECKING, Any

from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from internlm_core.infer import Engine

__all__ = ["over_http", "write_tokenizer"]


def write_tokenizer(folder: Path, entries: int, seed: int) -> None:
    """A vocabulary of just so many entries, learnt from invented words, beside a model's weights."""
    from internlm_core.tokenizer import train

    draw = random.Random(seed)
    words = [
        "".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 9))) for _ in range(entries)
    ]
    texts = [" ".join(draw.choices(words, k=50)) for _ in range(entries // 10)]
    learnt = train([*texts, " ".join(words)], vocab_size=entries, quiet=True)
    if learnt.vocab_size != entries:
        raise RuntimeError(f"a vocabulary of {learnt.vocab_size} entries, {entries} were asked for")
    learnt.save(folder / "tokenizer.json")


@contextlib.contextmanager
def _running(engine: Engine) -> Iterator[tuple[str, int]]:
    import uvicorn
    from internlm_core.infer.server import ServerSettings, create_app

    app = create_app(engine, ServerSettings(model_name="bench"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server ended before it began")
        thread.join(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[:2]
    finally:
        server.should_exit = True
        thread.join(20)


def over_http(engine: Engine, prompt: list[int], new: int) -> Job:
    """One greedy answer of `/v1/completions`, streamed; all in this process, client included; on all cores."""
    # As where a server runs: its loop and the client have a core beside the decoder's one thread.
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    stack = contextlib.ExitStack()
    address = stack.enter_context(_running(engine))
    body = json.dumps(
        {
            "model": "bench",
            "prompt": prompt,
            "max_tokens": new,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()

    def run(_: Any) -> int:
        with socket.create_connection(address) as connection:
            connection.sendall(head + body)
            parts = list(iter(lambda: connection.recv(1 << 16), b""))
        answer = b"".join(parts)
        if b"data: [DONE]" not in answer:
            raise RuntimeError(f"not a whole answer: {answer[:300]!r}")
        return answer.count(b"data: ") - 1

    # The server lives as long as the job, which holds `stack`.
    return Job(run=run, prepare=lambda: stack and None, result=lambda count: {"chunks": count})
