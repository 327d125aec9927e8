"""What a server allows."""

from __future__ import annotations

from pydantic import Field

from internlm_core._config import Config

__all__ = ["ServerSettings"]


class ServerSettings(Config):
    """Limits and defaults of one server.

    Attributes:
        model_name: The name clients ask for.
        api_key: What clients must send as `Authorization: Bearer …`; None asks for none.
        max_body_bytes: Largest request.
        max_prompt_tokens: Longest prompt; the session's length, less one, when None.
        max_running: Answers written at the same time.
        max_waiting: Answers that may wait for a place; further requests get 429.
        deadline: Seconds after which a request is given up with 408.
        drain: Seconds that running requests have to end after SIGTERM.
        temperature: Where a request names none (0.8 is that of InternLM2's published `chat`).
        top_p: Likewise.
        max_tokens: Most tokens of an answer where a request names none.
    """

    model_name: str = "internlm-core"
    api_key: str | None = None
    max_body_bytes: int = Field(default=4 << 20, ge=1)
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    max_running: int = Field(default=16, ge=1)
    max_waiting: int = Field(default=256, ge=0)
    deadline: float = Field(default=600.0, gt=0)
    drain: float = Field(default=30.0, ge=0)
    temperature: float = Field(default=0.8, ge=0, le=2)
    top_p: float = Field(default=0.8, gt=0, le=1)
    max_tokens: int = Field(default=1024, ge=1)
