"""A trained translation model in use: text in, or images, and text out."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from seqloom.data.batches.pairs import make_batch
from seqloom.data.batches.windows import Row
from seqloom.data.formats.lines import is_blank
from seqloom.decoding.config import DecodingConfig, texts_at_a_time, with_options
from seqloom.decoding.continuous import Continuous
from seqloom.decoding.encoder_decoder import Writer, most_tokens
from seqloom.decoding.results import Hypothesis
from seqloom.decoding.streams import Streams
from seqloom.errors import DataError, UsageError
from seqloom.inspection.capture import MOST
from seqloom.inspection.inside.inspected import Inspected, inspect
from seqloom.models.assemblies import TextWriter
from seqloom.tasks.encoder.medium import Medium
from seqloom.tasks.engine import Fast, by_batches
from seqloom.tasks.looking import token_positions, window_positions
from seqloom.tasks.writing import Pieces, Writing
from seqloom.text.tokenizer import Tokenizer

LongInput = Literal["cut", "refuse"]
Source = Tokenizer | Medium
"""What encodes the sources: a tokenizer, or the medium of another modality."""


def encoded(source: Source, texts: Sequence[str]) -> Sequence[Row]:
    """The sources as a model reads them, texts without special tokens; equal ones of another medium share a window."""
    if isinstance(source, Tokenizer):
        return source.encode(texts)
    distinct = list(dict.fromkeys(texts))
    windows = source.windows([source.row(text) for text in distinct])
    of_text = {text: window for text, (window,) in zip(distinct, windows, strict=True)}
    return [of_text[text] for text in texts]


@dataclass(frozen=True)
class Translation:
    """One translation with its log-probability and the score it was ranked by."""

    text: str
    log_p: float
    score: float


class Translator:
    """Translates texts in batches sorted by length; results come in the order of the texts.

    For a model of images, each text is the path of one, or its data: address; for one of signals, its place in a file.

    Args:
        model: the model, in the precision of the computation.
        source, target: the tokenizers; of images, their medium and the tokenizer.
        config: how to decode, unless a call has other options.
        rows: the number of sentences decoded at a time.
        max_source: the most tokens a text may have, with the end; the model's limit, if it is lower.
        long_input: what to do with longer texts: cut them (`cuts` counts), or raise DataError.
    """

    def __init__(
        self,
        model: TextWriter,
        source: Source,
        target: Tokenizer,
        config: DecodingConfig,
        *,
        rows: int = 128,
        max_source: int = 512,
        long_input: LongInput = "refuse",
    ) -> None:
        self.model, self.source, self.target, self.config = model, source, target, config
        limit = model.config.encoder.limit
        self.rows, self.long_input = rows, long_input
        self.max_source = max_source if limit is None else min(max_source, limit)
        self.cuts = 0
        self.fast: Fast | None = None
        self.streams: Streams | None = None

    def named(self, inputs: Sequence[str]) -> list[str]:
        """The sources of a command line, one by one: texts, or what files hold."""
        return list(inputs) if isinstance(self.source, Tokenizer) else self.source.named(inputs)

    def __call__(self, texts: Sequence[str], **options: Any) -> list[str]:
        """The best translation of each text. `options` are those of DecodingConfig: beam=5, length_penalty=0.6, ..."""
        return [translations[0].text if translations else "" for translations in self.translate(texts, **options)]

    def translate(
        self, texts: Sequence[str], prefixes: Sequence[str] | None = None, **options: Any
    ) -> list[list[Translation]]:
        """The n best translations of each text; a blank text has one empty translation.

        Each translation begins with the prefix of its text.
        """
        config = with_options(self.config, options)
        ids = self.encode(texts)
        forced = [row.tolist() for row in self._targets([""] * len(texts) if prefixes is None else prefixes, texts)]
        _check_prefixes(ids, forced, config)
        translations: list[list[Translation]] = [[Translation("", 0.0, 0.0)] for _ in texts]
        if self.model.training:  # eval() sets every module, which takes a tenth of a short sentence
            self.model.eval()
        parts = [*self._parts(ids, texts_at_a_time(config, self.rows))]

        def call(part: Sequence[int]) -> tuple[Any, ...]:
            return [ids[i] for i in part], config, [forced[i] for i in part]

        for part, results in zip(parts, by_batches(self, parts, config, call), strict=True):
            for i, hypotheses in zip(part, results, strict=True):
                decoded = self.target.decode([h.ids for h in hypotheses])
                translations[i] = [Translation(t, h.log_p, h.score) for t, h in zip(decoded, hypotheses, strict=True)]
        return translations

    @property
    def medium(self) -> Medium | None:
        """What encodes its sources; None = a tokenizer."""
        return None if isinstance(self.source, Tokenizer) else self.source

    def score(self, texts: Sequence[str], targets: Sequence[str]) -> list[float]:
        """The log-probability of each target, end included, as the translation of its text.

        A blank text has only the empty translation.
        """
        ids, rows = self.encode(texts), self._targets(targets, texts)
        scores = [-math.inf if len(row) else 0.0 for row in rows]
        self.model.eval()
        device = next(self.model.parameters()).device
        for part in self._parts(ids, self.rows):
            ended = [np.append(rows[i], self.target.end) for i in part]
            batch = make_batch([ids[i] for i in part], ended, self.target.start).to(device)
            with torch.inference_mode():
                hidden = self.model(batch.inputs, batch.target_in)
                for i, h, tokens in zip(part, hidden, ended, strict=True):
                    log_p = self.model.head(h[: len(tokens)]).float().log_softmax(-1)
                    chosen = torch.from_numpy(tokens).to(device, torch.long)
                    scores[i] = float(log_p.gather(1, chosen[:, None]).sum())
        return scores

    def look(self, text: str, target: str | None = None, *, most: int = MOST, **options: Any) -> Inspected:
        """What the model does with a text and a target, by default its translation; `options` are those of decoding.

        Raises UsageError for a blank text.
        """
        (source,) = self.encode([text])
        if not len(source):
            raise UsageError("there is nothing to look at in a blank text", cure="give a text")
        if target is None:
            target = self([text], **options)[0]
            room = (self.model.config.decoder.limit or sys.maxsize) - 1  # it may be cut into more tokens than it had
            (row,) = (row[:room] for row in self.target.encode([target]))
        else:
            (row,) = self._targets([target], [text])
        ids = np.append(row, self.target.end)
        model, device = self.model, next(self.model.parameters()).device
        tokenizer = self.source if isinstance(self.source, Tokenizer) else self.target
        sides = window_positions(model, tokenizer, source, [text] if tokenizer is self.source else text.split("\t")[1:])
        embedders: dict[str, Any] = {"encoder": model.source, "decoder": model.target}
        if "text encoder" in sides:
            embedders["text encoder"] = model.get_submodule("model.encoders.text.embedder")
        read = token_positions(self.target, [self.target.start, *ids[:-1].tolist()], [target])

        def run(rows: int) -> torch.Tensor:
            batch = make_batch([source] * rows, [ids] * rows, self.target.start).to(device)
            return model.head(model(batch.inputs, batch.target_in))  # type: ignore[no-any-return]

        return inspect(
            model,
            run,
            asked=ids.tolist(),
            most=most,
            sides={**sides, "decoder": read},
            final=model.head,
            embedders=embedders,
            output=lambda i: self.target.tokens([i])[0],
        )

    def _targets(self, targets: Sequence[str], texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of targets or prefixes, one for each text."""
        if isinstance(targets, str) or len(targets) != len(texts):
            problem = f"{len(targets)} targets or prefixes for {len(texts)} texts"
            raise UsageError(problem, cure="give one for each text")
        rows, limit = self.target.encode(targets), self.model.config.decoder.limit
        for number, row in enumerate(rows, start=1):
            if limit is not None and len(row) >= limit:
                problem = f"has {len(row)} tokens, the most is {limit - 1}"
                raise DataError(problem, where=f"target {number}", cure="shorten it")
        return rows

    def encode(self, texts: Sequence[str]) -> Sequence[Row]:
        """The ids of the texts with the special tokens around them: at least the end; a blank text has none."""
        if isinstance(texts, str):
            raise UsageError("expected a list of texts, got one text", cure='write translator(["..."])')
        if not isinstance(self.source, Tokenizer):
            return encoded(self.source, texts)
        special, rows = self.source.special, list[np.ndarray]()
        visible = ["" if is_blank(text) else text for text in texts]
        template = None if special is None else special.template
        before, after = (template.before, template.after) if template else ((), (self.source.end,))
        room = self.max_source - len(before) - len(after)
        for number, ids in enumerate(self.source.encode(visible), start=1):
            if len(ids) > room:
                if self.long_input == "refuse":
                    problem = f"has {len(ids)} tokens, the most is {room}"
                    raise DataError(problem, where=f"text {number}", cure="split it into sentences, or --long cut")
                self.cuts += 1
                ids = ids[:room]
            rows.append(np.concatenate((before, ids, after)).astype(np.int32) if len(ids) else ids)
        return rows

    def _parts(self, ids: Sequence[Row], size: int) -> Iterator[list[int]]:
        order = sorted((i for i in range(len(ids)) if len(ids[i])), key=lambda i: -len(ids[i]))
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def hypotheses(
        self, ids: Sequence[Row], config: DecodingConfig, prefixes: Sequence[list[int]] = ()
    ) -> list[list[Hypothesis]]:
        """The hypotheses of one batch of encoded sources."""
        writer = self._writer
        jobs = writer.jobs(ids, config, prefixes)

        def own(part: Sequence[int]) -> list[list[Hypothesis]]:
            return writer.decode([jobs[i] for i in part])

        return own(range(len(jobs))) if self.fast is None else self.fast.decode(jobs, own)

    @property
    def _special(self) -> dict[str, Any]:
        target = self.target
        return {"start": target.start, "end": target.end, "ends": target.stops, "suppressed": target.suppressed}

    def job(
        self,
        text: str,
        prefix: str = "",
        stop: Sequence[str] = (),
        adapter: int | None = None,
        top: int | None = None,
        **options: Any,
    ) -> Writing:
        """The job of a text, for `continuous`.

        Args:
            text, prefix, options: as for `translate`.
            stop: the translation ends before the first of these strings.
            adapter, top: as for decoding.job.Job.
        """
        config, (row,) = with_options(self.config, options), self.encode([text])
        (forced,) = (ids.tolist() for ids in self._targets([prefix], [text]))
        _check_prefixes([row], [forced], config)

        def written(ids: Sequence[int]) -> str:
            return self.target.decode([ids])[0]

        stopped = (lambda ids: any(s in written(ids) for s in stop)) if stop else None
        job = replace(self._writer.job(row, config, forced, stopped), adapter=adapter, top=top)
        return Writing(job, Pieces(written, self.target.settled, 0, stop), len(row))

    def continuous(self, rows: int = 32, chunk: int = 0) -> Continuous:
        """What decodes jobs together; see decoding.continuous."""
        self.model.eval()
        return Continuous(self._writer, rows, chunk, None if self.fast is None else self.fast.whole)

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self.model, **self._special)


def _check_prefixes(ids: Sequence[Row], prefixes: Sequence[list[int]], config: DecodingConfig) -> None:
    for number, (row, prefix) in enumerate(zip(ids, prefixes, strict=True), start=1):
        if len(row) and len(prefix) > (most := most_tokens(len(row), config)):
            problem = f"its prefix has {len(prefix)} tokens, its translation may have {most}"
            raise DataError(problem, where=f"text {number}", cure="shorten it, or raise decoding.max_length")
