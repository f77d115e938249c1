"""seqloom: the whole family of neural language models behind one config, one training loop, one run directory."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from seqloom.inspection.capture import look
    from seqloom.run import Run
    from seqloom.tasks import load
    from seqloom.workflows.train import train

__all__ = ["Run", "__version__", "load", "look", "train"]


def __getattr__(name: str) -> Any:
    # Importing torch takes a second, which the version and the help do not need.
    modules = {
        "Run": "seqloom.run",
        "load": "seqloom.tasks",
        "look": "seqloom.inspection.capture",
        "train": "seqloom.workflows.train",
    }
    if name not in modules:
        raise AttributeError(f"module 'seqloom' has no attribute {name!r}")
    return getattr(importlib.import_module(modules[name]), name)
