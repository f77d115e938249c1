"""What every training of preferences has: its keys, its data, its reference, its scores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from seqloom.data.batches.preferences import EncodedPreference, EncodedPreferences, PreferenceBatches
from seqloom.data.batches.windows import LengthConfig
from seqloom.data.checks.preferences import check_preferences
from seqloom.data.rows import Preference, digest_rows
from seqloom.data.sources.chats.preferences import Preferences
from seqloom.decoding.config import Sampling
from seqloom.errors import DataError, RunError
from seqloom.evaluation.preferences import score_preferences
from seqloom.files import Json
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.objectives.preference import DirectPreference, PreferenceObjective
from seqloom.run import Run
from seqloom.tasks.answering import Answering
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.reward import character_lengths
from seqloom.tasks.preference.reference import (
    as_trained,
    kept_reference,
    log_probabilities,
    packed,
    reference_model,
    start_digest,
    unpacked,
)
from seqloom.tasks.task import Prepared, gradient_plan, tested_on
from seqloom.training.config import Metric, TrainingConfig
from seqloom.training.fit import Measured
from seqloom.training.log import Reporter
from seqloom.training.optimizer import AdamW, OptimizerConfig
from seqloom.training.schedule import Linear, Schedule

_SAMPLES = 3  # prompts of the report
_DIFFERING = "name files of pairs whose answers differ"
_PROMPTS = 32  # that the reference answers, twice each
TOKENS = 64
"""The most tokens of an answer that is sampled in training."""

_VALIDATED = ("loss", "accuracy", "reward_chosen", "reward_rejected", "kl")


@dataclass(frozen=True, kw_only=True)
class PreferenceKeys(Answering):
    """The keys of a run that learns preferences; the run it starts from is also the reference.

    Args:
        data: prompts with a chosen and a rejected answer.
        objective: the loss.
        batches: how pairs are put together into batches; `tokens` counts both answers, each with its prompt.
    """

    data: Preferences
    objective: PreferenceObjective = field(default_factory=DirectPreference)
    batches: LengthConfig = field(default_factory=lambda: LengthConfig(tokens=4096))
    optimizer: OptimizerConfig = field(default_factory=lambda: AdamW(lr=1e-5))
    schedule: Schedule = field(default_factory=lambda: Linear(warmup=100))
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="accuracy"))
    unit: ClassVar[str] = "pairs"
    metrics: ClassVar[tuple[Metric, ...]] = ("accuracy", "loss")
    tasks: ClassVar[Mapping[str, str]] = {
        DecoderOnlyConfig.kind: "prefer",
        EncoderDecoderConfig.kind: "prefer_translations",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.margin:
            raise ValueError("data.margin is for the task 'reward'")

    def encoded(self, rows: Sequence[Preference], assets: Assets) -> EncodedPreferences:
        """The ids of prompts and answers."""
        raise NotImplementedError

    def sampled(self, predictor: Any, pairs: Sequence[EncodedPreference]) -> list[EncodedPreference]:
        """The prompts with two answers each, sampled from a model."""
        most = self.batches.length - 1
        if self.model_kind == DecoderOnlyConfig.kind:
            most += 2
            pairs = [pair for pair in pairs if len(pair.prompt) + TOKENS < most] or pairs
            most -= max(len(pair.prompt) for pair in pairs)
        length = min(TOKENS, max(1, most))
        drawn = self.drawn(predictor, [pair.prompt for pair in pairs], Sampling(n_best=2, seed=self.seed), length)
        return [replace(pair, answers=(a, b), margin=0.0) for pair, (a, b) in zip(pairs, drawn, strict=True)]

    def continued(self, predictor: Any, row: Preference) -> Json:
        """The model's own answer to a prompt, for the report."""
        raise NotImplementedError

    def laid_out(self, rows: list[Preference], name: str, assets: Assets, reporter: Reporter) -> PreferenceBatches:
        """The pairs that differ, in batches; warns of what is cut or left out. Raises DataError where none is left."""
        encoded = self.encoded(rows, assets)
        pairs = [pair for pair in encoded.pairs if pair.differs]
        if encoded.lost:
            reporter.warn(f"{name}: {encoded.lost}")
        if not pairs:
            differ = any(row.chosen != row.rejected for row in rows)
            within, cure = (" within the tokens that are read", "raise batches.length") if differ else ("", _DIFFERING)
            raise DataError(f"no pair of answers of {name} differs{within}", cure=cure)
        return PreferenceBatches(pairs, self.batches, self.seed, self.start_token(assets))

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """See RunConfig."""
        assets = self.started(run)
        rows: dict[str, list[Preference]] = self.data.splits(reporter.say, self.seed)
        digests = {name: digest_rows(split) for name, split in rows.items()}
        batches = {name: self.laid_out(split, name, assets, reporter) for name, split in rows.items()}
        reference = kept_reference(self, run, digests)
        if reference is None:
            reporter.say(f"the reference, {self.start}, reads {sum(len(b.pairs) for b in batches.values()):,} pairs")
            reference = self._reference(assets, batches, digests)
        for name, split in batches.items():
            split.reference = np.array(reference[name]["log_p"]) if name in reference else split.reference
        drawn = PreferenceBatches(unpacked(reference["drawn"]), self.batches, self.seed, self.start_token(assets))
        drawn.reference = np.array(reference["drawn_log_p"])
        assets = Assets(assets.tokenizers, reference=reference)
        valid = rows["valid"], batches["valid"], drawn
        return Prepared(
            digests,
            assets,
            lambda config, model: gradient_plan(
                config, model, batches["train"], _Validation(self, self.predictor(model, assets), *valid).measure
            ),
            f"{len(batches['train'].pairs):,} pairs, {batches['train'].per_epoch} batches an epoch",
            lambda: [_summary(name, split) for name, split in batches.items()],
            lambda: check_preferences(rows),
        )

    def _reference(self, assets: Assets, batches: Mapping[str, PreferenceBatches], digests: Mapping[str, str]) -> Json:
        model, kept = reference_model(self, assets), {}
        if "test" in batches:  # which is scored in float32
            kept["test"] = log_probabilities(model, batches["test"])
        model = as_trained(model, self)
        kept |= {name: log_probabilities(model, batches[name]) for name in ("train", "valid")}
        first = {pair.prompt.tobytes(): pair for pair in batches["valid"].pairs}
        drawn = self.sampled(self.predictor(model, assets), [*first.values()][:_PROMPTS])
        again = PreferenceBatches(drawn, self.batches, self.seed, self.start_token(assets))
        return {
            "start": start_digest(self),
            **{name: {"digest": digests[name], "log_p": log_p.tolist()} for name, log_p in kept.items()},
            "drawn": packed(drawn),
            "drawn_log_p": log_probabilities(model, again).tolist(),
        }

    def measured(self, model: Any, rows: Sequence[Preference], batches: PreferenceBatches) -> Json:
        """The scores of a model on the pairs of some rows, whose reference is known."""
        ratios = log_probabilities(model, batches) - batches.reference
        if self.objective.normalize == "length":
            ratios /= np.array([[len(answer) for answer in pair.answers] for pair in batches.pairs])
        difference = ratios[:, 0] - ratios[:, 1]
        lengths = character_lengths([rows[pair.row] for pair in batches.pairs])
        scores = score_preferences(self.objective.beta * difference, lengths)
        means = self.objective.beta * ratios.mean(0)
        loss = float(self.objective.losses(torch.from_numpy(difference)).mean())
        return {**scores, "loss": loss, "reward_chosen": float(means[0]), "reward_rejected": float(means[1])}

    def score(self, predictor: Any, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """The scores of preferring what has become more probable than by the reference.

        Pairs that the run was not given need the run it started from, unchanged. Raises RunError without it. Files of
        any other kind have the scores of a model that learned from texts.
        """
        if test and not self.data.holds(test):
            return self.plain().score(predictor, test, options, reporter)
        assets, rows = predictor.assets, self.data.read(tested_on(test, self.data.test, options))
        digest, batches = digest_rows(rows), self.laid_out(rows, "the test data", assets, reporter)
        reference = assets.reference or {}
        known = (part for part in reference.values() if isinstance(part, dict) and part["digest"] == digest)
        if (part := next(known, None)) is not None:
            batches.reference = np.array(part["log_p"])
        else:
            same = Run(self.start).begun and start_digest(self) == reference["start"]
            if not same:
                problem = "is not there, or has changed; it is the reference for pairs that this run was not given"
                raise RunError(problem, where=self.start, cure="put it back, or score the config's own test data")
            batches.reference = log_probabilities(reference_model(self, assets), batches)
        reporter.say(f"reading {len(batches.pairs):,} pairs")
        began = time.perf_counter()
        scores = self.measured(predictor.model, rows, batches)
        return {**scores, "seconds": round(time.perf_counter() - began, 3)}


def _summary(name: str, batches: PreferenceBatches) -> Json:
    answers = [len(answer) for pair in batches.pairs for answer in pair.answers]
    return {
        "split": name,
        "pairs": len(batches.pairs),
        "tokens": sum(pair.size for pair in batches.pairs),
        "answers": sum(answers),
        "longest": max(answers),
    }


@dataclass(frozen=True)
class _Validation:
    """The scores on the held-out pairs, how far the model is from the reference, and its own answers."""

    config: PreferenceKeys
    predictor: Any
    rows: Sequence[Preference]
    batches: PreferenceBatches
    drawn: PreferenceBatches

    def measure(self, step: int) -> Measured:
        """The scores; and a sample for each of some prompts."""
        model = self.predictor.model
        scores = self.config.measured(model, self.rows, self.batches)
        scores["kl"] = float((self.drawn.reference - log_probabilities(model, self.drawn)).mean())
        prompts = {row.prompt: row for row in self.rows}
        samples = [
            {"step": step, **self.config.continued(self.predictor, row)} for row in [*prompts.values()][:_SAMPLES]
        ]
        return {name: scores[name] for name in _VALIDATED}, samples
