"""What holds for looking inside every model, whatever its form (docs/design.md, "What must hold", 4)."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import cycle
from typing import Any

import pytest
import torch
from members import same
from test_adapted import MODELS, Subject, subject_of
from test_models import CHOICES, config_of
from torch import Tensor, nn

from seqloom.adaptation.adapt import adapt, merge_adapters
from seqloom.adaptation.config import LoRA
from seqloom.errors import UsageError
from seqloom.inspection.capture import Inside, look
from seqloom.nn import attention, scored_attention
from seqloom.nn.attention import Attended, CrossAttention, SelfAttention, unfolded
from seqloom.nn.observe import observed
from seqloom.nn.scored_attention import ScoredAttention
from seqloom.nn.transformer import TransformerBlock

EVERY = [*map(config_of, CHOICES), *MODELS]
# Each as it is, and the other forms take turns.
FORMS = [(config, "base") for config in EVERY]
FORMS += [*zip(EVERY, cycle(("bfloat16", "adapted", "merged", "adapted")), strict=False)]
every = pytest.mark.parametrize("config", EVERY, ids=lambda config: config.kind)


def attending(model: nn.Module) -> list[str]:
    """The layers that attend; one with several heads has another inside it."""
    kinds = SelfAttention | CrossAttention | ScoredAttention
    return [n for n, m in model.named_modules() if isinstance(m, kinds) and not hasattr(m, "many")]


def with_adapters(subject: Subject) -> Subject:
    adapt(subject.model, LoRA(rank=2, targets=("*",)))
    for parameter in subject.model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    return subject


@every
@pytest.mark.parametrize("mode", ["trained", "used"])
def test_looking_changes_no_bit(config: Any, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(config)
    subject.model.train(mode == "trained")
    for fused in (False, True):
        monkeypatch.setattr(attention, "fused_is_faster", lambda *_, fused=fused: fused)
        outputs = []
        for looking in (False, True, False):
            torch.manual_seed(5)
            with torch.inference_mode(mode == "used"), look(subject.model) if looking else nullcontext():
                outputs.append(subject.outputs())
        assert torch.equal(outputs[0], outputs[1])
        assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize(("config", "form"), FORMS, ids=lambda each: getattr(each, "kind", each))
def test_the_weights_are_those_that_the_layers_used(config: Any, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(config)
    if form in ("adapted", "merged"):
        subject = with_adapters(subject)
    if form == "merged":
        merge_adapters(subject.model)
    if form == "bfloat16":
        subject.model.to(torch.bfloat16)
    seen, used, notes = Inside(subject.model), list[Tensor](), list[Attended]()

    def kept(weights: Tensor, v: Tensor) -> Tensor:
        used.append(weights)
        return apply(weights, v)

    def noted(layer: nn.Module, note: Any) -> None:
        seen.note(layer, note)
        if isinstance(note, Attended):
            notes.append(seen.attention[names[layer]][-1])

    names = {module: name for name, module in subject.model.named_modules()}
    apply = attention.apply_weights
    monkeypatch.setattr(attention, "fused_is_faster", lambda *_: False)
    monkeypatch.setattr(attention, "apply_weights", kept)
    monkeypatch.setattr(scored_attention, "apply_weights", kept)
    with torch.inference_mode(), observed(noted):
        subject.outputs()
    assert sorted(seen.attention) == sorted(attending(subject.model))
    assert len(notes) == len(used)
    for note, weights in zip(notes, used, strict=True):
        found = note.weights()
        near = 1e-2 if form == "bfloat16" else 5e-5
        torch.testing.assert_close(found, unfolded(weights, len(found)).float(), rtol=0, atol=near)
        assert (found >= 0).all()
        assert (found.sum(-1) <= 1 + near).all()
        for head in range(note.queries.shape[1]):
            torch.testing.assert_close(note.weights(head), found[:, head : head + 1], rtol=0, atol=1e-5)


@every
def test_streams_are_what_the_blocks_return(config: Any) -> None:
    subject, returned = subject_of(config), dict[str, Tensor]()
    for name, module in subject.model.named_modules():
        if isinstance(module, TransformerBlock):
            module.register_forward_hook(lambda _, __, x, name=name: returned.__setitem__(name, x))
    with torch.inference_mode(), look(subject.model) as seen:
        subject.outputs()
    assert seen.streams.keys() >= returned.keys()
    for name, x in returned.items():
        assert torch.equal(seen.streams[name][-1].x, x)


@every
def test_what_is_kept_has_a_bound(config: Any) -> None:
    subject = subject_of(config)
    with look(subject.model) as seen:
        subject.outputs()
    if not seen.bytes:
        return
    tensors = [x for notes in (seen.attention, seen.passes, seen.streams) for calls in notes.values() for x in calls]
    kept = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for note in tensors for x in parts(note)}
    assert sum(kept.values()) <= seen.bytes
    with look(subject.model, most=seen.bytes):
        subject.outputs()
    with pytest.raises(UsageError, match=r"takes more than .* MiB"), look(subject.model, most=seen.bytes - 1):
        subject.outputs()
    name = next(iter(seen.attention or seen.streams))
    with look(subject.model, layers={name}) as one:
        subject.outputs()
    assert {*one.attention, *one.streams, *one.passes} == {name}
    assert one.bytes < seen.bytes or len({*seen.attention, *seen.streams, *seen.passes}) == 1


def parts(note: Any) -> list[Tensor]:
    values = [*vars(note).values()]
    values += [x for value in values if hasattr(value, "mask") for x in vars(value).values()]
    return [x for x in values if isinstance(x, Tensor)]


@torch.no_grad()
def test_a_cache_that_is_cut_and_written_again_leaves_the_keys_as_they_were() -> None:
    layer = SelfAttention(attention.Heads(6, 3, 3, 2, False, False, 0.0)).double()
    x, cache = torch.randn(1, 4, 6).double(), attention.Cache()
    with look(layer) as seen:
        layer(x, attention.Scope(), cache=cache)
        before = seen.keys("").clone()
        layer(torch.randn(1, 2, 6).double(), attention.Scope(), cache=cache.cut(2))
    same(seen.attention[""][0].keys, before)
