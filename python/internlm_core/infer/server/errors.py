"""Every failure in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from internlm_core.errors import InternalError, InternlmError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

__all__ = ["ApiError", "ErrorBody", "error_response", "install", "responses"]

_log = logging.getLogger("internlm_core.server")


class _Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not 200."""

    error: _Error


_SUMMARY = {
    400: "The request can't be served as it is",
    401: "The API key is missing or wrong",
    404: "No such model",
    408: "The request took longer than the server allows",
    413: "The request is larger than the server allows",
    429: "Too many requests are waiting",
    503: "The server is shutting down",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route documents besides 200."""
    return {code: {"model": ErrorBody, "description": _SUMMARY[code]} for code in statuses}


class ApiError(Exception):
    """A failure with its HTTP status.

    Args:
        status: HTTP status.
        message: What was wrong and what to do.
        code: A word for programs.
        param: The field that was wrong.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    @property
    def kind(self) -> str:
        """OpenAI's `type` of the error."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def body(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }


def error_response(error: ApiError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer for a failure."""
    if error.status == 429:
        headers = {"Retry-After": "1", **(headers or {})}
    return JSONResponse(error.body(), error.status, headers)


def as_api_error(error: Exception) -> ApiError:
    """What a client is told about any exception."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InternlmError) and not isinstance(error, InternalError):
        return ApiError(400, str(error), "invalid_value")
    _log.error("a request failed", exc_info=error)
    return ApiError(500, "the server failed; its log says why", "internal_error")


def install(app: FastAPI) -> None:
    """Have an app answer every failure in this shape."""

    async def known(_: Request, error: Exception) -> JSONResponse:
        return error_response(as_api_error(error))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        path = [str(part) for part in first["loc"] if part != "body"]
        if first["type"] == "json_invalid":
            return error_response(ApiError(400, "the body is not valid JSON", "invalid_json"))
        field = ".".join(path) or None
        return error_response(
            ApiError(400, f"{field or 'the body'}: {first['msg']}", "invalid_value", field)
        )

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_json")
        made = ApiError(error.status_code, str(error.detail), code)
        return error_response(made, dict(error.headers or {}))

    app.add_exception_handler(ApiError, known)
    app.add_exception_handler(InternlmError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, known)
