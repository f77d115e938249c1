"""Routes of the page: the models there are, and what they write, token by token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import Base64Bytes, Field

from seqloom.data.formats.lines import is_blank
from seqloom.data.sources.pairs import PairSource
from seqloom.decoding.job import Job
from seqloom.decoding.results import Choice
from seqloom.errors import UsageError
from seqloom.models.word_vectors import WordVectors
from seqloom.serving.asked import Asked, Searched, Signal, Steps, Text, illustrated, sent
from seqloom.serving.forms import streamed
from seqloom.serving.refusals import WrongTaskError
from seqloom.serving.served import Served, models_of
from seqloom.tasks.encoder.masked_words import Filler
from seqloom.tasks.encoder.tag import Tagger
from seqloom.tasks.language_model.forecaster import Forecaster
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.task import RunConfig
from seqloom.tasks.writing import Writing
from seqloom.text.chat import Message
from seqloom.text.tokenizer import Tokenizer

router = APIRouter(prefix="/inspect", include_in_schema=False)
Id = Annotated[int, Field(ge=0, lt=2**31)]
_BOXES = {
    "/v1/translate": "translate",
    "/v1/caption": "caption",
    "/v1/chat/completions": "chat",
    "/v1/completions": "continue",
    "/v1/classify": "classify",
    "/v1/answer": "answer",
    "/v1/fill": "fill",
    "/v1/forecast": "forecast",
    "/v1/embeddings": "embed",
}
"""What the box of the page does, by route; of several that a model answers, the first one's."""
_TOP, _LENGTH = 8, 60
"""The alternatives to a token that are reported; the most tokens of a continuation where a request names none."""


def does(served: Served) -> str:
    """What is done with a model in the page's box; "" = nothing."""
    if isinstance(served.predictor, WordVectors):
        return "words"
    if isinstance(getattr(served.predictor, "reader", None), Tagger):
        return "tag"
    if served.beside and isinstance(served.predictor, Translator):
        return "translate"
    return next((name for route, name in _BOXES.items() if route in served.uses), "")


@router.get("/runs")
async def runs(request: Request) -> dict[str, Any]:
    """The models of this server, and what the page may do with each."""
    return {"runs": [_described(served) for served in models_of(request)]}


def _described(served: Served) -> dict[str, Any]:
    config = served.loaded.config
    return {
        "name": served.name,
        "task": served.task,
        "does": does(served),
        "reads": served.modality,
        "beside": served.beside,
        "pairs": bool(getattr(config, "pairs", False)),
        "tables": [*tables_of(served)],
        "looks": type(config).look is not RunConfig.look
        and not isinstance(served.predictor, WordVectors | Forecaster | None),
        "trained": bool(served.loaded.run.rows("metrics.jsonl")),
        "measurable": is_measurable(served),
        "mask": served.predictor.name if isinstance(served.predictor, Filler) else "",
    }


def tables_of(served: Served) -> dict[str, Any]:
    """The tables of a model, each once, by name."""
    if isinstance(served.predictor, WordVectors):
        return {"words": served.predictor}
    found = {id(each[1]): each for each in served.loaded.config.tables(served.loaded.model, served.loaded.assets)}
    names = ("source", "target") if len(found) > 1 else ("tokens",)
    return dict(zip(names, found.values(), strict=False))


def is_measurable(served: Served) -> bool:
    """Whether it has pairs of sentences to be measured with."""
    return isinstance(getattr(served.loaded.config, "data", None), PairSource) and hasattr(served.predictor, "target")


class Given(Asked):
    """An input: a text, the bytes of an image file in Base64, with a text where one is read beside it, or a signal; a
    second text where the model reads two."""

    text: Text = ""
    second: Text = ""
    image: Base64Bytes | None = None
    signal: Signal | None = None


