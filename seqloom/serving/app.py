"""The application: all routes over the models of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from seqloom import __version__
from seqloom.serving import inside, inspect, metrics, openai, page, tasks, views
from seqloom.serving.errors import add_handlers
from seqloom.serving.limits import Access, Guard
from seqloom.serving.metrics import Counted
from seqloom.serving.served import Models

ROUTERS = (openai.router, tasks.router, metrics.router, inspect.router, inside.router, views.router, page.router)
_ERROR: dict[int | str, dict[str, Any]] = {"4XX": {"description": "The request is refused; `error` has the reason."}}


def make_app(models: Models, access: Access) -> ASGIApp:
    """The application for models, which it closes at its end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        models.close()

    app = FastAPI(
        title="seqloom", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan, responses=_ERROR
    )
    app.state.models = models
    add_handlers(app)
    app.add_api_route("/healthz", healthz, tags=["server"])
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = lambda: _described(app, models)  # type: ignore[method-assign]
    return Counted(Guard(app, access))


def _described(app: FastAPI, models: Models) -> dict[str, Any]:
    """The OpenAPI description, in which each route names the models that answer it."""
    description = FastAPI.openapi(app)
    for path, methods in description["paths"].items():
        names = [served.name for served in models if path in served.uses]
        if names:
            reference = methods["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            schema = description["components"]["schemas"][reference.rpartition("/")[2]]
            schema["properties"]["model"]["enum"] = names
    return description


async def healthz() -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "ok"}
