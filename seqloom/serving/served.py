"""The models of a server, by name: runs, and the tasks of runs of several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seqloom.decoding.config import EngineName
from seqloom.decoding.continuous import Update
from seqloom.errors import RunError, UsageError, nearest
from seqloom.serving.refusals import UnknownModelError, WrongTaskError
from seqloom.serving.work import Ticket, Worker
from seqloom.tasks.building import Loaded, load_run, with_engine
from seqloom.tasks.encoder.answer import Answerer
from seqloom.tasks.encoder.embed import TextEncoder, encoder_of
from seqloom.tasks.encoder.examples import Predictor
from seqloom.tasks.encoder.masked_words import Filler
from seqloom.tasks.encoder.task import ReadingConfig
from seqloom.tasks.language_model.forecaster import Forecaster
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.switching import load_adapters
from seqloom.tasks.task import RunConfig
from seqloom.tasks.writing import Writing
from seqloom.training.precision import Precision, in_8_bits


@dataclass(frozen=True)
class Served:
    """A model in use.

    Args:
        name: what requests call it.
        loaded: its run, config, model and assets.
        predictor: what its task gives.
        worker: computes for it.
        created: when its run was written, in seconds since 1970.
        encoder: what gives vectors of texts; None = nothing does.
        base: the predictor that decodes for an adapter: that of the base, or its own; None = it is none.
        adapter: the number of the adapter that its jobs are computed with on the base; None = none.
    """

    name: str
    loaded: Loaded[Any]
    predictor: Any
    worker: Worker
    created: int
    encoder: TextEncoder | None = None
    base: Any = None
    adapter: int | None = None
    tokens: Counter[str] = field(default_factory=Counter, compare=False)
    """The tokens that were read ("prompt") and written ("completion") for requests."""

    def decode(self, writings: Sequence[Writing]) -> Ticket[tuple[int, Update]]:
        """A request for texts that the model writes."""
        jobs = [writing.job for writing in writings]
        for job in jobs:
            job.adapter = self.adapter
        return self.worker.decode(self.base or self.predictor, jobs)

    def count(self, read: int, written: int = 0) -> dict[str, int]:
        """Counts the tokens of a request, and returns what its response says of them."""
        self.tokens.update(prompt=read, completion=written)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    @property
    def task(self) -> str:
        """The task of its config."""
        return str(self.loaded.config.task)

    @property
    def modality(self) -> str:
        """What it reads: "text", "image" or "signal"."""
        return str(getattr(self.loaded.config, "modality", "text"))

    @property
    def beside(self) -> str:
        """What it reads beside each input: "text" beside an image; "" = nothing."""
        return str(getattr(getattr(self.loaded.config, "data", None), "beside", ""))

    @property
    def uses(self) -> list[str]:
        """The routes that it answers."""
        return [route for route, fits in ROUTES.items() if fits(self)]

    def needs(self, route: str) -> None:
        """Raises WrongTaskError unless the model answers this route."""
        if route not in (uses := self.uses):
            raise WrongTaskError(f"the model {self.name!r} is not for {route}, but for {' and '.join(uses) or 'none'}")


def _labels(served: Served) -> bool:
    return isinstance(served.predictor, Predictor) and not isinstance(served.predictor.reader, Answerer)


def _answers(served: Served) -> bool:
    return isinstance(served.predictor, Predictor) and isinstance(served.predictor.reader, Answerer)


def _chats(served: Served) -> bool:
    generator = served.predictor
    if not isinstance(generator, Generator):
        return False
    return bool(getattr(served.loaded.config.data, "chats", False)) or generator.template is not None


ROUTES: Mapping[str, Callable[[Served], bool]] = {
    "/v1/completions": lambda s: isinstance(s.predictor, Generator),
    "/v1/chat/completions": _chats,
    "/v1/embeddings": lambda s: s.encoder is not None,
    "/v1/translate": lambda s: isinstance(s.predictor, Translator) and s.modality != "image",
    "/v1/caption": lambda s: isinstance(s.predictor, Translator) and s.modality == "image",
    "/v1/classify": _labels,
    "/v1/answer": _answers,
    "/v1/fill": lambda s: isinstance(s.predictor, Filler),
    "/v1/forecast": lambda s: isinstance(s.predictor, Forecaster),
}
"""The routes that only some models answer, and which ones."""


@dataclass(frozen=True, eq=False)
class Models:
    """All models of a server, by name."""

    by_name: Mapping[str, Served]

    def __iter__(self) -> Iterator[Served]:
        return iter(self.by_name.values())

    def get(self, name: str) -> Served:
        """Raises UnknownModelError."""
        if name not in self.by_name:
            raise UnknownModelError(f"there is no model {name[:100]!r}", cure=nearest(name[:100], self.by_name))
        return self.by_name[name]

    @property
    def workers(self) -> list[Worker]:
        """The workers of all models."""
        return list(dict.fromkeys(served.worker for served in self))

    def close(self) -> None:
        """Computes what was asked for, and ends."""
        for worker in self.workers:
            worker.close()


def load_models(
    runs: Sequence[str],
    say: Callable[[str], None],
    adapters: Sequence[str] = (),
    precision: Precision = "auto",
    engine: EngineName = "torch",
    *,
    int8: bool = False,
) -> Models:
    """The models of runs.

    Args:
        runs: each as RUN or NAME=RUN.
        say: reports what is damaged, or has no route.
        adapters: those of the first run, each as NAME=RUN or NAME=FILE.
        precision: what to compute in.
        engine: what decodes translations; see tasks/engine.py.
        int8: whether large matrices are rounded to 8 bits.

    Raises:
        UsageError, RunError: a run that cannot be served, or two of one name.
    """
    using: Any = {"say": say, "precision": in_8_bits(precision) if int8 else precision}
    models: dict[str, Served] = {}
    for number, text in enumerate(runs):
        name, path = named(text)
        if number == 0 and adapters:
            opened = _with_adapters(name, path, adapters, using)
        else:
            opened = _served(name, load_run(path, RunConfig, **using))
        for served in opened:
            if served.name in models:
                cure = "give it another: NAME=RUN"
                raise UsageError(f"two models have the name {served.name!r}", where=text, cure=cure)
            if isinstance(served.predictor, Translator) and served.base is None:
                with_engine(served.loaded, served.predictor, engine, int8, say)
            if not served.uses:
                say(f"{served.name}: has no route, only the page")
            models[served.name] = served
    return Models(models)


def _with_adapters(name: str, path: str, adapters: Sequence[str], using: Any) -> Iterator[Served]:
    """A run and its adapters; the rows of those of linear layers are computed together with its own."""
    sources: dict[str, str] = {}
    for text in adapters:
        own, source = named(text)
        if own in sources:
            raise UsageError(f"two adapters have the name {own!r}", where=text, cure="give it another: NAME=RUN")
        sources[own] = source
    adapted = load_adapters(path, sources, **using)
    bases = [*_served(name, adapted.loaded(None))]
    yield from bases
    for each in adapted.names:
        number = adapted.number(each) if hasattr(bases[0].predictor, "continuous") else None
        for one in _served(each, adapted.alone(each), bases[0].worker):
            yield replace(one, base=one.predictor if number is None else bases[0].predictor, adapter=number)


def named(text: str) -> tuple[str, str]:
    """The name and the path of "NAME=RUN" or of "RUN". Raises UsageError for a name with a blank or a slash in it."""
    name, equals, path = text.partition("=")
    if equals and name and not Path(text).exists():
        if re.search(r"[\s/]", name):
            raise UsageError("a name has no blanks and no slashes", where=text, cure="give it another: NAME=RUN")
        return name, path
    return Path(text).resolve().name, text


def _served(name: str, loaded: Loaded[Any], worker: Worker | None = None) -> Iterator[Served]:
    """The models of a run, which one worker computes for."""
    parts = loaded.config.parts
    of_name = {name: loaded} if not parts else {}
    for part, config in parts.items():
        model, assets = loaded.config.viewed(part, loaded.model, loaded.assets)
        of_name[f"{name}/{part}"] = Loaded(loaded.run, config, model, assets)
    encoders = {each: _encoder(one) for each, one in of_name.items()}
    predictors = {each: _predictor(one, encoders[each]) for each, one in of_name.items()}
    worker = worker or Worker(name)
    for each, one in of_name.items():
        yield Served(each, one, predictors[each], worker, _created(one), encoders[each])


def _created(loaded: Loaded[Any]) -> int:
    return int((loaded.run.path / "config.toml").stat().st_mtime)


def _predictor(loaded: Loaded[Any], encoder: TextEncoder | None) -> Any:
    """What the task of a run gives; a run that only gives vectors has none."""
    try:
        predictor = loaded.predictor()
    except RunError:
        if encoder is None:
            raise
        return None
    for each in filter(None, (predictor, getattr(predictor, "medium", None))):
        if hasattr(each, "long_input"):
            each.long_input = "refuse"
    return predictor


def _encoder(loaded: Loaded[Any]) -> TextEncoder | None:
    if not isinstance(loaded.config, ReadingConfig):
        return None
    try:
        return encoder_of(loaded)
    except RunError:
        return None


def models_of(request: Any) -> Models:
    """The models of the server that a request is for."""
    models: Models = request.app.state.models
    return models


def found(request: Any, name: str, route: str) -> Served:
    """The model of a request. Raises UnknownModelError, WrongTaskError, OverloadedError."""
    served = models_of(request).get(name)
    served.needs(route)
    served.worker.check_room()
    return served
