"""What the reference, the model that a training of preferences starts from, says about the answers.

It is computed once, before the first step, and kept with the run: in training there is no second model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from seqloom.data.batches.preferences import EncodedPreference, PreferenceBatches
from seqloom.errors import RunError
from seqloom.files import Json
from seqloom.objectives.preference import answer_log_p
from seqloom.run import Run
from seqloom.tasks.assets import Assets, load_reference
from seqloom.tasks.building import begin
from seqloom.tasks.resume import refuse_other_data
from seqloom.tasks.task import RunConfig
from seqloom.training.log import Reporter
from seqloom.training.precision import dtype_for, pick_device


@torch.inference_mode()
def log_probabilities(model: nn.Module, batches: PreferenceBatches) -> np.ndarray:
    """The log-probabilities of the chosen and the rejected answer of each pair (N 2), in batches of the first epoch."""
    found, device = np.zeros((len(batches.pairs), 2)), next(model.parameters()).device
    model.eval()
    for number in range(batches.per_epoch):
        log_p = answer_log_p(model, batches(number).to(device))  # type: ignore[arg-type]
        found[batches.order.part(number)] = log_p.view(2, -1).T.double().cpu().numpy()
    return found


def start_digest(config: RunConfig) -> str:
    """The digest of the weights that the training starts from."""
    return Run.open(config.begins_with).best(lambda fault: None).digest()


def reference_model(config: RunConfig, assets: Assets) -> nn.Module:
    """The model that the training starts from, in float32, on the device of the training."""
    with torch.random.fork_rng(devices=[]):
        model = config.build(assets)
    begin(config, model, assets, Reporter(0))
    return model.to(pick_device(config.training.device)).eval()


def as_trained(model: nn.Module, config: RunConfig) -> nn.Module:
    """The model in the type that training computes in, so that what is trained begins as the reference."""
    return model.to(dtype_for(config.training.precision, next(model.parameters()).device))


def kept_reference(config: RunConfig, run: Run | None, digests: Mapping[str, str]) -> Json | None:
    """What a run that has begun keeps; None for a new one.

    Raises RunError for other data than the run began with; and for another start, if no step was saved.
    """
    if run is None or not run.begun:
        return None
    refuse_other_data(run, digests)
    reference = load_reference(run)
    if reference is None:
        raise RunError("has no reference.json", where=str(run.path), cure="train again with another --run")
    if not run.checkpoints() and reference["start"] != start_digest(config):
        problem = f"{config.begins_with} is not what it was when this run began"
        raise RunError(problem, where=str(run.path), cure="begin another run with --run, or remove this one")
    return reference


def packed(pairs: Sequence[EncodedPreference]) -> list[Any]:
    """Pairs as JSON."""
    return [[pair.prompt.tolist(), *(answer.tolist() for answer in pair.answers)] for pair in pairs]


def unpacked(rows: Sequence[Any]) -> list[EncodedPreference]:
    """The pairs that `packed` was given."""
    arrays = ([np.array(ids, dtype=np.int64) for ids in row] for row in rows)
    return [EncodedPreference(prompt, (a, b), 0.0, i) for i, (prompt, a, b) in enumerate(arrays)]
