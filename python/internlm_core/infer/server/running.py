"""Running the application until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import TYPE_CHECKING

import uvicorn

from internlm_core.errors import InferError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

__all__ = ["serve"]


class _Server(uvicorn.Server):
    """Signals are ours: a drained server ends with success."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Answer requests until SIGTERM or Ctrl-C, then let running ones end.

    New connections are refused at once; what runs has `ServerSettings.drain` seconds. A second signal
    ends it at once.

    Raises:
        InferError: The address is taken or can't be used.
    """
    settings = app.state.service.settings
    try:
        listening = socket.create_server((host, port), family=_family(host), backlog=2048)
    except OSError as error:
        raise InferError(f"can't listen on {host}:{port}: {error.strerror}") from None
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=max(1, round(settings.drain)),
        timeout_keep_alive=5,
    )
    server = _Server(config)

    def stop() -> None:
        app.state.service.draining = True
        server.force_exit = server.should_exit
        server.should_exit = True

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        await server.serve(sockets=[listening])

    asyncio.run(run())


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
