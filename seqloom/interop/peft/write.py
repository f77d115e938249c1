"""What a run learned by LoRA, as an adapter of a published checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from seqloom.errors import RunError, UsageError
from seqloom.files import Json, write_json, writing
from seqloom.interop.huggingface import Published, express
from seqloom.interop.peft.read import CONFIG, TASKS, WEIGHTS
from seqloom.interop.tables import Bound, Form, bind
from seqloom.interop.weights import some
from seqloom.models.assemblies import Model, vocabulary_parameters
from seqloom.nn.linear import matrices

_CHANGE = re.compile(r"(.+)\.changes\.(\w+)\..+")
_TASKS = {"decoder-only": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM"}
_HEADS = {"SEQ_CLS": "classifier", "TOKEN_CLS": "classifier", "QUESTION_ANS": "qa_outputs"}
"""The module that peft takes from the adapter in a model for one of these tasks, whatever the adapter lists."""
_CURE = "export the whole model: --to hf"


@dataclass(frozen=True)
class Adapted:
    """A run that was adapted by LoRA.

    Args:
        model: its model, with the adapters merged.
        heads: the number of outputs of each head.
        settings: r, lora_alpha, use_rslora and lora_dropout, as peft calls them.
        frozen: reads the weights that it shares with its base.
        learned: all others, those of the adapters among them.
    """

    model: Model
    heads: Mapping[str, int]
    settings: Json
    frozen: Mapping[str, Callable[[], Tensor]]
    learned: Mapping[str, Tensor]


def write_adapter(folder: Path, run: Adapted, base: Published, name: str) -> None:
    """Writes adapter_config.json and adapter_model.safetensors; `name` is the path of the base, or its name on the hub.

    Raises:
        RunError: the base is not that of the run.
        UsageError: peft cannot express what was learned.
    """
    family, _, config = express(run.model.config, run.heads, base.family.name)
    parameters = dict(run.model.named_parameters())
    bound = bind(family.rules, Form(config, run.heads), parameters)
    task = next((TASKS[head] for head in run.heads if head in TASKS), _TASKS.get(family.kind))
    head = _HEADS.get(str(task), "\0")
    whole = {n: rule for n, rule in bound.items() if n in run.learned or any(_is_in(part, head) for part in rule[1])}
    adapted = {f"{match[1]}.{match[2]}" for name in run.learned if (match := _CHANGE.fullmatch(name))}
    pairs = {layer: pair for ours in adapted - whole.keys() for layer, pair in _pairs(run, ours, bound, config)}
    if differing := _differing(run, base, run.frozen.keys() - whole.keys()):
        cure = "name the one that the run started from, in float32: seqloom export START DIRECTORY --to hf"
        raise RunError(f"the run does not have the weights of this base: {some(differing)}", where=name, cure=cure)
    replaced: dict[str, Tensor] = {}
    for ours, (rule, parts) in whole.items():
        replaced |= zip(parts, rule.write(parameters[ours].detach(), config), strict=True)
    layers = {part: part.rpartition(".")[0] for part in replaced}
    if alone := [part for part, layer in layers.items() if f"{layer}.weight" not in replaced]:
        raise UsageError(f"peft cannot express that {some(alone)} was learned, and the rest was not", cure=_CURE)
    ranks = {layer: len(down) for layer, (down, _) in pairs.items() if len(down) != run.settings["r"]}
    alpha, power = run.settings["lora_alpha"], 0.5 if run.settings["use_rslora"] else 1
    about = {
        **{"peft_type": "LORA", "task_type": task, "base_model_name_or_path": name, "inference_mode": True},
        **run.settings,
        **{"target_modules": sorted(pairs), "fan_in_fan_out": any(rule.transposed for rule in family.rules)},
        "modules_to_save": sorted({head if _is_in(part, head, whole=False) else n for part, n in layers.items()}),
        "rank_pattern": ranks,
        "alpha_pattern": {layer: alpha * (r / run.settings["r"]) ** power for layer, r in ranks.items()},
    }
    tensors = {f"{layer}.lora_{s}.weight": t for layer, pair in pairs.items() for s, t in zip("AB", pair, strict=True)}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, about)
        stored = {f"base_model.model.{n}": t.contiguous() for n, t in (tensors | replaced).items()}
        save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})


def _is_in(part: str, module: str, *, whole: bool = True) -> bool:
    """Whether a weight is in a module; `whole`: or in one that peft takes for it, since its name ends so."""
    return part.startswith(f"{module}.") or (whole and part.rpartition(".")[0].endswith(module))


def _differing(run: Adapted, base: Published, shared: Set[str]) -> Set[str]:
    """The names of the weights that the run did not learn and that are others in its base."""
    same = set()
    for name, weight in base.weights():
        if name in shared and weight.shape == (frozen := run.frozen[name]()).shape:
            same |= {name} if torch.allclose(weight, frozen, 1e-5) else set()
    return shared - same


def _pairs(run: Adapted, ours: str, bound: Bound, config: Any) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """The modules that one of our weights is there, with A and B of each."""
    layer, _, name = ours.rpartition(".")
    down, up = (run.learned.get(f"{layer}.changes.{name}.0.{part}") for part in ("down", "up"))
    tables = {*vocabulary_parameters(run.model)} - {"head.weight"}
    if down is None or up is None or ours in tables or run.model.get_parameter(ours).dim() != 2:
        raise UsageError(f"what was learned of {ours} cannot be written for peft", cure=_CURE)
    rule, parts = bound[ours]
    ups = torch.split(up, [*matrices(run.model).get(ours, (len(up),))])
    downs = torch.split(down, run.settings["r"])
    if len(parts) == 1:  # one matrix there: A on A, and B beside B
        ups, downs = (torch.block_diag(*ups),), (down,)  # type: ignore[no-untyped-call]
    for part, a, b, factor in zip(parts, downs, ups, rule.factors(config), strict=True):
        yield part.removesuffix(".weight"), (a, b if factor == 1 else b / factor)
