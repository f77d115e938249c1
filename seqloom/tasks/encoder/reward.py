"""Rewards: a number for each answer to a prompt, learned from which of two answers is better."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from seqloom.data.batches.preferences import encode_continuations
from seqloom.data.batches.windows import Item, Window, frame
from seqloom.data.checks.pairs import Finding
from seqloom.data.checks.preferences import check_preferences
from seqloom.data.formats.lines import is_text
from seqloom.data.rows import Preference
from seqloom.data.sources.chats.conversations import turns_of
from seqloom.data.sources.chats.preferences import Preferences
from seqloom.errors import DataError, UsageError, counted
from seqloom.evaluation.preferences import score_preferences
from seqloom.files import Json
from seqloom.models.assemblies import TextReader
from seqloom.models.decoder import DecoderOnlyConfig, DecoderReader
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.objectives.preference import BradleyTerry
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.examples import ExamplesConfig, Predictor, Reader
from seqloom.tasks.encoder.task import outputs
from seqloom.text.chat import Message, with_chat
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.config import Metric, TrainingConfig
from seqloom.training.log import Reporter


@dataclass(frozen=True)
class Rewarded:
    """An answer to a prompt, and its reward: only differences between answers to the same prompt mean something."""

    prompt: str
    answer: str
    reward: float

    def __str__(self) -> str:
        return "\t".join((f"{self.reward:.4f}", *(" ".join(text.split()) for text in (self.prompt, self.answer))))


class Rewarder(Reader):
    """Pairs of answers, as two windows of an item; or, in use, single answers.

    An encoder reads a plain prompt and its answer as a pair of texts, of which the longer one is cut. Everything else
    is one text, whose prompt loses its beginning.
    """

    head, inputs = "label", ("prompt", "chosen")
    config: RewardConfig

    def items(self, rows: Sequence[Preference], learn: bool) -> list[Item]:
        """See Reader; a row in use has the same answer twice."""
        framed = isinstance(self.config.model, EncoderOnlyConfig) and not self.config.data.chats
        pairs = self._pairs(rows) if framed else self._wholes(rows)
        return [
            Item(windows if learn else windows[:1], np.array(row.margin) if learn else None)
            for windows, row in zip(pairs, rows, strict=True)
        ]

    def _pairs(self, rows: Sequence[Preference]) -> list[tuple[Window, Window]]:
        tokenizer, config = self.tokenizer, self.config.batches
        prompts = tokenizer.encode([str(row.prompt) for row in rows])
        answers = tokenizer.encode([answer for row in rows for answer in (row.chosen, row.rejected)])
        template = tokenizer.template
        room = config.length - sum(map(len, (template.before, template.between, template.after)))
        cut = sum(len(prompts[i // 2]) + len(answer) > room for i, answer in enumerate(answers))
        self.lost = f"{counted(cut, 'answer')} cut, with the prompt, to {config.length} tokens" if cut else ""
        windows = [frame(prompts[i // 2], a, template, config, windows=False)[0] for i, a in enumerate(answers)]
        return list(zip(windows[::2], windows[1::2], strict=True))

    def _wholes(self, rows: Sequence[Preference]) -> list[tuple[Window, Window]]:
        encoded = encode_continuations(rows, self.tokenizer, self.config.batches.length - 1)
        self.lost = encoded.lost
        windows = [Window(ids.astype(np.int32)) for pair in encoded.pairs for ids in pair.rows]
        return list(zip(windows[::2], windows[1::2], strict=True))

    def outputs_of(self, model: TextReader, items: Sequence[Item]) -> list[list[np.ndarray]]:
        """The rewards of the windows of each item, in one array."""
        singles = [replace(item, windows=(window,)) for item in items for window in item.windows]
        rewards = iter([scores[0][0] for scores in outputs(model, self.head, singles)])
        return [[np.array([*islice(rewards, len(item.windows))])] for item in items]

    def predict(self, row: Preference, item: Item, scores: list[np.ndarray]) -> Any:
        """The reward of an answer; of a pair, the difference."""
        if len(scores[0]) == 2:
            return float(scores[0][0]) - float(scores[0][1])
        return Rewarded(shown(row.prompt), row.chosen, float(scores[0][0]))

    def measure(self, rows: Sequence[Preference], items: Sequence[Item], outputs: Sequence[list[np.ndarray]]) -> Json:
        """See Reader."""
        rewards = np.stack([windows[0] for windows in outputs]).astype(np.float64)
        means = {"reward_chosen": float(rewards[:, 0].mean()), "reward_rejected": float(rewards[:, 1].mean())}
        return {**score_preferences(rewards[:, 0] - rewards[:, 1], character_lengths(rows)), **means}

    def sample(self, row: Preference, prediction: float) -> Json:
        """See Reader."""
        answers = {"chosen": row.chosen, "rejected": row.rejected}
        return {"prompt": shown(row.prompt), **answers, "difference": round(prediction, 4)}

    def texts(self, row: Preference) -> list[str]:
        """See Reader."""
        return [shown(row.prompt), row.chosen]

    def row(self, example: Any) -> Preference:
        """(prompt, answer), or both with a tab in between; a prompt is a text, or the messages of a conversation."""
        parts = tuple(example.split("\t")) if isinstance(example, str) else tuple(example)
        if len(parts) != 2 or not is_text(parts[1]) or not parts[0] or (isinstance(parts[0], str) > is_text(parts[0])):
            problem = f"cannot be read: {str(example)[:80]!r}"
            raise UsageError(problem, cure="this run is for answers to prompts: PROMPT<TAB>ANSWER")
        return self.single(parts[0] if isinstance(parts[0], str) else tuple(parts[0]), parts[1])

    def single(self, prompt: str | tuple[Message, ...], answer: str) -> Preference:
        """The row of an answer, whatever it is. Raises UsageError for a prompt of another form."""
        if self.config.data.chats and isinstance(prompt, str):
            turns: list[Any] = (turns_of(prompt) if self.config.data.form == "dialogue" else []) or [("user", prompt)]
            prompt = tuple(Message(role, text) for role, text in turns)
        elif not self.config.data.chats and not isinstance(prompt, str):
            raise UsageError("this run has not learned from conversations", cure="give a plain text as prompt")
        return Preference(prompt, answer, answer)


def shown(prompt: str | Sequence[Message]) -> str:
    """A prompt for readers."""
    return prompt if isinstance(prompt, str) else "\n\n".join(message.text for message in prompt)


def character_lengths(rows: Sequence[Preference]) -> np.ndarray:
    """The characters of both answers of each row (N 2)."""
    return np.array([(len(row.chosen), len(row.rejected)) for row in rows])


def different(rows: list[Preference], name: str, reporter: Reporter) -> list[Preference]:
    """The rows whose answers differ; reports how many do not. Raises DataError if none does."""
    kept = [row for row in rows if row.chosen != row.rejected]
    if not kept:
        cure = "name files whose chosen and rejected answers differ"
        raise DataError("no pair has two different answers", where=rows[0].where, cure=cure)
    if dropped := len(rows) - len(kept):
        reporter.warn(f"{name}: {counted(dropped, 'pair')} without a difference left out")
    return kept


class RewardPredictor(Predictor):
    """A reward model in use: `predictor([("a prompt", "an answer")])`, or `predictor.score` of a single pair."""

    def score(self, prompt: str | Sequence[Message], answer: str) -> float:
        """The reward of an answer."""
        return float(self([(prompt, answer)])[0].reward)


@dataclass(frozen=True, kw_only=True)
class RewardConfig(ExamplesConfig):
    """The config of a run that learns a reward from preferences; it starts from an encoder or a language model."""

    task: Literal["reward"] = "reward"
    data: Preferences
    model: EncoderOnlyConfig | DecoderOnlyConfig = field(default_factory=EncoderOnlyConfig)  # type: ignore[assignment]
    objective: BradleyTerry = field(default_factory=BradleyTerry)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="accuracy"))
    reading: ClassVar[type[Reader]] = Rewarder
    starts: ClassVar[tuple[str, ...]] = (EncoderOnlyConfig.kind, DecoderOnlyConfig.kind)
    using: ClassVar[type[Predictor]] = RewardPredictor
    unit: ClassVar[str] = "pairs"
    metrics: ClassVar[tuple[Metric, ...]] = ("accuracy", "loss")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batches.long == "windows":
            raise ValueError("batches.long must be 'cut': an answer has one reward")

    def scan(self) -> tuple[list[Finding], bool]:
        """See RunConfig."""
        findings = self.data.scan()
        return findings, any(finding.severity == "error" for finding in findings)

    def texts(self, rows: Sequence[Preference]) -> Iterable[str]:
        """See ExamplesConfig."""
        return (text for row in rows for text in (shown(row.prompt), row.chosen, row.rejected))

    def usable(self, rows: list[Preference], name: str, reporter: Reporter) -> list[Preference]:
        """See ExamplesConfig."""
        return different(rows, name, reporter)

    def equipped(self, tokenizer: Tokenizer) -> Tokenizer:
        """See ExamplesConfig."""
        return with_chat(tokenizer) if self.data.chats else tokenizer

    def facts(self, rows: Sequence[Preference]) -> Json:
        """The reward is a number as it is."""
        return {"mean": 0.0, "deviation": 1.0}

    def findings(self, rows: dict[str, list[Preference]]) -> list[Finding]:
        """See ExamplesConfig."""
        return check_preferences(rows)

    def build(self, assets: Assets) -> TextReader:  # type: ignore[override]
        """See RunConfig."""
        torch.manual_seed(self.seed)
        heads = self.heads(assets.facts or {})
        if isinstance(self.model, DecoderOnlyConfig):
            return DecoderReader(self.model, assets.vocab_size, heads)
        return EncoderOnly(self.model, assets.vocab_size, heads)
