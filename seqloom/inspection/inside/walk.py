"""A model layer by layer at one position of its input, with the numbers it computed there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from seqloom.errors import UsageError
from seqloom.inspection.capture import part_of
from seqloom.inspection.gates import unrolled
from seqloom.inspection.inside.attribution import embedded
from seqloom.inspection.inside.flow import rollout
from seqloom.inspection.inside.inspected import Inspected
from seqloom.inspection.inside.lens import logit_lens
from seqloom.inspection.inside.switching import effect, heads_set
from seqloom.nn.embedders import TokenEmbedder
from seqloom.nn.transformer import TransformerStack
from seqloom.shapes import Tensor

Json = dict[str, Any]
ROLLOUT = "rollout"
_SELF, _SCALE = " self-attention", 65535
_UNITS = 24  # of a recurrent layer that are shown over time


def packed(weights: Tensor) -> bytes:
    """Weights from 0 to 1 as 16-bit integers, the smaller byte first; NaN as 0."""
    whole = (weights.float().cpu().nan_to_num().clamp(0, 1) * _SCALE).round()
    return whole.numpy().astype("<u2").tobytes()


def attention_bytes(inspected: Inspected, title: str, layer: str) -> bytes:
    """The weights of an attention layer (H T S), or, for "rollout", of all layers of its kind together (1 T T).

    Raises UsageError for a kind or a layer that there is not.
    """
    names = inspected.seen.groups().get(title)
    if names is None:
        raise UsageError(f"there is no {title!r}", cure=f"there is {', '.join(inspected.seen.groups()) or 'none'}")
    if layer != ROLLOUT:
        return packed(inspected.seen.weights(layer)[0])
    if not title.endswith(_SELF):
        raise UsageError("only self-attention goes on from layer to layer", cure="choose a layer")
    return packed(torch.from_numpy(rollout(inspected.seen.stacked(names).numpy()))[None])


def attending(inspected: Inspected, side: str) -> list[Json]:
    """The attention layers whose queries are the positions of a side."""
    titles = [f"{side}{_SELF}", *(["cross-attention"] if side == "decoder" else [])]
    groups = inspected.seen.groups()
    return [
        {"layer": name, "title": title, "heads": inspected.heads(name), "keys": [*inspected.axes(title)[1]]}
        for title in titles
        for name in groups.get(title, ())
    ]


def walk(inspected: Inspected, side: str, position: int) -> Json:
    """What the model computed at a position of a side: token, embedding, position, each layer, prediction.

    `attention` and `recurrent` name the layers of this side that `head_of` and `cell_of` show.
    Raises UsageError for a side or a position that there is not.
    """
    _check(inspected, side)
    if not 0 <= position < (length := len(inspected.sides[side].names)):
        raise UsageError(f"there is no position {position}", where=side, cure=f"there are {length}")
    return {
        **_begun(inspected, side, position),
        "streams": _streams(inspected, side, position),
        "attention": attending(inspected, side),
        "recurrent": _of_side(inspected, side, inspected.seen.passes),
        "output": _output(inspected, side, position),
    }


def _check(inspected: Inspected, side: str) -> None:
    if side not in inspected.sides:
        raise UsageError(f"there is no {side!r}", cure=f"there is {', '.join(inspected.sides)}")


def _of_side(inspected: Inspected, side: str, layers: Iterable[str]) -> list[str]:
    return [name for name in layers if part_of(name) == side.rpartition(" ")[2] or len(inspected.sides) == 1]


def _numbers(x: Tensor) -> Any:
    return np.round(x.detach().float().cpu().numpy(), 4).tolist()


def _begun(inspected: Inspected, side: str, position: int) -> Json:
    """The token, and what it is embedded as: alone, and with its position."""
    positions, embedder = inspected.sides[side], inspected.embedders.get(side)
    found: Json = {"token": positions.names[position], "id": None, "size": 0, "vector": None, "place": None}
    if len(positions.ids):
        found["id"] = positions.ids[position]
    if embedder is None:
        return found
    x = embedded(inspected, [side])[side]
    if isinstance(embedder, TokenEmbedder):
        found["size"] = embedder.weight.shape[0]
    if x.shape[1] != len(positions.names):  # a front makes one position of several
        return found
    found["vector"] = _numbers(x[0, position])
    modules = dict(inspected.model.named_modules())
    stack = next((modules[n] for n in _of_side(inspected, side, inspected.seen.streams) if n in modules), None)
    if isinstance(stack, TransformerStack):
        found["positions"] = stack.config.positions.kind
        added = stack.positions(0, x, None).added
        if added is not None:
            found["place"] = _numbers(added.reshape(-1, added.shape[-1])[position])
    return found


def _streams(inspected: Inspected, side: str, position: int) -> list[Json]:
    """The residual stream at a position: before the first layer, and after each."""
    length = len(inspected.sides[side].names)
    streams = {name: inspected.seen.stream(name) for name in _of_side(inspected, side, inspected.seen.streams)}
    return [
        {"layer": name, "values": _numbers(x[0, position]), "norm": round(float(x[0, position].norm()), 4)}
        for name, x in streams.items()
        if x.shape[1] == length
    ]


@torch.no_grad()
def head_of(inspected: Inspected, layer: str, head: int) -> Json:
    """One head of an attention layer: the queries of all positions, keys and values, their products, the weights.

    `scores` are left out by a layer that has no products, and None where a position is not visible.
    Raises UsageError for a layer or a head that there is not.
    """
    weights = inspected.seen.weights(layer, head)[0, 0]
    note, q = inspected.seen.attention[layer][-1], inspected.seen.queries(layer)[0, head].float()
    group = head // (note.queries.shape[1] // note.keys.shape[1])
    k, v = note.keys[0, group].float(), note.values[0, group].float()
    found: Json = {"queries": _numbers(q), "keys": _numbers(k), "values": _numbers(v)}
    found |= {"weights": _numbers(weights), "outputs": _numbers(weights.to(v) @ v)}
    if note.found is None and len(inspected.seen.attention[layer]) == 1:
        scores = q @ k.T * q.shape[-1] ** -0.5
        scores = scores if note.scope.bias is None else scores + note.scope.bias[head].float()
        both = zip(_numbers(scores), (weights > 0).tolist(), strict=True)
        found["scores"] = [[x if seen else None for x, seen in zip(*row, strict=True)] for row in both]
    return found


@torch.no_grad()
def cell_of(inspected: Inspected, layer: str) -> Json:
    """A recurrent layer: its gates and states (T D) by name, in the order of the positions.

    `units` are those that change most. Raises UsageError for a layer that there is not.
    """
    one = inspected.seen.recurrent(layer)
    states, gates = unrolled(one)
    traces = {name: x[0].float() for name, x in gates.items()} | {"h": states[0, :, 0].float()}
    backward = _reads_backward(inspected.model, layer)
    kept = traces[next((name for name in ("f", "z") if name in traces), "h")]
    units = kept.std(0, unbiased=False).topk(min(_UNITS, kept.shape[1])).indices.sort().values
    return {
        "kind": type(one.layer.cells).__name__,
        "backward": backward,
        "units": units.tolist(),
        "traces": {name: _numbers(x.flip(0) if backward else x) for name, x in traces.items()},
    }


def _reads_backward(model: Any, layer: str) -> bool:
    directions = getattr(getattr(model, "encoder", model), "directions", ())
    number = layer.rpartition(".")[2]
    return (
        part_of(layer) == "encoder"
        and number.isdigit()
        and int(number) < len(directions)
        and (directions[int(number)] == "backward")
    )


def _output(inspected: Inspected, side: str, position: int) -> Json | None:
    """What is predicted at a position; of labels, for the whole input."""
    N = len(inspected.asked)
    last = [*inspected.sides][-1] if "decoder" not in inspected.sides else "decoder"
    if N == 1:
        at = 0
    elif side == last and len(inspected.sides[side].names) == N:
        at = position
    else:
        return None
    return _best(inspected, inspected.log_p, 8)[at] | {"whole": N == 1}


def _best(inspected: Inspected, log_p: Tensor, count: int) -> list[Json]:
    """The most probable outputs at each position, and the probability of the one that is asked about."""
    p, of = log_p.exp().topk(min(count, log_p.shape[-1]))
    asked = log_p.gather(-1, inspected.asked[:, None])[:, 0].exp().tolist()
    return [
        {
            "asked": inspected.output(int(i)),
            "p": round(q, 6),
            "best": [[inspected.output(j), round(x, 6)] for j, x in zip(js, xs, strict=True)],
        }
        for i, q, js, xs in zip(inspected.asked, asked, of.tolist(), p.tolist(), strict=True)
    ]


def lens(inspected: Inspected) -> Json:
    """What the model would predict after each layer at each position, the embeddings first (the logit lens).

    `reason` says why there is nothing.
    """
    try:
        scores = logit_lens(inspected)
    except UsageError as error:
        return {"layers": [], "reason": f"{error.problem}: {error.cure}"}
    names = ["embeddings", *(f"layer {i}" for i in range(1, len(scores)))]
    return {
        "layers": [
            {"name": name, "outputs": _best(inspected, each.log_softmax(-1), 3)}
            for name, each in zip(names, scores, strict=True)
        ]
    }


def switched_off(inspected: Inspected, layer: str, head: int) -> Json:
    """What changes in the outputs when a head is switched off, at each position."""
    change = effect(inspected, heads_set(inspected.model, layer, {head: 0.0}))
    after = _best(inspected, change.log_q, 3)
    each = zip(_best(inspected, inspected.log_p, 3), after, change.divergence.tolist(), strict=True)
    return {
        "mean": round(float(change.divergence.mean()), 6),
        "positions": [
            {
                "asked": old["asked"],
                "before": old["best"],
                "after": new["best"],
                "p": [old["p"], new["p"]],
                "divergence": round(d, 6),
            }
            for old, new, d in each
        ],
    }
