"""The engine of a language model: the ids of beginnings in, the ids of what follows them out. It knows no text."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from seqloom.decoding.config import DecodingConfig
from seqloom.decoding.search import Hypothesis, Ids, Task, decode, decoding
from seqloom.decoding.speculative import Side, speculating
from seqloom.models.decoder import LanguageModel
from seqloom.nn.embedders import Inputs
from seqloom.nn.state import State
from seqloom.shapes import Float, Int, Tensor

_ROWS = 32


@dataclass(frozen=True)
class Window:
    """The ids a state has seen, how many of each row's first are padding, and the state."""

    ids: Int[Tensor, "R T"]
    padding: Int[Tensor, " R"]
    state: State

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> Window:
        """The given rows; None = all as before."""
        ids = self.ids if rows is None else self.ids.index_select(0, rows)
        padding = self.padding if rows is None else self.padding.index_select(0, rows)
        return Window(ids, padding, self.state.select(rows, sentences))

    def back(self, positions: int) -> Window:
        """The window so many positions before."""
        kept = self.ids.shape[1] - positions
        return Window(self.ids[:, :kept], self.padding, self.state.back(positions))


@dataclass(frozen=True)
class Request:
    """What is to follow.

    Args:
        length: the most ids of it.
        end: the id that it ends with.
        stopped: whether ids are a result as they stand, though no end follows.
    """

    length: int
    end: int
    stopped: Callable[[Sequence[int]], bool] | None = None


class Engine:
    """Continues rows of ids.

    Args:
        model: in the type it is to compute in.
        context: the most positions it is to see; rows that need more begin anew over their last half. None = no limit.
        padding: the id that short rows are filled with, on the left.
    """

    def __init__(self, model: LanguageModel, context: int | None, padding: int) -> None:
        self.model, self.context, self.padding = model, context, padding

    @property
    def keeps_positions(self) -> bool:
        """Whether the model's state can go back and leave padding out."""
        return self.model.start().keeps_positions

    def generate(
        self, rows: Sequence[Sequence[int]], request: Request, config: DecodingConfig
    ) -> list[list[Hypothesis]]:
        """The n best continuations of each row, or as many samples."""
        found: dict[int, list[Hypothesis]] = {}
        # Rows of one length are read side by side; others, too, padded on the left, where positions are kept.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        same = groupby(order, key=lambda i: 0 if self.keeps_positions else len(rows[i]))
        for part in (group[i : i + _ROWS] for group in (list(g) for _, g in same) for i in range(0, len(group), _ROWS)):
            given = [rows[i] for i in part]
            task, window = self._task(given, request), self.prefill([row[:-1] for row in given])
            found |= dict(zip(part, decode(self.step, window, task, config), strict=True))
        return [found[i] for i in range(len(rows))]

    def stream(
        self, row: Sequence[int], request: Request, config: DecodingConfig, draft: Engine | None = None, ahead: int = 0
    ) -> Generator[Ids, None, Hypothesis]:
        """Gives the ids of the best continuation as they are settled; returns it.

        `draft`: writes so many ids `ahead`; positions must be kept by both.
        """
        task = self._task([row], request)
        if draft is None:
            found = yield from decoding(self.step, self.prefill([row[:-1]]), task, config)
            return found[0][0]
        hypothesis, _ = yield from speculating(self._side(row), draft._side(row), task, config, ahead)
        return hypothesis

    @torch.inference_mode()
    def score(self, rows: Sequence[Sequence[int]], last: Sequence[int]) -> list[float]:
        """The log-probability of so many last ids of each row after those before them."""
        found: dict[int, float] = {}
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        device = next(self.model.parameters()).device
        for part in (order[i : i + _ROWS] for i in range(0, len(order), _ROWS)):
            width = max(len(rows[i]) for i in part)
            ids = torch.tensor([[*rows[i], *[self.padding] * (width - len(rows[i]))] for i in part], device=device)
            log_p = self.model.head(self.model(Inputs.text(ids[:, :-1]))[0]).float().log_softmax(-1)
            each = log_p.gather(2, ids[:, 1:, None])[:, :, 0]
            for row, i in enumerate(part):
                end = len(rows[i]) - 1
                found[i] = float(each[row, end - last[i] : end].sum())
        return [found[i] for i in range(len(rows))]

    @torch.inference_mode()
    def prefill(self, rows: Sequence[Sequence[int]]) -> Window:
        """What has read the rows."""
        width, device = max(map(len, rows)), next(self.model.parameters()).device
        ids = torch.tensor([[*[self.padding] * (width - len(row)), *row] for row in rows], dtype=torch.long)
        padding = torch.tensor([width - len(row) for row in rows], device=device)
        window = Window(ids[:, :0].to(device), padding, self.model.start())
        return self._onward(ids.to(device), window)[1] if width else window

    def step(self, last: Int[Tensor, "R 1"], window: Window) -> tuple[Float[Tensor, "R V"], Window]:
        """The scores of the id after the last one of each row."""
        hidden, window = self._onward(last, window)
        return self.model.head(hidden[:, -1]), window

    def _scores(self, ids: Int[Tensor, "1 T"], window: Window) -> tuple[Float[Tensor, "T2 V"], Window]:
        # T2 < T where the row begins anew over fewer ids than are new; the last one is always there.
        hidden, window = self._onward(ids, window)
        return self.model.head(hidden[0, -ids.shape[1] :]), window

    def _onward(self, new: Int[Tensor, "R T"], window: Window) -> tuple[Float[Tensor, "R T2 D"], Window]:
        ids, state, padding = torch.cat((window.ids, new), 1), window.state, window.padding
        if self.context is not None and ids.shape[1] - int(padding.min()) > self.context:
            # There is no further position: rows that need one begin anew over their last half.
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
        return Task(int(start[0]) if len(rows) == 1 else start, request.end, limits, stopped=request.stopped)
