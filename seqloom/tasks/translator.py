"""What a trained translator is for its user: text in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from seqloom.data.batch import pad
from seqloom.decoding.search import DecodingConfig, Hypothesis, Task, beam_rows, decode
from seqloom.errors import DataError, UsageError
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.shapes import Tensor
from seqloom.text.tokenizer import Tokenizer

LongInput = Literal["cut", "refuse"]


@dataclass(frozen=True)
class Translation:
    """One translation with its log-probability and the score it was ranked by."""

    text: str
    log_p: float
    score: float


class Translator:
    """Translates texts in batches sorted by length; results come in the order of the texts.

    Args:
        model: in the type it is to compute in.
        source, target: the tokenizers.
        config: how to decode, unless a call says otherwise.
        rows: sentences decoded at a time.
        long_input: what to do with a text of more than `max_source` words: cut it (`cuts` counts), or refuse.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        source: Tokenizer,
        target: Tokenizer,
        config: DecodingConfig,
        *,
        rows: int = 128,
        max_source: int = 512,
        long_input: LongInput = "refuse",
    ) -> None:
        self.model, self.source, self.target, self.config = model, source, target, config
        limit = model.encoder.limit
        self.rows, self.long_input = rows, long_input
        self.max_source = max_source if limit is None else min(max_source, limit)
        self.cuts = 0

    def __call__(self, texts: Sequence[str], **options: Any) -> list[str]:
        """The best translation of each text. `options` are those of DecodingConfig: beam=5, length_penalty=0.6, ..."""
        return [found[0].text if found else "" for found in self.translate(texts, **options)]

    def translate(
        self, texts: Sequence[str], prefixes: Sequence[str] | None = None, **options: Any
    ) -> list[list[Translation]]:
        """The n best translations of each text; an empty text has one empty translation.

        `prefixes`: what each translation must begin with.
        """
        config = self._config(options)
        if isinstance(texts, str):
            raise UsageError("expected a list of texts, got one text", cure='write translator(["..."])')
        if prefixes is not None and len(prefixes) != len(texts):
            raise UsageError(f"{len(prefixes)} prefixes for {len(texts)} texts", cure="give one prefix for each text")
        ids = self.encode(texts)
        forced = [[] for _ in texts] if prefixes is None else [p.tolist() for p in self.target.encode(prefixes)]
        found: list[list[Translation]] = [[Translation("", 0.0, 0.0)] for _ in texts]
        self.model.eval()
        for part in self._parts(ids):
            results = self.decode([ids[i] for i in part], config, [forced[i] for i in part])
            for i, hypotheses in zip(part, results, strict=True):
                decoded = self.target.decode([h.ids for h in hypotheses])
                found[i] = [Translation(t, h.log_p, h.score) for t, h in zip(decoded, hypotheses, strict=True)]
        return found

    def _config(self, options: dict[str, Any]) -> DecodingConfig:
        try:
            return replace(self.config, **options)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error).replace("DecodingConfig.__init__() ", "")) from None

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of the texts, each with the end-of-sentence word; an empty text has none."""
        rows = []
        for number, ids in enumerate(self.source.encode(texts), start=1):
            if len(ids) >= self.max_source:
                if self.long_input == "refuse":
                    raise DataError(
                        f"has {len(ids)} words of the tokenizer, the most is {self.max_source - 1}",
                        where=f"text {number}",
                        cure="split it into sentences, or let it be cut: --long cut",
                    )
                self.cuts += 1
                ids = ids[: self.max_source - 1]
            rows.append(np.append(ids, self.source.end) if len(ids) else ids)
        return rows

    def _parts(self, ids: list[np.ndarray]) -> Iterator[list[int]]:
        order = sorted((i for i in range(len(ids)) if len(ids[i])), key=lambda i: -len(ids[i]))
        for start in range(0, len(order), self.rows):
            yield order[start : start + self.rows]

    def decode(
        self, ids: Sequence[np.ndarray], config: DecodingConfig, prefixes: Sequence[list[int]]
    ) -> list[list[Hypothesis]]:
        """The hypotheses of one batch of encoded sources."""
        return decode_rows(self.model, ids, config, start=self.target.start, end=self.target.end, prefixes=prefixes)


def decode_rows(
    model: EncoderDecoder,
    ids: Sequence[np.ndarray],
    config: DecodingConfig,
    *,
    start: int,
    end: int,
    prefixes: Sequence[list[int]] = (),
) -> list[list[Hypothesis]]:
    """The hypotheses of a batch of encoded sources; `start` and `end` are the ids a target begins and ends with."""
    device = next(model.parameters()).device
    source, mask = pad(ids)
    source, mask = source.to(device), None if mask is None else mask.to(device)
    lengths = torch.tensor([len(row) for row in ids], device=device)
    limits = torch.full_like(lengths, config.max_length) if config.max_length else 2 * lengths + 20
    if model.decoder.limit is not None:
        limits = limits.clamp(max=model.decoder.limit - 1)
    with torch.inference_mode():
        state = model.start(model.encode(source, mask))

        def step(last: Tensor, state: Any) -> tuple[Tensor, Any]:
            hidden, state = model.decode(last, state)
            return model.head(hidden[:, -1]), state

        return decode(step, state, Task(start, end, limits, beam_rows(prefixes, device)), config)
