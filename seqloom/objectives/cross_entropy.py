"""Cross-entropy over a vocabulary, with label smoothing, R-Drop and scheduled sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812

from seqloom.data.batches.batch import SequenceBatch
from seqloom.limits import Bounded, Positive, Share, ShareBelowOne, Weight
from seqloom.models.assemblies import TextWriter
from seqloom.nn.effective import effective
from seqloom.nn.heads import VocabularyHead
from seqloom.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class CrossEntropy(Bounded):
    """Cross-entropy of each next token.

    Args:
        smoothing: the share of the target probability spread evenly over all tokens (Szegedy et al. 2016).
        r_drop: the weight of the divergence between two passes with different dropout (Liang et al. 2021); 0 = off.
        teacher_forcing: the share of target tokens that the decoder is fed; it is fed its own prediction for the rest
            (scheduled sampling, Bengio et al. 2015). Not for a Transformer decoder.
        teacher_forcing_end, teacher_forcing_batches: the share changes linearly to this one over so many batches.
    """

    kind: ClassVar[str] = "cross-entropy"
    smoothing: ShareBelowOne = 0.1
    r_drop: Weight = 0.0
    teacher_forcing: Share = 1.0
    teacher_forcing_end: Share = 1.0
    teacher_forcing_batches: Positive = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.r_drop and self.samples:
            raise ValueError("r_drop needs teacher_forcing = 1")

    @property
    def samples(self) -> bool:
        """Whether the decoder is ever fed its own predictions."""
        return min(self.teacher_forcing, self.teacher_forcing_end) < 1

    def __call__(self, model: TextWriter, batch: SequenceBatch) -> Loss:
        """The loss summed over the batch's tokens."""
        if self.r_drop > 0 and model.training:
            return self._two_passes(model, batch)
        if self.samples and model.training:
            hidden = _real(self._fed_predictions(model, batch), batch)
        else:
            hidden = _real(model(batch.inputs, batch.target_in), batch)
        targets = _real(batch.target_out, batch)
        value, nll = vocabulary_loss(model.head, hidden, targets, self.smoothing)
        return Loss(value, nll, batch.tokens)

    def _fed_predictions(self, model: TextWriter, batch: SequenceBatch) -> Tensor:
        done = min(1.0, batch.number / self.teacher_forcing_batches)
        share = self.teacher_forcing + done * (self.teacher_forcing_end - self.teacher_forcing)
        forced = torch.rand(batch.target_in.shape, device=batch.target_in.device) < share
        state = model.start(model.encode(batch.inputs))
        outputs: list[Tensor] = []
        for t, token in enumerate(torch.split(batch.target_in, 1, dim=1)):
            if outputs:
                with torch.no_grad():
                    predicted = model.head(outputs[-1]).argmax(-1)
                token = torch.where(forced[:, t : t + 1], token, predicted)
            hidden, state = model.decode(token, state)
            outputs.append(hidden)
        return torch.cat(outputs, 1)

    def _two_passes(self, model: TextWriter, batch: SequenceBatch) -> Loss:
        passes = [_real(model(batch.inputs, batch.target_in), batch) for _ in range(2)]
        scores = [model.head(hidden) for hidden in passes]
        value, nll = passes_loss(scores, _real(batch.target_out, batch), self.smoothing, self.r_drop)
        return Loss(value, nll, batch.tokens)


@dataclass(frozen=True)
class Loss:
    """The result of an objective.

    Args:
        value: the loss summed over the tokens, to be differentiated.
        nll: the plain negative log-likelihood in nats, summed over the tokens.
        tokens: how many tokens, labels or numbers were learned.
        carry: the state the next batch starts from, if any.
        scores: further means over the batch, for the log.
    """

    value: Tensor
    nll: float
    tokens: int
    carry: Mapping[str, Tensor] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)


def _real(x: Tensor, batch: SequenceBatch) -> Tensor:
    flat = x.flatten(0, 1)  # B T ... -> N ...
    if batch.target_mask is None:
        return flat
    return flat.index_select(0, batch.target_mask.flatten().nonzero().squeeze(1))


def passes_loss(
    scores: Sequence[Float[Tensor, "N V"]],
    targets: Int[Tensor, " N"] | Float[Tensor, "N V"],
    smoothing: float,
    r_drop: float = 0.0,
) -> tuple[Tensor, float]:
    """The loss of one pass, or of two with different dropout that also learn to agree (Liang et al. 2021, eq. 4).

    The targets are labels, or the share of each label.

    Returns the mean of their summed smoothed cross-entropies, plus `r_drop` times half the symmetric divergence of
    two passes; and the summed plain cross-entropy of the first.
    """
    log_p, shared = [F.log_softmax(x.float(), dim=-1) for x in scores], targets.is_floating_point()
    nll = torch.stack([-(p * targets).sum() if shared else F.nll_loss(p, targets, reduction="sum") for p in log_p])
    value = (1 - smoothing) * nll.mean()
    if smoothing:
        value = value - smoothing * torch.stack([p.sum() for p in log_p]).mean() / log_p[0].shape[1]
    for p, q in permutations(log_p, 2):
        value = value + r_drop / 4 * F.kl_div(p, q, reduction="sum", log_target=True)
    return value, float(nll[0].detach())


