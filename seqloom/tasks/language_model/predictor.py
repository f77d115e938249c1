"""A trained language model in use: prompts in, continuations out."""

from __future__ import annotations

from collections.abc import Generator as Steps
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from seqloom.data.batches.stream import encode_beginnings
from seqloom.decoding.config import DecodingConfig, with_options
from seqloom.decoding.continuous import Continuous
from seqloom.decoding.engine import Engine
from seqloom.decoding.job import Job, Request
from seqloom.decoding.results import Hypothesis
from seqloom.errors import DataError, UsageError
from seqloom.inspection.capture import MOST
from seqloom.inspection.inside.inspected import Inspected, inspect
from seqloom.models.decoder import LanguageModel
from seqloom.nn.embedders import Inputs
from seqloom.tasks.engine import Fast
from seqloom.tasks.looking import token_positions
from seqloom.tasks.writing import Pieces, Writing
from seqloom.text.chat import END, Message, chat_prompt, chat_token
from seqloom.text.template import ChatTemplate
from seqloom.text.tokenizer import Tokenizer

_LENGTH = 100

LongText = Literal["slide", "refuse"]


@dataclass(frozen=True)
class _Prompt:
    """The beginning of a text: as it was written, its ids, and the text of these."""

    text: str
    ids: list[int]
    decoded: str


