"""What a server did, as Prometheus reads it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seqloom.serving.served import Models, models_of

_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The bounds by which the seconds of answers are counted."""
router = APIRouter(tags=["server"])


class Counted:
    """An ASGI application around another, which counts the answers by route, and their seconds."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.answers, self.seconds = app, Counter[tuple[str, int]](), Counter[str]()
        self.within = Counter[tuple[str, float]]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 499  # the client went before an answer began

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        scope["counted"] = self
        try:
            await self.app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            taken = time.monotonic() - began
            self.answers[route, status] += 1
            self.seconds[route] += taken  # type: ignore[assignment]
            self.within.update((route, bound) for bound in _BUCKETS if taken <= bound)

    def lines(self, models: Models) -> Iterator[str]:
        """The metrics."""
        yield "# TYPE seqloom_requests_total counter"
        for (route, status), count in sorted(self.answers.items()):
            yield f'seqloom_requests_total{{route="{route}",status="{status}"}} {count}'
        yield "# TYPE seqloom_request_seconds histogram"
        totals = Counter[str]()
        for (route, _), count in self.answers.items():
            totals[route] += count
        for route, count in sorted(totals.items()):
            for bound in _BUCKETS:
                yield f'seqloom_request_seconds_bucket{{route="{route}",le="{bound:g}"}} {self.within[route, bound]}'
            yield f'seqloom_request_seconds_bucket{{route="{route}",le="+Inf"}} {count}'
            yield f'seqloom_request_seconds_sum{{route="{route}"}} {self.seconds[route]:.6f}'
            yield f'seqloom_request_seconds_count{{route="{route}"}} {count}'
        yield "# TYPE seqloom_tokens_total counter"
        for served in models:
            for kind in ("prompt", "completion"):
                yield f'seqloom_tokens_total{{model="{_quoted(served.name)}",kind="{kind}"}} {served.tokens[kind]}'
        for name in ("active", "waiting"):
            yield f"# TYPE seqloom_{name} gauge"
            for worker in models.workers:
                yield f'seqloom_{name}{{run="{_quoted(worker.name)}"}} {getattr(worker, name)}'


def _quoted(name: str) -> str:
    return name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> PlainTextResponse:
    """Counts of answers and tokens, seconds of answers, and the requests of this moment."""
    counted: Counted = request.scope["counted"]
    text = "".join(f"{line}\n" for line in counted.lines(models_of(request)))
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
