"""Data and config of models that read whole texts looked over before any training."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import torch

from seqloom.data.checks.pairs import Finding
from seqloom.errors import DataError
from seqloom.tasks.encoder.task import ReadingConfig, begin, build_model
from seqloom.training.log import Reporter
from seqloom.training.precision import pick_device
from seqloom.workflows.estimate import estimate_steps


def check_reader(config: ReadingConfig, reporter: Reporter) -> dict[str, Any]:
    """Findings, a summary of each split, and an estimate; the first fault alone if the data cannot be read."""
    torch.set_num_threads(config.training.threads or os.cpu_count() or 1)
    reporter.say("reading the data, making the tokenizer and timing a few steps")
    try:
        prepared = config.prepare(reporter)
    except DataError as error:
        found = Finding("error", "unusable data", error.where, error.problem, error.cure, 1)
        return {"summary": [], "findings": [asdict(found)]}
    model = build_model(config, prepared.tokenizer.words, config.heads(prepared.facts))
    begin(config, model, prepared.tokenizer, reporter)
    model = model.to(pick_device(config.training.device))
    measure = prepared.measure(model)
    estimate = estimate_steps(config, model, prepared.batches, lambda: measure(0))
    return {
        "summary": prepared.summary(),
        "findings": [asdict(finding) for finding in prepared.findings()],
        "estimate": estimate.as_dict(),
    }
