from __future__ import annotations

import pytest
import torch

from seqloom.training.muon import nearest_orthogonal


@pytest.mark.parametrize(("rows", "columns"), [(7, 7), (5, 13), (13, 5)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_singular_vectors_stay_and_singular_values_become_about_one(rows, columns, size):
    u, s, vh = torch.linalg.svd(torch.randn(rows, columns).double(), full_matrices=False)
    turned = nearest_orthogonal(u @ torch.diag(size * s.clamp(min=s[0] / 10)) @ vh, torch.float64)
    inside = u.t() @ turned @ vh.t()
    values = inside.diagonal()
    torch.testing.assert_close(inside, torch.diag(values), rtol=0, atol=1e-9)
    torch.testing.assert_close(turned, u @ inside @ vh)
    assert 0.65 < float(values.min()) <= float(values.max()) < 1.25


def test_half_the_digits_are_enough():
    matrix = torch.randn(11, 17)
    exact, rough = (nearest_orthogonal(matrix, dtype).float() for dtype in (torch.float32, torch.bfloat16))
    assert float((exact - rough).norm() / exact.norm()) < 0.05


def test_a_gradient_of_zeros_turns_nothing():
    assert not nearest_orthogonal(torch.zeros(3, 5), torch.float32).any()
