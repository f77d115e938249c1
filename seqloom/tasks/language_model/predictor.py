"""A trained language model in use: prompts in, continuations out."""

from __future__ import annotations

from collections.abc import Generator as Steps
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from seqloom.data.batches.stream import encode_beginnings
from seqloom.decoding.config import DecodingConfig, with_options
from seqloom.decoding.engine import Engine
from seqloom.decoding.hypotheses import Hypothesis
from seqloom.decoding.job import Request
from seqloom.errors import DataError, UsageError
from seqloom.inspection.capture import MOST
from seqloom.inspection.inside.inspected import Inspected, inspect
from seqloom.models.decoder import LanguageModel
from seqloom.nn.embedders import Inputs
from seqloom.tasks.looking import token_positions
from seqloom.text.chat import END, Message, chat_prompt, chat_token
from seqloom.text.template import ChatTemplate
from seqloom.text.tokenizer import Tokenizer

_LENGTH = 100

LongText = Literal["slide", "refuse"]


@dataclass(frozen=True)
class Prompt:
    """The beginning of a text: as it was written, its ids, and the text of these."""

    text: str
    ids: list[int]
    decoded: str


@dataclass(frozen=True)
class Generation:
    """A text that begins with its prompt, the log-probability of the continuation with its end, and its score."""

    text: str
    log_p: float
    score: float


