"""The HTTP application: routes, key, limits, documentation."""
# No `from __future__ import annotations`: FastAPI reads the types of the routes below.

import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.utils import get_openapi
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    Response,
    StreamingResponse,
)
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from internlm_core._core import __version__
from internlm_core.errors import InferError
from internlm_core.infer.engine import Engine
from internlm_core.infer.server.backend import Backend, EngineBackend
from internlm_core.infer.server.chat_api import ChatCall
from internlm_core.infer.server.completion_api import CompletionCall
from internlm_core.infer.server.errors import ApiError, install, responses
from internlm_core.infer.server.limits import BodyLimit, Counting
from internlm_core.infer.server.prompts import render_messages
from internlm_core.infer.server.protocol import ChatRequest, CompletionRequest, TokenizeRequest
from internlm_core.infer.server.service import Service
from internlm_core.infer.server.settings import ServerSettings

__all__ = ["create_app"]

RequestT = TypeVar("RequestT", ChatRequest, CompletionRequest)

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/event-stream": {}}}
}


def create_app(
    engine: Engine, settings: ServerSettings | None = None, *, backend: Backend | None = None
) -> FastAPI:
    """An application that serves one engine.

    Args:
        engine: Its model and tokenizer.
        settings: Limits and defaults.
        backend: Writes the answers; a thread over the engine when None.

    Raises:
        InferError: The engine has no tokenizer.
    """
    settings = settings or ServerSettings()
    tokenizer = engine.tokenizer
    if tokenizer is None:
        raise InferError("there is no tokenizer.json in the model's folder: serving needs one")
    backend = backend or EngineBackend(engine, settings.max_running + settings.max_waiting)
    service = Service(
        backend,
        tokenizer,
        settings,
        engine.dialect,
        engine.session_length,
        engine.config.bos_token_id,
        engine.warning,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.draining = True
        backend.close()

    app = FastAPI(
        title="internlm-core",
        version=__version__,
        description="An InternLM2-type model behind OpenAI's API.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    install(app)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(Counting, metrics=service.metrics)
    _add_routes(app, service)
    _document(app)
    return app


def _key_check(
    service: Service,
) -> Callable[[HTTPAuthorizationCredentials | None], Awaitable[None]]:
    bearer = HTTPBearer(auto_error=False, description="Needed where the server was given a key.")

    async def check(
        sent: HTTPAuthorizationCredentials | None = Depends(bearer),  # noqa: B008
    ) -> None:
        key = service.settings.api_key
        given = "" if sent is None else sent.credentials
        if key is not None and not hmac.compare_digest(given.encode(), key.encode()):
            raise ApiError(401, "the API key is missing or wrong", "invalid_api_key")

    return check


def _add_routes(app: FastAPI, service: Service) -> None:
    keyed = [Depends(_key_check(service))]
    settings, tokenizer = service.settings, service.tokenizer

    async def answered(
        kind: Callable[[Service, RequestT], ChatCall | CompletionCall],
        body: RequestT,
        request: Request,
    ) -> Response:
        # A long prompt or a large schema takes its time: meanwhile the other answers go on.
        call = await run_in_threadpool(kind, service, body)
        if body.stream:
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            return StreamingResponse(call.stream(), media_type="text/event-stream", headers=headers)
        return JSONResponse(await call.complete(request))

    documented = {**_STREAM, **responses(400, 401, 404, 408, 413, 429, 503)}

    @app.post("/v1/chat/completions", dependencies=keyed, responses=documented)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation, whole or as a stream of events."""
        return await answered(ChatCall, body, request)

    @app.post("/v1/completions", dependencies=keyed, responses=documented)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continue a text, or several."""
        return await answered(CompletionCall, body, request)

    @app.post("/v1/embeddings", dependencies=keyed, status_code=400, responses=responses(400, 401))
    async def embeddings() -> Response:
        """Refused: a model that writes text has no embeddings."""
        raise ApiError(
            400,
            "this server writes text and has no embeddings: ask a server with an embedding model",
            "unsupported",
        )

    card = {
        "id": settings.model_name,
        "object": "model",
        "created": service.created,
        "owned_by": "internlm-core",
        "max_model_len": service.session,
    }

    @app.get("/v1/models", dependencies=keyed, responses=responses(401))
    async def models() -> dict[str, Any]:
        """The one model of this server."""
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name:path}", dependencies=keyed, responses=responses(401, 404))
    async def model(name: str) -> dict[str, Any]:
        """One model by its name."""
        service.check_model(name)
        return card

    @app.post("/tokenize", dependencies=keyed, responses=responses(400, 401, 413))
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        """Ids of a text, or of a conversation as the model reads it."""
        ids: list[int]
        if body.messages is not None:
            ids = render_messages(body.messages, None, tokenizer, service.dialect)
        else:
            ids = tokenizer.encode_ordinary(body.text or "").tolist()
        return {"tokens": ids, "count": len(ids), "max_model_len": service.session}

    @app.get("/health", responses=responses(503))
    async def health() -> dict[str, Any]:
        """Whether requests are taken."""
        if service.draining:
            raise ApiError(503, "the server is shutting down", "shutting_down")
        return {
            "status": "ok",
            "model": settings.model_name,
            "dialect": service.dialect.name,
            "warning": service.warning,
            "uptime": int(time.time()) - service.created,
        }

    @app.get(
        "/metrics",
        dependencies=keyed,
        responses={
            **responses(401),
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        },
    )
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    page = (resources.files(__package__ or __name__) / "page.html").read_text("utf-8")
    # Everything is in the page itself, and it may talk to this server alone.
    rules = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
        " connect-src 'self'; img-src data:"
    )

    @app.get("/", include_in_schema=False)
    async def chat_page() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": rules})


def _document(app: FastAPI) -> None:
    """The OpenAPI file: wrong fields are answered with 400 in our shape, never FastAPI's 422."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            for methods in made["paths"].values():
                for operation in methods.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                made["components"]["schemas"].pop(name, None)
            app.openapi_schema = json.loads(json.dumps(made))
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
