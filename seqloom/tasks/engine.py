"""CTranslate2 as the engine of a run that writes text, where it does what our own decoding does."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seqloom.decoding.config import DecodingConfig, EngineName, Greedy, Sampling
from seqloom.decoding.ctranslate import CTranslate2, refusal
from seqloom.decoding.job import Job
from seqloom.decoding.results import Hypothesis, Ids
from seqloom.decoding.streams import Streams
from seqloom.errors import RunError, UsageError, optional
from seqloom.files import Checkpoint, read_sealed, short_digest, write_folder, write_sealed
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.effective import adapters_of, by_row
from seqloom.nn.observe import is_watched
from seqloom.run import Run
from seqloom.text.tokenizer import Tokenizer

Own = Callable[[Sequence[int]], list[list[Hypothesis]]]
"""Decodes the jobs of these numbers by our own engine."""
FOLDER, _STAMP = "ctranslate2", "engine.json"
_LARGE = 1 << 25  # parameters from which on all threads work on one batch
_ROWS, _TRIES = 32, 3  # decoded to see what is faster, so often
_STREAMED = 64  # rows from which on streams may be
_TOLERANCE, _INT8 = {torch.float32: 1e-3, torch.bfloat16: 0.05}, 0.15  # nats a token


class Fast:
    """Decodes what it can by CTranslate2, and leaves the rest to our own decoding.

    While somebody looks at what the model computes, or changes it, all is left.

    Args:
        model: what our own decoding computes with.
        opened: returns the model when something is to be decoded; None = our own engine decodes all.
        room: the most tokens of a prompt and its continuation, or of a source, and of a translation.
        say: is told once what is left.
    """

    def __init__(
        self, model: nn.Module, opened: Callable[[], CTranslate2 | None], room: int, say: Callable[[str], None]
    ) -> None:
        self._model, self._opened, self._room, self._say = model, opened, room, say
        self._said: set[str] = set()

    @cached_property
    def _other(self) -> CTranslate2 | None:
        return self._opened()

    def decode(self, jobs: Sequence[Job], own: Own) -> list[list[Hypothesis]]:
        """The best hypotheses of each job; all have one config."""
        results = dict(enumerate(self.whole(jobs)))
        if left := [i for i, hypotheses in results.items() if hypotheses is None]:
            results |= zip(left, own(left), strict=True)
        return [hypotheses for hypotheses in results.values() if hypotheses is not None]

    def whole(self, jobs: Sequence[Job]) -> list[list[Hypothesis] | None]:
        """The same, but None for those that are left."""
        results: list[list[Hypothesis] | None] = [None] * len(jobs)
        watched = is_watched(self._model)
        able = [i for i, job in enumerate(jobs) if not self._left(job, watched) and self._fits(job)]
        if able and (other := self._other) is not None:
            rows, limits = [jobs[i].row for i in able], [jobs[i].request.length for i in able]
            for i, hypotheses in zip(able, other.decode(rows, limits, jobs[0].config), strict=True):
                results[i] = hypotheses
        return results

    def stream(self, job: Job, own: Callable[[], Generator[Ids, None, Hypothesis]]) -> Generator[Ids, None, Hypothesis]:
        """Yields the ids of the best hypothesis as they are decided; returns it."""
        left = self._left(job, is_watched(self._model)) or job.config.beam > 1 or not self._fits(job)
        if left or self._other is None:
            return own()
        return self._other.stream(job.row, job.request.length)

    def _fits(self, job: Job) -> bool:
        return len(job.row) + job.request.length <= self._room

    def _left(self, job: Job, watched: bool) -> bool:
        reasons = {
            "a model that is looked into or changed": watched,
            "adapters": adapters_of() is not None or job.adapter is not None,
            "the probabilities of tokens": job.top is not None,
            "a beginning that is given": bool(job.request.prefix),
            "texts that end before a string": job.request.stopped is not None,
        }
        why = refusal(job.config) or next((reason for reason, there in reasons.items() if there), "")
        if why and why not in self._said:
            self._said.add(why)
            self._say(f"{why} is not for CTranslate2: our own engine decodes")
        return bool(why)


def fast_engine(
    run: Run,
    predictor: Any,
    name: EngineName,
    exact: Callable[[], nn.Module],
    *,
    int8: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Fast | None:
    """CTranslate2 for a run in use; None = our own engine decodes.

    When it decodes for the first time, the model is converted, once, and kept in the run, with the digest of its
    checkpoint; and some results are compared with ours.

    Args:
        run: the run.
        predictor: it in use, with `hypotheses`.
        name: "auto" = CTranslate2 where it is installed and the model computes in float32 on a CPU, without a word.
        exact: loads its model in float32.
        int8: whether its matrices are rounded to 8 bits.
        say: reports what it cannot do.

    Raises:
        MissingExtra, UsageError: CTranslate2 is asked for and not there.
    """
    model: nn.Module = predictor.model
    first = next(model.parameters())
    if name == "auto" and (first.dtype != torch.float32 or first.device.type != "cpu" or not _installed()):
        return None
    tell: Callable[[str], None] = say if name == "ctranslate2" else lambda text: None
    pair = _source_of(predictor), getattr(predictor, "target", None) or predictor.tokenizer
    if not isinstance(pair[0], Tokenizer):
        tell("CTranslate2 reads only text: our own engine decodes")
        return None
    optional("ctranslate2", "CTranslate2", "fast")
    from seqloom.interop.ctranslate import POSITIONS

    def opened() -> CTranslate2 | None:
        names, ends = names_and_ends(model, pair)
        large = sum(p.numel() for p in model.parameters()) >= _LARGE
        try:
            folder = _converted(run, pair, lambda: model if first.dtype == torch.float32 else exact())
        except UsageError as error:
            tell(f"{error.problem}: our own engine decodes")
            return None
        with folder as path:
            other = CTranslate2(Path(path), names, ends, threads=torch.get_num_threads(), large=large, int8=int8)
        apart, most = _apart(predictor, other), _INT8 if int8 else _TOLERANCE[first.dtype]
        if apart > most:
            problem = f"CTranslate2 gives other results than our own engine, by {apart:.2g} nats a token"
            say(f"{problem}: our own engine decodes")
        return other if apart <= most else None

    room = getattr(predictor, "context", None)
    return Fast(model, opened, POSITIONS if room is None else min(room, POSITIONS), tell)


def names_and_ends(
    model: nn.Module, pair: tuple[Tokenizer, Tokenizer]
) -> tuple[tuple[list[str] | None, list[str]], tuple[int, ...]]:
    """CTranslate2's names of the ids of source, where there is one, and target; and the ids that end a result."""
    from seqloom.interop.ctranslate import token_names

    source, target = pair
    if isinstance(model, EncoderDecoder):
        return (token_names(source), token_names(target)), (target.end, *target.stops)
    return (None, token_names(target)), (target.stop, *target.stops)


