"""Models that need more memory than is free are refused before anything of their size is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from seqloom.config import flat, tree_of
from seqloom.errors import ConfigError
from seqloom.models.assemblies import parameter_count, vocabulary_parameters
from seqloom.training.precision import shortage

FREE = "end other programs, or use a machine with more memory"
_MAIN = torch.device("cpu")


def refuse_shortage(
    model: nn.Module, hint: Callable[[], tuple[str, str]], training: int = 0, device: torch.device = _MAIN
) -> None:
    """Raises ConfigError where a model needs more memory than is free.

    Args:
        model: the model; its parameters need not have memory.
        hint: the place of the error, and its cure.
        training: the bytes that its training needs on `device`; its weights are in main memory before.
        device: see `training`.
    """
    count = parameter_count(model)
    needs = (device, training, "weights, gradients and moments"), (_MAIN, 4 * count, "its weights")
    for where, size, use in needs:
        if (free := shortage(size, where)) is not None:
            problem = f"a model of {count:,} parameters needs {size / 1e9:,.1f} GB for {use}"
            place, cure = hint()
            there = f" on {where}" * (where != _MAIN)
            raise ConfigError(f"{problem}, but {free / 1e9:,.1f} GB are free{there}", where=place, cure=cure)


def largest(config: Any, model: nn.Module) -> tuple[str, str]:
    """The key that sets the largest dimension of the largest parameter, and what to do about it."""
    name, parameter = max(model.named_parameters(), key=lambda pair: pair[1].numel())
    part, size = name.partition(".")[0], max(parameter.shape)
    if name in vocabulary_parameters(model) and size == len(parameter):
        return "tokenizer.size", f"choose a smaller one than {size:,}"
    values = {keys: value for keys, value in flat(tree_of(config.model)).items() if isinstance(value, int)}
    near = {keys: value for keys, value in values.items() if value <= size <= 8 * value}  # Q, K and V; gates
    if not near:
        return "model", "choose a smaller one"
    key = max(near, key=lambda keys: (part in keys, size % near[keys] == 0, near[keys]))
    layers = values.get((*key[:-1], "layers"), 1)
    cure = f"choose a smaller one than {near[key]:,}" + f", or fewer layers than {layers:,}" * (layers > 1)
    return ".".join(("model", *key)), cure
