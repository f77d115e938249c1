"""seqloom doctor."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

from seqloom.cli.common import AsJson, print_json, print_table

_EXTRAS = {"tensorboard": "tensorboard", "moses": "sacremoses"}
_PACKAGES = ("seqloom", "torch", "numpy", "tokenizers", "safetensors", "sacrebleu", "babel", "unicode-rbnf")


def doctor(*, json: AsJson = False) -> None:
    """Tell what this machine offers: versions, threads, bfloat16, memory, GPU, extras."""
    import torch

    from seqloom.training.precision import bf16_is_fast, processor_flags

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform()}
    facts |= {name: _version(name) for name in _PACKAGES}
    facts |= {
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "processor": " ".join(sorted(processor_flags())) or "unknown",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "bf16 is fast": bf16_is_fast(device),
        "SEQLOOM_DATA": os.environ.get("SEQLOOM_DATA", "not set"),
    }
    for extra, module in _EXTRAS.items():
        found = importlib.util.find_spec(module) is not None
        facts[f"extra {extra}"] = "installed" if found else f"absent: pip install 'seqloom[{extra}]'"
    if json:
        print_json(facts)
    else:
        print_table("seqloom doctor", ("what", "value"), [(k, str(v)) for k, v in facts.items()])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
