"""seqloom: the whole family of neural language models behind one config, one training loop, one run directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from seqloom.run import Run
    from seqloom.tasks import load
    from seqloom.workflows.train import train

__all__ = ["Run", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    # torch takes a second to import; whoever only asks for the version or for help does not wait for it.
    if name == "load":
        from seqloom.tasks import load

        return load
    if name == "train":
        from seqloom.workflows.train import train

        return train
    if name == "Run":
        from seqloom.run import Run

        return Run
    raise AttributeError(f"module 'seqloom' has no attribute {name!r}")
