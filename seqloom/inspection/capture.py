"""Inside a running model: attention, residual stream and recurrent layers, without changing its output.

    with look(model) as seen:
        model(inputs)
    seen.weights("encoder.stack.blocks.0.attention", head=3)     # B T S

While the model runs, only what its layers compute with anyway is kept: queries and keys, not weights. These are
computed when they are asked for, by layer and head.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from seqloom.errors import UsageError, nearest
from seqloom.nn.attention import Attended, SelfAttention
from seqloom.nn.observe import Stream, observed
from seqloom.nn.recurrent import Pass
from seqloom.shapes import Bool, Float, Int, Tensor

MOST = 1 << 30  # bytes
Note = TypeVar("Note", Attended, Pass, Stream)


class Inside:
    """What the layers of a model computed with, by name, one entry for each time that a layer ran.

    Args:
        model: the model.
        most: the most bytes that may be kept.
        layers: the names of those that are kept; None = all.

    `attention`, `passes` (of recurrent layers) and `streams` have the notes themselves. The methods join the steps of a
    decoder that went step by step.
    """

    def __init__(self, model: nn.Module, most: int = MOST, layers: Container[str] | None = None) -> None:
        self._names = {module: name for name, module in model.named_modules()}
        self._modules = {name: module for module, name in self._names.items()}
        self._most, self._layers, self.bytes = most, layers, 0
        self._copies, self._counted = WeakTensorKeyDictionary(), set[int]()
        self.attention: dict[str, list[Attended]] = {}
        self.passes: dict[str, list[Pass]] = {}
        self.streams: dict[str, list[Stream]] = {}
        self._lists: dict[type, dict[str, list[Any]]] = {
            Attended: self.attention,
            Pass: self.passes,
            Stream: self.streams,
        }

    def note(self, layer: nn.Module, note: Any) -> None:
        """Keeps a note of one of the layers. Raises UsageError where that would be too much."""
        name = self._names.get(layer)
        if name is not None and (self._layers is None or name in self._layers):
            self._lists[type(note)].setdefault(name, []).append(self._kept(note))

    def weights(self, layer: str, head: int | None = None) -> Float[Tensor, "B H T S"]:
        """The attention weights of a layer, of all heads or of one (H = 1); a later key of a step is 0 in those before.

        Raises UsageError for a layer or a head that there is not.
        """
        notes = _found(self.attention, layer)
        heads = notes[0].queries.shape[1]
        if head is not None and not 0 <= head < heads:
            raise UsageError(f"has no head {head}", where=layer, cure=f"its heads are 0 to {heads - 1}")
        steps = [note.weights(head) for note in notes]
        longest = max(step.shape[-1] for step in steps)
        return _joined(layer, [nn.functional.pad(step, (0, longest - step.shape[-1])) for step in steps], 2)

    def queries(self, layer: str) -> Float[Tensor, "B H T C"]:
        """The queries of an attention layer, after norms and positions."""
        return _joined(layer, [note.queries for note in _found(self.attention, layer)], 2)

    def keys(self, layer: str) -> Float[Tensor, "B G S C"]:
        """The keys of an attention layer, after norms and positions, as its last query saw them."""
        return _found(self.attention, layer)[-1].keys

    def residual(self, stack: str) -> Float[Tensor, "L B T D"]:
        """The residual stream of a stack ("decoder.stack"): after each block, and before the first if as wide."""
        names = [stack, *(n for n in self.streams if n.startswith(f"{stack}." if stack else "") and n != stack)]
        first, *others = [self.stream(name) for name in names]
        return torch.stack([x for x in (first, *others) if not others or x.shape == others[0].shape])

    def stream(self, layer: str) -> Float[Tensor, "B T D"]:
        """The residual stream after a block, or before the first one of a stack."""
        return _joined(layer, [note.x for note in _found(self.streams, layer)], 1)

    def recurrent(self, layer: str) -> Pass:
        """The inputs and outputs of a recurrent layer, from which `gates.unrolled` computes its gates and cells."""
        notes = _found(self.passes, layer)
        x, h = (_joined(layer, [getattr(note, part) for note in notes], 1) for part in ("x", "h"))
        return Pass(notes[0].layer, x, notes[0].carry, h)

    def groups(self) -> dict[str, list[str]]:
        """The attention layers of each stack, in their order, by what attends to what: "cross-attention", ..."""
        stacks: dict[str, list[str]] = {}
        for name in self.attention:
            stacks.setdefault(re.sub(r"\.\d+", ".*", name), []).append(name)
        titled = {self._title(names[0]): names for names in stacks.values()}
        return {title: titled[title] for part in _ORDER for title in titled if part in title}

    def _title(self, layer: str) -> str:
        if not isinstance(self._modules[layer], SelfAttention):
            return "cross-attention"
        of = re.search(r"encoders\.(\w+)", layer)
        return f"{of[1]} encoder self-attention" if of else f"{part_of(layer)} self-attention"

    def stacked(self, layers: Sequence[str], row: int = 0) -> Float[Tensor, "L H T S"]:
        """The weights of some layers over one sequence of the batch, on the CPU."""
        return torch.stack([self.weights(layer)[row].float().cpu() for layer in layers])

    def _kept(self, note: Any) -> Any:
        """The note with detached tensors that hold nothing else and that nobody overwrites."""
        parts = {f.name: getattr(note, f.name) for f in fields(note)}
        changed: Any = {name: self._tensor(x) for name, x in parts.items() if isinstance(x, Tensor)}
        changed |= {name: self._kept(x) for name, x in parts.items() if is_dataclass(x)}
        return replace(note, **changed)

    def _tensor(self, x: Tensor) -> Tensor:
        if x in self._copies:  # the keys of a memory are those of every step
            copy: Tensor = self._copies[x]
            return copy
        size, kept = x.numel() * x.element_size(), x.detach()
        shared = x.untyped_storage().nbytes() > size
        if shared or x.untyped_storage().data_ptr() not in self._counted:
            self.bytes += size
            if self.bytes > self._most:
                problem = f"what is kept of the layers takes more than {self._most / 2**20:,.0f} MiB"
                cure = "give shorter inputs, the names of some `layers`, or a larger `most`, in bytes"
                raise UsageError(problem, where="look", cure=cure)
        kept = kept.clone() if shared else kept  # a cache is written on; queries, keys and values share one tensor
        self._counted.add(kept.untyped_storage().data_ptr())
        self._copies[x] = kept
        return kept


_ORDER = ("cross", "encoder", "decoder")


@contextmanager
def look(model: nn.Module, *, most: int = MOST, layers: Container[str] | None = None) -> Iterator[Inside]:
    """A context in which what the layers of a model compute with is kept; see Inside for the arguments.

    The output has the same bits as without it, and takes the same path. Raises UsageError where more than `most` bytes
    would be kept.
    """
    seen = Inside(model, most, layers)
    with observed(seen.note):
        yield seen


def part_of(layer: str) -> str:
    """The half of a model that a layer belongs to, "encoder" or "decoder"."""
    return "decoder" if re.search(r"(^|\.)decoders?(\.|$)", layer) else "encoder"


def _found(notes: dict[str, list[Note]], layer: str) -> list[Note]:
    if layer not in notes:
        cure = nearest(layer, notes) if notes else "the model has no such layers, or has not run"
        raise UsageError(f"nothing was seen of {layer!r}", cure=cure)
    return notes[layer]


def _joined(layer: str, steps: Sequence[Tensor], axis: int) -> Tensor:
    if len({step.shape[0] for step in steps}) > 1:
        cure = "look at each note by itself: seen.attention[layer][i].weights()"
        raise UsageError("ran with several numbers of rows", where=layer, cure=cure)
    return steps[0] if len(steps) == 1 else torch.cat([*steps], axis)


def entropies(
    weights: Float[Tensor, "B H T S"], mask: Bool[Tensor, "B T"], visible: Int[Tensor, "B T"]
) -> tuple[Float[Tensor, "N H"], Float[Tensor, " N"]]:
    """The entropy in nats of each real query's weights by head, and its maximum: the log of the visible positions.

    Weights that do not sum to one (a local window's bell) are normalized. Queries that see one position are left out.
    """
    p = weights / weights.sum(-1, keepdim=True)
    chosen = mask & (visible > 1)
    entropy = -(p * p.clamp(min=1e-30).log()).sum(-1).transpose(1, 2)  # B T H
    return entropy[chosen], visible[chosen].float().log()