def source_of(served: Served, asked: Given) -> str:
    """The input as a predictor reads it: for a model of images or signals never a text, as it could be a path."""
    if served.modality == "text":
        return asked.text
    if (one := getattr(asked, served.modality)) is None:
        raise UsageError(f"the model {served.name!r} reads {served.modality}s", where=served.modality)
    source = sent(served.predictor.medium, one, served.modality)
    return illustrated(source, asked.text, "text") if served.beside else source


class Continued(Given):
    """A signal, and how many of its next steps are predicted; by default as many as the run does."""

    steps: Steps | None = None


@router.post("/ahead")
async def ahead(asked: Continued, request: Request) -> dict[str, str]:
    """The next steps of a signal, drawn behind the last of those before them."""
    served = models_of(request).get(asked.model)
    served.needs("/v1/forecast")

    def steps() -> Iterator[dict[str, str]]:
        forecaster: Forecaster = served.predictor
        yield {"markup": forecaster.drawn(source_of(served, asked), asked.steps or 0)}

    return (await served.worker.steps(steps).all())[0]


class Decoded(Given, Searched):
    """An input that is translated, continued, answered or described, token by token.

    Args:
        turns: the messages of a conversation before the last one, the user's first.
        forced: the ids that the result begins with.
        max_tokens: the most tokens; by default as many as the task allows.
    """

    turns: Annotated[Sequence[Text], Field(max_length=100)] = ()
    forced: Annotated[Sequence[Id], Field(max_length=1000)] = ()
    max_tokens: Annotated[int, Field(ge=1, le=1000)] | None = None


@router.post("/decode", response_model=None)
async def decode(asked: Decoded, request: Request) -> StreamingResponse:
    """The tokens that a model writes, those first that are forced, with what else it would have chosen."""
    served = models_of(request).get(asked.model)
    use = served.predictor
    if not isinstance(use, Generator | Translator):
        raise WrongTaskError(f"the model {served.name!r} writes nothing")
    tokenizer = use.tokenizer if isinstance(use, Generator) else use.target
    if any(i >= tokenizer.vocab_size for i in asked.forced):
        raise UsageError("there is no such token", where="forced")
    writing = await asyncio.to_thread(_writing, served, asked)

    async def tokens() -> AsyncGenerator[dict[str, Any], None]:
        ids = list[int]()
        async for _, update in served.worker.decode(use, [writing.job]):
            ended = [] if update.end is None else [update.end]
            for choice in (*update.chosen, *ended):
                ids += [] if choice is update.end else [choice.id]
                forced = len(ids) <= len(asked.forced) and choice is not update.end
                yield {**_token(choice, tokenizer, writing.job), "forced": forced, "text": writing.text(ids)}

    return await streamed(tokens())


def _writing(served: Served, asked: Decoded) -> Writing:
    """What is decoded: one text, by the most probable tokens or by those that are drawn."""
    use, source = served.predictor, source_of(served, asked)
    drawn = {"kind": "sample", "n_best": 1} if asked.temperature else {"kind": "greedy"}
    options = {**asked.model_copy(update={"temperature": asked.temperature or 0}).options(asked.max_tokens), **drawn}
    if isinstance(use, Translator):
        if is_blank(source):
            raise UsageError("the text is blank")
        writing: Writing = use.job(source, top=_TOP, **options)
    else:
        options.setdefault("max_length", use.config.max_length or _LENGTH)
        turns = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate([*asked.turns, source])]
        chats = does(served) == "chat"
        writing = use.reply_job(turns, top=_TOP, **options) if chats else use.job(source, top=_TOP, **options)
    writing.job.request = replace(writing.job.request, prefix=tuple(asked.forced))
    return writing


def _token(choice: Choice, tokenizer: Tokenizer, job: Job) -> dict[str, Any]:
    ends = (job.request.end, *job.request.ends)
    name, *others = tokenizer.tokens([choice.id, *(i for i, _ in choice.top)])
    top = [[i, other, log_p, i in ends] for (i, log_p), other in zip(choice.top, others, strict=True)]
    return {"id": choice.id, "token": name, "log_p": choice.log_p, "top": top, "end": choice.id in ends}
