"""What an answer is worth: a function of Python, a run, or a rule."""

from __future__ import annotations

import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from seqloom.data.rows import Example, Prompt, continued
from seqloom.errors import DataError, SeqloomError, UsageError, nearest
from seqloom.limits import Bounded, Bounds
from seqloom.run import Run
from seqloom.tasks.encoder.reward import shown

Judge = Callable[[Sequence[Prompt], Sequence[str]], Sequence[float]]
"""(prompts, answers) -> the reward of each answer."""


class _Reward:
    """What an answer is worth."""

    def judge(self) -> Judge:
        """What rewards many answers."""
        return lambda prompts, answers: [self.reward(p, a) for p, a in zip(prompts, answers, strict=True)]

    def reward(self, prompt: Prompt, answer: str) -> float:
        """The reward of one answer, where it is judged alone."""
        raise NotImplementedError

    def digests(self) -> dict[str, str]:
        """The digests of the runs that it depends on, by their paths."""
        return {}


@dataclass(frozen=True)
class FunctionReward(_Reward):
    """A function of Python: (prompt, answer) -> number; with a third parameter, it gets the right answer, too.

    Args:
        function: "module:name"; the module is looked for beside the config and in the current directory, too.
    """

    kind: ClassVar[str] = "python"
    function: str = ""

    def judge(self) -> Judge:
        """The function for many answers. Raises UsageError where there is none."""
        module, _, name = self.function.partition(":")
        sys.path.insert(0, str(Path.cwd()))
        try:
            function = getattr(importlib.import_module(module), name)
            many = len(inspect.signature(function).parameters) > 2
        except Exception as error:  # whatever the module raises
            cure = "write it as module:function"
            raise UsageError(
                f"cannot be used: {error}", where=f"reward.function = {self.function!r}", cure=cure
            ) from None
        finally:
            sys.path.pop(0)
        return lambda prompts, answers: [
            function(shown(p.prompt), answer, *([p.reference] if many else []))
            for p, answer in zip(prompts, answers, strict=True)
        ]


@dataclass(frozen=True)
class RunReward(_Reward):
    """A run: the probability of a label by a classifier, or the score of a reward model.

    A classifier reads a prompt with its continuation; an answer to a conversation alone.

    Args:
        run: the run.
        label: the label of a classifier.
    """

    kind: ClassVar[str] = "run"
    run: str = ""
    label: str = ""

    def digests(self) -> dict[str, str]:
        """See _Reward."""
        return {self.run: Run.open(self.run).best(lambda fault: None).digest()}

    def judge(self) -> Judge:
        """The run in use. Raises RunError for none, UsageError for one that gives no rewards."""
        from seqloom.tasks import load
        from seqloom.tasks.encoder.classify import Classifier
        from seqloom.tasks.encoder.reward import Rewarder

        judging = load(self.run, precision="fp32")
        reader = getattr(judging, "reader", None)
        if isinstance(reader, Rewarder):
            single = reader.single

            def scores(prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
                rows = [single(prompt.prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
                return [scored.reward for scored in judging.predictions(rows)]

            return scores
        if not isinstance(reader, Classifier) or "labels" not in reader.facts:
            raise UsageError("gives no rewards", where=self.run, cure="name a run of the task 'reward' or 'classify'")
        if self.label not in (labels := reader.facts["labels"]):
            raise UsageError(f"has no label {self.label!r}", where=self.run, cure=nearest(self.label, labels))

        def probabilities(prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
            rows = [_whole(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
            return [classified.probabilities[self.label] for classified in judging.predictions(rows)]

        return probabilities


def _whole(prompt: Prompt, answer: str) -> Example:
    return Example(continued(prompt.prompt, answer) if isinstance(prompt.prompt, str) else answer)


@dataclass(frozen=True)
class ExactReward(_Reward):
    """1 for the right answer, but for white space around it; else 0."""

    kind: ClassVar[str] = "exact"

    def reward(self, prompt: Prompt, answer: str) -> float:
        """See _Reward."""
        return float(answer.strip() == prompt.reference.strip())


@dataclass(frozen=True)
class ChrfReward(_Reward):
    """The chrF of an answer against the right one (Popovic 2015), from 0 to 1."""

    kind: ClassVar[str] = "chrf"

    def reward(self, prompt: Prompt, answer: str) -> float:
        """See _Reward."""
        from sacrebleu.metrics.chrf import CHRF

        return float(CHRF().sentence_score(answer, [prompt.reference]).score) / 100


@dataclass(frozen=True)
class LengthReward(Bounded, _Reward):
    """1 for an answer of so many words, less by 1 / words for each word more or less, at least 0.

    Args:
        words: how many.
    """

    kind: ClassVar[str] = "length"
    words: Annotated[int, Bounds(1, 10**6)] = 20

    def reward(self, prompt: Prompt, answer: str) -> float:
        """See _Reward."""
        return max(0.0, 1 - abs(len(answer.split()) - self.words) / self.words)


@dataclass(frozen=True)
class PatternReward(_Reward):
    """1 for an answer in which a regular expression matches; else 0.

    Args:
        pattern: the expression, in Python's syntax.
    """

    kind: ClassVar[str] = "pattern"
    pattern: str = r"\S"

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern is no regular expression: {error}") from None

    def reward(self, prompt: Prompt, answer: str) -> float:
        """See _Reward."""
        return float(re.search(self.pattern, answer) is not None)


RewardConfig = RunReward | FunctionReward | ExactReward | ChrfReward | LengthReward | PatternReward
COMPARING = (ExactReward, ChrfReward)
"""Rewards that need right answers."""


def judged(judge: Judge, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
    """The rewards of answers. Raises DataError, with the first answers, unless each has a finite number."""
    try:
        rewards: Any = judge(prompts, answers)
        numbers = [float(reward) for reward in rewards]
    except SeqloomError:
        raise
    except Exception as error:  # whatever a function of the user raises
        problem = f"raises {type(error).__name__}: {error}"
    else:
        if len(numbers) == len(answers) and all(map(math.isfinite, numbers)):
            return numbers
        odd = [number for number in numbers if not math.isfinite(number)]
        counts = f"gives {len(numbers)} rewards for {len(answers)} answers"
        problem = f"gives an answer {odd[0]}" if odd else counts
    texts = [f"{shown(p.prompt)!r} -> {a!r}" for p, a in zip(prompts[:3], answers[:3], strict=True)]
    problem += f"; its batch begins with {', '.join(texts)}"
    raise DataError(problem, where="the reward", cure="mend it; no step was taken")
