"""Routes of the page: what it needs to show what models do, and what is in them."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from seqloom.data.batches.windows import inputs_of
from seqloom.data.formats.lines import is_blank
from seqloom.data.sources.pairs import PairSource
from seqloom.decoding.config import Sampling, with_options
from seqloom.decoding.encoder_decoder import most_tokens
from seqloom.decoding.job import Job
from seqloom.decoding.job import Request as Generation
from seqloom.decoding.search import last_of
from seqloom.decoding.transforms import distribution
from seqloom.errors import DataError, UsageError
from seqloom.media.images import png_uri
from seqloom.models.word_vectors import WordVectors
from seqloom.serving.asked import Asked, Searched, Text
from seqloom.serving.openai import streamed
from seqloom.serving.served import Served, WrongTaskError, models_of
from seqloom.tasks.encoder.answer import Answerer
from seqloom.tasks.encoder.classify import Classifier
from seqloom.tasks.encoder.examples import Predictor
from seqloom.tasks.encoder.masked_words import Filler
from seqloom.tasks.encoder.tag import Tagger
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.task import RunConfig
from seqloom.text.chat import END, Message, chat_token
from seqloom.text.tokenizer import Tokenizer

router = APIRouter(prefix="/inspect", include_in_schema=False)
Id = Annotated[int, Field(ge=0, lt=2**31)]
_TOP = 8
"""The alternatives to a token that are reported."""
_LENGTH = 60
"""The most tokens of a continuation where a request names none."""


def does(served: Served) -> str:
    """What is done with a model in the page's box; "" = nothing."""
    use, modality = served.predictor, getattr(served.loaded.config, "modality", "text")
    if isinstance(use, Translator):
        reads = getattr(use.source, "config", None)
        return "translate" if isinstance(use.source, Tokenizer) else "caption" if reads else ""
    if isinstance(use, Generator):
        chats = getattr(served.loaded.config.data, "chats", False) or use.template is not None
        return "chat" if chats else "continue"
    if isinstance(use, Filler | WordVectors):
        return "fill" if isinstance(use, Filler) else "words"
    kinds = {Classifier: "classify", Answerer: "answer", Tagger: "tag"}
    reader = getattr(use, "reader", None)
    if not isinstance(use, Predictor) or modality not in ("text", "image"):
        return ""
    return next((name for kind, name in kinds.items() if isinstance(reader, kind)), "")


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
        "reads": getattr(config, "modality", "text"),
        "pairs": bool(getattr(config, "pairs", False)),
        "tables": [*tables_of(served)],
        "looks": type(config).look is not RunConfig.look and not isinstance(served.predictor, WordVectors),
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


class Picture(BaseModel):
    """An image: rows of pixels, each of three bytes, in base64."""

    model_config = ConfigDict(extra="forbid")
    width: Annotated[int, Field(ge=1, le=512)]
    height: Annotated[int, Field(ge=1, le=512)]
    data: Text

    def address(self) -> str:
        """The data: address of the image. Raises DataError."""
        try:
            values = np.frombuffer(base64.b64decode(self.data, validate=True), dtype=np.uint8)
            return png_uri(values.reshape(self.height, self.width, 3).transpose(2, 0, 1))
        except ValueError:
            raise DataError("the pixels are not three bytes each", where="image") from None


class Decoded(Searched):
    """A text or an image that is translated, continued, answered or described, token by token.

    Args:
        text: the text; a conversation's last message.
        image: the image.
        turns: the messages before it, the user's first.
        forced: the ids that the result begins with.
        max_tokens: the most tokens; by default as many as the task allows.
    """

    text: Text = ""
    image: Picture | None = None
    turns: Annotated[Sequence[Text], Field(max_length=100)] = ()
    forced: Annotated[Sequence[Id], Field(max_length=1000)] = ()
    max_tokens: Annotated[int, Field(ge=1, le=1000)] | None = None


class _Opened(NamedTuple):
    """What is decoded: a step with its state, the id it reads next, the ids that end it, and how many may follow."""

    step: Any
    state: Any
    last: int
    ends: Sequence[int]
    limit: int


@router.post("/decode", response_model=None)
async def decode(asked: Decoded, request: Request) -> StreamingResponse:
    """The tokens that follow those that are forced, with what else the model would have chosen."""
    served = models_of(request).get(asked.model)
    if does(served) not in ("translate", "caption", "continue", "chat"):
        raise WrongTaskError(f"the model {served.name!r} writes nothing")
    source, use = source_of(served, asked), served.predictor
    tokenizer: Tokenizer = use.tokenizer if isinstance(use, Generator) else use.target
    if any(i >= tokenizer.vocab_size for i in asked.forced):
        raise UsageError("there is no such token", where="forced")

    def steps() -> Iterator[dict[str, Any]]:
        opened = _opened_text(use, asked) if isinstance(use, Generator) else _opened_source(use, asked, source)
        ids = [*asked.forced]
        for choice, log_p, top in _choices(opened, asked):
            ids += [] if choice in opened.ends else [choice]
            names = tokenizer.tokens([choice, *(i for i, _ in top)])
            rows = [[i, name, p, i in opened.ends] for (i, p), name in zip(top, names[1:], strict=True)]
            text = use.decode(ids) if isinstance(use, Generator) else tokenizer.decode([ids])[0]
            end = choice in opened.ends
            yield {"id": choice, "token": names[0], "log_p": log_p, "top": rows, "end": end, "text": text}

    return await streamed(aiter(served.worker.submit(steps)))