def vocabulary_loss(
    head: VocabularyHead, hidden: Float[Tensor, "N D"], targets: Int[Tensor, " N"], smoothing: float
) -> tuple[Tensor, float]:
    """The summed smoothed cross-entropy of a head's predictions, and the summed plain one."""
    return linear_cross_entropy(head.project(hidden), effective(head), targets, smoothing, head.bias)


def linear_cross_entropy(
    hidden: Float[Tensor, "N E"],
    weight: Float[Tensor, "V E"],
    targets: Int[Tensor, " N"],
    smoothing: float,
    bias: Float[Tensor, " V"] | None = None,
) -> tuple[Tensor, float]:
    """The summed smoothed cross-entropy of hidden @ weight^T + bias, and the summed plain one.

    On a CPU the logits are computed in chunks, each turned into its gradient at once; they are never held as a whole.
    """
    if hidden.device.type == "cpu" and torch.is_grad_enabled():
        value, nll = _ChunkedCrossEntropy.apply(hidden, weight, bias, targets, smoothing)  # type: ignore[no-untyped-call]
        return value, float(nll)
    log_p = F.log_softmax(F.linear(hidden, weight, bias).float(), dim=-1)
    nll = F.nll_loss(log_p, targets, reduction="sum")
    value = (1 - smoothing) * nll - smoothing / weight.shape[0] * log_p.sum()
    return value, float(nll.detach())


def _write_logits(into: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if into.dtype != hidden.dtype:
        return into.copy_(F.linear(hidden, weight, bias))
    if bias is None:
        return torch.mm(hidden, weight.t(), out=into)
    return torch.addmm(bias, hidden, weight.t(), out=into)


_CHUNK = 16 << 20  # logits at a time: 64 MB in float32


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradient of the logits is p - (1 - e) y - e / V.

    Its constant part -e / V is left out of the logits: multiplied by `weight` and by `hidden`, it is one vector each.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        N, V = hidden.shape[0], weight.shape[0]
        even = smoothing / V
        wide = torch.promote_types(hidden.dtype, torch.float32)
        weight_sum = weight.to(wide).sum(0)
        d_hidden = torch.empty_like(hidden)
        learned = ctx.needs_input_grad[1]
        d_weight = torch.zeros(weight.shape if learned else (), dtype=wide)
        d_bias, offset = torch.zeros(V, dtype=wide), 0.0 if bias is None else bias.to(wide).sum()
        rows = max(1, min(N, _CHUNK // V))
        buffer = torch.empty(rows, V, dtype=wide)
        nll = torch.zeros((), dtype=torch.float64)
        total = torch.zeros((), dtype=torch.float64)
        for i in range(0, N, rows):
            h, y = hidden[i : i + rows], targets[i : i + rows, None]
            p = _write_logits(buffer[: h.shape[0]], h, weight, bias)
            at_target = p.gather(1, y)
            torch.softmax(p, dim=-1, out=p)
            p_target = p.gather(1, y)
            loss = -p_target.log()
            if bool((p_target < 1e-30).any()):  # beyond float32: computed from the logits again
                loss = F.linear(h, weight, bias).to(wide).logsumexp(-1, keepdim=True) - at_target
            chunk_nll = loss.sum(dtype=torch.float64)
            # sum_v log p_v = sum_v z_v - V logsumexp(z), and logsumexp(z) = z_y + loss
            sums = h.to(wide) @ weight_sum + offset - V * (at_target + loss)[:, 0]
            nll += chunk_nll
            total += (1 - smoothing) * chunk_nll - even * sums.sum(dtype=torch.float64)
            p.scatter_add_(1, y, torch.full_like(p_target, smoothing - 1))
            d_logits = p.to(hidden.dtype)
            torch.mm(d_logits, weight, out=d_hidden[i : i + rows])
            if learned:
                d_weight += d_logits.t() @ h
            if bias is not None:
                d_bias += p.sum(0)
        if smoothing:
            d_hidden -= (even * weight_sum).to(hidden.dtype)
            if learned:
                d_weight -= even * hidden.to(wide).sum(0)
            d_bias -= even * N
        ctx.save_for_backward(d_hidden, d_weight.to(weight.dtype), None if bias is None else d_bias.to(bias.dtype))
        ctx.mark_non_differentiable(nll)
        return total.to(wide), nll

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        scaled = (None if d is None else d * grads[0].to(d.dtype) for d in ctx.saved_tensors)
        return tuple(
            d if needed else None for d, needed in zip((*scaled, None, None), ctx.needs_input_grad, strict=True)
        )
