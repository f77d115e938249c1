"""For whom a server answers, and how much it takes."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from in_process import clients

from seqloom.serving.app import make_app
from seqloom.serving.limits import BODY, HEADERS, Access, Guard
from seqloom.serving.served import Models
from seqloom.serving.work import Worker

ROUTES = [("GET", "/healthz"), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/none")]
TOKEN = Access("0.0.0.0", token="open sesame", names=("models.example.org",))


def code(response: Any) -> str:
    return str(response.json()["error"]["code"])


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8000", True),
        ("localhost", True),
        ("LOCALHOST:9", True),
        ("[::1]:8000", True),
        ("evil.example.org", False),
        ("127.0.0.1.evil.example.org:8000", False),
        ("localhost.evil.example.org", False),
        ("192.168.0.7", False),
        ("", False),
    ],
)
def test_another_name_of_the_server_is_refused(ask, host, known):
    for method, path in ROUTES:
        response = ask(method, path, headers={"host": host})
        assert (response.status_code != 421) == known
        assert known or code(response) == "wrong_host"


def test_a_named_host_is_known(ask):
    bearer = {"authorization": "Bearer open sesame"}
    for host, status in (("models.example.org:80", 200), ("10.0.0.1", 200), ("evil.example.org", 421)):
        assert ask("GET", "/healthz", TOKEN, headers=bearer | {"host": host}).status_code == status


@pytest.mark.parametrize("origin", ["http://evil.example.org", "null", "http://127.0.0.1:9999", "https://127.0.0.1"])
def test_pages_of_others_may_not_ask(ask, origin):
    for method, path in (*ROUTES, ("POST", "/v1/completions"), ("OPTIONS", "/v1/completions")):
        response = ask(method, path, headers={"origin": origin})
        assert response.status_code == 403
        assert not [name for name in response.headers if name.startswith("access-control")]
    assert ask("GET", "/healthz", headers={"origin": "http://127.0.0.1:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Bearer open", 401),
        ("open sesame", 401),
        ("Basic !", 401),
        ("Bearer ö", 401),
        ("Bearer open sesame", 200),
        ("bearer open sesame", 200),
        (f"Basic {base64.b64encode(b'me:open sesame').decode()}", 200),
    ],
)
def test_every_route_needs_the_token(ask, authorization, status):
    headers = {} if authorization is None else {"authorization": authorization.encode()}
    for method, path in ROUTES:
        response = ask(method, path, TOKEN, headers=headers)
        assert response.status_code == (404 if path == "/none" and status == 200 else status)
        if status == 401:
            assert code(response) == "invalid_api_key"
            assert "Bearer" in response.headers["www-authenticate"]


def test_every_answer_has_the_headers(ask):
    for access, method, path in ((None, *ROUTES[0]), (None, *ROUTES[4]), (TOKEN, *ROUTES[0])):
        headers = ask(method, path, access).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"


def test_large_requests_are_refused(ask):
    assert code(ask("POST", "/v1/completions", content=b" " * (BODY + 1))) == "too_large"
    assert code(ask("GET", "/healthz", headers={"x": "y" * HEADERS})) == "too_large"

    def unknown_length() -> Iterator[bytes]:
        yield from (b" " * 2**16 for _ in range(17))

    async def sent() -> Iterator[bytes]:
        for part in unknown_length():
            yield part

    assert code(ask("POST", "/v1/completions", content=sent())) == "too_large"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 50_000, b'{"model": "lm", "prompt": "\\ud800"}', b'{"model": "lm", "\\ud800": 1}', b"\xff"],
)
def test_what_is_no_request_is_refused(ask, body):
    response = ask("POST", "/v1/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/images/generations", "/v1/files", "/docs", "/redoc", "/page"])
def test_what_is_not_served_is_not_found(ask, path):
    assert ask("POST", path, json={}).status_code in (404, 405)
    assert ask("GET", path).status_code == 404


class Held:
    """A job of a worker that waits until it is let go."""

    def __init__(self, worker: Worker) -> None:
        self.go, self.begun, self.steps = threading.Event(), threading.Event(), 0
        self.ticket = worker.steps(self._steps)

    def _steps(self) -> Iterator[int]:
        self.begun.set()
        self.go.wait(10)
        while True:
            self.steps += 1
            time.sleep(0.005)
            yield self.steps


def test_too_many_requests_are_told_to_come_back(models: Models, monkeypatch):
    worker = models.get("lm").worker
    monkeypatch.setattr(worker, "_most_waiting", 2)
    monkeypatch.setattr(worker, "_most_active", 1)

    async def go() -> None:
        held = [Held(worker)]
        held[0].begun.wait(5)
        held += [Held(worker), Held(worker)]
        async with clients(models) as client:
            began = time.monotonic()
            answer = await client.post("/v1/completions", json={"model": "lm", "prompt": "ba"})
            assert time.monotonic() - began < 0.05
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert code(answer) == "rate_limit_exceeded"
            assert (await client.get("/healthz")).status_code == 200
        for one in held:
            one.go.set()
            one.ticket.cancel()

    asyncio.run(go())
    wait_for(lambda: worker.active == worker.waiting == 0)


def wait_for(true: Any, seconds: float = 5.0) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.005)
    return time.monotonic() - began


async def asked(app: Any, body: dict[str, Any], gone: asyncio.Event) -> list[dict[str, Any]]:
    """What an application sends to a client that goes at an event."""
    sent: list[dict[str, Any]] = []
    first = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if first:
            return first.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message.get("body", b"").startswith(b"data"):
            gone.set()

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "raw_path": b"", "query_string": b""}
    await app({**scope, "headers": headers, "http_version": "1.1", "scheme": "http"}, receive, send)
    return sent


@pytest.mark.parametrize("stream", [True, False])
def test_who_goes_frees_the_place(models: Models, stream, monkeypatch):
    worker, generator = models.get("lm").worker, models.get("lm").predictor
    step = generator.engine.step
    monkeypatch.setattr(generator.engine, "context", None)
    monkeypatch.setattr(generator.engine, "step", lambda *each: (time.sleep(0.01), step(*each))[1])
    body = {"model": "lm", "prompt": "ba", "max_tokens": 10_000, "min_tokens": 10_000, "stream": stream}

    async def go() -> float:
        gone = asyncio.Event()
        task = asyncio.ensure_future(asked(make_app(models, Access()), body, gone))
        while not (worker.active and worker._decoders[generator]._owners):
            await asyncio.sleep(0.005)
        if stream:
            await gone.wait()
        gone.set()
        began = time.monotonic()
        await task
        while worker.active:
            await asyncio.sleep(0.002)
        return time.monotonic() - began

    assert asyncio.run(go()) < 0.25
    assert not worker._decoders[generator]._owners


def test_an_answer_that_takes_too_long_ends(models: Models):
    worker = models.get("lm").worker

    async def go() -> list[dict[str, Any]]:
        app = make_app(models, Access())
        app.app.seconds = 0.1
        held = Held(worker)
        held.begun.wait(5)
        sent = await asked(app, {"model": "lm", "prompt": "ba"}, asyncio.Event())
        held.go.set()
        held.ticket.cancel()
        return sent

    sent = asyncio.run(go())
    assert sent[0]["status"] == 504
    assert json.loads(sent[1]["body"])["error"]["code"] == "timeout"
    wait_for(lambda: worker.active == worker.waiting == 0)


def test_what_fails_is_an_error_of_the_server_and_no_more(ask, models: Models, monkeypatch):
    generator = models.get("lm").predictor

    def failing(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(generator.engine, "step", failing)
    response = ask("POST", "/v1/completions", json={"model": "lm", "prompt": "ba"})
    assert response.status_code == 500
    assert "secret" not in response.text
    monkeypatch.undo()
    assert ask("POST", "/v1/completions", json={"model": "lm", "prompt": "ba"}).status_code == 200


def test_sockets_of_other_kinds_are_closed():
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def none(*_: Any) -> Any:
        raise AssertionError

    asyncio.run(Guard(none, Access())({"type": "websocket"}, none, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_metrics_count_answers_and_tokens(ask):
    answer = ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for name in ('seqloom_tokens_total{model="lm",kind="completion"}', 'seqloom_active{run="lm"} 0'):
        assert name in answer.text
