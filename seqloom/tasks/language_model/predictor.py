"""A trained language model in use: a prompt in, its continuation out."""

from __future__ import annotations

from collections.abc import Generator as Steps
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from seqloom.decoding.config import DecodingConfig, with_options
from seqloom.decoding.engine import Engine, Request
from seqloom.decoding.search import Hypothesis
from seqloom.errors import DataError, UsageError
from seqloom.models.decoder import LanguageModel
from seqloom.text.chat import END, Message, chat_prompt, chat_token
from seqloom.text.tokenizer import Tokenizer

_LENGTH = 100

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
        model: the model, in the precision of the computation.
        tokenizer: its tokenizer.
        config: how to decode, unless a call has other options; max_length 0 = 100 tokens.
        context: the most tokens that a model without a recurrent state sees.
        long_text: what to do with longer texts: continue from the last half of them, or raise DataError.
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
        own = None if model.carries else context if limit is None else min(context, limit)
        self.engine = Engine(model, own, tokenizer.pad)

    @property
    def context(self) -> int | None:
        """The most tokens the model sees; None = any number."""
        return self.engine.context

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
        found = self.engine.generate(given, self._request(given, config, stop), config)
        return [[self._made(prompt, given[i], h, stop) for h in found[i]] for i, prompt in enumerate(prompts)]

    def stream(
        self, prompt: str = "", stop: Sequence[str] = (), draft: Generator | None = None, ahead: int = 4, **options: Any
    ) -> Iterator[str]:
        """The continuation of one prompt, piece by piece.

        Args:
            prompt, stop, options: as for `batch`; one text, by greedy search or drawn.
            draft: a smaller model with the same tokenizer, for speculative decoding (see decoding/speculative.py).
            ahead: the number of tokens that the draft model proposes at a time.
        """
        config = with_options(self.config, options)
        given = self.encode(prompt)
        if draft is not None:
            self._check(draft, config)
            if ahead < 1:
                raise UsageError(f"must be at least 1, not {ahead}", where="--ahead", cure="--ahead 4")
        request, small = self._request([given], config, stop), draft.engine if draft is not None else None
        yield from self._pieces(prompt, given, stop, config, self.engine.stream(given, request, config, small, ahead))

    def reply(self, messages: Sequence[Message], **options: Any) -> Iterator[str]:
        """The answer to a conversation, piece by piece. Raises UsageError unless it was trained on conversations."""
        config = with_options(self.config, options)
        given = chat_prompt(messages, self.tokenizer)
        request = replace(self._request([given], config, ()), end=chat_token(self.tokenizer, END))
        yield from self._pieces("", given, (), config, self.engine.stream(given, request, config))

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

    def score(self, texts: Sequence[str], after: Sequence[str]) -> list[tuple[float, int]]:
        """The log-probability of each text after another one, and how many tokens it has.

        Where both together are longer than the model's context, the beginning is left out.
        """
        rows = [self._parted(before, text) for before, text in zip(after, texts, strict=True)]
        scores = self.engine.score([ids for ids, _ in rows], [own for _, own in rows])
        return [(log_p, own) for log_p, (_, own) in zip(scores, rows, strict=True)]

    def _parted(self, before: str, text: str) -> tuple[list[int], int]:
        """The ids of both together, and how many of them are not those of `before`."""
        first, whole = self.encode(before), self.encode(before + text)
        shared = next((i for i, (a, b) in enumerate(zip(first, whole, strict=False)) if a != b), len(first))
        own = len(whole) - min(shared, len(whole) - 1)
        most = len(whole) if self.context is None else self.context + 1
        if own >= most:
            problem = f"the text has {own} tokens, more than the model's context of {self.context}"
            raise DataError(problem, cure="shorten it")
        return whole[-most:], own

    def _request(self, given: Sequence[list[int]], config: DecodingConfig, stop: Sequence[str]) -> Request:
        if "" in stop:
            raise UsageError("an empty text is in every text", where="--stop", cure="leave it out")
        length = config.max_length or _LENGTH
        longest = max(map(len, given), default=0) + length
        if self.long_text == "refuse" and self.context is not None and longest > self.context:
            problem = f"prompt and {length} more tokens are {longest}, more than the model's context of {self.context}"
            raise DataError(problem, cure="shorten the prompt or the length, or let the context slide")
        # The tail is enough to see a stop in: no token is longer than a few characters.
        ends = (lambda ids: any(s in self.decode(ids[-_tail(stop) :]) for s in stop)) if stop else None
        return Request(length, self.tokenizer.stop, ends)

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
        if not (self.engine.keeps_positions and draft.engine.keeps_positions):
            raise UsageError("the model or the draft is not a Transformer", where="--draft", cure="leave --draft out")
        if config.repetition_penalty != 1 or config.no_repeat_ngram or config.min_length:
            raise UsageError(
                "repetition_penalty, no_repeat_ngram and min_length are not for speculative decoding", where="--draft"
            )


def _tail(stop: Sequence[str]) -> int:
    return max(len(s.encode()) for s in stop) + 8


def _cut(text: str, begin: int, stop: Sequence[str]) -> tuple[str, int]:
    """The text up to the first stop after `begin`, and how many of its last characters may be the beginning of one."""
    ends = [at for s in stop if (at := text.find(s, begin)) >= 0]
    if ends:
        return text[: min(ends)], 0
    held = max((n for s in stop for n in range(1, len(s)) if text[begin:].endswith(s[:n])), default=0)
    return text, held
