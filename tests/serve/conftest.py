"""A served model: a real engine with random weights, and one that says what a test has it say."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi", reason="no fastapi: pip install 'internlm-core[serve]'")

import torch
import uvicorn
from internlm_core.infer import Engine
from internlm_core.infer.server import ServerSettings, create_app
from internlm_core.infer.server.backend import QueueFullError, Token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from internlm_core.infer import SamplingParams
    from internlm_core.model import InternLM2
    from internlm_core.tokenizer import Tokenizer

KEY = "sk-test"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    """Random weights in fp32, 512 positions; end tokens are never the likeliest."""
    return make_engine()


@pytest.fixture(scope="session")
def random_model(make_random_model: Callable[..., InternLM2]) -> InternLM2:
    """Weights of an engine."""
    return make_random_model(max_position_embeddings=512)


@pytest.fixture(scope="session")
def make_engine(random_model: InternLM2, small_tokenizer: Tokenizer) -> Callable[..., Engine]:
    """A server closes its engine: each has its own."""

    def make(**settings: Any) -> Engine:
        return Engine(random_model, small_tokenizer, threads=1, **settings)

    return make


class Spoken:
    """An answer of the scripted backend."""

    def __init__(
        self, backend: Scripted, said: Sequence[int] | Exception, most: int, top: int
    ) -> None:
        self.backend, self.said, self.most, self.top = backend, said, most, top
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    async def __aiter__(self) -> AsyncIterator[Token]:
        if isinstance(self.said, Exception):
            raise self.said
        for number, token in enumerate(self.said, 1):
            await asyncio.sleep(self.backend.pause)
            if self.cancelled.is_set():
                return
            end = token in self.backend.ends
            last = number == len(self.said)
            finish = "stop" if end or (last and self.backend.completes) else None
            if finish is None and (number == self.most or last):
                finish = "length"
            top = tuple((token + i, -0.5 - i) for i in range(self.top))
            yield Token(token, -0.5, top, finish, end)
            if finish is not None:
                return


class Scripted:
    """A backend that says given ids; it keeps what it was asked, and can be slow or full."""

    def __init__(self) -> None:
        self.replies: deque[Sequence[int] | Exception] = deque()
        self.asked: list[tuple[list[int], SamplingParams]] = []
        self.made: list[Spoken] = []
        self.ends: set[int] = set()
        self.pause = 0.0
        self.full = False
        self.completes = False  # as an engine ends what has come to the end of a schema

    def submit(self, ids: Sequence[int], sampling: SamplingParams) -> Spoken:
        if self.full:
            raise QueueFullError("8 requests are waiting: try again later")
        said = self.replies.popleft() if self.replies else [300]
        self.asked.append((list(ids), sampling))
        self.made.append(Spoken(self, said, sampling.max_tokens, sampling.logprobs or 0))
        return self.made[-1]

    def gauges(self) -> dict[str, float]:
        return {"running": 0, "waiting": 0}

    def close(self) -> None:
        """Nothing to end."""


class Served:
    """A running server."""

    def __init__(self, url: str, app: Any, backend: Any, tokenizer: Tokenizer) -> None:
        self.url, self.app, self.backend, self.tokenizer = url, app, backend, tokenizer

    def say(self, *texts: str) -> None:
        """What the next answers are: text in which control tokens are spelled out."""
        for text in texts:
            ids = self.tokenizer.encode(text, allowed_special="all").tolist()
            self.backend.replies.append(ids)

    def openai(self, **options: Any) -> Any:
        """The official client."""
        openai = pytest.importorskip("openai", reason="no openai: it is in the extra dev")
        options = {"api_key": KEY, "max_retries": 0, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **options)


@contextmanager
def running(engine: Engine, backend: Any = None, **settings: Any) -> Iterator[Served]:
    settings = {"model_name": "tide", "api_key": KEY, **settings}
    if isinstance(backend, Scripted):
        special = engine.tokenizer.special_tokens
        backend.ends = {special["</s>"], special["<|im_end|>"]}
    app = create_app(engine, ServerSettings(**settings), backend=backend)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    assert engine.tokenizer is not None
    made = app.state.service.backend
    try:
        yield Served(f"http://127.0.0.1:{port}", app, made, engine.tokenizer)
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def serving(make_engine: Callable[..., Engine]) -> Callable[..., Any]:
    """Start a server with settings of the test's own."""

    def start(backend: Any = None, max_running: int = 16, **settings: Any) -> Any:
        engine = make_engine(max_batch=max_running)
        return running(engine, backend, max_running=max_running, **settings)

    return start


@pytest.fixture(scope="module")
def real(make_engine: Callable[..., Engine]) -> Iterator[Served]:
    """The engine behind HTTP."""
    with running(make_engine()) as served:
        yield served


@pytest.fixture(scope="module")
def roomy(make_engine: Callable[..., Engine]) -> Iterator[Served]:
    """The same with a longer session: lists of tools are long in a small vocabulary."""
    with running(make_engine(session_length=4096)) as served:
        yield served


@pytest.fixture
def scripted(engine: Engine) -> Iterator[Served]:
    """Says what `say` was given."""
    with running(engine, Scripted()) as served:
        yield served


@pytest.fixture
def script() -> type[Scripted]:
    """The class, for servers with settings of their own."""
    return Scripted
