"""The adapter of a directory with adapter_config.json and adapter_model.safetensors, merged into the weights it is for.

A module with the weight W has lora_A (r, inputs) and lora_B (outputs, r), and computes with W + s B A, where s is
lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora. Modules of modules_to_save are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from seqloom.errors import RunError
from seqloom.files import Json
from seqloom.interop.families.family import Family
from seqloom.interop.side_files import FIELDS
from seqloom.interop.weights import Weights, faults, interpreting, misfits, read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TASKS = {"label": "SEQ_CLS", "tags": "TOKEN_CLS", "span": "QUESTION_ANS"}
"""The task_type of a model with one of our heads."""
_PAIR = re.compile(r"(.+)\.lora_([AB])\.weight")
_BLOCK = re.compile(r"\.\d+\.")
_END = r"(.*\.)?"  # a pattern of the end of a name


def is_adapter(folder: Path) -> bool:
    """Whether a directory holds an adapter and no model."""
    return (folder / CONFIG).is_file() and not any(folder.glob("model*.safetensors*"))


def merge_adapter(weights: Weights, folder: Path, family: Family, roots: set[str], config: Json) -> list[str]:
    """Merges the adapter of a directory into weights, and returns warnings of what has no effect.

    Args:
        weights: those of its base, under the names of the family.
        folder: its directory.
        family: the family of the base.
        roots: see `Weights.rename`.
        config: the config.json of the base, which gets the head of the adapter.

    Raises:
        ConfigError, RunError: it is of another kind than LoRA, incomplete, or not for this base.
    """
    about = read_json(folder / CONFIG)
    warnings = FIELDS[CONFIG].check(folder / CONFIG, about)
    own = Weights(folder, WEIGHTS)
    own.rename(family.prefix, roots)
    with interpreting(folder / CONFIG):
        adapter = _Adapter(about, own, family)
        adapter.check(base := weights.shapes())
        for layer in adapter.layers:
            weights.change(f"{layer}.weight", adapter.adding(layer))
    for name in adapter.whole:
        weights.replace(name, own)
    if any(adapter.is_of_head(name) and base.get(name) != own.shapes()[name] for name in adapter.whole):
        config.pop("id2label", None)  # those of the head that is replaced
    head = next((name for name, task in TASKS.items() if task == about.get("task_type")), "")
    if head in family.heads:
        config["architectures"] = [family.heads[head].architecture]
        rules = [rule for rule in family.rules if rule.ours.startswith("heads.")]
        here = {part for rule in rules if rule.ours.startswith(f"heads.{head}.") for part in rule.theirs}
        weights.remove({part for rule in rules for part in rule.theirs} - here)
    return warnings


class _Adapter:
    """An adapter that has been read: its `layers` have lora_A and lora_B, the weights in `whole` are replaced."""

    def __init__(self, about: Json, own: Weights, family: Family) -> None:
        self.about, self.own, self.family = about, own, family
        pairs = {name: match[1] for name in own.shapes() if (match := _PAIR.fullmatch(name))}
        self.layers = list(dict.fromkeys(pairs.values()))
        self.whole = [name for name in own.shapes() if name not in pairs]

    def adding(self, layer: str) -> Callable[[Tensor], Tensor]:
        """The change of the weight of a layer."""
        alpha, rank = float(self._at("alpha_pattern", layer, "lora_alpha")), self._rank(layer)
        scale = alpha / (rank**0.5 if self.about.get("use_rslora") else rank)

        def add(weight: Tensor) -> Tensor:
            down, up = (self.own.checked(f"{layer}.lora_{name}.weight").float() for name in "AB")
            change = up @ down
            return weight.add(change.t() if self._is_transposed(layer) else change, alpha=scale)

        return add

    def check(self, base: Mapping[str, tuple[int, ...]]) -> None:
        """Raises RunError with all that does not fit weights of these shapes."""
        shapes = self.own.shapes()
        unknown = [name for name in self.whole if name not in base and not self.is_of_head(name)]
        unknown += [layer for layer in self.layers if len(base.get(f"{layer}.weight", ())) != 2]
        expected: dict[str, tuple[int, ...]] = {n: base[n] for n in self.whole if n in base and not self.is_of_head(n)}
        for layer in (layer for layer in self.layers if layer not in unknown):
            outputs, inputs = base[f"{layer}.weight"][:: -1 if self._is_transposed(layer) else 1]
            expected[f"{layer}.lora_A.weight"] = self._rank(layer), inputs
            expected[f"{layer}.lora_B.weight"] = outputs, self._rank(layer)
        missing = [name for name in expected if name not in shapes]
        patterns = self._targets()
        absent = [p for p in patterns if not any(self._matches(p, layer) for layer in self.layers)]
        unknown += [f"target_modules {p.removeprefix(_END)!r}" for p in absent]
        if not (self.about.get("layers_to_transform") or self.about.get("exclude_modules")):
            inside = [n.removesuffix(".weight") for n in base if _BLOCK.search(n) and len(base[n]) == 2]
            rest = [n for n in inside if n not in self.layers and f"{n}.weight" not in self.whole]
            missing += [n for n in rest if any(self._matches(p, n) for p in patterns)]
        if wrong := faults(missing=missing, unknown=unknown, wrong=misfits(shapes, expected)):
            raise RunError(f"the adapter does not fit its base; {wrong}", cure="use a complete one of this base")

    def is_of_head(self, name: str) -> bool:
        """Whether a weight is that of a head, or of what pools the states for it, which a base need not have."""
        rules = (rule for rule in self.family.rules if rule.ours.startswith(("heads.", "pooling.")))
        return any(name.startswith(f"{part}.") or name == part for rule in rules for part in rule.theirs)

    def _targets(self) -> list[str]:
        targets = self.about.get("target_modules") or []
        if isinstance(targets, str):
            return [targets] * (targets != "all-linear")
        return [_END + re.escape(target) for target in targets]

    def _matches(self, pattern: str, layer: str) -> bool:
        """Whether a pattern is that of a whole name, in a model with a head or without."""
        return any(re.fullmatch(pattern, name) for name in (layer, layer.removeprefix(self.family.prefix)))

    def _at(self, patterns: str, layer: str, default: str) -> Any:
        items = (self.about.get(patterns) or {}).items()
        found = (value for key, value in items if self._matches(f"{_END}({key})", layer))
        return next(found, self.about[default])

    def _rank(self, layer: str) -> int:
        return int(self._at("rank_pattern", layer, "r"))

    def _is_transposed(self, layer: str) -> bool:
        """Whether it is one of the blocks of a family that stores their matrices as (inputs, outputs)."""
        return bool(_BLOCK.search(layer)) and any(rule.transposed for rule in self.family.rules)
