"""Routes of the page for what happens inside a model: attention, layers, searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from seqloom.inspection.inside.walk import attention_bytes, lens, walk
from seqloom.serving.asked import Searched, Text
from seqloom.serving.inspect import Read, source_of
from seqloom.serving.served import Served, models_of
from seqloom.workflows.inside import attributions, inside, looked_at, without_head
from seqloom.workflows.searched import beam_tree

router = APIRouter(prefix="/inspect", include_in_schema=False)
T = TypeVar("T")
Name = Annotated[str, Field(max_length=200)]
Number = Annotated[int, Field(ge=0, lt=2**20)]


class Input(Read):
    """An input, and what is read as its translation; "" = the model's own."""

    target: Text = ""


class At(Input):
    """A place in a model: an attention layer of a kind, a head, a position of a side."""

    kind: Name = ""
    layer: Name = ""
    head: Number = 0
    side: Name = ""
    position: Number = 0
    output: Number | None = None
    exact: bool = False


class Search(Searched):
    """A text that is translated or continued by a search."""

    text: Text = ""


async def _computed(asked: Any, request: Request, compute: Callable[[Served], T]) -> T:
    """What is computed with the model of a request, in its thread."""
    served = models_of(request).get(asked.model)

    def steps() -> Iterator[T]:
        yield compute(served)

    return (await served.worker.submit(steps).all())[0]


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
        looked = looked_at(served.predictor, source_of(served, asked), asked.second, asked.target)
        return attention_bytes(looked, asked.kind, asked.layer)

    return Response(await _computed(asked, request, compute), media_type="application/octet-stream")


@router.post("/walk")
async def walk_at(asked: At, request: Request) -> dict[str, Any]:
    """The numbers at a position, layer by layer."""

    def compute(served: Served) -> dict[str, Any]:
        looked = looked_at(served.predictor, source_of(served, asked), asked.second, asked.target)
        return walk(looked, asked.side, asked.position, asked.layer, asked.head)

    return await _computed(asked, request, compute)


@router.post("/lens")
async def lens_of(asked: Input, request: Request) -> dict[str, Any]:
    """The logit lens."""

    def compute(served: Served) -> dict[str, Any]:
        return lens(looked_at(served.predictor, source_of(served, asked), asked.second, asked.target))

    return await _computed(asked, request, compute)


@router.post("/off")
async def off(asked: At, request: Request) -> dict[str, Any]:
    """What changes when a head is switched off."""

    def compute(served: Served) -> dict[str, Any]:
        source = source_of(served, asked)
        return without_head(served.predictor, source, asked.layer, asked.head, **_beside(asked))

    return await _computed(asked, request, compute)


@router.post("/counted")
async def counted(asked: At, request: Request) -> dict[str, Any]:
    """What each position of the input counts for an output."""

    def compute(served: Served) -> dict[str, Any]:
        looked = looked_at(served.predictor, source_of(served, asked), asked.second, asked.target)
        return attributions(looked, asked.position, asked.output, asked.exact)

    return await _computed(asked, request, compute)


@router.post("/beam")
async def beam(asked: Search, request: Request) -> dict[str, Any]:
    """The tree of a search."""
    return await _computed(asked, request, lambda s: beam_tree(s.predictor, asked.text, **asked.options(None)))