class Generator:
    """Continues texts.

    Args:
        model: the model, in the precision of the computation.
        tokenizer: its tokenizer.
        config: how to decode, unless a call has other options; max_length 0 = 100 tokens.
        context: the most tokens that a model without a recurrent state sees at a time.
        long_text: what to do when a text exceeds the context: continue from its last half, or raise DataError.
        template: the format of conversations; None = ours, which a model must have been trained with.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        config: DecodingConfig,
        context: int,
        long_text: LongText = "slide",
        template: ChatTemplate | None = None,
    ) -> None:
        self.model, self.tokenizer, self.config, self.long_text = model, tokenizer, config, long_text
        self.template = template
        limit = model.config.decoder.limit
        most = None if model.carries else context if limit is None else min(context, limit)
        self.engine = Engine(model, most, tokenizer.pad)

    @property
    def context(self) -> int | None:
        """The most tokens that the model sees at a time; None = no limit."""
        return self.engine.context

    def __call__(self, prompt: str | Sequence[str] = "", **options: Any) -> Any:
        """A text that begins with `prompt`, or a list of them for several prompts.

        `options` are those of `batch`: temperature=0.8, stop=("END",), ...
        """
        texts = [best[0].text for best in self.batch([prompt] if isinstance(prompt, str) else prompt, **options)]
        return texts[0] if isinstance(prompt, str) else texts

    def generate(self, prompt: str = "", **options: Any) -> list[Generation]:
        """The n best texts, or n samples."""
        return self.batch([prompt], **options)[0]

    def batch(self, prompts: Sequence[str], stop: Sequence[str] = (), **options: Any) -> list[list[Generation]]:
        """The n best texts, or n samples, for each prompt.

        Args:
            prompts: the beginnings of the texts, any number of them.
            stop: a text ends before the first of these strings.
            options: those of DecodingConfig.
        """
        config = with_options(self.config, options)
        begun = [self.prompt(prompt) for prompt in prompts]
        rows = [prompt.ids for prompt in begun]
        results = self.engine.generate(rows, self.request(rows, config, stop), config)
        return [
            [self._generation(prompt, hypothesis, stop) for hypothesis in hypotheses]
            for prompt, hypotheses in zip(begun, results, strict=True)
        ]

    def stream(
        self, prompt: str = "", stop: Sequence[str] = (), draft: Generator | None = None, ahead: int = 4, **options: Any
    ) -> Iterator[str]:
        """The continuation of one prompt, piece by piece.

        Args:
            prompt, stop, options: as for `batch`, for a single text by greedy decoding or sampling.
            draft: a smaller model with the same tokenizer, for speculative decoding (see decoding/speculative.py).
            ahead: the number of tokens that the draft model proposes at a time.
        """
        config = with_options(self.config, options)
        begun = self.prompt(prompt)
        if draft is not None:
            self._check(draft, config)
            if ahead < 1:
                raise UsageError(f"must be at least 1, not {ahead}", where="--ahead", cure="--ahead 4")
        request, small = self.request([begun.ids], config, stop), draft.engine if draft is not None else None
        yield from self._pieces(begun, stop, config, self.engine.stream(begun.ids, request, config, small, ahead))

    def reply(self, messages: Sequence[Message], **options: Any) -> Iterator[str]:
        """The reply to a conversation, piece by piece. Raises UsageError for a model not trained on conversations."""
        config = with_options(self.config, options)
        prompt = self.conversation(messages)
        request = self.request([prompt.ids], config, chat=True)
        yield from self._pieces(prompt, (), config, self.engine.stream(prompt.ids, request, config))

    def _pieces(
        self, prompt: Prompt, stop: Sequence[str], config: DecodingConfig, steps: Steps[list[int], None, Hypothesis]
    ) -> Iterator[str]:
        if config.n_best > 1 or config.beam > 1:
            raise UsageError("several texts cannot be streamed", cure="set decoding.n_best = 1 and decoding.beam = 1")
        writing = Writing(self, prompt, stop)
        while True:
            try:
                piece = writing.add(next(steps))
            except StopIteration as done:
                piece = writing.end(done.value)
                if piece:
                    yield piece
                return
            if piece:
                yield piece

    def encode(self, prompt: str) -> list[int]:
        """The ids of a text at the beginning of a document."""
        ids: list[int] = encode_beginnings([prompt], self.tokenizer)[0].tolist()
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, with its line breaks."""
        if (end := self.tokenizer.line_end) is None:
            return self.tokenizer.decode([ids])[0]
        lines: list[list[int]] = [[]]
        for i in ids:
            lines += [[]] if i == end else []
            lines[-1] += [i]
        return "\n".join(self.tokenizer.decode(lines))

    def look(self, text: str, *, most: int = MOST, tokens: int = 0) -> Inspected:
        """What the model does with the beginning of a text: with so many tokens, or (0) with as many as it sees."""
        model, ids = self.model, self.encode(text)
        ids = ids[: min(tokens or len(ids), self.context or len(ids))]
        inputs = Inputs.text(torch.tensor([ids], device=next(model.parameters()).device))

        def run(rows: int) -> Tensor:
            read = inputs["text"].values.expand(rows, -1)
            return model.head(model(Inputs.text(read))[0])  # type: ignore[no-any-return]

        return inspect(
            model,
            run,
            asked=ids[1:],
            most=most,
            sides={"decoder": token_positions(self.tokenizer, ids, [text])},
            final=model.head,
            embedders={"decoder": model.embedder},
            output=lambda i: self.tokenizer.tokens([i])[0],
        )

    def score(self, texts: Sequence[str], after: Sequence[str]) -> list[tuple[float, int]]:
        """The log-probability of each text of `texts` after that of `after`, and its number of tokens.

        If both together exceed the model's context, the beginning of the first is left out.
        """
        rows = [self._joined(before, text) for before, text in zip(after, texts, strict=True)]
        scores = self.engine.score([ids for ids, _ in rows], [tokens for _, tokens in rows])
        return [(log_p, tokens) for log_p, (_, tokens) in zip(scores, rows, strict=True)]

    def _joined(self, before: str, text: str) -> tuple[list[int], int]:
        """The ids of both together, and how many of them are those of `text`."""
        first, whole = self.encode(before), self.encode(before + text)
        shared = next((i for i, (a, b) in enumerate(zip(first, whole, strict=False)) if a != b), len(first))
        tokens = len(whole) - min(shared, len(whole) - 1)
        most = len(whole) if self.context is None else self.context + 1
        if tokens >= most:
            problem = f"the text has {tokens} tokens, more than the model's context of {self.context}"
            raise DataError(problem, cure="shorten it")
        return whole[-most:], tokens

    def request(
        self, rows: Sequence[list[int]], config: DecodingConfig, stop: Sequence[str] = (), chat: bool = False
    ) -> Request:
        """What to generate after rows of ids. Raises DataError where they may not slide and are too long.

        `chat`: whether it is the reply to a conversation.
        """
        if "" in stop:
            raise UsageError("an empty text is in every text", where="--stop", cure="leave it out")
        length = config.max_length or _LENGTH
        longest = max(map(len, rows), default=0) + length
        if self.long_text == "refuse" and self.context is not None and longest > self.context:
            problem = f"prompt and {length} new tokens are {longest}, more than the model's context of {self.context}"
            raise DataError(problem, cure="shorten the prompt or the length, or let the context slide")
        # Bytes that begin inside a character have no readable text, so that all ids are decoded.
        stopped = (lambda ids: any(s in self.decode(ids) for s in stop)) if stop else None
        end = chat_token(self.tokenizer, END) if chat and self.template is None else self.tokenizer.stop
        return Request(length, end, stopped, self.tokenizer.stops)

    def _generation(self, prompt: Prompt, hypothesis: Hypothesis, stop: Sequence[str]) -> Generation:
        text, _ = _cut(self.text(prompt, hypothesis.ids), len(prompt.text), stop)
        return Generation(text, hypothesis.log_p, hypothesis.score)

    def prompt(self, text: str) -> Prompt:
        """A text as the beginning of one."""
        ids = self.encode(text)
        return Prompt(text, ids, self.decode(ids))

    def conversation(self, messages: Sequence[Message]) -> Prompt:
        """A conversation up to where the model answers. Raises UsageError for one not trained on conversations."""
        ids = self.template.prompt(messages) if self.template else chat_prompt(messages, self.tokenizer)
        return Prompt("", ids, self.decode(ids))

    def text(self, prompt: Prompt, ids: Sequence[int]) -> str:
        """The text of a prompt and what continues it."""
        # The prompt stays as it was written, even if the tokenizer does not reproduce it.
        whole, before = self.decode([*prompt.ids, *ids]), prompt.decoded
        return prompt.text + (whole[len(before) :] if whole.startswith(before) else self.decode(ids))

    def _check(self, draft: Generator, config: DecodingConfig) -> None:
        if draft.tokenizer.inner.to_str() != self.tokenizer.inner.to_str():
            raise UsageError(
                "the draft has another tokenizer", where="--draft", cure="train it with tokenizer.kind = 'file'"
            )
        if not (self.engine.keeps_positions and draft.engine.keeps_positions):
            raise UsageError("the model or the draft is not a Transformer", where="--draft", cure="leave --draft out")
        if config.repetition_penalty != 1 or config.no_repeat_ngram or config.min_length:
            problem = "speculative decoding does not support repetition_penalty, no_repeat_ngram and min_length"
            raise UsageError(problem, where="--draft", cure="leave --draft or these options out")


