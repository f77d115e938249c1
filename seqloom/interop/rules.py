"""The names of weights here and in a published checkpoint: one table for both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Form:
    """What determines the weights of a model: its config, and the number of labels of each head."""

    config: Any
    heads: Mapping[str, int]


@dataclass(frozen=True, init=False)
class Rule:
    """One of our parameters, and the published weights whose rows it stacks.

    Args:
        ours: its name, or its layer's; "{}" stands for the index of a block.
        theirs: the names of the published weights, its parts.
        transposed: whether their matrices are (inputs, outputs).
        ones: the number of leading dimensions of size 1 that theirs has.
        skipped: the number of leading rows of theirs that are unused.
        scales: the factor that turns each part into ours.
        when: whether the rule applies to a model; None = always.
    """

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False
    ones: int = 0
    skipped: int = 0
    scales: Callable[[Any], Sequence[float]] | None = None
    when: Callable[[Form], bool] | None = None

    def __init__(self, ours: str, *theirs: str, **more: Any) -> None:
        for name, value in {"ours": ours, "theirs": theirs, **more}.items():
            object.__setattr__(self, name, value)

    def read(self, parts: Sequence[Tensor], config: Any) -> Tensor:
        """Our parameter, from its parts."""
        scaled = [p if s == 1 else p * s for p, s in zip(parts, self.factors(config), strict=True)]
        whole = torch.cat(scaled) if len(scaled) > 1 else scaled[0]
        if self.transposed and whole.dim() == 2:
            whole = whole.t()
        return whole[(0,) * self.ones][self.skipped :] if self.ones or self.skipped else whole

    def write(self, ours: Tensor, config: Any) -> list[Tensor]:
        """The parts, from our parameter."""
        whole = ours.t() if self.transposed and ours.dim() == 2 else ours
        if self.skipped:
            whole = torch.cat((whole.new_zeros(self.skipped, *whole.shape[1:]), whole))
        parts = torch.split(whole, self._sizes(len(whole), config)) if len(self.theirs) > 1 else (whole,)
        if self.ones:
            parts = (whole[(None,) * self.ones],)
        return [p if s == 1 else p / s for p, s in zip(parts, self.factors(config), strict=True)]

    def factors(self, config: Any) -> Sequence[float]:
        """The factor that turns each part into ours."""
        return self.scales(config) if self.scales is not None else [1.0] * len(self.theirs)

    def _sizes(self, rows: int, config: Any) -> list[int]:
        if not self.ours.endswith(".qkv"):
            return [rows // len(self.theirs)] * len(self.theirs)
        sizes = getattr(config, self.ours.partition(".")[0]).sizes
        return [sizes.heads * sizes.features, *[sizes.kv_heads * sizes.features] * 2]


Bound = dict[str, tuple[Rule, list[str]]]


def bind(rules: Sequence[Rule], form: Form, names: Shapes) -> Bound:
    """The rule of each of our parameters, and the names of its parts."""
    bound: Bound = {}
    for rule in rules:
        if rule.when is not None and not rule.when(form):
            continue
        blocks = getattr(form.config, rule.ours.partition(".")[0]).layers if "{}" in rule.ours else 1
        for i in range(blocks):
            for end in ("", ".weight", ".bias"):
                if (ours := rule.ours.format(i) + end) in names:
                    bound[ours] = rule, [part.format(i) + end for part in rule.theirs]
    return bound


def expected_shapes(bound: Bound, form: Form, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the weights that a checkpoint must have, from the shapes of our parameters."""

    def empty(name: str) -> Tensor:
        return torch.empty(*shapes[name], device="meta")

    return {name: tuple(part.shape) for name, part in write_weights(bound, form, empty)}


def read_weights(bound: Bound, form: Form, tensor: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Our parameters from their weights, one by one."""
    for ours, (rule, parts) in bound.items():
        yield ours, rule.read([tensor(part).float() for part in parts], form.config)


def write_weights(bound: Bound, form: Form, tensor: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Their weights from our parameters, one by one."""
    for ours, (rule, parts) in bound.items():
        yield from zip(parts, rule.write(tensor(ours), form.config), strict=True)
