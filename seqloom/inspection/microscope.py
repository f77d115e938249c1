"""How far back a model remembers, measured over a sample of sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqloom.data.batches.batch import SequenceBatch
from seqloom.inspection.capture import entropies, look
from seqloom.inspection.gates import state_reach, unrolled
from seqloom.inspection.gradient_reach import Reach, input_reach, real
from seqloom.models.encoder_decoder import EncoderDecoder, cross_attentions
from seqloom.models.recurrent import RecurrentEncoder
from seqloom.nn.recurrent import Pass
from seqloom.shapes import Bool, Tensor

_STEPS, _UNITS = 60, 12  # of the gates' traces
_KEEPING = ("f", "z")  # the gate that sets how much of the state stays
TokenNames = Callable[[Any], list[str]]


def examine(
    model: EncoderDecoder, batches: Sequence[SequenceBatch], names: tuple[TokenNames, TokenNames]
) -> dict[str, Any]:
    """The reach of inputs and states, the gates, and the entropy of attention, as far as the model has them.

    `names` give the tokens of a source's and a target's ids. The heat map of the gates is of the first sentence of the
    middle batch.
    """
    reaches, states = defaultdict[str, Reach](Reach), defaultdict[str, Reach](Reach)
    gates = defaultdict[str, list[dict[str, NDArray[np.float32]]]](list)
    attention = defaultdict[str, list[tuple[Tensor, Tensor]]](list)
    across = cross_attentions(model)
    modules = [name for name, _ in model.named_modules()]
    over = {n: "encoder" if n.startswith("encoder.") else "source" if n in across else "target" for n in modules}
    model.eval()
    for batch in batches:
        for name, reach in input_reach(model, batch).items():
            reaches[name] += reach
        with torch.no_grad(), look(model) as seen:
            model(batch.inputs, batch.target_in)
        masks = real(*model.embed(batch.inputs)), real(batch.target_in, batch.target_mask)
        for name in seen.passes:
            one = seen.recurrent(name)
            mask = masks[0] if name.startswith("encoder.") else masks[1]
            states[name] += state_reach(one, mask)
            gates[name].append(_gates(one, mask))
        for name in seen.attention:
            queries = masks[0] if over[name] == "encoder" else masks[1]
            visible = masks[0].sum(1, keepdim=True).expand(queries.shape)
            if over[name] == "target":  # causal
                visible = torch.arange(1, queries.shape[1] + 1).expand(queries.shape)
            attention[name].append(entropies(seen.weights(name).float().cpu(), queries, visible))
    least = max(1, sum(len(b.target_in) for b in batches) // 8)
    sides = [reaches.pop(side) for side in ("left", "right") if side in reaches]
    shown = batches[len(batches) // 2]
    return {
        "encoder": sum(sides, Reach()).as_dict(least) if sides else None,
        **{name: reach.as_dict(least) for name, reach in reaches.items()},
        "states": {name: reach.as_dict(least) for name, reach in states.items()},
        "gates": {
            name: _summary(traces, len(batches) // 2, _tokens(model, name, shown, names))
            for name, traces in gates.items()
            if traces[0]
        },
        "attention": {name: {"over": over[name], **_spread(parts)} for name, parts in attention.items()},
    }


def _gates(one: Pass, mask: Bool[Tensor, "B T"]) -> dict[str, NDArray[np.float32]]:
    """The gates of the first positions (B T D), NaN in the padding."""
    with torch.no_grad():
        _, traces = unrolled(Pass(one.layer, one.x[:, :_STEPS], one.carry, one.h[:, :_STEPS]))
    padding = ~mask[:, :_STEPS, None]
    return {name: trace.float().cpu().masked_fill(padding, torch.nan).numpy() for name, trace in traces.items()}


def _tokens(model: EncoderDecoder, layer: str, batch: SequenceBatch, names: tuple[TokenNames, TokenNames]) -> list[str]:
    """The tokens of the batch's first sentence in the order the layer reads them."""
    encodes = layer.startswith("encoder.")
    source = batch.inputs["text"]
    ids, mask = (source.values, source.mask) if encodes else (batch.target_in, batch.target_mask)
    tokens = names[0 if encodes else 1](ids[0].cpu()[real(ids, mask)[0]].numpy())
    recurrent = encodes and isinstance(model.encoder, RecurrentEncoder)
    if recurrent and model.encoder.directions[int(layer.split(".")[-1])] == "backward":  # type: ignore[index]
        tokens = tokens[::-1]
    return tokens[:_STEPS]


def _summary(batches: list[dict[str, NDArray[np.float32]]], shown: int, tokens: list[str]) -> dict[str, Any]:
    """The mean and quantiles of each gate, also by time; and one sentence's trace of the units that change most."""
    result: dict[str, Any] = {"gates": {}}
    longest = max(next(iter(b.values())).shape[1] for b in batches)
    for name in batches[0]:
        missing = [((0, 0), (0, longest - b[name].shape[1]), (0, 0)) for b in batches]
        parts = [np.pad(b[name], m, constant_values=np.nan) for b, m in zip(batches, missing, strict=True)]
        values = np.concatenate(parts).transpose(1, 0, 2).reshape(longest, -1)  # T (B D)
        by_time = [_quantiles(row[~np.isnan(row)]) for row in values]
        result["gates"][name] = _quantiles(values[~np.isnan(values)]) | {"by_time": by_time}
    kept = next(name for name in _KEEPING if name in batches[0])
    trace = batches[shown][kept][0, : len(tokens)].T  # D T
    units = np.sort(np.argsort(-trace.std(1), kind="stable")[:_UNITS])
    result["trace"] = {"gate": kept, "tokens": tokens, "units": units.tolist(), "values": trace[units].tolist()}
    return result


def _quantiles(values: NDArray[np.float32]) -> dict[str, float]:
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9)).tolist()
    return {"mean": float(values.mean()), "low": low, "median": middle, "high": high}


def _spread(parts: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """The mean entropy by head, in nats and as a share of its maximum; empty if no query saw two positions."""
    entropy, most = (torch.cat(column).double() for column in zip(*parts, strict=True))
    if not len(entropy):
        return {"nats": [], "share": []}
    return {"nats": entropy.mean(0).tolist(), "share": (entropy.mean(0) / most.mean()).tolist()}
