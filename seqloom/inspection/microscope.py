"""All that is measured of a model's memory, over a sample of sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqloom.data.batches.batch import SequenceBatch
from seqloom.inspection.capture import captured, entropies
from seqloom.inspection.gates import Pass, recorded, state_reach, unrolled
from seqloom.inspection.gradient_reach import Reach, input_reach, real
from seqloom.models.encoder_decoder import EncoderDecoder, cross_attentions
from seqloom.models.recurrent import RecurrentEncoder
from seqloom.shapes import Bool, Tensor

_STEPS, _UNITS = 60, 12  # of the gates' traces
_KEPT = ("f", "z")  # the gate that says how much of the state stays
TokenNames = Callable[[Any], list[str]]


def examine(
    model: EncoderDecoder, batches: Sequence[SequenceBatch], names: tuple[TokenNames, TokenNames], probes: int = 1
) -> dict[str, Any]:
    """The reach of inputs and states, the gates and the entropy of attention; what the model has not is left out.

    `words` name the ids of a source and of a target, `probes` are those of `squared_norms`. The heat map of the gates
    is of the first sentence of the middle batch.
    """
    inputs: dict[str, Reach] = {}
    states: dict[str, Reach] = {}
    gates: dict[str, list[dict[str, NDArray[np.float32]]]] = {}
    attention: dict[str, list[tuple[Tensor, Tensor]]] = {}
    across = cross_attentions(model)
    modules = [name for name, _ in model.named_modules()]
    over = {n: "encoder" if n.startswith("encoder.") else "source" if n in across else "target" for n in modules}
    model.eval()
    for batch in batches:
        _add(inputs, input_reach(model, batch, probes))
        with torch.no_grad(), recorded(model) as passes, captured(model) as weights:
            model(batch.source, batch.source_mask, batch.target_in)
        masks = real(batch.source, batch.source_mask), real(batch.target_in, batch.target_mask)
        for name, one in passes.items():
            mask = masks[0] if name.startswith("encoder.") else masks[1]
            _add(states, {name: state_reach(one, mask, probes)})
            gates.setdefault(name, []).append(_gates(one, mask))
        for name, parts in weights.items():
            queries = masks[0] if over[name] == "encoder" else masks[1]
            visible = masks[0].sum(1, keepdim=True).expand(queries.shape)
            if over[name] == "target":  # which is causal
                visible = torch.arange(1, queries.shape[1] + 1).expand(queries.shape)
            # A recurrent decoder attends step by step.
            attention.setdefault(name, []).append(entropies(torch.cat(parts, 2), queries, visible))
    least = max(1, sum(len(b.source) for b in batches) // 8)
    sides = [inputs.pop(side) for side in ("left", "right") if side in inputs]
    shown = batches[len(batches) // 2]
    return {
        "encoder": sum(sides, Reach()).as_dict(least) if sides else None,
        **{name: reach.as_dict(least) for name, reach in inputs.items()},
        "states": {name: reach.as_dict(least) for name, reach in states.items()},
        "gates": {
            name: _summary(found, len(batches) // 2, _words(model, name, shown, names))
            for name, found in gates.items()
            if found[0]
        },
        "attention": {name: {"over": over[name], **_spread(found)} for name, found in attention.items()},
    }


def _add(totals: dict[str, Reach], found: dict[str, Reach]) -> None:
    for name, reach in found.items():
        totals[name] = totals.get(name, Reach()) + reach


def _gates(one: Pass, mask: Bool[Tensor, "B T"]) -> dict[str, NDArray[np.float32]]:
    """The gates of the first positions (B T D), NaN in the padding."""
    with torch.no_grad():
        _, traces = unrolled(Pass(one.layer, one.x[:, :_STEPS], one.carry, one.h[:, :_STEPS]))
    padding = ~mask[:, :_STEPS, None]
    return {name: trace.float().cpu().masked_fill(padding, torch.nan).numpy() for name, trace in traces.items()}


def _words(model: EncoderDecoder, layer: str, batch: SequenceBatch, names: tuple[TokenNames, TokenNames]) -> list[str]:
    """The words of the batch's first sentence as the layer reads them."""
    encodes = layer.startswith("encoder.")
    ids, mask = (batch.source, batch.source_mask) if encodes else (batch.target_in, batch.target_mask)
    found = names[0 if encodes else 1](ids[0].cpu()[real(ids, mask)[0]].numpy())
    back = isinstance(model.encoder, RecurrentEncoder) and encodes
    if back and model.encoder.directions[int(layer.split(".")[-1])] == "backward":  # type: ignore[index]
        found = found[::-1]
    return found[:_STEPS]


def _summary(batches: list[dict[str, NDArray[np.float32]]], shown: int, tokens: list[str]) -> dict[str, Any]:
    """Of each gate the mean and quantiles, also by time; and one sentence's trace of the units that move most."""
    result: dict[str, Any] = {"gates": {}}
    longest = max(next(iter(b.values())).shape[1] for b in batches)
    for name in batches[0]:
        missing = [((0, 0), (0, longest - b[name].shape[1]), (0, 0)) for b in batches]
        parts = [np.pad(b[name], m, constant_values=np.nan) for b, m in zip(batches, missing, strict=True)]
        values = np.concatenate(parts).transpose(1, 0, 2).reshape(longest, -1)  # T (B D)
        by_time = [_quantiles(row[~np.isnan(row)]) for row in values]
        result["gates"][name] = _quantiles(values[~np.isnan(values)]) | {"by_time": by_time}
    kept = next(name for name in _KEPT if name in batches[0])
    trace = batches[shown][kept][0, : len(tokens)].T  # D T
    units = np.sort(np.argsort(-trace.std(1), kind="stable")[:_UNITS])
    return result | {
        "trace": {"gate": kept, "tokens": tokens, "units": units.tolist(), "values": trace[units].tolist()}
    }


def _quantiles(values: NDArray[np.float32]) -> dict[str, float]:
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9)).tolist()
    return {"mean": float(values.mean()), "low": low, "median": middle, "high": high}


def _spread(parts: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """The mean entropy by head, in nats and as a share of the most there can be; empty if there was nothing to see."""
    entropy, most = (torch.cat(found).double() for found in zip(*parts, strict=True))
    if not len(entropy):
        return {"nats": [], "share": []}
    return {"nats": entropy.mean(0).tolist(), "share": (entropy.mean(0) / most.mean()).tolist()}
