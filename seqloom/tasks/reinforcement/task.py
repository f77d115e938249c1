"""Reinforcement learning: a model learns from the rewards of answers that it samples itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from seqloom.data.rows import Prompt, digest_rows
from seqloom.data.sources.chats.preferences import Prompts
from seqloom.errors import DataError, RunError
from seqloom.evaluation.translation import distinct
from seqloom.files import Json
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.objectives.policy import LeaveOneOut, PolicyObjective
from seqloom.run import Run
from seqloom.tasks.answering import Answering, Continuing, Translating
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.reward import shown
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.preference.reference import kept_reference, reference_model, start_digest
from seqloom.tasks.reinforcement.rewards import COMPARING, RewardConfig
from seqloom.tasks.reinforcement.rollouts import (
    Asked,
    Policy,
    PromptBatches,
    Reading,
    Reference,
    RolloutConfig,
    Rollouts,
)
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import Prepared, gradient_plan, tested_on
from seqloom.training.config import Metric, TrainingConfig
from seqloom.training.fit import Measured, Plan
from seqloom.training.log import Reporter
from seqloom.training.loop import CRITIC
from seqloom.training.optimizer import AdamW, OptimizerConfig
from seqloom.training.schedule import Linear, Schedule

_VALIDATED = 128  # prompts
_SAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class ReinforcementKeys(Answering):
    """The keys of a run that learns from rewards; the run it starts from is also the reference.

    Args:
        reward: what an answer is worth.
        objective: the loss.
        batches: how answers are sampled.
    """

    reward: RewardConfig
    objective: PolicyObjective = field(default_factory=LeaveOneOut)
    batches: RolloutConfig = field(default_factory=RolloutConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: AdamW(lr=1e-5))
    schedule: Schedule = field(default_factory=lambda: Linear(warmup=10))
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="reward"))
    unit: ClassVar[str] = "answers"
    metrics: ClassVar[tuple[Metric, ...]] = ("reward",)
    tasks: ClassVar[Mapping[str, str]] = {
        DecoderOnlyConfig.kind: "reinforce",
        EncoderDecoderConfig.kind: "reinforce_translations",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.ema or self.training.average != "none":
            raise ValueError("training.ema and training.average are not for answers that a model samples itself")

    def asked(self, reporter: Reporter) -> dict[str, list[Prompt]]:
        """The prompts of each split."""
        raise NotImplementedError

    def sample(self, row: Prompt, before: str, answer: str) -> Json:
        """An answer for the report, beside that of the model that training started from."""
        raise NotImplementedError

    def encoded(self, rows: Sequence[Prompt], name: str, assets: Assets, reporter: Reporter) -> list[np.ndarray]:
        """The ids of prompts; warns of what is cut. Raises DataError where the reward needs right answers."""
        if isinstance(self.reward, COMPARING) and not all(row.reference for row in rows):
            problem = f"reward.kind = '{self.reward.kind}' compares with right answers, which the prompts do not have"
            raise DataError(problem, where=name, cure="name their field with --data.answer")
        room = self.batches.length - (self.batches.answer if self.start_token(assets) is None else 0)
        prompts, lost = self.prompts(rows, assets, room)
        if lost:
            reporter.warn(f"{name}: {lost}")
        return prompts

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """See RunConfig."""
        assets = self.started(run)
        rows = self.asked(reporter)
        digests = {name: digest_rows(split) for name, split in rows.items()}
        now = {"start": start_digest(self), **self.reward.digests()}
        reference = kept_reference(self, run, digests) or now
        if changed := [name for name, digest in now.items() if reference.get(name) != digest]:
            what = self.start if changed[0] == "start" else changed[0]
            problem = "is not what it was when this run began: answers would be compared with something else"
            raise RunError(problem, where=what, cure="put it back, or begin another run with --run")
        encoded = {name: self.encoded(split, name, assets, reporter) for name, split in rows.items()}
        judge = self.reward.judge()
        assets = Assets(assets.tokenizers, reference=reference)
        batches = PromptBatches(len(rows["train"]), self.batches, self.seed)

        def plan(config: Any, model: Any) -> Plan:
            begun = run is not None and run.checkpoints()
            start = Reference(reference_model(self, assets) if begun else model)
            policy = Policy(self, self.predictor(model, assets), self.start_token(assets))
            if self.objective.critic:
                model.add_module(CRITIC, nn.Linear(config.model.decoder.width, 1))
                nn.init.zeros_(model.critic.weight)
                nn.init.zeros_(model.critic.bias)
                model.critic.to(next(model.parameters()).device)
            learning = Rollouts(policy, Asked(rows["train"], encoded["train"], judge), start, reporter.warn)
            held = Asked(rows["valid"][:_VALIDATED], encoded["valid"][:_VALIDATED], judge)
            valid = Appraisal(policy, held, start)
            return gradient_plan(config, model, batches, valid.measure, learning)

        return Prepared(
            digests,
            assets,
            plan,
            f"{len(rows['train']):,} prompts, {batches.per_epoch} steps an epoch",
            lambda: [_summary(name, encoded[name]) for name in rows],
        )

    def rewarded(self, predictor: Any, rows: Sequence[Prompt], reporter: Reporter) -> Json:
        """The rewards of a trained model's sampled answers, compared with the start's if that is unchanged."""
        assets = predictor.assets
        began, encoded = time.perf_counter(), self.encoded(rows, "the test data", assets, reporter)
        same = Run(self.start).begun and start_digest(self) == (assets.reference or {}).get("start")
        if not same:
            reporter.warn(f"{self.start} is not there, or has changed: there is nothing to compare with")
        policy = Policy(self, predictor, self.start_token(assets))
        start = Reference(reference_model(self, assets)) if same else None
        reporter.say(f"answering {len(rows):,} prompts")
        scores, _ = Appraisal(policy, Asked(rows, encoded, self.reward.judge()), start).scores()
        return {**scores, "prompts": len(rows), "seconds": round(time.perf_counter() - began, 3)}


def _summary(name: str, prompts: Sequence[np.ndarray]) -> Json:
    sizes = [len(ids) for ids in prompts]
    return {"split": name, "prompts": len(sizes), "tokens": sum(sizes), "longest": max(sizes)}


class Appraisal:
    """One sampled answer to each of some prompts, always with the same random numbers, and the start's beside it."""

    def __init__(self, policy: Policy, asked: Asked, start: Reference | None) -> None:
        self.policy, self.asked, self.start = policy, asked, start
        self._before: tuple[list[str], np.ndarray] | None = None

    def measure(self, step: int) -> Measured:
        """The scores on the validation data, and some answers."""
        scores, samples = self.scores()
        return scores, [{"step": step, **sample} for sample in samples]

    @torch.inference_mode()
    def scores(self) -> tuple[dict[str, float], list[Json]]:
        """The scores, and some answers."""
        policy = self.policy
        model = policy.predictor.model
        answers, texts, rewards = self._answered()
        lengths = np.array([len(answer) for answer in answers])
        scores = {"reward": float(rewards.mean()), "answer_tokens": float(lengths.mean())}
        scores |= {"truncated": 100 * float(1 - policy.ended(answers).mean()), "distinct_2": distinct(texts, 2)}
        before, entropy, divergence = texts, 0.0, 0.0
        if self.start is not None and self._before is None:
            with self.start.used(model):
                self._before = self._answered()[1:]
        if self._before is not None:
            before, old = self._before
            wins = (rewards > old).mean() + (rewards == old).mean() / 2
            scores |= {"reward_start": float(old.mean()), "win_rate": 100 * float(wins)}
        for i in range(0, len(answers), _TOGETHER):
            part = slice(i, i + _TOGETHER)
            more, apart = self._distributions(model, self.asked.encoded[part], answers[part])
            entropy, divergence = entropy + more, divergence + apart
        scores["entropy"] = entropy / float(lengths.sum())
        if self.start is not None:
            scores["divergence"] = divergence / len(answers)
        each = zip(self.asked.rows, before, texts, rewards.tolist(), strict=True)
        samples = [{**policy.config.sample(row, b, t), "reward": round(r, 4)} for row, b, t, r in each]
        return scores, samples[:_SAMPLES]

    def _answered(self) -> tuple[list[np.ndarray], list[str], np.ndarray]:
        config: Any = self.policy.config
        answers: list[np.ndarray] = []
        encoded = self.asked.encoded
        for i in range(0, len(encoded), _TOGETHER):
            answers += self.policy.answers(encoded[i : i + _TOGETHER], 1, config.batches.temperature, i + 1)
        texts = self.policy.texts(encoded, answers)
        return answers, texts, np.array(self.asked.rewards(range(len(encoded)), texts))

    def _distributions(
        self, model: Any, prompts: Sequence[np.ndarray], answers: Sequence[np.ndarray]
    ) -> tuple[float, float]:
        """The entropy of all tokens, and their divergence from the start over the whole vocabulary; both summed."""
        temperature, device = self.policy.config.batches.temperature, next(model.parameters()).device
        mask = torch.zeros(0, device=device, dtype=torch.bool)
        read = Reading(model, prompts, answers, self.policy.start, mask)

        def log_p() -> torch.Tensor:
            logits: torch.Tensor = model.head(read.hidden()).float() / temperature
            return logits.log_softmax(-1)

        now = log_p()
        entropy = -float((now.exp() * now).sum())
        if self.start is None:
            return entropy, 0.0
        with self.start.used(model):
            return entropy, float((now.exp() * (now - log_p())).sum())


