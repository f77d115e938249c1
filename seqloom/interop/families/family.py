"""A family of published checkpoints: its config and its weights, each as one table for both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

from seqloom.config import Tree, build, flat, tree_of
from seqloom.errors import ConfigError
from seqloom.files import Json
from seqloom.interop.tables import ConfigMap, Rule, at
from seqloom.models.assemblies import CONFIGS, ModelConfig
from seqloom.models.encoder import EncoderOnlyConfig
from seqloom.nn.positions import sinusoids


@dataclass(frozen=True)
class HeadName:
    """A head of an encoder: a weight that only it has, and the class of a model with this head."""

    marker: str
    architecture: str


@dataclass(frozen=True)
class Family:
    """A family of published checkpoints.

    Args:
        name: the `model_type` of its config.json.
        kind: the kind of model here.
        architecture: the class that config.json names, if no head has its own.
        prefix: the start of the names of all weights but those of heads; a model without a head is saved without it.
        config: the keys of the two configs.
        rules: the names of the weights.
        copies: published names of shared weights, and the names they share them with.
        harmless: endings of names of weights that are computed, or that the model does not use.
        heads: the heads of an encoder, by our names.
        poolers: weights that only a model with a pooler has, and the kind of the pooler.
        sines: names of saved tables of positions, all sines before all cosines; here they are computed.
        reads: whether transformers uses a tokenizer of a checkpoint of this family as it is.
    """

    name: str
    kind: Literal["decoder-only", "encoder-decoder", "encoder-only"]
    architecture: str
    prefix: str
    config: ConfigMap
    rules: tuple[Rule, ...]
    copies: Mapping[str, str] = field(default_factory=dict)
    harmless: tuple[str, ...] = ()
    heads: Mapping[str, HeadName] = field(default_factory=dict)
    poolers: Mapping[str, Literal["tanh", "relu"]] = field(default_factory=dict)
    sines: tuple[str, ...] = ()
    reads: Callable[[Tokenizer], bool] = lambda tokenizer: True

    def model_config(self, config: Json) -> Any:
        """Our config for a config.json. Raises ConfigError, with their name of the key, for an unsupported value."""
        tree = self.config.read(config)
        try:
            return build(CONFIGS[self.kind], tree)
        except ConfigError as error:
            key = error.where.removeprefix("--")
            theirs = self.config.theirs(key)
            name = f"{theirs} = {str(config.get(theirs))[:40]}" if theirs else f"the model's {key or 'config'}"
            raise ConfigError(f"{name}: {error.problem}", cure="the file is damaged, or of another model") from None

    def tables(self, config: Json) -> dict[str, Tensor]:
        """The tables of positions that belong to a config.json, by name."""
        positions = torch.arange(config["max_position_embeddings"] if self.sines else 0)
        return {name: sinusoids(positions, config["d_model"]) for name in self.sines}

    def written(self, config: ModelConfig) -> tuple[Json, ModelConfig, list[str]]:
        """The config.json of our config, our config as read back from it, and what was lost on the way."""
        if config.kind != self.kind:
            return {}, config, [f"kind = {config.kind!r}"]
        halves = {name: getattr(config, name, None) for name in ("encoder", "decoder")}
        if other := [f"{n}.kind = {h.kind!r}" for n, h in halves.items() if h is not None and h.kind != "transformer"]:
            return {}, config, other
        tree = explicit(config)
        theirs = {"model_type": self.name, **self.config.write(tree)}
        try:
            again = self.model_config(theirs)
        except ConfigError as error:
            other = [f"{key} = {at(tree, key)!r}" for key, value in self.config.fixed.items() if at(tree, key) != value]
            return theirs, config, other or [error.problem]
        if isinstance(config, EncoderOnlyConfig):  # the weights determine these, not config.json
            again = replace(again, pooling=config.pooling, pooler=config.pooler)
        return theirs, again, lost(tree, explicit(again))


def explicit(config: ModelConfig) -> Tree:
    """The tree of a config, with the values that its defaults stand for."""
    tree = tree_of(config)
    for half in ("encoder", "decoder"):
        stack = getattr(config, half, None)
        if stack is not None and stack.kind == "transformer":
            values, sizes = tree[half], stack.sizes
            values |= {"kv_heads": sizes.kv_heads, "head_width": sizes.features, "eps": stack.eps or _EPS[stack.norm]}
            values |= {"qkv_bias": "yes" if sizes.qkv_bias else "no"}
            if stack.positions.kind == "relative":
                values["positions"] = tree_of(stack.positions)
    tree["embedding"] = tree["embedding"] or at(tree, "decoder.width") or at(tree, "encoder.width")
    return tree


ACTIVATIONS = {
    **{"gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh"},
    **{name: name for name in ("gelu", "relu", "silu")},
}
"""Their names of activations, and ours."""
_EPS = {"layer": 1e-5, "rms": 1e-6}
# Keys that do not change what a trained model computes.
_TRAINING = ("preset", "vectors", "frozen", "drop_path")


def lost(tree: Tree, again: Tree) -> list[str]:
    """What differs, like "decoder.window = 5", but for biases that only `again` has: they can be zero."""
    differences = []
    ours, theirs = flat(tree), flat(again)
    for keys in sorted(ours.keys() | theirs.keys()):
        last, one, two = keys[-1], ours.get(keys), theirs.get(keys)
        fills = last.endswith("bias") and one in (False, "no") and two in (True, "yes")
        if one != two and last not in _TRAINING and "dropout" not in last and not fills:
            differences.append(f"{'.'.join(keys)} = {one!r}")
    return differences


def biases(config: ModelConfig) -> int:
    """How many keys of a config give biases to layers."""
    return sum(keys[-1].endswith("bias") and value in (True, "yes") for keys, value in flat(explicit(config)).items())


def half(name: str, **values: Any) -> dict[str, Any]:
    """The keys of half a model: half("decoder", positions__kind="rotary") is {"decoder.positions.kind": "rotary"}."""
    return {f"{name}.{key.replace('__', '.')}": value for key, value in values.items()}


def block(ours: str, theirs: str, names: Mapping[str, str], **more: Any) -> tuple[Rule, ...]:
    """The rules of the blocks of a stack, from the names of a block's layers: {"attention.qkv": "q k v"}."""
    return tuple(
        Rule(f"{ours}.stack.blocks.{{}}.{layer}", *(f"{theirs}.{part}" for part in parts.split()), **more)
        for layer, parts in names.items()
    )
