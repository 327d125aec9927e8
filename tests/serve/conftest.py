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
from internlm_core.infer.server.backend import Generation, Options, QueueFullError, Token
from internlm_core.model import InternLM2, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from internlm_core.tokenizer import Tokenizer

KEY = "sk-test"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def engine(small_tokenizer: Tokenizer) -> Engine:
    """Random weights in fp32, 512 positions; end tokens are never the likeliest."""
    config = ModelConfig(
        vocab_size=small_tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        initializer_range=0.3,
        bos_token_id=small_tokenizer.special_tokens["<s>"],
        eos_token_id=None,
        max_position_embeddings=512,
        dtype="float32",
    )
    model = InternLM2(config, seed=5)
    with torch.no_grad():
        model.output.weight[list(small_tokenizer.special_tokens.values())] = 0.0
    return Engine(model, small_tokenizer)


class Scripted:
    """A backend that says given ids; it keeps what it was asked, and can be slow or broken."""

    max_waiting = 8

    def __init__(self) -> None:
        self.replies: deque[Sequence[int] | Exception] = deque()
        self.asked: list[tuple[list[int], Options]] = []
        self.made: list[Generation] = []
        self.pause = 0.0
        self.full = False
        self.running = self.waiting = self.cached_tokens = 0

    def submit(self, ids: Sequence[int], options: Options) -> Generation:
        if self.full:
            raise QueueFullError("8 requests are waiting; try again later")
        generation = Generation(asyncio.get_running_loop())
        self.asked.append((list(ids), options))
        self.made.append(generation)
        said = self.replies.popleft() if self.replies else [300]
        threading.Thread(target=self._say, args=(generation, said, options), daemon=True).start()
        return generation

    def _say(
        self, generation: Generation, said: Sequence[int] | Exception, options: Options
    ) -> None:
        if isinstance(said, Exception):
            generation.put(said)
            return
        self.running += 1
        for number, token in enumerate(said, 1):
            if generation.cancelled.wait(self.pause):
                break
            finish = "stop" if token in options.stop_ids else None
            if finish is None and number == options.sampling.max_tokens:
                finish = "length"
            top = tuple((token + i, -0.5 - i) for i in range(options.top_log_probs))
            generation.put(Token(token, -0.5, top, finish))
            if finish is not None:
                break
        self.running -= 1
        generation.put(None)

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
def serving(engine: Engine) -> Callable[..., Any]:
    """Start a server with settings of the test's own."""

    def start(backend: Any = None, **settings: Any) -> Any:
        return running(engine, backend, **settings)

    return start


@pytest.fixture(scope="module")
def real(engine: Engine) -> Iterator[Served]:
    """The engine behind HTTP."""
    with running(engine) as served:
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