_TOGETHER = 16


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(Continuing, ReinforcementKeys, LanguageModelConfig):
    """The config of a run of a language model that learns from rewards; for all else it is a language model."""

    task: Literal["reinforce"] = "reinforce"  # type: ignore[assignment]
    data: Prompts  # type: ignore[assignment]

    def asked(self, reporter: Reporter) -> dict[str, list[Prompt]]:
        """See ReinforcementKeys."""
        return self.data.splits(reporter.say, self.seed)

    def sample(self, row: Prompt, before: str, answer: str) -> Json:
        """See ReinforcementKeys."""
        begun = row.prompt if isinstance(row.prompt, str) else ""
        return {"prompt": shown(row.prompt), "start": begun + before, "text": begun + answer}

    def score(self, predictor: Any, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """See RunConfig: the rewards of answers to prompts; of any other text, the perplexities of a language model."""
        if test and not self.data.holds(test):
            return self.plain().score(predictor, test, options, reporter)
        rows = self.data.read(tested_on(test, self.data.test, options))
        return self.rewarded(predictor, rows, reporter)


@dataclass(frozen=True, kw_only=True)
class ReinforceTranslationsConfig(Translating, ReinforcementKeys, TranslateConfig):
    """The config of a run of an encoder-decoder that learns from rewards; for all else it is one of translation."""

    task: Literal["reinforce_translations"] = "reinforce_translations"  # type: ignore[assignment]

    def asked(self, reporter: Reporter) -> dict[str, list[Prompt]]:
        """See ReinforcementKeys."""
        splits = self.data.splits()
        named = {"train": splits.train, "valid": splits.valid}
        return {
            name: [Prompt(*pair) for pair in zip(pairs.sources, pairs.targets, strict=True)]
            for name, pairs in named.items()
        }

    def sample(self, row: Prompt, before: str, answer: str) -> Json:
        """See ReinforcementKeys."""
        return {"source": row.prompt, "reference": row.reference, "start": before, "translation": answer}
