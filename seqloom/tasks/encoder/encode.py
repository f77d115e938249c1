"""A published model that reads, for its states: nothing is learned here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from seqloom.data.rows import NoData
from seqloom.interop.family import Model
from seqloom.models.encoder import EncoderOnlyConfig
from seqloom.run import Run
from seqloom.tasks.building import load_model
from seqloom.tasks.task import RunConfig
from seqloom.text.tokenizer import TokenizerFile
from seqloom.training.log import Reporter


@dataclass(frozen=True, kw_only=True)
class EncodeConfig(RunConfig):
    """Of a run that reads, and has learned nothing here.

    Args:
        data: none; the model was trained elsewhere.
        tokenizer: the tokenizer that was imported with the model.
        model: the parts of the network and their sizes.
    """

    kind: ClassVar[str] = "encode"
    task: Literal["encode"] = "encode"
    data: NoData = field(default_factory=NoData)
    tokenizer: TokenizerFile = field(default_factory=TokenizerFile)
    model: EncoderOnlyConfig = field(default_factory=EncoderOnlyConfig)


def load_encoder(path: str | Path, **options: Any) -> Model:
    """The model of a run of the task "encode"."""
    return load_model(Run.open(path), Reporter(0))[0]