def _installed() -> bool:
    return importlib.util.find_spec("ctranslate2") is not None


def _converted(
    run: Run, pair: tuple[Tokenizer, Tokenizer], model: Callable[[], nn.Module]
) -> AbstractContextManager[str]:
    """The folder of a run's model for CTranslate2: the one that was kept, or a new one, if need be not in the run."""
    package, best = optional("ctranslate2", "CTranslate2", "fast"), run.best(lambda text: None)
    basis = short_digest([package.__version__, best.digest(), run.info()["files"]])
    folder = run.path / FOLDER

    def write(path: Path) -> None:
        from seqloom.interop.ctranslate import write_ctranslate2

        write_ctranslate2(path, model(), pair)
        write_sealed(path / _STAMP, {"basis": basis})

    try:
        if folder.exists() and not (folder / _STAMP).is_file():
            raise RunError("is not ours", where=str(folder))
        if Checkpoint(folder).fault() is not None or read_sealed(folder / _STAMP, "").get("basis") != basis:
            write_folder(folder, write)
        return nullcontext(str(folder))
    except RunError:  # the run cannot be written to, or has something else in this place
        temporary = tempfile.TemporaryDirectory(prefix="seqloom-")
        write(Path(temporary.name))
        return temporary


def _apart(predictor: Any, other: CTranslate2) -> float:
    """How far both are apart at most, in nats per token, on what our own engine writes for a few random inputs."""
    rows, config = _example(predictor, 3, 7)
    fast, predictor.fast = predictor.fast, None
    written = predictor.hypotheses(rows, config)
    predictor.fast = fast
    each = [(row, best) for row, (best, *_) in zip(rows, written, strict=True)]
    return float(max(abs(best.log_p - other.log_p(row, best.ids)) / (len(best.ids) + 1) for row, best in each))


