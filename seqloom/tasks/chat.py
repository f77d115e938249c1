"""Conversation with a run that was trained on dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqloom.data.dialogues import Dialogues
from seqloom.errors import UsageError
from seqloom.run import Run
from seqloom.tasks.session import run_translator
from seqloom.tasks.translate import config_of
from seqloom.training.log import Reporter


class Conversation:
    """What was said so far, and the model that replies.

    Args:
        path: the run; UsageError if it was not trained on dialogues.
        words: decoding options as on the command line, over those of the run.
        reporter: where warnings go.
    """

    def __init__(self, path: str | Path, words: Sequence[str], reporter: Reporter) -> None:
        data = config_of(Run.open(path)).data
        if not isinstance(data, Dialogues):
            cure = f"for single texts there is: seqloom translate {path}"
            raise UsageError("was not trained on dialogues", where=str(path), cure=cure)
        self.data = data
        self.translator = run_translator(str(path), words, reporter, long_input="cut")
        self.said: list[str] = []

    def reply(self, text: str) -> str:
        """The answer to a turn. Sampling goes on from turn to turn, so that the same words get other answers."""
        self.said.append(" ".join(text.split()))
        seed = self.translator.config.seed + len(self.said)
        (answer,) = self.translator([self.data.context(self.said)], seed=seed)
        self.said.append(answer)
        return answer

    def forget(self) -> None:
        """Begins a new conversation."""
        self.said.clear()
