"""Data and config, checked before any training."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import torch

from seqloom.data.checks.pairs import Finding
from seqloom.errors import DataError
from seqloom.tasks.task import RunConfig
from seqloom.training.log import Reporter
from seqloom.workflows.estimate import estimate
from seqloom.workflows.train import started


def check_config(config: RunConfig, reporter: Reporter) -> dict[str, Any]:
    """Findings, a summary of each split, and an estimate; only the findings if the data cannot be read."""
    torch.set_num_threads(config.training.threads or os.cpu_count() or 1)
    reporter.say("reading the data")
    findings, unusable = config.scan()
    result: dict[str, Any] = {"summary": [], "findings": findings}
    if not unusable:
        reporter.say("training the tokenizer and making batches")
        try:
            prepared = config.prepare(reporter)
        except DataError as error:
            findings.append(Finding("error", "unusable data", error.where, error.problem, error.cure, 1))
        else:
            reporter.say("checking the data")
            scanned = {(f.what, f.where) for f in findings}
            findings += [f for f in prepared.findings() if (f.what, f.where) not in scanned]
            result["summary"] = prepared.summary()
            reporter.say("timing a few steps")
            result["estimate"] = asdict(estimate(config, prepared, started(config, prepared, reporter)))
    return result | {"findings": [asdict(finding) for finding in findings]}
