"""Decoding with a language model: ids of prompts in, ids of continuations out. It never sees text."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from seqloom.decoding.config import DecodingConfig, texts_at_a_time
from seqloom.decoding.search import Hypothesis, Ids, Task, decode, decoding
from seqloom.decoding.speculative import Side, speculating
from seqloom.models.decoder import LanguageModel
from seqloom.nn.effective import adapters_of, by_row
from seqloom.nn.embedders import Inputs
from seqloom.nn.state import State
from seqloom.shapes import Float, Int, Tensor

_ROWS = 32


@dataclass(frozen=True)
class Window:
    """A state, with the ids it has read and the number of padding ids at the start of each row."""

    ids: Int[Tensor, "R T"]
    padding: Int[Tensor, " R"]
    state: State

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> Window:
        """The window of the given rows; None = all, unchanged."""
        ids = self.ids if rows is None else self.ids.index_select(0, rows)
        padding = self.padding if rows is None else self.padding.index_select(0, rows)
        return Window(ids, padding, self.state.select(rows, sentences))

    def back(self, positions: int) -> Window:
        """The window `positions` steps earlier."""
        kept = self.ids.shape[1] - positions
        return Window(self.ids[:, :kept], self.padding, self.state.back(positions))


@dataclass(frozen=True)
class Request:
    """What to generate.

    Args:
        length: the most ids of a continuation.
        end: the id that ends it.
        stopped: whether ids are complete without an end id.
        ends: further ids that end it.
    """

    length: int
    end: int
    stopped: Callable[[Sequence[int]], bool] | None = None
    ends: tuple[int, ...] = ()


class Engine:
    """Continues rows of ids.

    Args:
        model: the model, in the type it computes in.
        context: the most positions it sees; longer rows start over from their last half. None = no limit.
        padding: the id that fills short rows, on the left.
    """

    def __init__(self, model: LanguageModel, context: int | None, padding: int) -> None:
        self.model, self.context, self.padding = model, context, padding

    @property
    def keeps_positions(self) -> bool:
        """Whether the model's state can go back and skip padding."""
        return self.model.start().keeps_positions

    def generate(
        self, rows: Sequence[Sequence[int]], request: Request, config: DecodingConfig
    ) -> list[list[Hypothesis]]:
        """The n best continuations of each row, or as many samples."""
        results: dict[int, list[Hypothesis]] = {}
        # Rows of different lengths are padded on the left and read together only where positions are kept.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        groups = groupby(order, key=lambda i: 0 if self.keeps_positions else len(rows[i]))
        size = texts_at_a_time(config, _ROWS)
        for part in (
            indices[i : i + size] for _, g in groups for indices in [[*g]] for i in range(0, len(indices), size)
        ):
            prompts = [rows[i] for i in part]
            with by_row(adapters_of(part)):
                task, window = self._task(prompts, request), self.prefill([row[:-1] for row in prompts])
                results |= dict(zip(part, decode(self.step, window, task, config), strict=True))
        return [results[i] for i in range(len(rows))]

    def stream(
        self, row: Sequence[int], request: Request, config: DecodingConfig, draft: Engine | None = None, ahead: int = 0
    ) -> Generator[Ids, None, Hypothesis]:
        """Yields the ids of the best continuation as they are decided; returns it.

        `draft`: the engine of a small model that proposes `ahead` ids at a time; both must keep positions.
        """
        task = self._task([row], request)
        if draft is None:
            hypotheses = yield from decoding(self.step, self.prefill([row[:-1]]), task, config)
            return hypotheses[0][0]
        hypothesis, _ = yield from speculating(self._side(row), draft._side(row), task, config, ahead)
        return hypothesis

    @torch.inference_mode()
    def score(self, rows: Sequence[Sequence[int]], last: Sequence[int]) -> list[float]:
        """The log-probability of the `last` ids of each row, given the ids before them."""
        scores: dict[int, float] = {}
        for i, ids, log_p in self._read(rows):
            each, end = log_p.gather(1, ids[1:, None])[:, 0], len(rows[i]) - 1
            scores[i] = float(each[end - last[i] : end].sum())
        return [scores[i] for i in range(len(rows))]

    @torch.inference_mode()
    def read(self, row: Sequence[int], top: int = 0) -> list[tuple[float, list[tuple[int, float]]]]:
        """The log-probability of each id after the first, and the `top` likeliest ids in its place with theirs."""
        ((_, ids, log_p),) = self._read([row])
        best = log_p.topk(min(top, log_p.shape[1]))
        alternatives = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        each = log_p.gather(1, ids[1:, None])[:, 0].tolist()
        return [(p, [*zip(i, q, strict=True)]) for p, (i, q) in zip(each, alternatives, strict=True)]

    def _read(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, Int[Tensor, " T"], Float[Tensor, "T2 V"]]]:
        """The number of each row with its ids, padded, and the log-probabilities in the place of all but the first."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        device = next(self.model.parameters()).device
        for part in (order[i : i + _ROWS] for i in range(0, len(order), _ROWS)):
            width = max(len(rows[i]) for i in part)
            ids = torch.tensor([[*rows[i], *[self.padding] * (width - len(rows[i]))] for i in part], device=device)
            log_p = self.model.head(self.model(Inputs.text(ids[:, :-1]))[0]).float().log_softmax(-1)
            yield from zip(part, ids, log_p, strict=True)

    @torch.inference_mode()
    def prefill(self, rows: Sequence[Sequence[int]]) -> Window:
        """The window after reading the rows."""
        width, device = max(map(len, rows)), next(self.model.parameters()).device
        ids = torch.tensor([[*[self.padding] * (width - len(row)), *row] for row in rows], dtype=torch.long)
        padding = torch.tensor([width - len(row) for row in rows], device=device)
        window = Window(ids[:, :0].to(device), padding, self.model.start())
        return self._onward(ids.to(device), window)[1] if width else window

    def step(self, last: Int[Tensor, "R 1"], window: Window) -> tuple[Float[Tensor, "R V"], Window]:
        """The logits of the id after the last one of each row."""
        hidden, window = self._onward(last, window)
        return self.model.head(hidden[:, -1]), window

    def _scores(self, ids: Int[Tensor, "1 T"], window: Window) -> tuple[Float[Tensor, "T2 V"], Window]:
        # T2 < T where the row starts over from fewer ids than are new; the last one is always included.
        hidden, window = self._onward(ids, window)
        return self.model.head(hidden[0, -ids.shape[1] :]), window

    def _onward(self, new: Int[Tensor, "R T"], window: Window) -> tuple[Float[Tensor, "R T2 D"], Window]:
        ids, state, padding = torch.cat((window.ids, new), 1), window.state, window.padding
        if self.context is not None and ids.shape[1] - int(padding.min()) > self.context:
            # There are no more positions: rows that need one start over from their last half.
            lengths = ids.shape[1] - padding
            lengths = torch.where(lengths > self.context, max(1, self.context // 2), lengths)
            ids = new = ids[:, -int(lengths.max()) :]
            padding, state = ids.shape[1] - lengths, self.model.start()
        hidden, state = self.model.decode(new, state.padded(padding if bool(padding.any()) else None))
        return hidden, Window(ids, padding, state)

    def _side(self, row: Sequence[int]) -> Side:
        room = 1 << 30 if self.context is None else self.context
        return Side(self._scores, self.prefill([row[:-1]]), lambda window: room - window.ids.shape[1])

    def _task(self, rows: Sequence[Sequence[int]], request: Request) -> Task:
        self.model.eval()
        device = next(self.model.parameters()).device
        start = torch.tensor([row[-1] for row in rows], device=device)
        limits = torch.full((len(rows),), request.length, device=device)
        width = max(map(len, rows), default=0)
        prompts = torch.tensor([[*[-1] * (width - len(row)), *row] for row in rows], dtype=torch.long, device=device)
        first = int(start[0]) if len(rows) == 1 else start
        return Task(first, request.end, limits, stopped=request.stopped, ends=request.ends, prompts=prompts)
