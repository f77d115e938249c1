"""Errors as OpenAI's interface has them: {"error": {message, type, param, code}}, with the status of HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from seqloom.errors import SeqloomError
from seqloom.serving.refusals import RefusedError

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_BODY = {
    "json_invalid": "the body is no JSON",
    "model_attributes_type": "the body is no JSON object; send one, with Content-Type: application/json",
}
RETRY_AFTER = "1"
"""Seconds after which an overloaded server is asked again."""


def error_body(status: int, message: str, code: str | None = None, param: str | None = None) -> bytes:
    """The body of a response with an error."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def refusal(
    status: int, message: str, code: str | None = None, param: str | None = None, headers: Mapping[str, str] = {}
) -> Response:
    """A response with an error."""
    return Response(error_body(status, message, code, param), status, dict(headers), "application/json")


def described(error: Exception) -> tuple[int, str, str | None, str | None]:
    """The status, message, code and parameter of an error."""
    if isinstance(error, RefusedError):
        message = f"{error.problem}; {error.cure}" if error.cure else error.problem
        return error.status, message, error.code, error.param
    if isinstance(error, SeqloomError):  # its cures are for those at a command line
        return 400, f"{error.where}: {error.problem}" if error.where else error.problem, None, None
    return 500, "the server failed", None, None


async def _refused(_: Request, error: Exception) -> Response:
    status, message, code, param = described(error)
    return refusal(status, message, code, param, {"retry-after": RETRY_AFTER} if status == 429 else {})


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors: Any = error.errors()
    # Of the forms that a value may have, the one it has says more than that it has not the first.
    first = next((each for each in errors if not each["type"].endswith("_type")), errors[0])
    if first["type"] == "json_invalid" or first["loc"] == ("body",):
        return refusal(400, _BODY.get(first["type"], _BODY["model_attributes_type"]), first["type"])
    # What names a form that a value may have is no key of the request.
    parts = map(str, first["loc"])
    named = [part for part in parts if part != "body" and not (set("[-") & {*part} or part[:1].isupper())]
    param = ".".join(named)[:100]
    return refusal(400, f"{param}: {first['msg']}" if param else first["msg"], first["type"], param or None)


async def _missing(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail, headers=error.headers or {})


async def _failed(_: Request, error: Exception) -> Response:
    return refusal(*described(error))


def add_handlers(app: FastAPI) -> None:
    """Makes all errors of an application errors of this form."""
    app.add_exception_handler(SeqloomError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _missing)
    app.add_exception_handler(Exception, _failed)
