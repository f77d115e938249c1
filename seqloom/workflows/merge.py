"""What an adapted run learned, merged into its weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqloom.adaptation.config import Full
from seqloom.config import to_toml
from seqloom.errors import RunError
from seqloom.files import FROZEN
from seqloom.run import Run
from seqloom.tasks.adapter import OWN_INFO
from seqloom.tasks.building import adaptation, load_run
from seqloom.tasks.task import RunConfig
from seqloom.training.checkpoint import save_finished
from seqloom.training.log import Reporter


def merge_run(path: str, out: str, reporter: Reporter) -> Run:
    """A new run that computes what an adapted one does, to the bit in float32, and has all weights in one file.

    The adapted run stays as it is, so there is nothing to take back. Raises RunError where all was learned.
    """
    loaded = load_run(path, RunConfig, precision="fp32", device="cpu", say=reporter.warn)
    run, config = loaded.run, loaded.config
    if isinstance(adaptation(config), Full):
        raise RunError("was not adapted: all of its parameters were learned", where=path, cure="use it as it is")
    info = run.info()
    names = [name for name in info["files"] if name != FROZEN]
    kept = {key: value for key, value in info.items() if key not in OWN_INFO}
    merged = {"from": path, "weights": run.best(reporter.warn).digest()}

    def copy(folder: Path) -> list[Path]:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.path / name, folder / name)
        return [folder / name for name in names]

    changes: dict[str, Any] = {"run": out, "start": "", "adapt": Full()}
    weights = dict(loaded.model.named_parameters())
    new = save_finished(Run(out), to_toml(replace(config, **changes)), {**kept, "merged": merged}, weights, copy)
    reporter.say(f"{out}: {path} with what it learned in its weights")
    return new
