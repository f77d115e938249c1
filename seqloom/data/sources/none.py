"""The source of a run without data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from seqloom.data.sources.pairs import PairSource
from seqloom.data.sources.source import TextSource, no_test_data
from seqloom.data.sources.text import Source, text_source
from seqloom.errors import UsageError


@dataclass(frozen=True)
class NoData(PairSource, TextSource):
    """No data: the run was imported, not trained."""

    kind: ClassVar[str] = "none"
    test: ClassVar[tuple[str, ...]] = ()

    def splits(self, *_: object) -> NoReturn:
        """Raises UsageError."""
        problem = "there is no training data, as in the config of a run that was imported"
        raise UsageError(problem, where="data", cure="name your own: --data.kind, --data.train, ...; or --test FILE")

    def tested(self, files: Sequence[str]) -> Source:
        """See TextSource; raises UsageError without files."""
        if not files:
            raise no_test_data()
        return text_source(files)
