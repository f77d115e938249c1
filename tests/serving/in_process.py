"""A client of a server in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpx2

from seqloom.serving.app import make_app
from seqloom.serving.limits import Access
from seqloom.serving.served import Models


@asynccontextmanager
async def clients(models: Models, access: Access | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server in this process."""
    transport = httpx2.ASGITransport(app_of(models, access or Access()), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", trust_env=False) as client:
        yield client


@cache
def app_of(models: Models, access: Access) -> Any:
    """The application for models: it takes longer to make than to ask."""
    return make_app(models, access)
