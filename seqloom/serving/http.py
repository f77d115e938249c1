"""The server at a socket: uvicorn, with a bound on the time in which a request must have come."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from seqloom.errors import UsageError
from seqloom.serving.limits import ANSWERED_WITHIN, HEADERS, RECEIVED_WITHIN


class Timed(H11Protocol):
    """A connection that is closed when a request has not come whole in time: its headers, too, unlike uvicorn's."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A part of a request, or its end."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """A further request may have begun to come before."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._unwatch()
        elif self._timer is None:
            self._timer = self.loop.call_later(RECEIVED_WITHIN, self.transport.close)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; who connects waits until the server runs. Raises UsageError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        problem = f"cannot listen at {host}:{port}: {getattr(error, 'strerror', None) or error}"
        raise UsageError(problem, cure="choose another port: --port 8001") from None


def server_of(app: ASGIApp) -> uvicorn.Server:
    """What serves an application at sockets; `should_exit` ends it when what was asked for is finished."""
    config = uvicorn.Config(
        app,
        http=Timed,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(ANSWERED_WITHIN),
        h11_max_incomplete_event_size=HEADERS,
    )
    return uvicorn.Server(config)


def serve_at(app: ASGIApp, listener: socket.socket) -> None:
    """Serves until a signal to end comes; then finishes what was asked for, and returns."""
    # uvicorn raises the signals that it was sent again when it has ended; that they came is then no news.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        asyncio.run(server_of(app).serve([listener]))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