class Writing:
    """The text of a continuation while it is written, piece by piece.

    What may still change, or turn out to begin a stop string, is held back.

    Args:
        generator: whose ids they are.
        prompt: what is continued.
        stop: the text ends before the first of these strings.
    """

    def __init__(self, generator: Generator, prompt: Prompt, stop: Sequence[str]) -> None:
        self._generator, self.prompt, self._stop = generator, prompt, stop
        self.ids, self._shown, self.stopped = list[int](), len(prompt.text), False

    def add(self, ids: Sequence[int]) -> str:
        """The text that further ids settle."""
        self.ids += ids
        prompt, settled = self.prompt, self._generator.tokenizer.settled([*self.prompt.ids, *self.ids])
        if (settled := settled - len(prompt.ids)) <= 0:
            return ""
        text, held = _cut(self._generator.text(prompt, self.ids[:settled]), len(prompt.text), self._stop)
        return self._newly(text[: min(len(text) - held, len(text.rstrip("\N{REPLACEMENT CHARACTER}")))])

    def end(self, hypothesis: Hypothesis) -> str:
        """The rest of the text; `stopped` is whether a stop string ended it."""
        self.ids = [*hypothesis.ids]
        whole = self._generator.text(self.prompt, self.ids)
        text, _ = _cut(whole, len(self.prompt.text), self._stop)
        self.stopped = len(text) < len(whole)
        return self._newly(text)

    def _newly(self, text: str) -> str:
        newly, self._shown = text[self._shown :], max(self._shown, len(text))
        return newly


def _cut(text: str, begin: int, stop: Sequence[str]) -> tuple[str, int]:
    """The text up to the first stop string after `begin`, and how many of its last characters may begin one."""
    ends = [at for s in stop if (at := text.find(s, begin)) >= 0]
    if ends:
        return text[: min(ends)], 0
    held = max((n for s in stop for n in range(1, len(s)) if text[begin:].endswith(s[:n])), default=0)
    return text, held
