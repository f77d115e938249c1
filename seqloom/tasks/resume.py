"""Whether a run may be resumed: only with the config and the data it began with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqloom.config import flat, tree_of
from seqloom.errors import RunError
from seqloom.run import Run

# Keys that may change when a run is resumed.
_FREE = {
    "run",
    "accept",
    "decoding",
    "data.test",
    "training.steps",
    "training.epochs",
    "training.patience",
    "training.threads",
    "training.tensorboard",
}
_CURE = "give the new one a directory of its own with --run, or remove this one"


def refuse_another(run: Run, old: Any, new: Any, corpus: Mapping[str, str]) -> None:
    """Raises RunError unless the data and all config keys that may not change are those of the run."""
    refuse_other_data(run, corpus)
    before, after = flat(tree_of(old)), flat(tree_of(new))
    differing = [
        f"{'.'.join(keys)}: {before.get(keys)} -> {after.get(keys)}"
        for keys in sorted(before.keys() | after.keys())
        if before.get(keys) != after.get(keys) and not {".".join(keys), keys[0]} & _FREE
    ]
    if differing:
        problem = f"the config is not what this run began with ({'; '.join(differing)})"
        raise RunError(problem, where=str(run.path), cure=_CURE)


def refuse_other_data(run: Run, corpus: Mapping[str, str]) -> None:
    """Raises RunError unless the training and validation data with a digest in `corpus` are those of the run."""
    digests = run.info()["corpus"]
    for name in {"train", "valid"} & corpus.keys():
        if digests[name] != corpus[name]:
            raise RunError(f"the {name} data is not what this run began with", where=str(run.path), cure=_CURE)
