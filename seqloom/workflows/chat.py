"""Conversation with a run: of pairs, trained on dialogues, or a language model fine-tuned on conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from seqloom.data.sources.dialogues import Dialogues
from seqloom.decoding.config import Sampling
from seqloom.errors import UsageError
from seqloom.run import Run
from seqloom.tasks.building import open_predictor
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import config_of, decoding_config
from seqloom.text.chat import Message
from seqloom.training.log import Reporter


class Conversation:
    """What was said so far, and the model that replies.

    Args:
        path: the run; UsageError if it was not trained on conversations.
        words: decoding options as on the command line, over those of the run.
        reporter: where warnings go.
        system: what a language model is told before the conversation begins.
    """

    def __init__(self, path: str | Path, words: Sequence[str], reporter: Reporter, system: str = "") -> None:
        self.said: list[str] = []
        self.system = [Message("system", system)] if system else []
        run = Run.open(path)
        if run.info().get("task") == "language_model":
            config = config_of(run, LanguageModelConfig)
            if not config.data.chats:
                cure = f"fine-tune it: seqloom train CONFIG --start {path} --data.kind conversations --data.train FILE"
                raise UsageError("has seen no conversations", where=str(path), cure=cure)
            self.generator = open_predictor(path, LanguageModelConfig, say=reporter.warn)
            self.generator.config = decoding_config(self.generator.config, words)
            self.config, self._answer = self.generator.config, self._written
            return
        data = config_of(run, TranslateConfig).data
        if not isinstance(data, Dialogues):
            cure = f"for single texts there is: seqloom translate {path}"
            raise UsageError("was not trained on dialogues", where=str(path), cure=cure)
        self.data = data
        self.translator = open_predictor(path, TranslateConfig, long_input="cut", say=reporter.warn)
        self.translator.config = decoding_config(self.translator.config, words)
        self.config, self._answer = self.translator.config, self._translated

    def reply(self, text: str) -> Iterator[str]:
        """The answer to a turn, piece by piece.

        Sampling goes on from turn to turn, so that the same words get other answers.
        """
        self.said.append(" ".join(text.split()))
        answer = ""
        drawn = {"seed": self.config.seed + len(self.said)} if isinstance(self.config, Sampling) else {}
        for piece in self._answer(**drawn):
            answer += piece
            yield piece
        self.said.append(answer)

    def _translated(self, **options: int) -> Iterator[str]:
        yield from self.translator([self.data.context(self.said)], **options)

    def _written(self, **options: int) -> Iterator[str]:
        sides = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(self.said)]
        yield from self.generator.reply([*self.system, *sides], **options)

    def forget(self) -> None:
        """Begins a new conversation."""
        self.said.clear()
