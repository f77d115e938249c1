"""The members of a union of configs: what is added to the union is in every contract from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch


def members(union: Any, forms: Mapping[type, Sequence[Any]]) -> list[Any]:
    """The forms of each config of a union, in its order; of one that has none, a small one with its defaults."""
    unknown = forms.keys() - {*get_args(union)}
    assert not unknown, f"not in the union: {unknown}"
    return [form for kind in get_args(union) for form in forms.get(kind) or [kind(width=12)]]


def same(got: Any, expected: Any) -> None:
    """Asserts that two tensors of float64 agree."""
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)
