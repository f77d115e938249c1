from __future__ import annotations

import math

import pytest
import torch

from seqloom.nn.embedders import TokenEmbedder
from seqloom.nn.heads import VocabularyHead

V = 11
IDS = torch.tensor([[1, 10, 0], [7, 7, 3]])


@pytest.mark.parametrize(("width", "embedding"), [(7, 7), (7, 5), (5, 7)])
def test_an_embedder_looks_up_scales_and_projects(width: int, embedding: int) -> None:
    embedder = TokenEmbedder(V, width, embedding)
    out = embedder(IDS)
    assert out.shape == (2, 3, width)
    for b, t in ((0, 0), (0, 1), (1, 2)):
        row = embedder.weight[IDS[b, t]] * math.sqrt(embedding)
        torch.testing.assert_close(out[b, t], row if width == embedding else embedder.project.weight @ row)


@pytest.mark.parametrize(("width", "embedding"), [(7, 7), (7, 5), (5, 7)])
def test_a_head_scores_every_word(width: int, embedding: int) -> None:
    head, hidden = VocabularyHead(V, width, embedding), torch.randn(2, 3, width)
    projected = hidden if width == embedding else hidden @ head.project.weight.T
    torch.testing.assert_close(head(hidden), projected @ head.weight.T)


def test_fresh_vectors_have_a_length_of_about_one_and_enter_the_model_at_sqrt_width() -> None:
    embedder = TokenEmbedder(499, 101, 101)
    assert embedder.weight.norm(dim=1).mean().item() == pytest.approx(1, rel=0.05)
    assert embedder(torch.arange(499)[None]).std().item() == pytest.approx(1, rel=0.05)
    assert VocabularyHead(499, 101, 101).weight.norm(dim=1).mean().item() == pytest.approx(1, rel=0.05)


def test_a_given_table_is_shared() -> None:
    embedder = TokenEmbedder(V, 7, 5)
    head = VocabularyHead(V, 13, 5, embedder.weight)
    assert head.weight is embedder.weight
    assert TokenEmbedder(V, 5, 5, head.weight).weight is embedder.weight


def test_given_vectors_are_taken_at_the_size_of_drawn_ones():
    embedder = TokenEmbedder(vocab_size=2003, width=17, embedding=17)
    before = embedder.weight.detach().clone()
    vectors, at = torch.randn(3, 17) * 40, torch.tensor([7, 2, 11])
    embedder.take(vectors, at)
    taken = embedder.weight.detach()[at]
    assert torch.allclose(taken / taken.norm(), vectors / vectors.norm())
    assert float(taken.square().mean().sqrt()) == pytest.approx(17**-0.5)
    before[at] = taken
    assert torch.equal(embedder.weight, before)
