"""The effective weights of layers: their parameters after all changes.

A change is a module that maps a weight to one of the same shape, such as weight drop or an adapter. It and its
parameters become part of the layer. Without changes the effective weight is the parameter itself.

Where the rows of a batch have different adapters, there is no one weight: what each adds is added to the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

_CHANGES = "changes"
_adapters: ContextVar[Tensor | None] = ContextVar("adapters_of_rows", default=None)


def change(layer: nn.Module, name: str, by: nn.Module) -> None:
    """Adds a module that changes the layer's parameter `name`, after the changes it already has.

    A table shared by two layers needs the same module in both.
    """
    changes: Any = layer._modules.setdefault(_CHANGES, nn.ModuleDict())
    if name not in changes:
        changes[name] = nn.Sequential()
    changes[name].append(by)


def effective(layer: nn.Module, name: str = "weight") -> Tensor:
    """The weight that the layer uses in place of its parameter `name`."""
    weight: Tensor = getattr(layer, name)
    changes = changes_of(layer)
    return changes[name](weight) if name in changes else weight


def changes_of(layer: nn.Module) -> Any:
    """The changes of a layer: an nn.Sequential by the name of the parameter, in a mapping."""
    return layer._modules.get(_CHANGES) or {}


@contextmanager
def by_row(adapters: Tensor | None) -> Iterator[None]:
    """A context in which each row r of a batch is computed with the adapter of the number `adapters[r]` (R).

    A layer has its adapters by number as `beside`. None = all rows are computed alike.
    """
    token = _adapters.set(adapters)
    try:
        yield
    finally:
        _adapters.reset(token)


def adapters_of(rows: Sequence[int] | None = None) -> Tensor | None:
    """The numbers of the adapters of some rows of the context, or of all."""
    adapters = _adapters.get()
    return adapters if adapters is None or rows is None else adapters[rows]


def add_by_row(layer: nn.Module, x: Tensor, outputs: Tensor) -> Tensor:
    """Adds to the outputs of a linear layer, which nothing else uses, what the adapter of each row of x adds.

    Without a context it is that of the number None, if there is one, in all rows.
    Consecutive rows of one adapter may be one row of x: the hypotheses of a sentence, which read its memory together.
    """
    beside: Any = layer.beside
    if (adapters := _adapters.get()) is None:
        return outputs + beside[None].beside(x) if None in beside else outputs
    first, *others = adapters.view(len(x), -1).unbind(1)
    assert all(torch.equal(first, other) for other in others), "a row of a layer has several adapters"
    present = {*first.tolist()}
    for number in beside.keys() & present:  # with all rows: kernels are compiled for each number of rows
        outputs += beside[number].beside(x, first == number)
    return outputs
