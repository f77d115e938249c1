"""Conversation with a run: a sequence-to-sequence model of dialogues, or a language model trained to chat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from seqloom.data.sources.chats.dialogues import Dialogues
from seqloom.decoding.config import Sampling
from seqloom.errors import UsageError, command
from seqloom.run import Run
from seqloom.tasks import task_class
from seqloom.tasks.building import open_predictor
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import config_of, decoding_config
from seqloom.text.chat import Message
from seqloom.training.log import Reporter


class Conversation:
    """The turns so far, and the model that replies.

    Args:
        path: the run; UsageError if it was not trained on conversations.
        options: decoding options as on the command line, over those of the run.
        reporter: prints warnings.
        system: the system prompt, for a language model.
    """

    def __init__(self, path: str | Path, options: Sequence[str], reporter: Reporter, system: str = "") -> None:
        self.turns: list[str] = []
        self.system = [Message("system", system)] if system else []
        run = Run.open(path)
        if issubclass(task_class(str(run.info().get("task"))), LanguageModelConfig):
            config = config_of(run, LanguageModelConfig)
            if not config.data.chats and config.assets(run).template is None:
                options = ("--data.kind", "conversations", "--data.train", "FILE")
                cure = f"fine-tune it: {command('train', 'CONFIG', '--start', path, *options)}"
                raise UsageError("was not trained on conversations", where=str(path), cure=cure)
            self.generator = open_predictor(run, LanguageModelConfig, say=reporter.warn)
            self.generator.config = self.config = decoding_config(self.generator.config, options)
            self._answer = self._generated
            return
        data = config_of(run, TranslateConfig).data
        if not isinstance(data, Dialogues):
            cure = f"translate single texts: {command('translate', path)}"
            raise UsageError("was not trained on dialogues", where=str(path), cure=cure)
        self.data = data
        self.translator = open_predictor(run, TranslateConfig, long_input="cut", say=reporter.warn)
        self.translator.config = self.config = decoding_config(self.translator.config, options)
        self._answer = self._translated

    def reply(self, text: str) -> Iterator[str]:
        """The answer to a turn, piece by piece.

        Each turn samples with another seed, so that the same text gets different answers.
        """
        self.turns.append(" ".join(text.split()))
        answer = ""
        seed = {"seed": self.config.seed + len(self.turns)} if isinstance(self.config, Sampling) else {}
        for piece in self._answer(**seed):
            answer += piece
            yield piece
        self.turns.append(answer)

    def _translated(self, **options: int) -> Iterator[str]:
        yield from self.translator([self.data.context(self.turns)], **options)

    def _generated(self, **options: int) -> Iterator[str]:
        messages = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(self.turns)]
        yield from self.generator.reply([*self.system, *messages], **options)

    def forget(self) -> None:
        """Starts a new conversation."""
        self.turns.clear()
