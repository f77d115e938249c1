"""The effective weights of layers: their parameters after all changes.

A change is a module that maps a weight to one of the same shape, such as weight drop or an adapter. It and its
parameters become part of the layer. Without changes the effective weight is the parameter itself.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_CHANGES = "changes"


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
