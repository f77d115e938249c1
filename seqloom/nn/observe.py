"""What layers compute with, noted for whoever looks inside a running model; without an observer nothing is made.

A note is small: what an attention layer attended with, not its weights, which are computed when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import nn

from seqloom.shapes import Vectors

Observer = Callable[[nn.Module, Any], None]
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """A context in which `observer(layer, note)` is called for each note of a layer that runs in this thread.

    Attention layers note `Attended`, recurrent ones `Pass`, stacks and their blocks `Stream`.
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def is_watched(model: nn.Module) -> bool:
    """Whether somebody in this thread is told what layers compute with, or has hooks in the model."""
    hooks = (module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return _observer.get() is not None or any(hooks)


def note(layer: nn.Module, make: Callable[..., Any], *parts: Any) -> None:
    """Passes `make(*parts)` to the observer, if there is one."""
    if (observer := _observer.get()) is not None:
        observer(layer, make(*parts))


@dataclass(frozen=True)
class Stream:
    """The residual stream: what a stack begins with, or what follows one of its blocks."""

    x: Vectors
