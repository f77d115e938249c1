"""What a request must be like to be answered: for whom, how large, how long; the same for all routes."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seqloom.serving.errors import error_body

BODY, HEADERS = 2**20, 2**14
"""The most bytes of a request: of its body, and of its first line and headers."""
RECEIVED_WITHIN, ANSWERED_WITHIN = 10.0, 60.0
"""Seconds in which a request must have come whole, and in which its answer ends."""
_POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
SAFE_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
"""Headers of every response; there are none of CORS."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Args:
        host: the address that the server listens at.
        token: what every request must bring; "" = nothing.
        names: further names of the server in the header Host.
    """

    host: str = "127.0.0.1"
    token: str = ""
    names: tuple[str, ...] = ()

    def knows(self, host: str) -> bool:
        """Whether the header Host names this server.

        Where a page makes a browser believe that its own name is our address (DNS rebinding), it is that name which
        the header has. An address cannot be rebound.
        """
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower()
        if name in ("localhost", self.host.lower(), *map(str.lower, self.names)):
            return True
        try:
            return ip_address(name).is_loopback or not is_loopback(self.host)
        except ValueError:
            return False

    def admits(self, authorization: str) -> bool:
        """Whether the header Authorization has the token: as that of a bearer, or as a browser's password."""
        if not self.token:
            return True
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode().partition(":")[2]
            except ValueError:
                value = ""
        elif scheme.lower() != "bearer":
            value = ""
        return hmac.compare_digest(value.strip().encode(), self.token.encode())

    def refuses(self, headers: Sequence[tuple[bytes, bytes]]) -> tuple[int, str, str] | None:
        """The status, message and code with which a request with these headers is refused; None = it is not."""
        if sum(len(name) + len(value) + 4 for name, value in headers) > HEADERS:
            return 431, f"the headers are larger than {HEADERS:,} bytes", "too_large"
        every = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        named = dict(every)
        hosts = [value for name, value in every if name == "host"]
        if len(hosts) != 1 or not self.knows(hosts[0]):
            return 421, "the header Host names another server", "wrong_host"
        origin = named.get("origin")
        if origin is not None and origin.lower() not in {f"{s}://{hosts[0].lower()}" for s in ("http", "https")}:
            return 403, "pages of other servers may not ask this one", "wrong_origin"
        if not self.admits(named.get("authorization", "")):
            return 401, "the token is missing or wrong: Authorization: Bearer TOKEN", "invalid_api_key"
        return None


class Guard:
    """An ASGI application around another: refuses what it should not see, and ends what nobody waits for.

    Args:
        app: the application.
        access: who may ask.
        seconds: in which an answer ends.
    """

    def __init__(self, app: ASGIApp, access: Access, seconds: float = ANSWERED_WITHIN) -> None:
        self.app, self.access, self.seconds = app, access, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send)
        if (refused := self.access.refuses(scope["headers"])) is not None:
            await answer.refuse(*refused)
            return
        body = await _body(scope, receive)
        if body is None:
            await answer.refuse(413, f"the body is larger than {BODY:,} bytes", "too_large")
        elif isinstance(body, bytes):
            await self._answered(scope, body, receive, answer)

    async def _answered(self, scope: Scope, body: bytes, receive: Receive, answer: _Answer) -> None:
        """Runs the application until it ends, the client goes, or the time is over."""
        gone, parts = asyncio.Event(), [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            if parts:
                return parts.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        work = asyncio.ensure_future(self.app(scope, receive_again, answer.send))
        watching = asyncio.ensure_future(watch())
        try:
            await asyncio.wait({work, watching}, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            gone.set()
            if not work.done():
                late = not watching.done()
                work.cancel()
                await asyncio.wait({work})
                if late:
                    await answer.refuse(504, f"there is no answer after {self.seconds:g} seconds", "timeout")
            if not work.cancelled():
                work.result()
        finally:
            watching.cancel()
            work.cancel()


class _Answer:
    """Sends a response with the headers that every response has."""

    def __init__(self, send: Send) -> None:
        self._send, self._begun = send, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            message = {**message, "headers": [*message.get("headers", ()), *SAFE_HEADERS]}
        await self._send(message)

    async def refuse(self, status: int, message: str, code: str) -> None:
        """Sends an error, unless a response has begun."""
        if self._begun:
            return
        body = error_body(status, message, code)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 401:
            headers += [(b"www-authenticate", b'Basic realm="seqloom"'), (b"www-authenticate", b"Bearer")]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


async def _body(scope: Scope, receive: Receive) -> bytes | bool | None:
    """The whole body of a request; None = it is too large, False = the client went."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not declared.isdigit() or int(declared) > BODY:
        return None
    body = bytearray()
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            return False
        body += message.get("body", b"")
        if len(body) > BODY:
            return None
        if not message.get("more_body", False):
            return bytes(body)
