"""What holds for every model that is adapted, whatever it is made of: every member of the other contracts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from members import members
from test_encoder_models import FAMILY as READING
from test_encoder_models import HEADS
from test_language_models import FAMILY as LANGUAGE
from test_language_models import drawn
from test_models import FAMILY
from torch import Tensor, nn

from seqloom.adaptation.adapt import adapt, merge_adapters
from seqloom.adaptation.config import AdaptConfig, BitFit, Full, LastLayers, LoRA
from seqloom.decoding.config import BeamSearch
from seqloom.decoding.encoder_decoder import decode_rows
from seqloom.decoding.results import Hypothesis
from seqloom.errors import UsageError
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.effective import by_row
from seqloom.nn.embedders import Inputs, Modality, PatchConfig, TokenEmbedder
from seqloom.nn.linear import pack, packed_weights
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.adapter import Adapted
from seqloom.tasks.assets import Assets
from seqloom.tasks.building import Loaded
from seqloom.tasks.switching import Adapters, in_linear_layers
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
        decoder, given = LanguageModel(config, V).eval(), drawn(config, B, T)
        if given.is_floating_point():
            nn.init.normal_(decoder.head.linear.weight)  # it begins as zeros
            given = given.float()
        inputs = Inputs({config.embedder.modality: Modality(given)})
        return Subject(decoder, lambda: decoder.head(decoder(inputs)[0]))
    if isinstance(config, EncoderOnlyConfig):
        seen = Inputs.image(torch.randn(B, 3, 6, 6)) if config is VISION else ids
        encoder = EncoderOnly(config, V, {"label": 3} if config is VISION else HEADS).eval()
        if config.matches:
            seen = Inputs.text(seen["text"].values, segments=torch.randint(2, (B, T)))
        names = encoder.heads.keys()
        return Subject(encoder, lambda: torch.cat([encoder.score(n, encoder(seen)).flatten(1) for n in names], 1))
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


@dataclass(frozen=True)
class Use:
    """A config whose predictor is what a subject computes with its own model."""

    subject: Subject

    def predictor(self, model: nn.Module, assets: Any) -> Callable[..., Tensor]:
        if model is not self.subject.model:
            return mixed_by_row
        return self.subject.exact


def mixed_by_row() -> Tensor:
    """What a predictor would give with the base's own layers, which no name asks for."""
    raise AssertionError("one adapter for all rows is computed with its merged weights")


def learned_in(config: Any, way: AdaptConfig, seed: int) -> tuple[Subject, dict[str, Tensor]]:
    """A model that learned something, and what."""
    subject = subject_of(config)
    adapt(subject.model, way)
    torch.manual_seed(seed)
    learned = {name: p for name, p in subject.model.named_parameters() if p.requires_grad}
    for parameter in learned.values():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return subject, {name: p.detach().clone() for name, p in learned.items()}


def values(*models: nn.Module) -> int:
    """How many numbers are in memory for the parameters of some models."""
    every = (p for model in models for p in model.parameters())
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() // 4 for p in every}
    return sum(storages.values())


@pytest.mark.parametrize(("number", "config"), [*enumerate(MODELS)], ids=lambda c: "")
def test_adapters_on_one_base_are_switched_to_the_bit(number: int, config: Any) -> None:
    base = subject_of(config)
    pack(base.model)
    before = base.exact()
    ways = {"all": WAYS[-1], "other": WAYS[1:-1][number % (len(WAYS) - 2)]}
    if isinstance(ways["other"], BitFit):
        ways["other"] = BitFit(norms=True)
        if not any(
            name.split(".")[-1].startswith("bias") or "norm" in name for name, _ in base.model.named_parameters()
        ):
            del ways["other"]
    expected, adapted = dict[str, Tensor](), dict[str, Adapted]()
    for seed, (name, way) in enumerate(ways.items()):
        alone, _ = learned_in(config, way, seed)
        merge_adapters(alone.model)
        pack(alone.model)  # as where a run is loaded
        expected[name] = alone.exact()
        assert not torch.allclose(expected[name], before)
        subject, learned = learned_in(config, way, seed)
        adapted[name] = Adapted(Loaded(None, Use(subject), subject.model, Assets()), learned, "")  # type: ignore[arg-type]
        for parameter_name, parameter in subject.model.named_parameters():
            if parameter_name not in learned:
                parameter.data = torch.full_like(parameter, torch.nan)  # what is not that of the base
        adapted[name].share(loaded := Loaded(None, Use(base), base.model, Assets()))  # type: ignore[arg-type]
    models = [each.loaded.model for each in adapted.values()]
    changed = sum(value.numel() for each in adapted.values() for value in each.learned.values())
    assert values(base.model, *models) == values(base.model) + changed
    adapters = Adapters(loaded, adapted, {})
    for name in [*expected, None, "all", None]:
        assert torch.equal(adapters(adapter=name), before if name is None else expected[name]), name
    first = adapters.using("all")
    adapters.using([*expected][-1])
    assert torch.allclose(first(), expected["all"], atol=1e-5)  # also where another one is merged now
    assert len(expected) == 1 or not packed_weights(adapted["all"].loaded.model)
    with pytest.raises(UsageError, match=r"no adapter 'al'\n.*did you mean 'all'"):
        adapters(adapter="al")


