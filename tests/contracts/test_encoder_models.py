"""What holds for every model that reads, whatever its encoder and pooling (docs/design.md, "What must hold", 2, 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import pytest
import torch
from members import members, same
from torch import Tensor

from seqloom.inspection.capture import look
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.encoders import BagConfig, EncoderConfig
from seqloom.models.recurrent import RecurrentEncoderConfig
from seqloom.nn.embedders import EmbedderConfig, Inputs, PatchConfig
from seqloom.nn.front import FrontConfig
from seqloom.nn.pooling import PoolingKind
from seqloom.nn.positions import Learned, Rotary
from seqloom.nn.transformer import TransformerConfig

V, B, S, L = 17, 3, 7, 5
HEADS = {"masked": 0, "label": L, "tags": L, "span": 2}
BERT = TransformerConfig(
    layers=2, width=12, inner=8, heads=2, norm_position="after", embedding_norm=True, positions=Learned(9)
)
ENCODERS = members(
    EncoderConfig,
    {
        TransformerConfig: [
            BERT,
            TransformerConfig(layers=2, width=12, inner=8, heads=2, positions=Rotary(), window=3),
        ],
        RecurrentEncoderConfig: [RecurrentEncoderConfig("lstm", 2, 12, "both")],
        ConvolutionalConfig: [ConvolutionalConfig(layers=2, width=12)],
    },
)
FAMILY = [
    *(EncoderOnlyConfig(encoder=e, segments=i % 3) for i, e in enumerate(ENCODERS)),
    *(EncoderOnlyConfig(encoder=BERT, pooling=kind, pooler="tanh") for kind in get_args(PoolingKind)),
    *(EncoderOnlyConfig(encoder=e, segments=i % 2 * 2, matches=True) for i, e in enumerate(ENCODERS)),
    EncoderOnlyConfig(encoder=BERT, embedding=5, embedder=EmbedderConfig(scaled=False), pooler="relu"),
    EncoderOnlyConfig(encoder=BERT, embedding=5, front=FrontConfig((1, 1), 3)),
]
LENGTHS = torch.tensor([7, 4, 2])
MASK = torch.arange(S) < LENGTHS[:, None]


@dataclass(frozen=True)
class Subject:
    """A model, in float64 so that a leak stands out from rounding, and texts for it."""

    config: EncoderOnlyConfig
    model: EncoderOnly
    ids: Tensor
    segments: Tensor | None

    def scores(self, ids: Tensor, mask: Tensor | None, segments: Tensor | None) -> dict[str, Tensor]:
        memory = self.model(Inputs.text(ids, mask, segments))
        return {name: self.model.score(name, memory) for name in HEADS}


def name_of(config: EncoderOnlyConfig) -> str:
    return f"{config.encoder.kind}-{config.pooling}-{config.segments}-{config.embedding}-{config.matches}"


@pytest.fixture(params=FAMILY, ids=name_of)
def subject(request: pytest.FixtureRequest) -> Subject:
    model = EncoderOnly(request.param, V, HEADS).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    kinds = 2 if request.param.matches else request.param.segments
    segments = torch.randint(max(kinds, 1), (B, S)) if kinds else None
    return Subject(request.param, model, torch.randint(V, (B, S)), segments)


@torch.no_grad()
def test_padding_and_batch_mates_change_nothing(subject: Subject) -> None:
    together = subject.scores(subject.ids, MASK, subject.segments)
    assert together["masked"].shape == (B, S, V)
    for b, n in enumerate(LENGTHS.tolist()):
        own = None if subject.segments is None else subject.segments[b : b + 1, :n]
        for name, alone in subject.scores(subject.ids[b : b + 1, :n], None, own).items():
            same(together[name][b] if name == "label" else together[name][b, :n], alone[0])


@torch.no_grad()
@pytest.mark.parametrize("subject", [c for c in FAMILY if c.segments > 1], indirect=True, ids=name_of)
def test_segments_are_told_apart(subject: Subject) -> None:
    first, second = (subject.scores(subject.ids, MASK, torch.full((B, S), kind)) for kind in (0, 1))
    same(subject.scores(subject.ids, MASK, None), first)
    assert all(((first[name] - second[name]).abs().amax() > 1e-3) for name in HEADS)


@torch.no_grad()
def test_only_matches_of_real_words_are_told_apart() -> None:
    config = EncoderOnlyConfig(encoder=BagConfig(12), segments=0, matches=True)
    model = EncoderOnly(config, V, HEADS).double().eval()
    ids, segments = torch.randint(5, (B, S)), torch.randint(2, (B, S))
    states = model(Inputs.text(ids, MASK, segments)).states - model(Inputs.text(ids, MASK)).states
    for b, n in enumerate(LENGTHS.tolist()):
        texts = [{int(ids[b, t]) for t in range(n) if segments[b, t] == kind} for kind in (0, 1)]
        for t in range(n):
            matched = int(ids[b, t]) in texts[1 - int(segments[b, t])]
            same(states[b, t], model.matches if matched else torch.zeros(12, dtype=torch.float64))


@torch.no_grad()
def test_capture_changes_no_bit(subject: Subject) -> None:
    plain = subject.scores(subject.ids, MASK, subject.segments)
    with look(subject.model) as seen:
        assert all(torch.equal(v, plain[k]) for k, v in subject.scores(subject.ids, MASK, subject.segments).items())
    assert bool(seen.attention) == isinstance(subject.config.encoder, TransformerConfig)


def test_an_image_is_its_patches_row_by_row() -> None:
    config = EncoderOnlyConfig(
        encoder=TransformerConfig(layers=1, width=12, inner=8, heads=2, positions=Learned(7)),
        embedder=PatchConfig(size=6, patch=3, channels=2),
        segments=0,
    )
    model = EncoderOnly(config, 0, {"label": L}).double().eval()
    pixels = torch.randn(B, 2, 6, 6, dtype=torch.float64)
    memory = model(Inputs.image(pixels))
    assert memory.states.shape == (B, config.embedder.positions, 12)
    assert model.score("label", memory).shape == (B, L)
    x, project = model.embedder(pixels), model.embedder.project
    for row in range(2):
        for column in range(2):
            square = pixels[:, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            expected = torch.einsum("bchw,dchw->bd", square, project.weight) + project.bias
            same(x[:, 1 + 2 * row + column], expected)
