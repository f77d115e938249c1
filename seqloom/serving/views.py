"""Routes of the page that show what is in a run: training, attention by checkpoint, embeddings, how far it reaches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from seqloom.errors import UsageError
from seqloom.inspection.attention import example_part
from seqloom.inspection.charts import scatter
from seqloom.inspection.microscope_page import microscope_parts
from seqloom.inspection.page import element, join
from seqloom.inspection.report import samples_part, training_part
from seqloom.models.word_vectors import WordVectors
from seqloom.run import Run
from seqloom.serving.asked import Asked
from seqloom.serving.forms import streamed
from seqloom.serving.inspect import Given, source_of, tables_of
from seqloom.serving.served import Served, models_of
from seqloom.tasks.building import Loaded, load_run
from seqloom.tasks.task import RunConfig, config_of
from seqloom.text.vocabulary import Vocabulary
from seqloom.training.log import Reporter
from seqloom.workflows.microscope import measured

router = APIRouter(prefix="/inspect", include_in_schema=False)
Step = Annotated[int, Field(ge=-1, le=10**12)]
Word = Annotated[str, Field(min_length=1, max_length=200)]
_MAPPED, _LEAST = 150, 3  # tokens on the first map, and their least length
_NEAR = 12


class Watched(Asked):
    """A run whose training is watched; `rows` is how many rows of its log are known."""

    rows: Annotated[int, Field(ge=-1)] = -1


@router.post("/training")
async def training(asked: Watched, request: Request) -> dict[str, Any]:
    """The curves and samples of a training, where there are new ones, and the steps of its checkpoints."""
    return await asyncio.to_thread(_training, models_of(request).get(asked.model).loaded, asked.rows)


def _training(loaded: Loaded[Any], known: int) -> dict[str, Any]:
    run = Run(loaded.run.path)  # it may have grown
    metrics, samples = run.rows("metrics.jsonl"), run.rows("samples.jsonl")
    pointed = run.pointed("best")
    found: dict[str, Any] = {
        "rows": len(metrics) + len(samples),
        "step": metrics[-1].get("step", 0) if metrics else 0,
        "finished": "training" in run.info() or not metrics,
        "checkpoints": [checkpoint.step for checkpoint in run.checkpoints()],
        "best": -1 if pointed is None else pointed.step,
    }
    if found["rows"] == known:
        return found
    texts = [row[key] for row in samples[-1:] for key in ("source", "text", "prompt") if key in row]
    charts, shown = join(training_part(metrics, loaded.config.unit)), join(samples_part(samples))
    return {**found, "charts": charts, "samples": shown, "text": texts[0] if texts else ""}


class Looked(Given):
    """An input whose attention is shown, with the weights of a step; -1 = those of the model that is served."""

    step: Step = -1


@router.post("/look")
async def look(asked: Looked, request: Request) -> dict[str, Any]:
    """What a model attends to in an input, as the report shows it."""
    served = models_of(request).get(asked.model)
    source = await asyncio.to_thread(source_of, served, asked)
    whole = f"{source}\t{asked.second}" if asked.second else source

    def steps() -> Iterator[dict[str, Any]]:
        loaded = served.loaded if asked.step < 0 else _at(served.loaded.run.path, part_of(served), asked.step)
        use = served.predictor if asked.step < 0 else loaded.predictor()
        seen = loaded.config.look(loaded.run, use, [whole], [])
        parts = [example_part(i, each) for i, each in enumerate(seen.examples, 1)]
        yield {"markup": join([*parts, *seen.sections.values()])}

    return (await served.worker.steps(steps).all())[0]


@lru_cache(maxsize=2)
def _at(path: Path, part: str, step: int) -> Loaded[Any]:
    """A run with the weights of a step."""
    return load_run(Run.open(path).at(step), RunConfig, task=part)


def part_of(served: Served) -> str:
    """Which task of a run of several a model is for; "" = there is one."""
    name = served.name.rpartition("/")[2]
    return name if name in config_of(served.loaded.run, RunConfig).parts else ""


class Embedded(Asked):
    """A table of embeddings, by its number, and words of it."""

    table: Annotated[int, Field(ge=0, le=100)] = 0
    words: Annotated[list[Word], Field(max_length=400)] = []  # noqa: RUF012


class Analogy(Embedded):
    """Words, of which the nearest are asked for; or three, and what is to the third as the second is to the first."""

    analogy: bool = False


@router.post("/map")
async def map_of(asked: Embedded, request: Request) -> dict[str, Any]:
    """A map of words, or of frequent ones."""
    served, tables = _tables(request, asked)

    def steps() -> Iterator[dict[str, Any]]:
        vectors = _vectors(tables, asked.table)
        words = [_found(vectors, word) for word in asked.words] or _frequent(vectors)
        title = f"{len(words)} of {len(vectors.vocabulary):,} in the plane in which they differ most (PCA)"
        yield {"tables": [*tables], "markup": scatter(title, title, words, vectors.map(words)), "words": words}

    return (await served.worker.steps(steps).all())[0]


@router.post("/near")
async def near(asked: Analogy, request: Request) -> dict[str, Any]:
    """The words whose vectors are nearest, with their cosines."""
    served, tables = _tables(request, asked)

    def steps() -> Iterator[dict[str, Any]]:
        vectors = _vectors(tables, asked.table)
        words = [_found(vectors, word) for word in asked.words]
        if not words or (asked.analogy and len(words) != 3):
            raise UsageError("three words are needed" if asked.analogy else "a word is needed", cure="write it")
        if asked.analogy:
            a, b, c = words
            yield {"words": words, "near": vectors.analogy(a, b, c, _NEAR)}
        else:
            yield {"words": words, "near": vectors.similar(words, _NEAR)}

    return (await served.worker.steps(steps).all())[0]


def _tables(request: Request, asked: Embedded) -> tuple[Served, dict[str, Any]]:
    """The tables of a model by name: word vectors, or the embeddings of tokens."""
    served = models_of(request).get(asked.model)
    tables = tables_of(served)
    if asked.table >= len(tables):
        raise UsageError(f"the model {served.name!r} has no such table of embeddings")
    return served, tables


def _vectors(tables: dict[str, Any], number: int) -> WordVectors:
    table = [*tables.values()][number]
    if isinstance(table, WordVectors):
        return table
    _, embedder, tokenizer = table
    weight = embedder.weight.detach().float().cpu().numpy()[: tokenizer.vocab_size]
    names = dict[str, None]()
    for i, name in enumerate(tokenizer.tokens(range(len(weight)))):
        names[name if name not in names else f"{name} ({i})"] = None
    return WordVectors(Vocabulary([*names], weight[:, 0].astype("int64") * 0), weight)


def _found(vectors: WordVectors, word: str) -> str:
    """The word of the table: as it is written, or with the mark of a token that begins a word."""
    index = vectors.vocabulary.index
    return next((name for name in (f"_{word}", f"_{word.lower()}", word) if name in index), word)


def _frequent(vectors: WordVectors) -> list[str]:
    words = vectors.vocabulary.words
    begins = [word for word in words if word[0] == "_" and word[1:].isalpha() and len(word) > _LEAST]
    return (begins or [word for word in words if len(word) >= _LEAST][len(words) // 50 :])[:_MAPPED]


class Measured(Asked):
    """Runs whose reach is measured, over so many sentences of validation."""

    other: str = ""
    sentences: Annotated[int, Field(ge=2, le=64)] = 8


@router.post("/microscope", response_model=None)
async def microscope(asked: Measured, request: Request) -> StreamingResponse:
    """How far back runs remember: a line for each that is measured, then the charts."""
    chosen = [models_of(request).get(name) for name in (asked.model, asked.other) if name]

    def steps() -> Iterator[dict[str, Any]]:
        rows = list[dict[str, Any]]()
        for served in chosen:
            yield {"measuring": served.name}
            rows += measured(served.loaded.run, served.name, asked.sentences, Reporter(0))
        parts = microscope_parts({"sentences": asked.sentences, "runs": rows})
        yield {"markup": join(element("section", element("h3", name), part) for name, part in parts.items())}

    async def parts() -> AsyncGenerator[dict[str, Any], None]:
        async for part in chosen[0].worker.steps(steps):
            yield part

    return await streamed(parts())
