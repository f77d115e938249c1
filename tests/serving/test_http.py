"""The server at a real socket: slow and large requests, clients that go, and its end."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx2
import openai
import pytest

from seqloom.serving import http
from seqloom.serving.app import make_app
from seqloom.serving.http import listening, server_of
from seqloom.serving.limits import Access
from seqloom.serving.served import Models

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@contextmanager
def serving(models: Models) -> Iterator[tuple[str, int, Any]]:
    """The address and the port of a server, and the server."""

    class Kept(Models):
        """Other tests need the models afterwards."""

        def close(self) -> None: ...

    with listening("127.0.0.1", 0) as listener:
        server = server_of(make_app(Kept(models.by_name), Access()))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}", port, server
        finally:
            server.should_exit = True
            thread.join()


def slow(models: Models, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Lets every step of the language model take longer, and lets it write without an end."""
    engine = models.get("lm").predictor.engine
    step = engine.step
    monkeypatch.setattr(engine, "context", None)
    monkeypatch.setattr(engine, "step", lambda *each: (time.sleep(seconds), step(*each))[1])


def closed(connection: socket.socket) -> bytes:
    """What a connection gets before it is closed."""
    received = b""
    with suppress(ConnectionResetError):  # what it sent last may not have been read
        while part := connection.recv(2**16):
            received += part
    return received


def test_slow_and_large_requests_are_closed_and_others_are_answered(models: Models, monkeypatch):
    monkeypatch.setattr(http, "RECEIVED_WITHIN", 1.0)
    with ExitStack() as stack, serving(models) as (url, port, _):
        kept = stack.enter_context(httpx2.Client(base_url=url))
        assert [kept.get("/healthz").status_code for _ in range(3)] == [200] * 3

        def connected() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))

        senders = [connected() for _ in range(200)]
        for number, sender in enumerate(senders):  # some stay within the headers, others within the body
            sender.sendall(HEAD + (b"Content-Length: 100\r\n\r\n{" if number % 2 else b"X: "))
        began = time.monotonic()
        assert kept.get("/healthz").status_code == 200
        assert time.monotonic() - began < 1
        for _ in range(3):
            time.sleep(0.3)
            for sender in senders[:10]:
                with suppress(OSError):
                    sender.sendall(b"x")
        assert [closed(sender) for sender in senders] == [b""] * 200
        assert time.monotonic() - began < 5
        large = connected()
        large.sendall(HEAD + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(40)) + b"\r\n")
        assert closed(large).startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


def test_a_client_that_goes_frees_its_place_and_an_end_finishes_what_runs(models: Models, monkeypatch):
    slow(models, monkeypatch, 0.01)
    worker = models.get("lm").worker
    request: Any = {"model": "lm", "prompt": "ba", "extra_body": {"min_tokens": 10**6}}
    with serving(models) as (url, _, server), openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        stream = client.completions.create(max_tokens=10**6, stream=True, **request)
        next(iter(stream))
        assert worker.active == 1
        stream.close()
        began = time.monotonic()
        while worker.active:
            time.sleep(0.005)
        assert time.monotonic() - began < 0.25
        pieces = iter(client.completions.create(max_tokens=40, stream=True, **request))
        first = next(pieces)
        server.should_exit = True
        assert [first, *pieces][-1].choices[0].finish_reason == "length"
    with pytest.raises(httpx2.HTTPError):
        httpx2.get(f"{url}/healthz")
