"""Models that read as ONNX files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqloom.errors import MissingExtra, UsageError
from seqloom.files import writing
from seqloom.models.encoder import EncoderOnly
from seqloom.nn.embedders import Inputs, Modality, PatchEmbedder


class _Whole(nn.Module):
    """All outputs of a model: states, the pooled vector, and the output of each head."""

    def __init__(self, model: EncoderOnly, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.model, self.heads = model, list(heads)

    def forward(self, read: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> tuple[Tensor, ...]:
        modality = Modality(read, None if mask is None else mask != 0, segments)
        memory = self.model(Inputs({self.model.embedder.modality: modality}))
        pooled = self.model.pooled(memory)
        heads: list[Any] = [self.model.heads[name] for name in self.heads]
        return memory.states, pooled, *(h(pooled if h.reads == "pooled" else memory.states) for h in heads)


def write_onnx(path: Path, model: nn.Module, heads: Mapping[str, int]) -> None:
    """Writes an ONNX file: "ids", "mask" and "segments" (or "pixels") in; "states", "pooled" and each head out.

    Raises UsageError for a model that writes, MissingExtra where onnx is not installed.
    """
    if not isinstance(model, EncoderOnly):
        raise UsageError("--to onnx is for models that read; --to ctranslate2 is for those that write")
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise MissingExtra("--to onnx", "export") from None
    outputs = ["states", "pooled", *heads]
    batch = {0: "batch"}
    if isinstance(model.embedder, PatchEmbedder):
        own = model.embedder.config
        given: tuple[Tensor, ...] = (torch.zeros(2, own.channels, own.size, own.size),)
        names, axes = ["pixels"], dict.fromkeys(("pixels", *outputs), batch)
    else:
        given = (torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long))
        names = ["ids", "mask"]
        if model.segments is not None or model.matches is not None:
            given, names = (*given, torch.zeros(2, 3, dtype=torch.long)), [*names, "segments"]
        text = {0: "batch", 1: "tokens"}
        pooled = {"pooled", *(name for name in heads if model.heads[name].reads == "pooled")}
        axes = {n: batch if n in pooled else text for n in (*names, *outputs)}
    with writing(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.onnx.export(
            _Whole(model, heads).eval(),
            given,
            str(path),
            input_names=names,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )


def run_onnx(path: Path, read: Tensor) -> dict[str, Tensor]:
    """The outputs of a written file for texts without padding, or for images, by the names of its outputs."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("--verify", "export") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    whole = {"mask": torch.ones_like(read), "segments": torch.zeros_like(read)}
    given = {i.name: whole.get(i.name, read).numpy() for i in session.get_inputs()}
    found: list[Any] = session.run(None, given)
    return {o.name: torch.from_numpy(v) for o, v in zip(session.get_outputs(), found, strict=True)}
