"""Around every request: the size of its body, and counting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core.infer.server.errors import ApiError, error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from internlm_core.infer.server.service import Metrics

__all__ = ["BodyLimit", "Counting"]


class BodyLimit:
    """Refuses bodies over a size, before they are read where their length is said.

    Args:
        app: What is inside.
        limit: Bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, size, started = self._limit, 0, False
        too_large = ApiError(413, f"the request is larger than {limit} bytes", "request_too_large")
        said = dict(scope["headers"]).get(b"content-length", b"")
        if said.isdigit() and int(said) > limit:
            await error_response(too_large)(scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                # What came so far is dropped; whatever the routes make of it, 413 is answered.
                return {"type": "http.request", "body": b"", "more_body": False}
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if size > limit and not started:
                return
            started = True
            await send(message)

        await self._app(scope, counted, noted)
        if size > limit and not started:
            await error_response(too_large)(scope, receive, send)


class Counting:
    """Counts requests by route and status.

    Args:
        app: What is inside.
        metrics: Where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count it when its answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The route's own pattern: paths of strangers must not become labels.
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(route, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, noted)
