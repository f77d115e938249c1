"""seqloom doctor."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from typing import Any

from seqloom.cli.common import AsJson, print_json, print_table

_PACKAGES = ("seqloom", "torch", "numpy", "tokenizers", "safetensors", "sacrebleu", "babel", "unicode-rbnf")

WHAT_FOR = {
    "tensorboard": "curves in TensorBoard",
    "moses": "BLEU on Moses tokens",
    "words": "training word vectors",
    "maps": "maps of word vectors by t-SNE, handwritten digits",
    "vision": "image files",
    "gensim": "word vectors as gensim objects",
    "hf": "models from the Hugging Face hub",
    "verify": "comparison with transformers",
    "peft": "comparison of adapters with peft",
    "fast": "decoding by CTranslate2",
    "export": "export to CTranslate2 and ONNX",
    "gguf": "files of llama.cpp, both ways",
    "serve": "serving over HTTP",
}
"""The use of each extra of pyproject.toml, except those for developers: test and bench."""


def doctor(*, json: AsJson = False) -> None:
    """Print versions, threads, processor, bfloat16 support, device and extras."""
    import torch

    from seqloom.training.precision import bf16_is_fast, processor_flags

    variables = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    waiting = [f"{name}={os.environ[name]}" for name in variables if name in os.environ]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform()}
    facts |= {name: _version(name) or "not installed" for name in _PACKAGES}
    facts |= {
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "waiting threads": " ".join(waiting) or "libgomp's default",
        "processor": " ".join(sorted(processor_flags())) or "unknown",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "bf16 is fast": bf16_is_fast(device),
        "SEQLOOM_DATA": os.environ.get("SEQLOOM_DATA", "not set"),
    }
    extras = _extras()
    if json:
        print_json(facts | {"extras": extras})
        return
    print_table("seqloom doctor", ("", "value"), [*facts.items()])
    rows = []
    for name, packages in extras.items():
        versions = (f"{package} {version or 'is missing'}" for package, version in packages.items())
        rows.append((name, WHAT_FOR[name], ", ".join(versions)))
    print_table("extras: pip install 'seqloom[NAME]'", ("name", "used for", "packages"), rows)


def _extras() -> dict[str, dict[str, str | None]]:
    """The installed version of each package of each extra, from the metadata of seqloom; None = not installed."""
    try:
        required = importlib.metadata.requires("seqloom") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    # All build tools write the requirement of an extra like this: "numba>=0.62; extra == 'words'".
    matches = [re.match(r"([\w.-]+).*;.*extra == ['\"]([\w.-]+)['\"]", line) for line in required]
    pairs = [(match[2], match[1]) for match in matches if match]
    names = dict.fromkeys(extra for extra, _ in pairs if extra in WHAT_FOR)
    return {name: {package: _version(package) for extra, package in pairs if extra == name} for name in names}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
