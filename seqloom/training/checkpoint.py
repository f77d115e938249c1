"""Checkpoints: safetensors and JSON files in a run directory."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seqloom.errors import RunError
from seqloom.files import FROZEN, WEIGHTS, Checkpoint, write_json
from seqloom.run import Run


@dataclass
class Progress:
    """The progress of a training run, besides weights and optimizer.

    Args:
        step: steps taken.
        tokens: target tokens seen.
        seconds: time spent in training steps, over all sessions.
        best, best_step: the best validation score so far, as `measures.rank` returns it, and its step; -1 for the
            mean of several checkpoints.
        best_loss: the loss there, which decides between equal scores.
        stale: evaluations since the best one.
        drops: evaluations without improvement over the whole run.
        scores: (score, step) of the checkpoints kept for averaging.
        due: whether this step must still be evaluated, because a signal came before or during its evaluation.
        done: whether training is finished.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    best_loss: float | None = None
    stale: int = 0
    drops: int = 0
    scores: list[tuple[float, int]] = field(default_factory=list)
    due: bool = False
    done: bool = False


def save_checkpoint(run: Run, progress: Progress, save: Callable[[Path], None]) -> Checkpoint:
    """Saves everything that resuming needs: the progress, and what `save` writes."""

    def write(folder: Path) -> None:
        save(folder)
        write_json(folder / "state.json", asdict(progress))

    return run.save(run.checkpoint_at(progress.step).path.name, write)


def progress_at(checkpoint: Checkpoint | None) -> Progress:
    """The progress that a checkpoint was saved with; none for None."""
    if checkpoint is None:
        return Progress()
    state = checkpoint.state()
    state["scores"] = [tuple(pair) for pair in state["scores"]]
    return Progress(**state)


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Saves weights by name, in float32."""
    save_tensors(path, {k: v.detach().float().cpu() for k, v in weights.items()})


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: dict[str, str] | None = None) -> None:
    """Saves tensors by name, with facts about them. Raises OSError with the system's error number."""
    try:
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, about)
    except SafetensorError as error:  # which has the system's error only in its message
        number = int(match[1]) if (match := re.search(r"os error (\d+)", str(error))) else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from None


def frozen_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model that training does not change, by name."""
    return {name: p.data for name, p in model.named_parameters() if not p.requires_grad}


def save_frozen(folder: Path, model: nn.Module, frozen: Mapping[str, Tensor], base: Path | None) -> list[Path]:
    """Writes frozen weights into the directory of a run, and returns the files.

    Args:
        folder: the directory.
        model: the model.
        frozen: what `frozen_weights` returned.
        base: the file of weights that it started from: where it has these, and nothing that the model has not, it is
            linked.
    """
    path = folder / FROZEN
    path.unlink(missing_ok=True)
    if not frozen:
        return []
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    if base is not None:
        saved = shapes_in(base)
        if frozen.keys() <= saved.keys() and saved.items() <= shapes.items():
            with suppress(OSError):  # not every file system has links
                path.hardlink_to(base)
                return [path]
    save_weights(path, frozen)
    return [path]


@dataclass(frozen=True)
class Stored:
    """A weight that is read when it is needed."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


@contextmanager
def saved_weights(checkpoint: Path) -> Iterator[dict[str, Stored]]:
    """A context with the weights of a checkpoint, by name.

    What a run learned is in the checkpoint's model.safetensors, what stays as it was in the run's frozen.safetensors
    (that of the checkpoint in runs of earlier versions).
    """
    with ExitStack() as stack:
        paths = (checkpoint.parent.parent / FROZEN, checkpoint / FROZEN, checkpoint / WEIGHTS)
        files = [stack.enter_context(safe_open(path, "pt")) for path in paths if path.exists()]
        yield {
            name: Stored(tuple(file.get_slice(name).get_shape()), partial(file.get_tensor, name))
            for file in files
            for name in file.keys()  # noqa: SIM118 - no mapping
        }


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights in a file, by name."""
    with safe_open(path, "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Loads the weights of a checkpoint into a model. Raises RunError with the names and shapes that differ."""
    with saved_weights(checkpoint) as weights:
        start_weights(weights, model, str(checkpoint))


def start_weights(
    weights: Mapping[str, Stored],
    model: nn.Module,
    where: str,
    *,
    grown: Mapping[str, int] | None = None,
    fresh: tuple[str, ...] = (),
) -> None:
    """Loads the weights of another model to continue from.

    Args:
        weights: its weights.
        model: the model that gets them.
        where: their place, for errors.
        grown: by name, the other's rows of weights that may have more rows here; new rows start as the mean.
        fresh: prefixes of names to skip, both of the model's weights, which it keeps, and of the other's.
    """
    rows_of = grown or {}
    parameters = {name: p for name, p in model.named_parameters() if not name.startswith(fresh)}
    shapes = {name: weight.shape for name, weight in weights.items() if not name.startswith(fresh)}
    wrong = [f"missing {n}" for n in parameters if n not in shapes]
    wrong += [f"unknown {n}" for n in shapes if n not in parameters]
    wrong += [
        f"{n} is {shapes[n]} instead of {tuple(p.shape)}"
        for n, p in parameters.items()
        if n in shapes and shapes[n] != (*(min(rows_of.get(n, r), r) for r in p.shape[:1]), *p.shape[1:])
    ]
    if wrong:
        raise RunError(f"the weights do not fit the model: {'; '.join(wrong[:8])}", where=where)
    with torch.no_grad():
        for name, parameter in parameters.items():  # one at a time, so that memory never holds all of them twice
            parameter.copy_(grown_to(parameter.shape, weights[name].read()))


def grown_to(shape: Sequence[int], weight: Tensor) -> Tensor:
    """A weight, with new rows up to a shape: the mean of its own."""
    more = math.prod(shape[:1]) - math.prod(weight.shape[:1])
    return torch.cat((weight, weight.mean(0).expand(more, *weight.shape[1:]))) if more else weight


def save_finished(
    run: Run, config: str, about: Mapping[str, Any], weights: Mapping[str, Tensor], assets: Callable[[Path], list[Path]]
) -> Run:
    """A new run whose training is over: one that was imported, or merged.

    Args:
        run: where it will be.
        config: its config.toml.
        about: the content of its run.json.
        weights: its weights.
        assets: writes its other files into its directory, and returns them.

    Raises:
        RunError: there is a run already.
    """
    with run.locked():
        if run.begun:
            cure = "choose another directory, or remove this one"
            raise RunError("there is a run already", where=str(run.path), cure=cure)
        files = assets(run.path)
        checkpoint = save_checkpoint(run, Progress(done=True), lambda folder: save_weights(folder / WEIGHTS, weights))
        created = Run.create(run.path, config, about, files)
        for pointer in ("latest", "best"):
            created.point(pointer, checkpoint, step=0)
    return created


def average_weights(checkpoints: list[Path]) -> dict[str, Tensor]:
    """The mean of the trained weights of several checkpoints (Vaswani et al. 2017, section 6.1)."""
    total: dict[str, Tensor] = {}
    for path in checkpoints:
        for name, tensor in load_file(path / WEIGHTS).items():
            total[name] = total[name] + tensor.double() if name in total else tensor.double()
    return {name: (tensor / len(checkpoints)).float() for name, tensor in total.items()}
