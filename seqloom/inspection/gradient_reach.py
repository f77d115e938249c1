"""How far back a model remembers: norms of its Jacobians by distance (Bengio et al. 1994, Pascanu et al. 2013).

    norm(k)  = sqrt of the mean of |d h_t / d x_{t-k}|^2
    share(k) = sqrt of sum |d h_t / d x_{t-k}|^2 / sum |d h_t / d x_t|^2, over the same sentences and t

Of a decoder over its source, k counts words from the source's end; no word is t's own, so the share is of the mean
over all words of the source: 1 = a word like any other.

|.| is the Frobenius norm. Exact, it costs a backward pass for each feature of h_t; with random signs v a single pass
does, because E |v^T J|^2 = |J|^2 (Hutchinson 1989), and the mean over many sentences and t is as good as exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqloom.data.batches.batch import SequenceBatch
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.models.encoders import BagConfig
from seqloom.models.recurrent import RecurrentEncoderConfig
from seqloom.shapes import Bool, Float, Int, Tensor

_POSITIONS = 32  # t looked at in a sentence; in a longer one they are evenly spread


@dataclass(frozen=True)
class Reach:
    """Sums over pairs (t, s) by k: squared norms, what they are a share of for the same t; and how many pairs, and
    sentences with any.
    """

    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((4, 0)))

    @classmethod
    def of(cls, squares: Float[Tensor, "B N S"], steps: Int[Tensor, "B N S"], *, of_mean: bool = False) -> Reach:
        """From squared norms that are `steps` apart, below 0 = not a pair; as shares of k = 0, or of the mean."""
        pairs = steps >= 0
        whole = pairs if of_mean else steps == 0
        base = (squares * whole).sum(-1, keepdim=True) / whole.sum(-1, keepdim=True).clamp(min=1)
        weights = (squares, base.expand_as(squares), torch.ones_like(squares))
        size = int(steps.max()) + 1
        rows = torch.arange(len(steps))[:, None, None] * size
        sentences = np.bincount(np.unique((rows + steps)[pairs].numpy()) % size, minlength=size)
        return cls(np.stack([*(torch.bincount(steps[pairs], w[pairs]).numpy() for w in weights), sentences]))

    def __add__(self, other: Reach) -> Reach:
        size = max(self.sums.shape[1], other.sums.shape[1])
        a, b = (np.pad(r.sums, ((0, 0), (0, size - r.sums.shape[1]))) for r in (self, other))
        return Reach(a + b)

    def as_dict(self, least: int = 1) -> dict[str, Any]:
        """norm and share by k, up to the last k in `least` sentences; the share at 10 and 20.

        half, tenth: the k from which on the share stays below; None = it does not.
        """
        kept = self.sums[:, : np.flatnonzero(self.sums[3] >= least).max(initial=-1) + 1]
        squares, base, pairs, sentences = kept
        share = np.sqrt(np.divide(squares, base, out=np.zeros_like(base), where=base > 0))
        until = {n: np.flatnonzero(share >= part).max(initial=-1) + 1 for n, part in (("half", 0.5), ("tenth", 0.1))}
        return {
            "norm": np.sqrt(np.divide(squares, pairs, out=np.zeros_like(base), where=pairs > 0)).tolist(),
            "share": share.tolist(),
            "sentences": sentences.astype(int).tolist(),
            **{name: int(k) if k < len(share) else None for name, k in until.items()},
            **{f"at_{k}": float(share[k]) if k < len(share) else None for k in (10, 20)},
        }


def squared_norms(
    h: Float[Tensor, "B T D"], inputs: Sequence[Tensor], probes: int = 1
) -> tuple[Int[Tensor, " N"], list[Float[Tensor, "B N S"]]]:
    """The t looked at, and |d h_t / d x_s|^2 for each of `inputs` (B S E), in float64 on the CPU.

    `probes`: random sign vectors for each t; 0 = exact, by all D unit vectors.
    """
    B, T, D = h.shape
    times = torch.linspace(0, T - 1, min(T, _POSITIONS)).round().long()
    chance = torch.Generator().manual_seed(0)
    found: list[list[Tensor]] = [[] for _ in inputs]
    for t in times.tolist():
        totals = [torch.zeros(x.shape[:2], dtype=torch.float64) for x in inputs]
        for p in range(probes or D):
            v = torch.eye(D)[p].expand(B, D) if not probes else 2.0 * torch.randint(2, (B, D), generator=chance) - 1
            gradients = torch.autograd.grad(h[:, t], inputs, v.to(h), retain_graph=True)
            for total, gradient in zip(totals, gradients, strict=True):
                # Squared in float64: float32 ends at 1e-38, and gradients do vanish.
                total += gradient.flatten(2).cpu().double().square().sum(-1) / (probes or 1)
        for rows, total in zip(found, totals, strict=True):
            rows.append(total)
    return times, [torch.stack(rows, 1) for rows in found]


def steps_back(times: Int[Tensor, " N"], mask: Bool[Tensor, "B S"], sign: int = 1) -> Int[Tensor, "B N S"]:
    """sign * (t - s) of two real positions of one sequence, -1 where that is negative or one is padding."""
    steps = sign * (times[:, None] - torch.arange(mask.shape[1]))
    return torch.where(mask[:, times, None] & mask[:, None] & (steps >= 0), steps, -1)


def steps_from_end(
    times: Int[Tensor, " N"], source: Bool[Tensor, "B S"], target: Bool[Tensor, "B T"]
) -> Int[Tensor, "B N S"]:
    """How many words before the last of its source s is, for each real t; -1 for the end mark and for padding."""
    steps = source.sum(1)[:, None] - 2 - torch.arange(source.shape[1])
    return torch.where(target[:, times, None] & (steps >= 0)[:, None], steps[:, None], -1)


def real(ids: Tensor, mask: Tensor | None) -> Bool[Tensor, "B T"]:
    """The mask of the real positions, on the CPU."""
    return torch.ones_like(ids, dtype=torch.bool).cpu() if mask is None else mask.cpu()


def input_reach(model: EncoderDecoder, batch: SequenceBatch, probes: int = 1) -> dict[str, Reach]:
    """The reach of encoder and decoder over embedded words, from one batch in evaluation mode.

    left, right: a source state over the words k before and k after it. Of a recurrent encoder in both directions,
    each direction's half of the state over what that direction has read; a bag has none, it knows no order.
    target: the decoder's hidden vector at t over the word it was given at t-k.
    source: the same over the k-th word before the last of the source (the end mark is not counted), mean over t.
    """
    source = model.source(batch.source).detach().requires_grad_()
    target = model.target(batch.target_in).detach().requires_grad_()
    # cuDNN's recurrent kernels refuse a backward pass in evaluation mode.
    with torch.backends.cudnn.flags(enabled=False):
        memory = model.encoder(source, batch.source_mask)
        hidden, _ = model.decoder(target, model.start(memory, keep=False))
        sources = real(batch.source, batch.source_mask)
        targets = real(batch.target_in, batch.target_mask)
        found = {}
        for states, sides in _sides(model, memory.states):
            times, (squares,) = squared_norms(states, [source], probes)
            for side, sign in sides.items():
                found[side] = Reach.of(squares, steps_back(times, sources, sign))
        times, (own, across) = squared_norms(hidden, [target, source], probes)
    found["target"] = Reach.of(own, steps_back(times, targets))
    found["source"] = Reach.of(across, steps_from_end(times, sources, targets), of_mean=True)
    return found


def _sides(model: EncoderDecoder, states: Tensor) -> list[tuple[Tensor, dict[str, int]]]:
    """Which features of the states look which way."""
    match model.config.encoder:
        case BagConfig():
            return []
        case RecurrentEncoderConfig(direction="forward"):
            return [(states, {"left": 1})]
        case RecurrentEncoderConfig(direction="backward"):
            return [(states, {"right": -1})]
        case RecurrentEncoderConfig(width=D):
            return [(states[..., :D], {"left": 1}), (states[..., D:], {"right": -1})]
    return [(states, {"left": 1, "right": -1})]
