"""What the routes share: the model, its limits, its counters, and how an answer is waited for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from internlm_core.errors import InferError
from internlm_core.infer.server.backend import QueueFullError
from internlm_core.infer.server.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from starlette.requests import Request

    from internlm_core.chat import Dialect
    from internlm_core.infer.sampling import SamplingParams
    from internlm_core.infer.server.backend import Backend, Generation
    from internlm_core.infer.server.settings import ServerSettings
    from internlm_core.tokenizer import Tokenizer

__all__ = ["Metrics", "Service", "as_engine_error"]

T = TypeVar("T")


class Metrics:
    """Counters in Prometheus' form, of this server alone."""

    def __init__(self, backend: Backend) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "internlm_requests", "Requests by route and status", ["route", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.prompt_tokens = Counter(
            "internlm_prompt_tokens", "Tokens of prompts", registry=self.registry
        )
        self.completion_tokens = Counter(
            "internlm_completion_tokens", "Tokens of answers", registry=self.registry
        )
        self.cancelled = Counter(
            "internlm_cancelled", "Answers given up by their clients", registry=self.registry
        )
        self.first_token = Histogram(
            "internlm_first_token_seconds", "From request to first token", registry=self.registry
        )

        def read(name: str) -> Callable[[], float]:
            return lambda: float(backend.gauges()[name])

        for name in backend.gauges():
            gauge = Gauge(f"internlm_{name}", f"{name} of the engine", registry=self.registry)
            gauge.set_function(read(name))


@dataclass
class Service:
    """One served model.

    Attributes:
        backend: Writes answers.
        tokenizer: Its tokenizer.
        settings: Limits and defaults.
        dialect: Written form of conversations.
        session: Most tokens of a prompt and its answer.
        bos: Put in front of texts; None where the model has none.
        warning: Said in `/health`: that the checkpoint was tuned with another rendering.
        draining: Set when the server shuts down: no new requests.
    """

    backend: Backend
    tokenizer: Tokenizer
    settings: ServerSettings
    dialect: Dialect
    session: int
    bos: int | None
    warning: str | None = None
    draining: bool = False

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.backend)
        self.created = int(time.time())

    def check_model(self, name: str | None) -> None:
        """Refuse requests for another model, and new ones while shutting down."""
        if self.draining:
            raise ApiError(503, "the server is shutting down", "shutting_down")
        if name is not None and name != self.settings.model_name:
            raise ApiError(
                404,
                f"the model {name!r} does not exist; this server has {self.settings.model_name!r}",
                "model_not_found",
                "model",
            )

    def submit(self, prompts: Sequence[tuple[Sequence[int], SamplingParams]]) -> list[Generation]:
        """Have answers written, all or none.

        Raises:
            ApiError: 429 where they would wait too long.
            InferError: The engine refuses one.
        """
        made: list[Generation] = []
        try:
            for ids, sampling in prompts:
                made.append(self.backend.submit(ids, sampling))
        except InferError as error:
            for generation in made:
                generation.cancel()
            if isinstance(error, QueueFullError):
                raise ApiError(429, str(error), "queue_full") from None
            raise
        self.metrics.prompt_tokens.inc(sum(len(ids) for ids, _ in prompts))
        return made

    async def while_connected(
        self, request: Request, work: Coroutine[Any, Any, T], generations: Sequence[Generation]
    ) -> T:
        """Wait for an answer as long as the client does and the deadline allows.

        Raises:
            ApiError: 408 after the deadline; 499 where the client has gone (nobody reads it).
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            done, _ = await asyncio.wait(
                {task, gone},
                timeout=self.settings.deadline,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if task in done:
                try:
                    return task.result()
                except InferError as error:
                    raise as_engine_error(error) from None
            if gone in done:
                self.metrics.cancelled.inc()
                raise ApiError(499, "the client has gone", "client_closed")
            raise self.too_late()
        finally:
            for generation in generations:
                generation.cancel()
            task.cancel()
            gone.cancel()

    def too_late(self) -> ApiError:
        """The deadline has passed."""
        return ApiError(
            408,
            f"the answer took longer than the server's deadline of {self.settings.deadline:g} s:"
            " ask for fewer tokens, or stream",
            "deadline_exceeded",
        )


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def as_engine_error(error: Exception) -> Exception:
    """A backend's failure while an answer was being written."""
    if isinstance(error, InferError):
        return ApiError(503, str(error), "engine_failed")
    return error
