"""What a trained language model is for its user: the beginning of a text in, the text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from seqloom.decoding.search import DecodingConfig, Task, decode
from seqloom.errors import UsageError
from seqloom.models.decoder import LanguageModel
from seqloom.models.decoders import State
from seqloom.shapes import Int, Tensor
from seqloom.text.tokenizer import Tokenizer

_LENGTH = 100


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
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, config: DecodingConfig, context: int) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config
        limit = model.config.decoder.limit
        self.context = None if model.carries else context if limit is None else min(context, limit)

    def __call__(self, prompt: str = "", **options: Any) -> str:
        """A text that begins with `prompt`. `options` are those of DecodingConfig: temperature=0.8, ..."""
        return self.generate(prompt, **options)[0].text

    def generate(self, prompt: str = "", **options: Any) -> list[Generation]:
        """The n best texts, or as many samples."""
        try:
            config = replace(self.config, **options)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error).replace("DecodingConfig.__init__() ", "")) from None
        given = self.encode(prompt)
        device = next(self.model.parameters()).device
        limits = torch.tensor([config.max_length or _LENGTH], device=device)
        task = Task(given[-1], self.tokenizer.stop, limits)
        self.model.eval()
        with torch.inference_mode():
            before = torch.tensor([given[:-1]], dtype=torch.long, device=device)
            found = decode(self._step, self._read(before), task, config)[0]
        return [Generation(self._text(prompt, given, h.ids), h.log_p, h.score) for h in found]

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

    def _text(self, prompt: str, given: Sequence[int], ids: Sequence[int]) -> str:
        # The prompt stays as it was written, whatever the tokenizer makes of it.
        before, whole = self.decode(given), self.decode([*given, *ids])
        return prompt + whole[len(before) :] if whole.startswith(before) else whole

    def _read(self, ids: Int[Tensor, "R T"]) -> _Window:
        if self.context is not None:
            ids = ids[:, max(0, ids.shape[1] - self.context + 1) :]
        state = self.model.start()
        return _Window(ids, self.model.decode(ids, state)[1] if ids.shape[1] else state)

    def _step(self, last: Int[Tensor, "R 1"], window: _Window) -> tuple[Tensor, _Window]:
        ids, state = torch.cat((window.ids, last), 1), window.state
        if self.context is not None and ids.shape[1] > self.context:
            # There is no further position: it begins anew over the last half.
            ids = ids[:, -max(1, self.context // 2) :]
            last, state = ids, self.model.start()
        hidden, state = self.model.decode(last, state)
        return self.model.head(hidden[:, -1]), _Window(ids, state)


@dataclass(frozen=True)
class _Window:
    """The words a state has seen, and the state."""

    ids: Int[Tensor, "R T"]
    state: State

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> _Window:
        ids = self.ids if rows is None else self.ids.index_select(0, rows)
        return _Window(ids, self.state.select(rows, sentences))
