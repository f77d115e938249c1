"""Decoding by CTranslate2 (OpenNMT): the results of our own decoding, from the same weights, computed elsewhere.

Its search is ours with `stop = "first"`. What it cannot do alike, `refusal` names.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import torch

from seqloom.decoding.config import DecodingConfig, Sampling
from seqloom.decoding.results import Hypothesis, Ids
from seqloom.errors import optional

_FREE = {"max_length", "beam", "n_best", "length_penalty"}
_MOST = 64  # rows of a batch


@cache
def refusal(config: DecodingConfig) -> str:
    """What of a config CTranslate2 does not do as our own decoding does; "" = it does all."""
    if isinstance(config, Sampling):
        return "decoding.kind = 'sample'"
    plain = type(config)()
    for name in (field.name for field in fields(config) if field.name not in _FREE):
        if (value := getattr(config, name)) != getattr(plain, name) and (name, config.beam) != ("stop", 1):
            return f"decoding.{name} = {value!r}"
    return ""


def _alike(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """The numbers of rows of one length."""
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(len(row), []).append(i)
    return [*groups.values()]


class CTranslate2:
    """A model that CTranslate2 has read.

    Args:
        folder: what `interop.ctranslate.write_ctranslate2` wrote.
        names: its names of the ids of source and target; without a source, it continues texts.
        ends: the ids that end a result.
        threads: how many there are: one for each of as many batches, or all for one batch of a large model.
        int8: whether its matrices are rounded to 8 bits (per row); else it computes in float32.
    """

    def __init__(
        self,
        folder: Path,
        names: tuple[Sequence[str] | None, Sequence[str]],
        ends: Sequence[int],
        *,
        threads: int,
        large: bool,
        int8: bool = False,
    ) -> None:
        package = optional("ctranslate2", "CTranslate2", "fast")
        self._source, self._target = names
        self._ids = {name: i for i, name in enumerate(self._target)}
        self._ends, self._end = [self._target[i] for i in ends], ends[0]
        self._workers = 1 if large else threads
        kind = package.Generator if self._source is None else package.Translator
        compute, before = "int8" if int8 else "float32", torch.get_num_threads()
        self._model: Any = kind(
            str(folder), compute_type=compute, inter_threads=self._workers, intra_threads=threads // self._workers
        )
        torch.set_num_threads(before)  # where both have one OpenMP, it has set its own number for torch, too

    def decode(
        self, rows: Sequence[Sequence[int]], limits: Sequence[int], config: DecodingConfig
    ) -> list[list[Hypothesis] | None]:
        """The best hypotheses of each row; None where a beam meets the row's limit, which our own decoding has to see.

        Args:
            rows: the ids of sources, or of prompts.
            limits: the most tokens of each result, without the end.
            config: one that is not refused.
        """
        options: dict[str, Any] = {
            **{"beam_size": config.beam, "num_hypotheses": config.beam, "length_penalty": config.length_penalty},
            **{"end_token": self._ends, "return_scores": True},
            "max_batch_size": max(1, min(_MOST, -(-len(rows) // self._workers))),
        }
        longest, found = max(limits), dict[int, list[tuple[Ids, float]]]()
        if self._source is None:
            options |= {"max_length": longest, "include_prompt_in_result": False}
            # A beam of prompts of several lengths is another search there.
            for part in _alike(rows) if config.beam > 1 else [range(len(rows))]:
                results = self._model.generate_batch([self._named(rows[i]) for i in part], **options)
                found |= {i: [*zip(r.sequences_ids, r.scores, strict=True)] for i, r in zip(part, results, strict=True)}
        else:
            options |= {"max_decoding_length": longest, "min_decoding_length": 0}
            results = self._model.translate_batch([self._read(row) for row in rows], **options)
            for i, r in enumerate(results):
                found[i] = [([self._ids[t] for t in h], s) for h, s in zip(r.hypotheses, r.scores, strict=True)]
        each = zip(rows, (found[i] for i in range(len(rows))), limits, strict=True)
        return [self._hypotheses(row, hypotheses, limit, config) for row, hypotheses, limit in each]

    def stream(self, row: Sequence[int], limit: int) -> Generator[Ids, None, Hypothesis]:
        """Yields the ids of the most probable continuation one by one; returns all with their log-probability."""
        ids, log_p = list[int](), 0.0
        steps = self._model.generate_tokens(
            self._named(row), max_length=limit, end_token=self._ends, return_log_prob=True
        )
        for step in steps:
            log_p += step.log_prob
            if step.token in self._ends:
                return Hypothesis(tuple(ids), log_p, log_p / (len(ids) + 1))
            ids.append(step.token_id)
            yield [step.token_id]
        return self._cut(row, ids, limit)

    def _hypotheses(
        self, row: Sequence[int], found: Sequence[tuple[Ids, float]], limit: int, config: DecodingConfig
    ) -> list[Hypothesis] | None:
        if any(len(ids) >= limit for ids, _ in found):
            return None if config.beam > 1 else [self._cut(row, found[0][0], limit)]
        a = config.length_penalty
        return [Hypothesis(tuple(ids), s * (len(ids) + 1) ** a, s) for ids, s in found[: config.n_best]]

    def _cut(self, row: Sequence[int], ids: Sequence[int], limit: int) -> Hypothesis:
        """What the search has not ended: the first `limit` ids, and the end, whose probability counts."""
        log_p = self.log_p(row, ids[:limit])
        return Hypothesis(tuple(ids[:limit]), log_p, log_p / (limit + 1), "length")

    def log_p(self, row: Sequence[int], ids: Sequence[int]) -> float:
        """The log-probability of a result with its end."""
        if self._source is None:
            (scored,) = self._model.score_batch([[*self._named(row), *self._named(ids), self._target[self._end]]])
        else:
            (scored,) = self._model.score_batch([self._read(row)], [self._named(ids)])
        return float(sum(scored.log_probs[-len(ids) - 1 :]))

    def _read(self, row: Sequence[int]) -> list[str]:
        assert self._source is not None
        return [self._source[int(i)] for i in row]

    def _named(self, ids: Sequence[int]) -> list[str]:
        return [self._target[int(i)] for i in ids]
