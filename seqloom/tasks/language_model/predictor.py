"""What a trained language model is for its user: the beginning of a text in, the text out."""

from __future__ import annotations

from collections.abc import Generator as Steps
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import torch

from seqloom.decoding.config import DecodingConfig, with_options
from seqloom.decoding.search import Hypothesis, Task, decode, decoding
from seqloom.decoding.speculative import Side, speculating
from seqloom.errors import DataError, UsageError
from seqloom.models.decoder import LanguageModel
from seqloom.nn.state import State
from seqloom.shapes import Float, Int, Tensor
from seqloom.text.chat import END, Message, chat_prompt, chat_word
from seqloom.text.tokenizer import Tokenizer

_LENGTH = 100
_ROWS = 32

LongText = Literal["slide", "refuse"]


@dataclass(frozen=True)
class Generation:
    """A text that begins with its prompt; the log-probability of the rest, end included, and its score."""

    text: str
    log_p: float
    score: float


class Generator:
    """Continues texts.

    Args:
        model: in the type it is to compute in.
        tokenizer: its own.
        config: how to decode, unless a call says otherwise; max_length 0 = 100 words of the tokenizer.
        context: the most words a model is to see that carries no state.
        long_text: what to do with more words than that: begin anew over the last half of them, or refuse.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        config: DecodingConfig,
        context: int,
        long_text: LongText = "slide",
    ) -> None:
        self.model, self.tokenizer, self.config, self.long_text = model, tokenizer, config, long_text
        limit = model.config.decoder.limit
        self.context = None if model.carries else context if limit is None else min(context, limit)

    def __call__(self, prompt: str = "", **options: Any) -> str:
        """A text that begins with `prompt`. `options` are those of `batch`: temperature=0.8, stop=("END",), ..."""
        return self.generate(prompt, **options)[0].text

    def generate(self, prompt: str = "", **options: Any) -> list[Generation]:
        """The n best texts, or as many samples."""
        return self.batch([prompt], **options)[0]

    def batch(self, prompts: Sequence[str], stop: Sequence[str] = (), **options: Any) -> list[list[Generation]]:
        """The n best texts, or as many samples, of each prompt.

        Args:
            prompts: any number.
            stop: a text ends before the first of these.
            options: those of DecodingConfig.
        """
        config = with_options(self.config, options)
        given = [self.encode(prompt) for prompt in prompts]
        found: dict[int, list[Hypothesis]] = {}
        # Rows of one length are read side by side; others, too, padded on the left, where positions are kept.
        order = sorted(range(len(prompts)), key=lambda i: len(given[i]))
        same = groupby(order, key=lambda i: 0 if self.model.start().keeps_positions else len(given[i]))
        for rows in (group[i : i + _ROWS] for group in (list(g) for _, g in same) for i in range(0, len(group), _ROWS)):
            task = self._task([given[i] for i in rows], config, stop)
            window = self._read([given[i][:-1] for i in rows])
            found |= dict(zip(rows, decode(self._step, window, task, config), strict=True))
        return [[self._made(prompt, given[i], h, stop) for h in found[i]] for i, prompt in enumerate(prompts)]

    def stream(
        self, prompt: str = "", stop: Sequence[str] = (), draft: Generator | None = None, ahead: int = 4, **options: Any
    ) -> Iterator[str]:
        """The continuation of one prompt, piece by piece as it is settled.

        Args:
            prompt, stop, options: as for `batch`; one text, by greedy search or drawn.
            draft: a smaller model with the same tokenizer that writes ahead (see decoding/speculative.py).
            ahead: by how many words.
        """
        config = with_options(self.config, options)
        given = self.encode(prompt)
        if draft is not None:
            self._check(draft, config)
        task = self._task([given], config, stop)
        yield from self._pieces(prompt, given, stop, config, self._steps(given, task, config, draft, ahead))

    def reply(self, messages: Sequence[Message], **options: Any) -> Iterator[str]:
        """What is answered to a conversation, piece by piece. Raises UsageError for a model that has seen none."""
        config = with_options(self.config, options)
        given = chat_prompt(messages, self.tokenizer)
        task = replace(self._task([given], config, ()), end=chat_word(self.tokenizer, END))
        yield from self._pieces("", given, (), config, self._steps(given, task, config, None, 0))

    def _pieces(
        self,
        prompt: str,
        given: list[int],
        stop: Sequence[str],
        config: DecodingConfig,
        steps: Steps[list[int], None, Hypothesis],
    ) -> Iterator[str]:
        if config.n_best > 1 or config.beam > 1:
            raise UsageError("several texts cannot be streamed", cure="use decoding.n_best = 1 and decoding.beam = 1")
        ids, shown = list[int](), len(prompt)
        while True:
            try:
                ids += next(steps)
            except StopIteration as done:
                whole = self._made(prompt, given, done.value, stop).text
                if len(whole) > shown:
                    yield whole[shown:]
                return
            text, held = _cut(self._text(prompt, given, ids), len(prompt), stop)
            # What may yet become another character, or the beginning of a stop, is held back.
            ready = len(text) - max(held, 3 if text.endswith("\N{REPLACEMENT CHARACTER}") else 0)
            if ready > shown:
                yield text[shown:ready]
                shown = ready

    def _steps(
        self, given: list[int], task: Task, config: DecodingConfig, draft: Generator | None, ahead: int
    ) -> Steps[list[int], None, Hypothesis]:
        if draft is None:
            found = yield from decoding(self._step, self._read([given[:-1]]), task, config)
            return found[0][0]
        hypothesis, _ = yield from speculating(self._side(given), draft._side(given), task, config, ahead)
        return hypothesis

    def encode(self, prompt: str) -> list[int]:
        """The ids of the beginning of a document."""
        special, ids = self.tokenizer.special, self.tokenizer.encode_lines([prompt])[0].tolist()
        return ids if ids and special is not None and not special.opens else [self.tokenizer.start, *ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, with its ends of lines."""
        if self.tokenizer.special is not None:
            return self.tokenizer.decode([ids])[0]
        lines: list[list[int]] = [[]]
        for i in ids:
            lines += [[]] if i == self.tokenizer.end else []
            lines[-1] += [i]
        return "\n".join(self.tokenizer.decode(lines))

    @torch.inference_mode()
    def score(self, texts: Sequence[str], after: Sequence[str]) -> list[tuple[float, int]]:
        """The log-probability of each text after another one, and how many words of the tokenizer it has.

        Where both together are longer than the model's context, the beginning is left out.
        """
        rows = [self._parted(before, text) for before, text in zip(after, texts, strict=True)]
        found: dict[int, tuple[float, int]] = {}
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        for part in (order[i : i + _ROWS] for i in range(0, len(order), _ROWS)):
            width = max(len(rows[i][0]) for i in part)
            ids = torch.tensor([rows[i][0] + [self.tokenizer.end] * (width - len(rows[i][0])) for i in part])
            ids = ids.to(next(self.model.parameters()).device)
            log_p = self.model.head(self.model(ids[:, :-1])[0]).float().log_softmax(-1)
            each = log_p.gather(2, ids[:, 1:, None])[:, :, 0]
            for row, i in enumerate(part):
                whole, own = rows[i]
                found[i] = float(each[row, len(whole) - own - 1 : len(whole) - 1].sum()), own
        return [found[i] for i in range(len(rows))]

    def _parted(self, before: str, text: str) -> tuple[list[int], int]:
        """The ids of both together, and how many of them are not those of `before`."""
        first, whole = self.encode(before), self.encode(before + text)
        shared = next((i for i, (a, b) in enumerate(zip(first, whole, strict=False)) if a != b), len(first))
        own = len(whole) - min(shared, len(whole) - 1)
        most = len(whole) if self.context is None else self.context + 1
        if own >= most:
            problem = f"the text has {own} words of the tokenizer, more than the model's context of {self.context}"
            raise DataError(problem, cure="shorten it")
        return whole[-most:], own

    def _task(self, given: Sequence[list[int]], config: DecodingConfig, stop: Sequence[str]) -> Task:
        device, length = next(self.model.parameters()).device, config.max_length or _LENGTH
        longest = max(map(len, given)) + length
        if self.long_text == "refuse" and self.context is not None and longest > self.context:
            problem = f"prompt and {length} more words are {longest}, more than the model's context of {self.context}"
            raise DataError(problem, cure="shorten the prompt or the length, or let the context slide")
        self.model.eval()
        start = torch.tensor([row[-1] for row in given], device=device)
        first = int(start[0]) if len(given) == 1 else start
        # The tail is enough to see a stop in: no word of a tokenizer is longer than a few characters.
        ends = (lambda ids: any(s in self.decode(ids[-_tail(stop) :]) for s in stop)) if stop else None
        return Task(first, self.tokenizer.stop, torch.full((len(given),), length, device=device), stopped=ends)

    def _made(self, prompt: str, given: Sequence[int], found: Hypothesis, stop: Sequence[str]) -> Generation:
        text, _ = _cut(self._text(prompt, given, found.ids), len(prompt), stop)
        return Generation(text, found.log_p, found.score)

    def _text(self, prompt: str, given: Sequence[int], ids: Sequence[int]) -> str:
        # The prompt stays as it was written, whatever the tokenizer makes of it.
        before, whole = self.decode(given), self.decode([*given, *ids])
        return prompt + whole[len(before) :] if whole.startswith(before) else whole

    def _check(self, draft: Generator, config: DecodingConfig) -> None:
        if draft.tokenizer.digest() != self.tokenizer.digest():
            raise UsageError(
                "the draft has another tokenizer", where="--draft", cure="train it with tokenizer.kind = 'file'"
            )
        if not all(g.model.start().keeps_positions for g in (self, draft)):
            raise UsageError("the model or the draft is not a Transformer", where="--draft", cure="leave --draft out")
        if config.repetition_penalty != 1 or config.no_repeat_ngram or config.min_length:
            raise UsageError(
                "repetition_penalty, no_repeat_ngram and min_length are not for speculative decoding", where="--draft"
            )

    def _side(self, given: list[int]) -> Side:
        room = 1 << 30 if self.context is None else self.context
        return Side(self._scores, self._read([given[:-1]]), lambda window: room - window.ids.shape[1])

    @torch.inference_mode()
    def _read(self, rows: Sequence[list[int]]) -> _Window:
        width, device = max(map(len, rows)), next(self.model.parameters()).device
        ids = torch.tensor([[self.tokenizer.pad] * (width - len(row)) + row for row in rows], dtype=torch.long)
        padding = torch.tensor([width - len(row) for row in rows], device=device)
        window = _Window(ids[:, :0].to(device), padding, self.model.start())
        return self._onward(ids.to(device), window)[1] if width else window

    def _step(self, last: Int[Tensor, "R 1"], window: _Window) -> tuple[Tensor, _Window]:
        hidden, window = self._onward(last, window)
        return self.model.head(hidden[:, -1]), window

    def _scores(self, ids: Int[Tensor, "1 T"], window: _Window) -> tuple[Float[Tensor, "T V"], _Window]:
        hidden, window = self._onward(ids, window)
        return self.model.head(hidden[0, -ids.shape[1] :]), window

    def _onward(self, new: Int[Tensor, "R T"], window: _Window) -> tuple[Tensor, _Window]:
        ids, state, padding = torch.cat((window.ids, new), 1), window.state, window.padding
        if self.context is not None and ids.shape[1] - int(padding.min()) > self.context:
            # There is no further position: rows that need one begin anew over their last half.
            lengths = ids.shape[1] - padding
            lengths = torch.where(lengths > self.context, max(1, self.context // 2), lengths)
            ids = new = ids[:, -int(lengths.max()) :]
            padding, state = ids.shape[1] - lengths, self.model.start()
        hidden, state = self.model.decode(new, state.padded(padding if bool(padding.any()) else None))
        return hidden, _Window(ids, padding, state)


def _tail(stop: Sequence[str]) -> int:
    return max(len(s.encode()) for s in stop) + 8


def _cut(text: str, begin: int, stop: Sequence[str]) -> tuple[str, int]:
    """The text up to the first stop after `begin`, and how many of its last characters may be the beginning of one."""
    ends = [at for s in stop if (at := text.find(s, begin)) >= 0]
    if ends:
        return text[: min(ends)], 0
    held = max((n for s in stop for n in range(1, len(s)) if text[begin:].endswith(s[:n])), default=0)
    return text, held


@dataclass(frozen=True)
class _Window:
    """The words a state has seen, how many of each row's first are padding, and the state."""

    ids: Int[Tensor, "R T"]
    padding: Int[Tensor, " R"]
    state: State

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> _Window:
        ids = self.ids if rows is None else self.ids.index_select(0, rows)
        padding = self.padding if rows is None else self.padding.index_select(0, rows)
        return _Window(ids, padding, self.state.select(rows, sentences))

    def back(self, words: int) -> _Window:
        kept = self.ids.shape[1] - words
        return _Window(self.ids[:, :kept], self.padding, self.state.back(words))
