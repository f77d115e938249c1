"""What changes when a part of a model is switched off, or takes its value from another input.

Heads: Michel et al. 2019, Voita et al. 2019. Activation patching: Vig et al. 2020, Meng et al. 2022. The changes hold
for every call of the model within a context, so do not serve it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seqloom.errors import UsageError, nearest
from seqloom.inspection.inside.inspected import Inspected
from seqloom.nn.attention import CrossAttention, SelfAttention
from seqloom.nn.scored_attention import ScoredAttention
from seqloom.nn.transformer import TransformerBlock
from seqloom.shapes import Float, Tensor

Value = Float[Tensor, "B T C"]


@dataclass(frozen=True)
class Change:
    """How the outputs of each of N positions differ from those of the model as it is.

    Args:
        divergence: KL(as it is || changed), in nats.
        asked: what the log-probability of the output that is asked about gains.
        log_q: the log-probabilities of the changed model.
    """

    divergence: Float[Tensor, " N"]
    asked: Float[Tensor, " N"]
    log_q: Float[Tensor, "N V"]


@torch.inference_mode()
def effect(inspected: Inspected, changed: AbstractContextManager[Any]) -> Change:
    """What a change of the model does to its outputs for an input."""
    with changed:
        log_q = inspected.run(1)[0].float().cpu().log_softmax(-1)
    log_p = inspected.log_p
    gain = (log_q - log_p).gather(1, inspected.asked[:, None])[:, 0]
    return Change((log_p.exp() * (log_p - log_q)).nan_to_num().sum(-1), gain, log_q)


@contextmanager
def heads_set(model: nn.Module, layer: str, values: Mapping[int, Value | float]) -> Iterator[None]:
    """A context in which some heads of an attention layer return these values; 0.0 = they are switched off.

    What a head returns is its slice of what goes into the layer's output projection. A layer without one (nn/
    scored_attention.py) has one head, which can only be switched off. Raises UsageError.
    """
    module = _module(model, layer)
    if isinstance(module, ScoredAttention) and not hasattr(module, "many"):
        if dict(values) != {0: 0.0}:
            raise UsageError("its one head can only be switched off", where=layer, cure="give {0: 0.0}")
        with module.register_forward_hook(lambda _, __, done: (torch.zeros_like(done[0]), done[1])):
            yield
        return
    module = _with_heads(model, layer)
    H, C = module.sizes.heads, module.sizes.features
    if wrong := [head for head in values if not 0 <= head < H]:
        raise UsageError(f"has no head {wrong[0]}", where=layer, cure=f"its heads are 0 to {H - 1}")

    def change(_: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
        mixed = inputs[0].clone()
        for head, value in values.items():
            mixed[..., head * C : (head + 1) * C] = value
        return (mixed,)

    with module.output.register_forward_pre_hook(change):
        yield


@torch.inference_mode()
def head_outputs(inspected: Inspected, layer: str) -> Float[Tensor, "B T H C"]:
    """What each head of an attention layer returns for an input, to be set for another one."""
    module, found = _with_heads(inspected.model, layer), list[Tensor]()
    with module.output.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0])):
        inspected.run(1)
    return torch.cat(found, 1).view(len(found[0]), -1, module.sizes.heads, module.sizes.features)


def head_effects(inspected: Inspected) -> dict[str, list[Change]]:
    """By attention layer, the effect of switching off each of its heads, one at a time."""
    return {
        layer: [effect(inspected, heads_set(inspected.model, layer, {h: 0.0})) for h in range(inspected.heads(layer))]
        for layer in inspected.seen.attention
    }


@contextmanager
def patched(model: nn.Module, blocks: Mapping[str, Value], positions: Sequence[int] = ()) -> Iterator[None]:
    """A context in which the residual stream after some blocks has these values, at some positions or at all.

    `{name: other.seen.stream(name)}` patches in what another input has there. Raises UsageError.
    """

    def change(value: Tensor, done: Tensor) -> Tensor:
        at = [*positions] or slice(None)
        out = done.clone()
        out[:, at] = value[:, at]
        return out

    with ExitStack() as hooks:
        for name, value in blocks.items():
            module = _module(model, name)
            if not isinstance(module, TransformerBlock):
                raise UsageError("is no block of a Transformer", where=name, cure="name one: decoder.stack.blocks.0")
            hooks.enter_context(module.register_forward_hook(lambda _, __, out, value=value: change(value, out)))
        yield


def _with_heads(model: nn.Module, layer: str) -> Any:
    module = _module(model, layer)
    if not isinstance(module, SelfAttention | CrossAttention):
        raise UsageError("has no heads", where=layer, cure="name a layer of attention")
    return module


def _module(model: nn.Module, name: str) -> Any:
    modules = dict(model.named_modules())
    if name not in modules:
        raise UsageError(f"there is no layer {name!r}", cure=nearest(name, modules))
    return modules[name]
