"""Rollouts: a model answers prompts, its answers are rewarded, and it learns from the rewards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from seqloom.adaptation.adapt import merge_adapters
from seqloom.data.batches.batch import pad
from seqloom.data.batches.preferences import laid_out
from seqloom.data.batches.windows import TextLength
from seqloom.data.rows import Prompt
from seqloom.decoding.config import Sampling
from seqloom.limits import Bounded, Bounds, Positive
from seqloom.objectives.cross_entropy import Loss
from seqloom.objectives.policy import Answers
from seqloom.objectives.preference import chosen_log_p, predicting
from seqloom.tasks.reinforcement.rewards import Judge, judged


@dataclass(frozen=True)
class RolloutConfig(Bounded):
    """How answers are sampled.

    Args:
        prompts: P, the prompts of a batch.
        answers: G, the answers to each.
        length: the most tokens of a prompt with its answer; for an encoder-decoder, of a prompt.
        answer: the most tokens of an answer.
        temperature: divides the logits, when answers are sampled and when they are learned.
        updates: steps of the optimizer for each batch of answers.
    """

    prompts: Annotated[int, Bounds(1, 10**4)] = 8
    answers: Annotated[int, Bounds(2, 1000)] = 4
    length: TextLength = 256
    answer: Positive = 48
    temperature: Annotated[float, Bounds(0.01, 100)] = 1.0
    updates: Annotated[int, Bounds(1, 100)] = 1
    accumulate: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answer >= self.length:
            raise ValueError(f"batches.answer must be less than batches.length = {self.length}")


@dataclass(frozen=True)
class PromptBatch:
    """The prompts of a step: their numbers in the corpus, that of their batch, and the update, from 0."""

    rows: tuple[int, ...]
    batch: int
    update: int
    tokens: int

    def to(self, device: torch.device) -> PromptBatch:
        """Itself: it holds no tensors."""
        return self


@dataclass(frozen=True)
class PromptBatches:
    """The endless sequence of prompts, by number of step; each epoch has its own order, a pure function of the seed."""

    count: int
    config: RolloutConfig
    seed: int

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return -(-self.count // self.config.prompts) * self.config.updates

    def __call__(self, number: int) -> PromptBatch:
        """The prompts of a step; those that are missing in the last batch of an epoch are its first ones."""
        batch, update = divmod(number, self.config.updates)
        epoch, index = divmod(batch, self.per_epoch // self.config.updates)
        order = np.random.Generator(np.random.Philox(key=(self.seed, epoch))).permutation(self.count)
        chosen = np.take(order, np.arange(self.config.prompts) + index * self.config.prompts, mode="wrap")
        return PromptBatch(tuple(chosen.tolist()), batch, update, self.config.prompts * self.config.answers)


class Reference:
    """The model that training started from: the values that the learned parameters had.

    Nothing else differs, so that there is no second model: of adapters, only these values are kept.
    """

    def __init__(self, model: nn.Module) -> None:
        self.values = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @contextmanager
    def used(self, model: nn.Module) -> Iterator[None]:
        """A context in which the model is the reference."""
        learned = {name: p for name, p in model.named_parameters() if name in self.values}
        own = {name: p.data for name, p in learned.items()}
        try:
            for name, parameter in learned.items():
                self.values[name] = self.values[name].to(parameter)
                parameter.data = self.values[name]
            yield
        finally:
            for name, parameter in learned.items():
                parameter.data = own[name]


@dataclass(frozen=True)
class Asked:
    """Prompts, their ids, and what rewards answers to them."""

    rows: Sequence[Prompt]
    encoded: Sequence[np.ndarray]
    judge: Judge

    def rewards(self, numbers: Iterable[int], answers: Sequence[str]) -> list[float]:
        """The rewards of answers to the prompts of these numbers. Raises DataError for a reward that is none."""
        return judged(self.judge, [self.rows[number] for number in numbers], answers)


@dataclass(frozen=True)
class Policy:
    """A model as it answers.

    Args:
        config: the config of the run, see `Answering`.
        predictor: the model in use.
        start: the token that a decoder of its own is fed first; None = there is none.
    """

    config: Any
    predictor: Any
    start: int | None

    def answers(self, prompts: Sequence[np.ndarray], count: int, temperature: float, seed: int) -> list[np.ndarray]:
        """Sampled answers, those to a prompt side by side."""
        batches, model = self.config.batches, self.predictor.model
        model.eval()
        sampling = Sampling(n_best=count, temperature=temperature, seed=seed)
        undo = merge_adapters(model)  # else each token would compute the adapted weights anew
        try:
            drawn = self.config.drawn(self.predictor, prompts, sampling, batches.answer)
        finally:
            undo()
        return [answer for answers in drawn for answer in answers]

    def texts(self, prompts: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> list[str]:
        """The texts of answers, as many to each prompt."""
        each = [prompt for prompt in prompts for _ in range(len(answers) // len(prompts))]
        return [self.config.written(self.predictor, *both) for both in zip(each, answers, strict=True)]

    def ended(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """Whether each came to an end by itself."""
        end = self.config.end(self.predictor)
        return np.array([answer[-1] == end for answer in answers])


class Rollouts:
    """The objective of a training in which each batch of prompts is answered by the model itself.

    Args:
        policy: the model as it answers.
        asked: the prompts that it is asked.
        reference: the model that training started from.
        warn: reports what is odd.
    """

    def __init__(self, policy: Policy, asked: Asked, reference: Reference, warn: Callable[[str], None]) -> None:
        self.policy, self.asked, self.reference, self.warn, self._same = policy, asked, reference, warn, 0

    def __call__(self, model: Any, batch: PromptBatch, carry: Mapping[str, Tensor] | None = None) -> Loss:
        """The loss summed over the answers; `carry` has those of an earlier update of the same batch."""
        config: Any = self.policy.config
        model.eval()  # without dropout: the first ratio is 1
        prompts = [self.asked.encoded[row] for row in batch.rows]
        answered = self._answered(batch, prompts) if batch.update == 0 or not carry else dict(carry)
        group = config.batches.answers
        mask = answered["ids"] >= 0
        rows = [ids[: int(n)].cpu().numpy() for ids, n in zip(answered["ids"], mask.sum(1), strict=True)]
        read = Reading(model, [p for p in prompts for _ in range(group)], rows, self.policy.start, mask)
        hidden = read.hidden()
        log_p = read.log_p(hidden, config.batches.temperature)
        values = read.grid(model.critic(hidden)[:, 0]) if config.objective.critic else None
        if "sampled" not in answered:
            with torch.no_grad(), self.reference.used(model):
                answered["reference"] = read.log_p(read.hidden(), config.batches.temperature)
            answered["sampled"] = log_p.detach()
            answered |= {"values": values.detach()} if values is not None else {}
        answers = Answers(
            mask,
            answered["rewards"],
            answered["sampled"],
            answered["reference"],
            answered["ended"] if config.objective.truncated == "mask" else torch.ones_like(answered["ended"]),
            answered["distinct"],
            group,
            answered.get("values"),
        )
        value, scores = config.objective.loss(log_p, answers, values)
        scores |= {
            "reward": float(answers.rewards.mean()),
            "kl": float(answers.divergence.sum(1).mean()),
            "answer_tokens": float(mask.sum(1).float().mean()),
            "truncated": 100 * (1 - float(answered["ended"].float().mean())),
        }
        return Loss(value, float(value.detach()), batch.tokens, answered, scores)

    def _answered(self, batch: PromptBatch, prompts: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """New answers, with their rewards."""
        config: Any = self.policy.config
        group, device = config.batches.answers, next(self.policy.predictor.model.parameters()).device
        seed = int(np.random.Philox(key=(config.seed, batch.batch)).random_raw() >> 1)
        drawn = self.policy.answers(prompts, group, config.batches.temperature, seed)
        texts = self.policy.texts(prompts, drawn)
        rewards = self.asked.rewards((row for row in batch.rows for _ in range(group)), texts)
        self._notice(rewards)
        seen = [[answer.tobytes() for answer in drawn[i : i + group]] for i in range(0, len(drawn), group)]
        distinct = [own.index(answer) == i for own in seen for i, answer in enumerate(own)]
        ids, _ = pad([answer + 1 for answer in drawn])
        tensors = {
            "ids": ids - 1,
            "rewards": torch.tensor(rewards),
            "ended": torch.from_numpy(self.policy.ended(drawn)),
            "distinct": torch.tensor(distinct),
        }
        return {name: tensor.to(device) for name, tensor in tensors.items()}

    def _notice(self, rewards: Sequence[float]) -> None:
        self._same = self._same + 1 if min(rewards) == max(rewards) else 0
        if self._same == _CONSTANT:
            self.warn(
                f"all answers of {_CONSTANT} batches have the reward {rewards[0]:g}: nothing is learned from them"
            )


_CONSTANT = 10


class Reading:
    """Prompts with their answers, as a model reads them.

    Args:
        model: the model.
        prompts, answers: their ids, one answer for each prompt.
        start: see `Policy`.
        mask: (R T) True on the tokens of the answers, on the device of the model.
    """

    def __init__(
        self, model: Any, prompts: Sequence[np.ndarray], answers: Sequence[np.ndarray], start: int | None, mask: Tensor
    ) -> None:
        inputs, targets, fed = laid_out(prompts, answers, start)
        device = mask.device
        self.model, self.mask, self.inputs, self.targets = model, mask, inputs.to(device), targets.to(device)
        self.fed = fed.to(device) if fed is not None else None

    def hidden(self) -> Tensor:
        """The hidden vectors that predict the N tokens of the answers (N D)."""
        return predicting(self.model, self.inputs, self.targets, self.fed)

    def grid(self, each: Tensor) -> Tensor:
        """A number for each of the N tokens, as (R T)."""
        return torch.zeros(self.mask.shape, device=each.device).masked_scatter(self.mask, each.float())

    def log_p(self, hidden: Tensor, temperature: float) -> Tensor:
        """The log-probabilities of the tokens (R T)."""
        return self.grid(chosen_log_p(self.model.head(hidden), self.targets, temperature))