@contextmanager
def settled(predictor: Any, count: int, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    """A context in which about `count` rows are decoded as is fastest now: by one thread, by all, or, where there are
    many rows, in as many streams of one thread (decoding/streams.py).

    Threads meet after every product. For a small model this costs about what it brings, and beside other programs much
    more (docs/benchmarks.md, "Engines"). A large model has all, and so has CTranslate2; and samples, which the last
    bits may change, are drawn by as many threads each time.
    """
    most, model = torch.get_num_threads(), predictor.model
    large = sum(p.numel() for p in model.parameters()) >= _LARGE or next(model.parameters()).device.type != "cpu"
    fixed = predictor.fast is not None or isinstance(predictor.config, Sampling)
    if most == 1 or large or fixed or not isinstance(_source_of(predictor), Tokenizer):
        yield
        return
    call = _example(predictor, min(count, _ROWS), 2)
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, most)
        ways: dict[int, Callable[[], Any]] = dict.fromkeys((1, most), partial(predictor.hypotheses, *call))
        if count >= _STREAMED:
            streams = Streams(predictor.hypotheses, most)
            stack.callback(streams.close)
            ways[0] = partial(streams, [call] * 2 * most)  # several, as whoever is ready takes the next
        taken = dict.fromkeys(ways, float("inf"))
        for way, decode in [*ways.items()] * _TRIES:  # what is compiled first takes longer, and others may interfere
            torch.set_num_threads(way or 1)
            began = clock()
            decode()
            taken[way] = min(taken[way], (clock() - began) / (1 if way else 2 * most))
        torch.set_num_threads(min((1, most), key=taken.__getitem__))
        if taken.get(0) == min(taken.values()):
            predictor.streams = streams
            stack.callback(setattr, predictor, "streams", None)
        yield


def by_batches(
    predictor: Any, parts: Sequence[Sequence[int]], config: DecodingConfig, call: Callable[[Sequence[int]], Any]
) -> Iterable[list[list[Hypothesis]]]:
    """The hypotheses of batches, one after the other, or by streams where the predictor has some and they may do it.

    Args:
        parts: the numbers of the rows of each batch.
        config: how they are decoded.
        call: gives the arguments of the predictor's `hypotheses` for such numbers.
    """
    streams = predictor.streams if len(parts) > 1 and not isinstance(config, Sampling) else None
    if streams is not None and not is_watched(predictor.model) and adapters_of() is None:
        return streams([call(part) for part in parts])  # type: ignore[no-any-return]

    def own(part: Sequence[int]) -> Any:
        with by_row(adapters_of(part)):
            return predictor.hypotheses(*call(part))

    return map(own, parts)


def _source_of(predictor: Any) -> Any:
    return getattr(predictor, "source", None) or predictor.tokenizer


def _example(predictor: Any, count: int, tokens: int) -> tuple[list[list[int]], Greedy]:
    """A few random inputs, and how results of so many tokens are decoded."""
    random, sizes = np.random.Generator(np.random.Philox(1)), predictor.model.config.decoder
    room = min(n for n in (16, sizes.limit, getattr(predictor, "context", None)) if n is not None)
    longest = max(1, min(6, room // 2, getattr(predictor, "max_source", room)))
    rows = [random.integers(0, _source_of(predictor).vocab_size, longest).tolist() for _ in range(count)]
    return rows, Greedy(max_length=max(1, min(tokens, room // 2 - 1)))
