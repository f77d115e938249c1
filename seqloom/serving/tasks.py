"""Routes for what OpenAI's interface has no name for: translate, caption, classify, answer, fill, forecast."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request

from seqloom.data.formats.lines import is_blank
from seqloom.errors import DataError, UsageError, counted
from seqloom.serving.asked import (
    Answering,
    Captioning,
    Classification,
    Decoded,
    Filling,
    Forecasting,
    Translating,
    illustrated,
    listed,
    sent,
)
from seqloom.serving.served import Served, found
from seqloom.serving.writing import config_for
from seqloom.tasks.language_model.forecaster import Forecaster
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.writing import Writing

router = APIRouter(tags=["tasks"])
_MODALITIES = ("text", "image", "signal")
_AT_ONCE, _STEPS = 8, 800
"""The inputs of a request that are computed in one step, and the steps of forecasts; then others have their turn."""
I = TypeVar("I")  # noqa: E741


@router.post("/v1/translate")
async def translate(asked: Translating, request: Request) -> dict[str, Any]:
    """Translations of texts, or texts of signals, best first, with the log-probability and the score of each."""
    served = found(request, asked.model, "/v1/translate")
    return _answered(served, translations=await _written(served, await _inputs(served, asked), asked))


@router.post("/v1/caption")
async def caption(asked: Captioning, request: Request) -> dict[str, Any]:
    """Captions of images, or translations of texts beside them, best first, with log-probability and score of each."""
    served = found(request, asked.model, "/v1/caption")
    return _answered(served, captions=await _written(served, await _inputs(served, asked), asked))


@router.post("/v1/classify")
async def classify(asked: Classification, request: Request) -> dict[str, Any]:
    """Labels of texts, pairs of texts, images or signals, of words or time steps; or rewards of answers."""
    served = found(request, asked.model, "/v1/classify")
    predictions = await _computed(served, await _inputs(served, asked), served.predictor)
    leave_out = ("where", "signal", *(["text"] if served.modality != "text" else []))
    return _answered(served, predictions=[_plain(prediction, leave_out) for prediction in predictions])


@router.post("/v1/forecast")
async def forecast(asked: Forecasting, request: Request) -> dict[str, Any]:
    """The next steps of signals: a list of the values of all channels for each."""
    served = found(request, asked.model, "/v1/forecast")
    forecaster: Forecaster = served.predictor
    steps = asked.steps or forecaster.config.horizon

    def continued(signals: Sequence[str]) -> list[Any]:
        return forecaster.forecast([*map(forecaster.medium.row, signals)], steps)

    at_once = max(1, min(_AT_ONCE, _STEPS // steps))
    forecasts = await _computed(served, await _inputs(served, asked), continued, at_once)
    return _answered(served, channels=[*forecaster.medium.names], forecasts=[values.tolist() for values in forecasts])


@router.post("/v1/answer")
async def answer(asked: Answering, request: Request) -> dict[str, Any]:
    """The spans of a passage that answer questions about it."""
    served = found(request, asked.model, "/v1/answer")
    pairs = [(question, asked.passage) for question in listed(asked.questions)]
    return _answered(served, answers=[_plain(each) for each in await _computed(served, pairs, served.predictor)])


@router.post("/v1/fill")
async def fill(asked: Filling, request: Request) -> dict[str, Any]:
    """The most probable words for each masked one of each text."""
    served = found(request, asked.model, "/v1/fill")

    def filled(texts: Sequence[str]) -> list[Any]:
        return [served.predictor(text, asked.count) for text in texts]

    words = [
        [[{"word": word, "probability": p} for word, p in candidates] for candidates in masks]
        for masks in await _computed(served, listed(asked.texts), filled)
    ]
    return _answered(served, words=words)


async def _computed(
    served: Served, inputs: Sequence[I], compute: Callable[[Sequence[I]], Sequence[Any]], at_once: int = _AT_ONCE
) -> list[Any]:
    """What a function gives for inputs, a few of them in each step of the model's thread."""

    def steps() -> Iterator[Sequence[Any]]:
        for start in range(0, len(inputs), at_once):
            yield compute(inputs[start : start + at_once])

    return [result for part in await served.worker.steps(steps).all() for result in part]


async def _written(served: Served, inputs: Sequence[str], asked: Decoded) -> list[list[dict[str, Any]]]:
    """What an encoder-decoder writes for each input, decoded beside the rows of other requests."""
    translator: Translator = served.predictor
    config = config_for(asked, translator.config, asked.max_tokens)
    length: Any = {} if asked.max_tokens is None else {"max_length": asked.max_tokens}

    def read() -> Iterator[Writing | None]:
        for number, text in enumerate(inputs, start=1):
            try:
                writing = None if is_blank(text) else translator.job(text, asked.prefix, **length)
            except DataError as error:
                raise DataError(error.problem, where=f"input {number}") from None
            if writing is not None:
                writing.job.config = config
            yield writing

    writings = await asyncio.to_thread(lambda: [*read()])
    rows = [number for number, writing in enumerate(writings) if writing is not None]
    results = [[{"text": "", "log_p": 0.0, "score": 0.0}] for _ in writings]
    if filled := [writing for writing in writings if writing is not None]:
        async for row, update in served.decode(filled):
            filled[row].take(update)
            results[rows[row]] = [
                {"text": each.text, "log_p": each.log_p, "score": each.score} for each in filled[row].results or ()
            ]
    return results


async def _inputs(served: Served, asked: Any) -> Sequence[Any]:
    """The inputs of a request, as a predictor reads them. Raises UsageError for those of another modality."""
    given = {name: inputs for name in _MODALITIES if (inputs := getattr(asked, f"{name}s", None)) is not None}
    kind = served.modality
    if given.keys() != {kind, *filter(None, [served.beside])}:
        beside = f", each with a {served.beside} beside it" if served.beside else ""
        raise UsageError(f"the model {served.name!r} reads {kind}s{beside}", where=f"{served.beside or kind}s")
    if kind == "text":
        return listed(given[kind])

    def decoded(part: Sequence[tuple[int, Any]]) -> list[str]:
        return [sent(served.predictor.medium, one, f"{kind} {number}") for number, one in part]

    inputs = await _computed(served, [*enumerate(given[kind], start=1)], decoded)
    if not served.beside:
        return inputs
    texts = listed(given[served.beside])
    if len(texts) != len(inputs):
        raise UsageError(f"{counted(len(texts), 'text')} for {counted(len(inputs), 'image')}", where="texts")
    each = enumerate(zip(inputs, texts, strict=True), start=1)
    return [illustrated(image, text, f"text {number}") for number, (image, text) in each]


def _plain(prediction: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    return {key: value for key, value in vars(prediction).items() if key not in leave_out}


def _answered(served: Served, **results: Any) -> dict[str, Any]:
    return {"object": "list", "model": served.name, **results}
