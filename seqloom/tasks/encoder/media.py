"""How the examples of each modality become what a model reads, and how they are shown; one class for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from seqloom.data.batches.windows import Change, Item, Window, frame
from seqloom.data.formats.lines import is_text
from seqloom.data.rows import Example
from seqloom.errors import UsageError
from seqloom.files import Json
from seqloom.models.assemblies import TextReader
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.task import seen
from seqloom.tasks.task import Seen


class Medium:
    """One modality.

    Args:
        config: the config of the task.
        assets: those of the run: a tokenizer, or the facts about the training data.
    """

    inputs: ClassVar[tuple[str, ...]]
    """The keys of a sample that are the input of the model."""

    lost: str = ""
    """What was done to the examples that became windows last; see Reader."""

    def __init__(self, config: Any, assets: Assets) -> None:
        self.config, self.assets, self.facts = config, assets, assets.facts or {}

    def named(self, inputs: Sequence[str]) -> list[str]:
        """The inputs of a command line, one by one."""
        return list(inputs)

    def row(self, example: Any) -> Any:
        """An example from user input, without a label. Raises UsageError."""
        raise NotImplementedError

    def windows(self, rows: Sequence[Any]) -> list[tuple[Window, ...]]:
        """What the model reads of each example."""
        raise NotImplementedError

    def shown(self, row: Any) -> dict[str, str]:
        """The inputs of a sample."""
        raise NotImplementedError

    def change(self) -> Change | None:
        """What is done to the training examples of each batch."""
        return None

    def summary(self, rows: Sequence[Any], items: Sequence[Item]) -> Json:
        """The sizes of a split."""
        raise NotImplementedError

    def seen(self, model: TextReader, rows: Sequence[Any], items: Sequence[Item]) -> Seen:
        """What the report shows of some examples."""
        raise NotImplementedError


class TextMedium(Medium):
    """Texts, or pairs of texts."""

    inputs = ("text", "second")

    def row(self, example: Any) -> Example:
        """A text; or a pair, as a tuple or with a tab between the two. An imported model takes both."""
        parts = (example,) if isinstance(example, str) else tuple(example)
        either, pairs = not self.config.data.train, self.config.pairs
        if isinstance(example, str) and (pairs or either):
            parts = tuple(example.split("\t"))
        sizes = (1, 2) if either else (1 + pairs,)
        if len(parts) not in sizes or not all(map(is_text, parts)):
            expected = "texts or " * either + "pairs of texts: FIRST<TAB>SECOND" if pairs or either else "texts"
            raise UsageError(f"cannot be read: {str(example)[:80]!r}", cure=f"this run is for {expected}")
        return Example(*parts)

    def windows(self, rows: Sequence[Example]) -> list[tuple[Window, ...]]:
        """See Medium."""
        tokenizer, config = self.assets.tokenizer, self.config.batches
        texts = tokenizer.encode([row.text for row in rows])
        seconds = tokenizer.encode([row.second for row in rows])
        template, several = tokenizer.template, config.long == "windows"
        return [
            frame(a, b if row.second or self.config.pairs else None, template, config, windows=several)
            for row, a, b in zip(rows, texts, seconds, strict=True)
        ]

    def shown(self, row: Example) -> dict[str, str]:
        """See Medium."""
        return {"text": row.text, **({"second": row.second} if row.second else {})}

    def summary(self, rows: Sequence[Any], items: Sequence[Item]) -> Json:
        """See Medium."""
        sizes = [item.length for item in items]
        ids = np.concatenate([w.values for item in items for w in item.windows])
        return {
            "windows": sum(len(item.windows) for item in items),
            "words": sum(len(text.split()) for text in self.config.texts(rows)),
            "tokens": len(ids),
            "95 %": int(np.quantile(sizes, 0.95, method="higher")),
            "longest": max(sizes),
            "full": sum(item.windows[-1].length == self.config.batches.length for item in items),
            "unknown": int((ids == self.assets.tokenizer.unknown).sum()),
        }

    def seen(self, model: TextReader, rows: Sequence[Any], items: Sequence[Item]) -> Seen:
        """The attention within texts."""
        return seen(model, self.assets.tokenizer, [item.windows[0] for item in items])


MEDIA: dict[str, type[Medium]] = {"text": TextMedium}
"""The class of each modality."""