class Joined(NamedTuple):
    """The ids of a text after another one, how many of them are its own, and how many of the other are left out."""

    ids: list[int]
    tokens: int
    cut: int


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
        self.fast: Fast | None = None

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
        begun = [self._prompt(prompt) for prompt in prompts]
        rows = [prompt.ids for prompt in begun]
        results = self.hypotheses(rows, config, stop)
        return [
            [self._generation(prompt, hypothesis, stop) for hypothesis in hypotheses]
            for prompt, hypotheses in zip(begun, results, strict=True)
        ]

    def hypotheses(
        self, rows: Sequence[Sequence[int]], config: DecodingConfig, stop: Sequence[str] = ()
    ) -> list[list[Hypothesis]]:
        """The n best continuations of each row of ids, or as many samples."""
        request = self._request(rows, config, stop)

        def own(part: Sequence[int]) -> list[list[Hypothesis]]:
            return self.engine.generate([rows[i] for i in part], request, config)

        whole = range(len(rows))
        return own(whole) if self.fast is None else self.fast.decode([Job(row, request, config) for row in rows], own)

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
        begun = self._prompt(prompt)
        if draft is not None:
            self._check(draft, config)
            if ahead < 1:
                raise UsageError(f"must be at least 1, not {ahead}", where="--ahead", cure="--ahead 4")
        request, small = self._request([begun.ids], config, stop), draft.engine if draft is not None else None

        def own() -> Steps[list[int], None, Hypothesis]:
            return self.engine.stream(begun.ids, request, config, small, ahead)

        fast = self.fast if draft is None else None
        steps = own() if fast is None else fast.stream(Job(begun.ids, request, config), own)
        yield from self._pieces(begun, stop, config, steps)

    def reply(self, messages: Sequence[Message], **options: Any) -> Iterator[str]:
        """The reply to a conversation, piece by piece. Raises UsageError for a model not trained on conversations."""
        config = with_options(self.config, options)
        prompt, request = self._conversation(messages, config, ())
        yield from self._pieces(prompt, (), config, self.engine.stream(prompt.ids, request, config))

    def _pieces(
        self, prompt: _Prompt, stop: Sequence[str], config: DecodingConfig, steps: Steps[list[int], None, Hypothesis]
    ) -> Iterator[str]:
        if config.n_best > 1 or config.beam > 1:
            raise UsageError("several texts cannot be streamed", cure="set decoding.n_best = 1 and decoding.beam = 1")
        pieces = self._written(prompt, stop)
        while True:
            try:
                piece = pieces.add(next(steps))
            except StopIteration as done:
                if rest := pieces.rest(done.value.ids):
                    yield rest
                return
            if piece:
                yield piece

    def job(
        self,
        prompt: str | Sequence[int] = "",
        stop: Sequence[str] = (),
        adapter: int | None = None,
        top: int | None = None,
        **options: Any,
    ) -> Writing:
        """The job of a prompt, for `continuous`.

        Args:
            prompt: the beginning of the text, or its ids.
            stop, options: as for `batch`.
            adapter, top: as for decoding.job.Job.
        """
        config, begun = with_options(self.config, options), self._prompt(prompt)
        job = Job(begun.ids, self._request([begun.ids], config, stop), config, adapter, top)
        return Writing(job, self._written(begun, stop), len(begun.ids))

    def reply_job(
        self,
        messages: Sequence[Message],
        stop: Sequence[str] = (),
        adapter: int | None = None,
        top: int | None = None,
        **options: Any,
    ) -> Writing:
        """The same for the reply to a conversation. Raises UsageError for a model not trained on conversations."""
        config = with_options(self.config, options)
        prompt, request = self._conversation(messages, config, stop)
        return Writing(Job(prompt.ids, request, config, adapter, top), self._written(prompt, stop), len(prompt.ids))

    def continuous(self, rows: int = 32, chunk: int = 256) -> Continuous:
        """What decodes jobs together; see decoding.continuous."""
        return Continuous(self.engine, rows, chunk)

    def _conversation(
        self, messages: Sequence[Message], config: DecodingConfig, stop: Sequence[str]
    ) -> tuple[_Prompt, Request]:
        ids = self.template.prompt(messages) if self.template else chat_prompt(messages, self.tokenizer)
        request = self._request([ids], config, stop)
        if self.template is None:
            request = replace(request, end=chat_token(self.tokenizer, END))
        return _Prompt("", ids, self.decode(ids)), request

    def _written(self, prompt: _Prompt, stop: Sequence[str]) -> Pieces:
        read = prompt.ids

        def settled(ids: Sequence[int]) -> int:
            return self.tokenizer.settled([*read, *ids]) - len(read)

        return Pieces(lambda ids: self._text(prompt, ids), settled, len(prompt.text), stop)

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
        """What the model does with a text, or with its first tokens. Raises DataError for more than it sees."""
        model, ids = self.model, self.encode(text)
        ids = ids[:tokens] if tokens else ids
        if self.context is not None and len(ids) > self.context:
            problem = f"the text has {len(ids)} tokens, more than the model's context of {self.context}"
            cure = f"shorten it; in Python, look(..., tokens={self.context}) takes its beginning"
            raise DataError(problem, cure=cure)
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
        return self.score_joined([self.joined(before, text) for before, text in zip(after, texts, strict=True)])

    def score_joined(self, rows: Sequence[Joined]) -> list[tuple[float, int]]:
        """The same of texts that are already encoded."""
        scores = self.engine.score([row.ids for row in rows], [row.tokens for row in rows])
        return [(log_p, row.tokens) for log_p, row in zip(scores, rows, strict=True)]

    def joined(self, before: str, text: str) -> Joined:
        """What `score` reads of a text and the one before it. Raises DataError for a text beyond the context."""
        first, whole = self.encode(before), self.encode(before + text)
        shared = next((i for i, (a, b) in enumerate(zip(first, whole, strict=False)) if a != b), len(first))
        tokens = len(whole) - min(shared, len(whole) - 1)
        most = len(whole) if self.context is None else self.context + 1
        if tokens >= most:
            problem = f"the text has {tokens} tokens, more than the model's context of {self.context}"
            raise DataError(problem, cure="shorten it")
        return Joined(whole[-most:], tokens, max(0, len(whole) - most))

    def _request(self, rows: Sequence[Sequence[int]], config: DecodingConfig, stop: Sequence[str]) -> Request:
        if "" in stop:
            raise UsageError("an empty text is in every text", where="--stop", cure="leave it out")
        length = config.max_length or _LENGTH
        longest = max(map(len, rows), default=0) + length
        if self.long_text == "refuse" and self.context is not None and longest > self.context:
            problem = f"prompt and {length} new tokens are {longest}, more than the model's context of {self.context}"
            raise DataError(problem, cure="shorten the prompt or the length, or let the context slide")
        # Bytes that begin inside a character have no readable text, so that all ids are decoded.
        stopped = (lambda ids: any(s in self.decode(ids) for s in stop)) if stop else None
        return Request(length, self.tokenizer.stop, stopped, self.tokenizer.stops)

    def _generation(self, prompt: _Prompt, hypothesis: Hypothesis, stop: Sequence[str]) -> Generation:
        return Generation(self._written(prompt, stop).whole(hypothesis.ids), hypothesis.log_p, hypothesis.score)

    def _prompt(self, text: str | Sequence[int]) -> _Prompt:
        ids = self.encode(text) if isinstance(text, str) else [*text]
        decoded = self.decode(ids)
        return _Prompt(text if isinstance(text, str) else decoded, ids, decoded)

    def _text(self, prompt: _Prompt, ids: Sequence[int]) -> str:
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
