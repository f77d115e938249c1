"""Routes of the page for what happens inside a model: attention, layers, searches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from seqloom.inspection.inside.inspected import Inspected
from seqloom.inspection.inside.walk import attention_bytes, cell_of, head_of, lens, walk
from seqloom.serving.asked import Asked, Searched, Text
from seqloom.serving.inspect import Given, source_of
from seqloom.serving.served import Served, models_of
from seqloom.serving.views import part_of
from seqloom.workflows.inside import attributions, inside, looked_at, sample_of, without_head
from seqloom.workflows.searched import beam_tree

router = APIRouter(prefix="/inspect", include_in_schema=False)
T = TypeVar("T")
Name = Annotated[str, Field(max_length=200)]
Number = Annotated[int, Field(ge=0, lt=2**20)]


class Input(Given):
    """An input, and what is read as its translation; "" = the model's own."""

    target: Text = ""


class At(Input):
    """A place in a model: an attention layer of a kind, a head, a position of a side."""

    kind: Name = ""
    layer: Name = ""
    head: Number = 0
    side: Name = ""
    position: Annotated[int, Field(ge=-1, lt=2**20)] = 0
    output: Number | None = None
    instead: Number | None = None


class Search(Given, Searched):
    """An input that is translated, continued or described by a search."""


async def _computed(asked: Any, request: Request, compute: Callable[[Served], T]) -> T:
    """What is computed with the model of a request, in its thread."""
    served = models_of(request).get(asked.model)

    def steps() -> Iterator[T]:
        yield compute(served)

    return (await served.worker.steps(steps).all())[0]


def _beside(asked: Input) -> dict[str, str]:
    return {"second": asked.second, "target": asked.target}


@router.post("/inside")
async def inside_of(asked: Input, request: Request) -> dict[str, Any]:
    """What a model does with an input: positions, predictions, and which layers there are."""
    return await _computed(asked, request, lambda s: inside(s.predictor, source_of(s, asked), **_beside(asked)))


@router.post("/weights", response_class=Response)
async def weights(asked: At, request: Request) -> Response:
    """The attention weights of a layer (heads, rows, columns), 16 bits each."""

    def compute(served: Served) -> bytes:
        looked = looked_at(served.predictor, source_of(served, asked), **_beside(asked))
        return attention_bytes(looked, asked.kind, asked.layer)

    return Response(await _computed(asked, request, compute), media_type="application/octet-stream")


_LOOKS: dict[str, Callable[[Inspected, At], dict[str, Any]]] = {
    "walk": lambda looked, at: walk(looked, at.side, at.position),
    "head": lambda looked, at: head_of(looked, at.layer, at.head),
    "cell": lambda looked, at: cell_of(looked, at.layer),
    "lens": lambda looked, at: lens(looked),
    "counted": lambda looked, at: attributions(looked, at.position, at.output, at.instead),
}
"""What is asked about an input that was looked at, by name: the numbers at a position, of a head, of a recurrent layer,
after each layer; what counted for an output."""


async def _looked(name: str, asked: At, request: Request) -> dict[str, Any]:
    def compute(served: Served) -> dict[str, Any]:
        return _LOOKS[name](looked_at(served.predictor, source_of(served, asked), **_beside(asked)), asked)

    return await _computed(asked, request, compute)


for _name in _LOOKS:
    router.add_api_route(f"/{_name}", partial(_looked, _name), methods=["POST"])


@router.post("/off")
async def off(asked: At, request: Request) -> dict[str, Any]:
    """What changes when a head is switched off."""

    def compute(served: Served) -> dict[str, Any]:
        source = source_of(served, asked)
        return without_head(served.predictor, source, asked.layer, asked.head, **_beside(asked))

    return await _computed(asked, request, compute)


@router.post("/sample")
async def sample(asked: Asked, request: Request) -> dict[str, str]:
    """An input to begin with."""
    served = models_of(request).get(asked.model)
    return await asyncio.to_thread(sample_of, served.loaded.run, served.predictor, part_of(served))


@router.post("/beam")
async def beam(asked: Search, request: Request) -> dict[str, Any]:
    """The tree of a search."""
    return await _computed(asked, request, lambda s: beam_tree(s.predictor, source_of(s, asked), **asked.options(None)))
