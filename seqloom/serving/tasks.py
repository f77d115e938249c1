"""Routes for what OpenAI's interface has no name for: /v1/translate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request

from seqloom.serving.asked import Translation
from seqloom.serving.served import Served, found

router = APIRouter(tags=["tasks"])
_AT_ONCE = 8
"""The texts of a request that are computed in one step, after which other requests have their turn."""


@router.post("/v1/translate")
async def translate(asked: Translation, request: Request) -> dict[str, Any]:
    """Translations of texts, best first, with the log-probability of each."""
    served = found(request, asked.model, "/v1/translate")
    texts = [asked.texts] if isinstance(asked.texts, str) else asked.texts
    options = asked.options(asked.max_tokens)

    def steps() -> Iterator[list[Any]]:
        for start in range(0, len(texts), _AT_ONCE):
            part = texts[start : start + _AT_ONCE]
            yield served.predictor.translate(part, [asked.prefix] * len(part) if asked.prefix else None, **options)

    rows = [row for part in await served.worker.submit(steps).all() for row in part]
    return answered(served, translations=[[vars(one) for one in row] for row in rows])


def answered(served: Served, **results: Any) -> dict[str, Any]:
    """The body of a response."""
    return {"object": "list", "model": served.name, **results}
