"""Checkpoints: safetensors and JSON in a run directory."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seqloom.errors import RunError
from seqloom.run import Checkpoint, Run, write_json

WEIGHTS, FROZEN = "model.safetensors", "frozen.safetensors"


@dataclass
class Progress:
    """Where a training stands, beside weights and optimizer.

    Args:
        step: steps taken.
        tokens: target tokens seen.
        seconds: spent in training steps, over all sittings.
        best: the best validation score so far, as `measures.rank` gives it; and the step it was reached at.
        stale: evaluations since then; `drops`: evaluations without improvement over the whole run.
        scores: (score, step) of the checkpoints kept for averaging.
        due: whether this step is still to be evaluated, because a signal came before that or in the midst of it.
        done: whether training has come to its end.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    drops: int = 0
    scores: list[tuple[float, int]] = field(default_factory=list)
    due: bool = False
    done: bool = False


@runtime_checkable
class Saved(Protocol):
    """What a checkpoint is of."""

    def save(self, folder: Path) -> None:
        """Writes the weights to use, as `saved_weights` reads them, and whatever else it needs to go on."""
        ...

    def load(self, folder: Path) -> None:
        """Takes up what `save` wrote."""
        ...


def save_checkpoint(run: Run, saved: Saved, progress: Progress) -> Checkpoint:
    """Saves everything that resuming needs."""

    def write(folder: Path) -> None:
        saved.save(folder)
        write_json(folder / "state.json", asdict(progress))

    checkpoint = run.save(checkpoint_at(run, progress.step).path.name, write)
    run.point("latest", checkpoint, step=progress.step)
    return checkpoint


def checkpoint_at(run: Run, step: int) -> Checkpoint:
    """Where the checkpoint of a step is, or will be."""
    return Checkpoint(run.path / "checkpoints" / f"step-{step:08d}")


def load_checkpoint(checkpoint: Checkpoint, saved: Saved) -> Progress:
    """Takes up a checkpoint; returns where training stood."""
    saved.load(checkpoint.path)
    state = checkpoint.state()
    state["scores"] = [tuple(pair) for pair in state["scores"]]
    return Progress(**state)


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Weights by name, in float32."""
    save_tensors(path, {k: v.detach().float().cpu() for k, v in weights.items()})


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Tensors by name. Raises OSError with the system's number."""
    try:
        save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    except SafetensorError as error:  # it tells the system's error only in words
        number = int(found[1]) if (found := re.search(r"os error (\d+)", str(error))) else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from None


@contextmanager
def saved_weights(checkpoint: Path) -> Iterator[dict[str, Any]]:
    """The open file of each weight of a checkpoint, by the name of the weight.

    What is learned is in model.safetensors; what is frozen in frozen.safetensors, which the checkpoints of a run share.
    """
    with ExitStack() as stack:
        paths = [checkpoint / WEIGHTS, *checkpoint.glob(FROZEN)]
        files = [stack.enter_context(safe_open(path, "pt")) for path in paths]
        yield {name: file for file in files for name in file.keys()}  # noqa: SIM118 - no mapping


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Puts the weights of a checkpoint into a model. Raises RunError where names or shapes differ, and lists them."""
    start_weights(checkpoint, model)


def start_weights(
    checkpoint: Path, model: nn.Module, *, grown: Mapping[str, int] | None = None, fresh: tuple[str, ...] = ()
) -> None:
    """The same for a model that goes on from another one's weights.

    Args:
        checkpoint: its folder.
        model: what they are for.
        grown: how many rows the file has of the weights, by name, that may have more here: these begin as the mean.
        fresh: how the names begin of weights that the model keeps as they are, and of those it does not want.
    """
    known = grown or {}
    own = {name: p for name, p in model.named_parameters() if not name.startswith(fresh)}
    with saved_weights(checkpoint) as files, torch.no_grad():
        shapes = {n: tuple(f.get_slice(n).get_shape()) for n, f in files.items() if not n.startswith(fresh)}
        wrong = [f"missing {n}" for n in own if n not in shapes] + [f"unknown {n}" for n in shapes if n not in own]
        wrong += [
            f"{n} is {shapes[n]} instead of {tuple(p.shape)}"
            for n, p in own.items()
            if n in shapes and shapes[n] != (*(min(known.get(n, r), r) for r in p.shape[:1]), *p.shape[1:])
        ]
        if wrong:
            raise RunError(f"the weights do not fit the model: {'; '.join(wrong[:8])}", where=str(checkpoint))
        for name, parameter in own.items():  # one at a time, so that memory never holds all of them twice
            saved = files[name].get_tensor(name)
            if more := math.prod(parameter.shape[:1]) - math.prod(saved.shape[:1]):
                saved = torch.cat((saved, saved.mean(0).expand(more, *saved.shape[1:])))
            parameter.copy_(saved)


def average_weights(checkpoints: list[Path]) -> dict[str, Tensor]:
    """The mean of what was learned in several checkpoints (Vaswani et al. 2017, section 6.1)."""
    total: dict[str, Tensor] = {}
    for path in checkpoints:
        for name, tensor in load_file(path / WEIGHTS).items():
            total[name] = total[name] + tensor.double() if name in total else tensor.double()
    return {name: (tensor / len(checkpoints)).float() for name, tensor in total.items()}
