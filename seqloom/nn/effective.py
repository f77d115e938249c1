"""The weights that layers compute with: their parameters, as changes make of them.

A change is a module from a weight to one of the same shape: weight drop, an adapter. It becomes part of the layer, and
its parameters with it; without one the weight is the parameter itself.
"""

from __future__ import annotations

from torch import Tensor, nn

_CHANGES = "changes"


def change(layer: nn.Module, name: str, by: nn.Module) -> None:
    """Has the layer's parameter `name` go through a module, after those it goes through already.

    A table that two layers share needs the same module at both.
    """
    if not hasattr(layer, _CHANGES):
        layer.add_module(_CHANGES, nn.ModuleDict())
    changes = layer.get_submodule(_CHANGES)
    assert isinstance(changes, nn.ModuleDict)
    if name not in changes:
        changes[name] = nn.Sequential()
    changes[name].append(by)  # type: ignore[operator]


def effective(layer: nn.Module, name: str = "weight") -> Tensor:
    """The weight that the layer computes with in place of its parameter `name`."""
    weight: Tensor = getattr(layer, name)
    changes = layer._modules.get(_CHANGES)
    return changes[name](weight) if changes is not None and name in changes else weight  # type: ignore[index,operator]
