"""A text that is being written: its pieces, as its ids come; and the job of a request with what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seqloom.decoding.continuous import Update
from seqloom.decoding.job import Job
from seqloom.decoding.results import Choice, Hypothesis, Reason

Ids = Sequence[int]


def cut(text: str, begin: int, stop: Sequence[str]) -> tuple[str, int]:
    """The text up to the first stop string after `begin`, and how many of its last characters may begin one."""
    ends = [at for s in stop if (at := text.find(s, begin)) >= 0]
    if ends:
        return text[: min(ends)], 0
    held = max((n for s in stop for n in range(1, len(s)) if text[begin:].endswith(s[:n])), default=0)
    return text, held


class Pieces:
    """The pieces of a text, which together are the whole.

    Args:
        text: the text of the ids so far, with what it begins with.
        settled: how many of the ids have a text that further ids cannot change.
        begin: the characters that it begins with, which are no piece.
        stop: the text ends before the first of these strings.
    """

    def __init__(
        self, text: Callable[[Ids], str], settled: Callable[[Ids], int], begin: int = 0, stop: Sequence[str] = ()
    ) -> None:
        self._text, self._settled, self._begin, self._stop = text, settled, begin, stop
        self._ids, self._shown = list[int](), begin

    def add(self, ids: Ids) -> str:
        """What further ids settle of the text.

        Characters that may still change, or turn out to begin a stop string, are held back.
        """
        self._ids += ids
        settled = self._settled(self._ids)
        if settled <= 0:
            return ""
        text, held = cut(self._text(self._ids[:settled]), self._begin, self._stop)
        ready = min(len(text) - held, len(text.rstrip("\N{REPLACEMENT CHARACTER}")))
        piece, self._shown = text[self._shown : ready], max(self._shown, ready)
        return piece

    def whole(self, ids: Ids) -> str:
        """The whole text of some ids, with what it begins with."""
        return cut(self._text(ids), self._begin, self._stop)[0]

    def rest(self, ids: Ids) -> str:
        """The last piece of the text that has these ids."""
        return self.whole(ids)[self._shown :]

    def result(self, hypothesis: Hypothesis) -> Written:
        """A hypothesis as a text, without what it begins with."""
        text = self.whole(hypothesis.ids)[self._begin :]
        return Written(text, hypothesis.log_p, hypothesis.score, hypothesis.reason, len(hypothesis.ids))


@dataclass(frozen=True)
class Written:
    """A text that was written, its log-probability with its end and its score, why it ended, and its tokens."""

    text: str
    log_p: float
    score: float
    reason: Reason
    tokens: int


@dataclass(frozen=True)
class Usage:
    """The tokens that were read and written."""

    prompt: int
    completion: int


class Writing:
    """A job and its text.

    Args:
        job: the job, to be given to Continuous.
        pieces: of its text.
        read: the tokens that it reads.
    """

    def __init__(self, job: Job, pieces: Pieces, read: int) -> None:
        self.job, self._pieces, self._read = job, pieces, read
        self.choices: list[Choice] = []
        self.results: list[Written] | None = None

    def take(self, update: Update) -> str:
        """The piece of text that an update adds; of several hypotheses or samples all of the best, at the end."""
        self.choices += update.chosen
        piece = self._pieces.add([choice.id for choice in update.chosen])
        if update.hypotheses is None:
            return piece
        self.results = [self._pieces.result(hypothesis) for hypothesis in update.hypotheses]
        return piece + (self._pieces.rest(update.hypotheses[0].ids) if update.hypotheses else "")

    def text(self, ids: Ids) -> str:
        """The text that has these ids, with what it begins with."""
        return self._pieces.whole(ids)

    @property
    def finish_reason(self) -> Reason | None:
        """Why the best text ended; None = it has not."""
        return None if self.results is None else self.results[0].reason if self.results else "stop"

    @property
    def usage(self) -> Usage:
        """The tokens so far, of all results together."""
        results = self.results
        return Usage(self._read, len(self.choices) if results is None else sum(r.tokens for r in results))
