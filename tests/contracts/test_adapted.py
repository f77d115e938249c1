"""What holds for every model that is adapted, whatever it is made of: every member of the other contracts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from members import members
from test_encoder_models import FAMILY as READING
from test_encoder_models import HEADS
from test_language_models import FAMILY as LANGUAGE
from test_models import FAMILY
from torch import Tensor, nn

from seqloom.adaptation.adapt import adapt, merge_adapters
from seqloom.adaptation.config import AdaptConfig, BitFit, Full, LastLayers, LoRA
from seqloom.errors import UsageError
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.embedders import Inputs, PatchConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.training.optimizer import AdamW, FlatWeights, Optimizer

V, B, T = 17, 2, 5
VISION = EncoderOnlyConfig(
    encoder=TransformerConfig(layers=2, width=12, inner=8, heads=2), embedder=PatchConfig(size=6, patch=3, channels=3)
)
TRANSLATION = list({config.encoder: config for config in FAMILY}.values())  # each encoder with a decoder, ...
TRANSLATION += list({config.decoder: config for config in FAMILY if config not in TRANSLATION}.values())
MODELS = [*TRANSLATION, *READING, *LANGUAGE, VISION]
WAYS = members(
    AdaptConfig,
    {
        Full: [Full()],
        LastLayers: [LastLayers()],
        BitFit: [BitFit()],
        LoRA: [LoRA(rank=2), LoRA(rank=3, scaling="root-rank", targets=("*",))],
    },
)


@dataclass(frozen=True)
class Subject:
    model: nn.Module
    outputs: Callable[[], Tensor]

    @torch.no_grad()
    def exact(self) -> Tensor:
        """The outputs where no parameter asks for a gradient: torch chooses its kernels by that, even without any."""
        flags = [(p, p.requires_grad) for p in self.model.parameters()]
        self.model.requires_grad_(False)
        outputs = self.outputs()
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        return outputs


def subject_of(config: Any) -> Subject:
    torch.manual_seed(1)
    ids = Inputs.text(torch.randint(V, (B, T)))
    if isinstance(config, DecoderOnlyConfig):
        decoder = LanguageModel(config, V).eval()
        return Subject(decoder, lambda: decoder.head(decoder(ids)[0]))
    if isinstance(config, EncoderOnlyConfig):
        seen = Inputs.image(torch.randn(B, 3, 6, 6)) if config is VISION else ids
        encoder = EncoderOnly(config, V, {"label": 3} if config is VISION else HEADS).eval()
        names = encoder.heads.keys()
        return Subject(encoder, lambda: torch.cat([encoder.score(n, encoder(seen)).flatten() for n in names]))
    both = EncoderDecoder(config, V, V).eval()
    target = torch.randint(V, (B, T))
    return Subject(both, lambda: both.head(both(ids, target)))


@pytest.mark.parametrize(("number", "config"), [*enumerate(MODELS)], ids=lambda c: "")
def test_an_adapted_model_begins_as_its_base_and_learns_only_what_it_may(number: int, config: Any) -> None:
    """Each model with adapters on all its weights; the other ways take turns."""
    for way in (WAYS[number % (len(WAYS) - 1)], WAYS[-1]):
        subject = subject_of(config)
        base = {name: p.detach().clone() for name, p in subject.model.named_parameters()}
        before = subject.exact()
        if isinstance(way, BitFit) and not any(name.split(".")[-1].startswith("bias") for name in base):
            way = replace(way, norms=True)
            if not any("norm" in name for name in base):
                with pytest.raises(UsageError, match="leaves nothing to learn"):
                    adapt(subject.model, way)
                continue
        adapt(subject.model, way)
        assert torch.equal(subject.exact(), before), way
        learned = {name for name, p in subject.model.named_parameters() if p.requires_grad}
        frozen = base.keys() - learned
        assert bool(frozen) or isinstance(way, Full | LastLayers), way  # a stack of one layer has no other

        optimizer = Optimizer(FlatWeights(subject.model, torch.float32), AdamW(lr=0.01))
        for _ in range(2):
            subject.outputs().square().mean().backward()
            optimizer.gather()
            optimizer.step(0.01, optimizer.norm())
        now = dict(subject.model.named_parameters())
        assert all(torch.equal(now[name], base[name]) for name in frozen), way
        adapted = subject.exact()
        assert not torch.equal(adapted, before), way

        undo = merge_adapters(subject.model)
        assert torch.equal(subject.exact(), adapted), way
        assert {name for name, _ in subject.model.named_parameters()} == base.keys()
        undo()
        assert torch.equal(subject.exact(), adapted), way
        now = dict(subject.model.named_parameters())
        assert all(torch.equal(now[name], base[name]) for name in frozen), way


@pytest.mark.parametrize("config", MODELS, ids=lambda c: "")
def test_each_adapter_is_in_use(config: Any) -> None:
    """None of the matrices of a LoRA with all targets is without a gradient once its other half is not zero."""
    subject = subject_of(config)
    subject.model.train(False)
    adapt(subject.model, LoRA(rank=2, targets=("*",)))
    learned = {name: p for name, p in subject.model.named_parameters() if p.requires_grad}
    for parameter in learned.values():
        nn.init.normal_(parameter, std=0.1)
    (subject.outputs() * torch.linspace(-1, 1, subject.outputs().shape[-1])).sum().backward()
    unused = [name for name, p in learned.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not unused