def _opened_text(use: Generator, asked: Decoded) -> _Opened:
    if asked.turns or use.template is not None or use.tokenizer.inner.token_to_id(END) is not None:
        turns = [*asked.turns, asked.text]
        prompt = use.conversation([Message("assistant" if i % 2 else "user", text) for i, text in enumerate(turns)])
        ends = [use.tokenizer.stop if use.template is not None else chat_token(use.tokenizer, END)]
    else:
        prompt, ends = use.prompt(asked.text), [use.tokenizer.stop]
    ids = [*prompt.ids, *asked.forced]
    _, state = last_of(use.engine.begin([Job(ids, Generation(1, ends[0]), use.config)]))
    return _Opened(use.engine.step, state, ids[-1], [*ends, *use.tokenizer.stops], asked.max_tokens or _LENGTH)


@torch.inference_mode()
def _opened_source(use: Translator, asked: Decoded, text: str) -> _Opened:
    if is_blank(text):
        raise UsageError("the text is blank", cure="write one")
    source, model, target = use.encode([text]), use.model, use.target
    device = next(model.parameters()).device
    state: Any = model.start(model.encode(inputs_of(source).to(device)))
    read = [target.start, *asked.forced]
    if read[:-1]:
        _, state = model.decode(torch.tensor([read[:-1]], device=device), state)

    def step(last: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        hidden, state = model.decode(last.to(device), state)
        never = torch.tensor(target.suppressed, dtype=torch.long, device=device)
        return model.head(hidden[:, -1]).index_fill_(1, never, -torch.inf), state

    limit = asked.max_tokens or most_tokens(len(source[0]), use.config)
    return _Opened(step, state, read[-1], [target.end, *target.stops], max(1, limit - len(asked.forced)))


def _choices(opened: _Opened, asked: Decoded) -> Iterator[tuple[int, float, list[tuple[int, float]]]]:
    """Each token with its log-probability and the most probable ones: the first of these, or one that is sampled."""
    config = with_options(Sampling(), asked.options(None)) if asked.temperature else None
    state, last = opened.state, opened.last
    generator = torch.Generator().manual_seed(config.seed if config else 1)
    for _ in range(opened.limit):
        with torch.inference_mode():
            scores, state = opened.step(torch.tensor([[last]]), state)
            log_p = scores.float().cpu().log_softmax(-1)
            last = int(log_p.argmax())
            if isinstance(config, Sampling):
                last = int(torch.multinomial(distribution(log_p, config), 1, generator=generator))
            best = log_p[0].topk(min(_TOP, log_p.shape[1]))
            top = [(i, p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True) if p > -math.inf]
        yield last, float(log_p[0, last]), top
        if last in opened.ends:
            return


class Read(Asked):
    """A text or an image, and a second text where the model reads two."""

    text: Text = ""
    image: Picture | None = None
    second: Text = ""


@router.post("/predict")
async def predict(asked: Read, request: Request) -> dict[str, Any]:
    """What a model that reads predicts: {kind: ...} and what belongs to it."""
    served = models_of(request).get(asked.model)
    source = source_of(served, asked)

    def steps() -> Iterator[dict[str, Any]]:
        yield _predicted(served, source, asked.second)

    return (await served.worker.submit(steps).all())[0]


def _predicted(served: Served, source: str, second: str) -> dict[str, Any]:
    use, kind = served.predictor, does(served)
    if isinstance(use, Filler):
        return {"kind": kind, "masks": use(source, _TOP)}
    if isinstance(use, WordVectors):
        return {"kind": kind, "near": use.similar(source.split(), 12)}
    if kind not in ("classify", "answer", "tag"):
        raise WrongTaskError(f"the model {served.name!r} predicts nothing here")
    (result,) = use([(source, second) if kind == "answer" or second else source])
    return {"kind": kind, **vars(result)}


def source_of(served: Served, asked: Decoded | Read) -> str:
    """The text or the image of a request; for a model of images, no text, which would be the path of a file here."""
    reads = "image" if does(served) == "caption" else getattr(served.loaded.config, "modality", "text")
    if reads == "text":
        return asked.text
    if asked.image is None:
        raise UsageError("an image is needed", cure="choose a picture")
    return asked.image.address()