@pytest.mark.parametrize("config", MODELS, ids=lambda c: "")
@pytest.mark.parametrize("targets", [(), ("*",)], ids=["usual", "all"])
def test_an_adapter_stands_alone_beside_the_weights_of_its_base(config: Any, targets: tuple[str, ...]) -> None:
    """Layers that are linear have no weights of their own; others that are changed have merged ones."""
    base, way = subject_of(config), LoRA(rank=2, targets=targets)
    pack(base.model)
    before, own = base.exact(), {name: p.data_ptr() for name, p in base.model.named_parameters()}
    expected = learned_in(config, way, 1)[0].exact()
    subject, learned = learned_in(config, way, 1)
    adapted = Adapted(Loaded(None, Use(subject), subject.model, Assets()), learned, "")  # type: ignore[arg-type]
    adapted.share(loaded := Loaded(None, Use(base), base.model, Assets()))  # type: ignore[arg-type]
    model = Adapters(loaded, {"a": adapted}, {}).alone("a").model
    assert torch.allclose(subject.exact(), expected, atol=1e-5)
    assert torch.equal(base.exact(), before)
    changed = {id(p) for n, p in model.named_parameters() if own[n] != p.data_ptr()}
    linear = [layer for layer in model.modules() if getattr(layer, "beside", None)]
    assert not changed & {id(layer.weight) for layer in linear}
    assert changed or not targets or len(linear) == sum(1 for n in learned if n.endswith(".up"))


def generated(model: nn.Module) -> list[list[Hypothesis]]:
    """The three best of a beam for each of two sources, one of which is finished before the other; none to generate."""
    if not isinstance(model, EncoderDecoder):
        return [[], []]
    rows = [np.array([3, 5, 7]), np.array([11, 2])]
    beam = BeamSearch(beam=3, n_best=3, max_length=4)
    with torch.no_grad():
        return decode_rows(model, rows, beam, start=0, end=1)


@pytest.mark.parametrize("config", MODELS, ids=lambda c: "")
def test_adapters_of_linear_layers_are_mixed_by_row(config: Any) -> None:
    base = subject_of(config)
    before = base.exact()
    linear = tuple(name for name, layer in base.model.named_modules() if hasattr(layer, "beside"))
    tables = {id(m.weight) for m in base.model.modules() if isinstance(m, TokenEmbedder)}
    linear = tuple(name for name in linear if id(base.model.get_submodule(name).weight) not in tables)
    if not linear:
        return
    expected, decoded = list[Tensor](), list[list[list[Hypothesis]]]()
    for number in range(2):
        subject, learned = learned_in(config, LoRA(rank=1, targets=linear), number)
        found = in_linear_layers(Adapted(Loaded(None, None, subject.model, None), learned, ""))  # type: ignore[arg-type]
        assert found.keys() == {*linear}
        for name, adapter in found.items():
            layer: Any = base.model.get_submodule(name)
            layer.beside = {**(layer.beside or {}), number: adapter}
        expected.append(subject.exact())
        decoded.append(generated(subject.model))
        assert not torch.allclose(expected[-1], before, atol=1e-3)
    for rows in ([0, 1], [1, -1]):
        with by_row(torch.tensor(rows)):
            mixed, generations = base.exact(), generated(base.model)
        for row, (number, outputs) in enumerate(zip(rows, mixed, strict=True)):
            if number < 0:
                assert torch.equal(outputs, before[row])
            else:
                assert torch.allclose(outputs, expected[number][row], atol=1e-5)
                for hypothesis, other in zip(generations[row], decoded[number][row], strict=True):
                    assert hypothesis.ids == other.ids
                    assert hypothesis.log_p == pytest.approx(other.log_p, abs=1e-4)
    assert torch.equal(base.exact(), before)


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
