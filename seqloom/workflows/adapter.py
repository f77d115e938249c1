"""What an adapted run learned, as a file of its own; and a run from it and its base."""

from __future__ import annotations

import tempfile
from pathlib import Path

from seqloom.errors import RunError
from seqloom.files import FROZEN
from seqloom.run import Run
from seqloom.tasks.adapter import AdapterFile, adapted_config, on_base, write_adapter
from seqloom.tasks.building import Loaded, load_run
from seqloom.tasks.task import RunConfig
from seqloom.training.checkpoint import save_frozen
from seqloom.training.log import Reporter

SUFFIX = ".safetensors"


def export_adapter(run: Run, path: Path, reporter: Reporter, base: str = "") -> None:
    """Writes what a run learned; `base` is the run it started from, if it is elsewhere now. Raises RunError."""
    where = str(run.path)
    opened = _base(base or adapted_config(run, where).begins_with, where, reporter)
    write_adapter(path, on_base(run, opened, where), opened.run)


def import_adapter(name: str, path: str, reporter: Reporter, base: str = "") -> Run:
    """A new run of an adapter and its base, like the one it was written from. Raises RunError."""
    file = AdapterFile.read(Path(name))
    opened = _base(base or str(file.about["config"]["start"]), name, reporter)
    with tempfile.TemporaryDirectory(prefix="seqloom-") as folder:
        adapted = file.on_base(opened, Path(folder))
    model = adapted.loaded.model
    frozen = {name: p.data for name, p in model.named_parameters() if name not in adapted.learned}
    weights = None if opened.run.asset(FROZEN) else opened.run.best(reporter.warn).weights
    run = file.as_run(Run(path), opened.run, lambda folder: save_frozen(folder, model, frozen, weights))
    reporter.say(f"{path}: {name} on {opened.run.path}, for the task {adapted.loaded.config.task}")
    return run


def _base(path: str, where: str, reporter: Reporter) -> Loaded[RunConfig]:
    if not Run(path).begun:
        cure = "name the run that it started from: --base RUN"
        raise RunError(f"its base, {path}, is not here", where=where, cure=cure)
    return load_run(path, RunConfig, precision="fp32", device="cpu", say=reporter.warn)
