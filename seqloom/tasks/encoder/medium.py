"""What all media have: how the examples of one modality become what a model reads, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from seqloom.data.batches.windows import Change, Item, Window
from seqloom.evaluation.classification import nearest
from seqloom.files import Json
from seqloom.inspection.inside.inspected import Inspected
from seqloom.tasks.assets import Assets
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

    def address(self, row: Any) -> str:
        """An image or a signal as a text from which `row` reads it, whatever becomes of its file."""
        raise NotImplementedError

    def change(self) -> Change | None:
        """What is done to the training examples of each batch."""
        return None

    def summary(self, rows: Sequence[Any], items: Sequence[Item], train: Sequence[Any]) -> Json:
        """The sizes of a split; `train` are the training examples."""
        raise NotImplementedError

    def seen(self, rows: Sequence[Any], looks: Sequence[Inspected], parameters: int) -> Seen:
        """What the report of a model shows of some examples that it was looked at with."""
        raise NotImplementedError


def neighbours(rows: Sequence[Any], train: Sequence[Any], form: Callable[[Any], np.ndarray]) -> Json:
    """The accuracy of the label of the nearest training example."""
    if rows is train:
        return {"nearest neighbour, %": None}
    found = nearest([*map(form, rows)], [*map(form, train)])
    right = [train[i].label == row.label for i, row in zip(found, rows, strict=True)]
    return {"nearest neighbour, %": round(100 * float(np.mean(right)), 2)}
