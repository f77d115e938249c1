"""Encoder models in the ONNX format."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqloom.errors import UsageError, optional
from seqloom.files import writing
from seqloom.models.encoder import EncoderOnly
from seqloom.nn.embedders import Inputs, Modality, PatchEmbedder


class _AllOutputs(nn.Module):
    """A model that returns all its outputs: states, the pooled vector, and the output of each head."""

    def __init__(self, model: EncoderOnly, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.model, self.heads = model, list(heads)

    def forward(self, ids: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> tuple[Tensor, ...]:
        modality = Modality(ids, None if mask is None else mask != 0, segments)
        memory = self.model(Inputs({self.model.embedder.modality: modality}))
        pooled = self.model.pooled(memory)
        heads: list[Any] = [self.model.heads[name] for name in self.heads]
        return memory.states, pooled, *(h(pooled if h.reads == "pooled" else memory.states) for h in heads)


def write_onnx(path: Path, model: nn.Module, heads: Mapping[str, int]) -> None:
    """Writes an ONNX file: "ids", "mask" and "segments" (or "pixels") in; "states", "pooled" and each head out.

    Raises UsageError for any other kind of model, MissingExtra if onnx is not installed.
    """
    if not isinstance(model, EncoderOnly):
        raise UsageError("--to onnx is for encoder models", cure="for a model that generates text use --to ctranslate2")
    if model.front is not None:
        raise UsageError("--to onnx has no front of convolutions", where="model.front", cure="use it here")
    optional("onnx", "--to onnx", "export")
    outputs = ["states", "pooled", *heads]
    batch = {0: "batch"}
    if isinstance(model.embedder, PatchEmbedder):
        image = model.embedder.config
        inputs: tuple[Tensor, ...] = (torch.zeros(2, image.channels, image.size, image.size),)
        names, axes = ["pixels"], dict.fromkeys(("pixels", *outputs), batch)
    else:
        inputs = (torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long))
        names = ["ids", "mask"]
        if model.segments is not None or model.matches is not None:
            inputs, names = (*inputs, torch.zeros(2, 3, dtype=torch.long)), [*names, "segments"]
        text = {0: "batch", 1: "tokens"}
        pooled = {"pooled", *(name for name in heads if model.heads[name].reads == "pooled")}
        axes = {n: batch if n in pooled else text for n in (*names, *outputs)}
    with writing(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about itself
        path.parent.mkdir(parents=True, exist_ok=True)
        named: Any = {"input_names": names, "output_names": outputs, "dynamic_axes": axes}
        torch.onnx.export(_AllOutputs(model, heads).eval(), inputs, str(path), opset_version=17, dynamo=False, **named)


def run_onnx(path: Path, inputs: Tensor) -> dict[str, Tensor]:
    """The outputs of an ONNX file, by name: for the ids of texts without padding, or for the pixels of images."""
    onnxruntime = optional("onnxruntime", "--verify", "export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    others = {"mask": torch.ones_like(inputs), "segments": torch.zeros_like(inputs)}
    values: list[Any] = session.run(None, {i.name: others.get(i.name, inputs).numpy() for i in session.get_inputs()})
    return {o.name: torch.from_numpy(value) for o, value in zip(session.get_outputs(), values, strict=True)}
