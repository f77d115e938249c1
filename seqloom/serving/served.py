"""The models of a server, by name: runs, tasks of runs of several, and adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloom.errors import SeqloomError, UsageError, nearest
from seqloom.serving.work import Worker
from seqloom.tasks.building import Loaded, load_run
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.task import RunConfig


class UnknownModelError(SeqloomError):
    """A request names a model that is not served."""


class WrongTaskError(SeqloomError):
    """A request asks a model for what it does not do."""


@dataclass(frozen=True)
class Served:
    """A model in use.

    Args:
        name: what requests call it.
        loaded: its run, config, model and assets.
        predictor: what its task gives.
        worker: computes for it.
        created: when its run was written, in seconds since 1970.
    """

    name: str
    loaded: Loaded[Any]
    predictor: Any
    worker: Worker
    created: int

    @property
    def task(self) -> str:
        """The task of its config."""
        return str(self.loaded.config.task)

    @property
    def uses(self) -> list[str]:
        """The routes that it answers."""
        return [route for route, fits in ROUTES.items() if fits(self)]

    def needs(self, route: str) -> None:
        """Raises WrongTaskError unless the model answers this route."""
        if route not in (uses := self.uses):
            raise WrongTaskError(f"the model {self.name!r} is not for {route}, but for {' and '.join(uses) or 'none'}")


def _reads(served: Served, modality: str) -> bool:
    return getattr(served.loaded.config, "modality", "text") == modality


ROUTES: Mapping[str, Callable[[Served], bool]] = {
    "/v1/completions": lambda s: isinstance(s.predictor, Generator),
    "/v1/translate": lambda s: isinstance(s.predictor, Translator) and _reads(s, "text"),
}
"""The routes that only some models answer, and which ones."""


@dataclass(frozen=True)
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


def load_models(runs: Sequence[str], say: Callable[[str], None]) -> Models:
    """The models of runs: RUN, or NAME=RUN. Raises UsageError or RunError."""
    models: dict[str, Served] = {}
    for text in runs:
        name, path = named(text)
        for served in _served(name, load_run(path, RunConfig, say=say)):
            if served.name in models:
                cure = "give it another: NAME=RUN"
                raise UsageError(f"two models have the name {served.name!r}", where=text, cure=cure)
            models[served.name] = served
    return Models(models)


def named(text: str) -> tuple[str, str]:
    """The name and the path of "NAME=RUN" or of "RUN"."""
    name, equals, path = text.partition("=")
    if equals and name and not Path(text).exists():
        return name, path
    return Path(text).resolve().name, text


def _served(name: str, loaded: Loaded[Any]) -> Iterator[Served]:
    worker, created = Worker(name), int((loaded.run.path / "config.toml").stat().st_mtime)
    if not loaded.config.parts:
        yield Served(name, loaded, loaded.predictor(), worker, created)
    for part, config in loaded.config.parts.items():
        one: Loaded[Any] = Loaded(loaded.run, config, *loaded.config.viewed(part, loaded.model, loaded.assets))
        yield Served(f"{name}/{part}", one, one.predictor(), worker, created)


def models_of(request: Any) -> Models:
    """The models of the server that a request is for."""
    models: Models = request.app.state.models
    return models


def found(request: Any, name: str, route: str) -> Served:
    """The model of a request. Raises UnknownModelError, WrongTaskError."""
    served = models_of(request).get(name)
    served.needs(route)
    return served
