"""How far back a model remembers: the norms of its Jacobians by distance (Bengio et al. 1994, Pascanu et al. 2013).

    norm(k)  = sqrt of the mean of |d h_t / d x_{t-k}|^2
    share(k) = sqrt of sum |d h_t / d x_{t-k}|^2 / sum |d h_t / d x_t|^2, over the same sentences and t

For a decoder over its source, k counts tokens from the source's end. No source token belongs to t, so the share is
relative to the mean over all tokens of the source: 1 = a token like any other.

|.| is the Frobenius norm. The exact norm costs a backward pass for each feature of h_t; random signs v need only one,
because E |v^T J|^2 = |J|^2 (Hutchinson 1989), and the mean over many sentences and t is practically exact.
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

_POSITIONS = 32  # t measured in a sentence; evenly spread in a longer one


@dataclass(frozen=True)
class Reach:
    """Sums over pairs (t, s) by k: the squared norms and what they are a share of for the same t; the number of pairs,
    and of sentences with any.
    """

    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((4, 0)))

    @classmethod
    def of(cls, squares: Float[Tensor, "B N S"], steps: Int[Tensor, "B N S"], *, of_mean: bool = False) -> Reach:
        """From squared norms of positions `steps` apart, below 0 = not a pair; as shares of k = 0, or of the mean."""
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
        """norm and share by k, up to the last k that `least` sentences have; the share at 10 and 20.

        half, tenth: the k from which the share stays below a half, a tenth; None = it does not.
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
    """The measured t, and |d h_t / d x_s|^2 for each of `inputs` (B S E), in float64 on the CPU.

    `probes`: random sign vectors for each t; 0 = exact, by all D unit vectors.
    """
    B, T, D = h.shape
    times = torch.linspace(0, T - 1, min(T, _POSITIONS)).round().long()
    chance = torch.Generator().manual_seed(0)
    squares: list[list[Tensor]] = [[] for _ in inputs]
    for t in times.tolist():
        totals = [torch.zeros(x.shape[:2], dtype=torch.float64) for x in inputs]
        for p in range(probes or D):
            v = torch.eye(D)[p].expand(B, D) if not probes else 2.0 * torch.randint(2, (B, D), generator=chance) - 1
            gradients = torch.autograd.grad(h[:, t], inputs, v.to(h), retain_graph=True)
            for total, gradient in zip(totals, gradients, strict=True):
                # Squared in float64, because vanishing gradients fall below the 1e-38 of float32.
                total += gradient.flatten(2).cpu().double().square().sum(-1) / (probes or 1)
        for rows, total in zip(squares, totals, strict=True):
            rows.append(total)
    return times, [torch.stack(rows, 1) for rows in squares]


def steps_back(times: Int[Tensor, " N"], mask: Bool[Tensor, "B S"], sign: int = 1) -> Int[Tensor, "B N S"]:
    """sign * (t - s) of two real positions of one sequence, -1 where that is negative or one is padding."""
    steps = sign * (times[:, None] - torch.arange(mask.shape[1]))
    return torch.where(mask[:, times, None] & mask[:, None] & (steps >= 0), steps, -1)


def steps_from_end(
    times: Int[Tensor, " N"], source: Bool[Tensor, "B S"], target: Bool[Tensor, "B T"]
) -> Int[Tensor, "B N S"]:
    """How many tokens s is before the last of its source, for each real t; -1 for the end token and for padding."""
    steps = source.sum(1)[:, None] - 2 - torch.arange(source.shape[1])
    return torch.where(target[:, times, None] & (steps >= 0)[:, None], steps[:, None], -1)


def real(x: Tensor, mask: Tensor | None) -> Bool[Tensor, "B T"]:
    """The mask of the real positions of x (B T ...), on the CPU."""
    return torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask.cpu()


def input_reach(model: EncoderDecoder, batch: SequenceBatch, probes: int = 1) -> dict[str, Reach]:
    """The reach of encoder and decoder over embedded tokens, from one batch in evaluation mode.

    left, right: a source state over the tokens k before and k after it. For a recurrent encoder in both directions,
    each direction's half of the state over what that direction has read; a bag has no order, and so neither.
    target: the decoder's hidden vector at t over its input at t-k.
    source: the same over the k-th token before the last of the source (not counting the end token), mean over t.
    """
    embedded, mask = model.embed(batch.inputs)
    source = embedded.detach().requires_grad_()
    target = model.target(batch.target_in).detach().requires_grad_()
    # cuDNN's recurrent kernels refuse a backward pass in evaluation mode.
    with torch.backends.cudnn.flags(enabled=False):
        memory = model.encoder(source, mask)
        hidden, _ = model.decoder(target, model.start(memory, keep=False))
        sources = real(source, mask)
        targets = real(batch.target_in, batch.target_mask)
        reaches = {}
        for states, sides in _sides(model, memory.states):
            times, (squares,) = squared_norms(states, [source], probes)
            for side, sign in sides.items():
                reaches[side] = Reach.of(squares, steps_back(times, sources, sign))
        times, (over_target, over_source) = squared_norms(hidden, [target, source], probes)
    reaches["target"] = Reach.of(over_target, steps_back(times, targets))
    reaches["source"] = Reach.of(over_source, steps_from_end(times, sources, targets), of_mean=True)
    return reaches


def _sides(model: EncoderDecoder, states: Tensor) -> list[tuple[Tensor, dict[str, int]]]:
    """The features of the states that look left, right, or both ways, with the sign of each."""
    match model.config.encoder:
        case BagConfig():
            return []
        case RecurrentEncoderConfig(direction="both", width=D):
            return [(states[..., :D], {"left": 1}), (states[..., D:], {"right": -1})]
        case RecurrentEncoderConfig(direction=direction):
            return [(states, {"left": 1} if direction == "forward" else {"right": -1})]
    return [(states, {"left": 1, "right": -1})]
