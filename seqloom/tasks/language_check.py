"""Text and config of a language model looked over before any training."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from seqloom.data.check import scan_texts
from seqloom.data.stream import Text, encode_text
from seqloom.tasks.estimate import Estimate, estimate_steps
from seqloom.tasks.language_model import LanguageModelConfig, Prepared, Validation, build_model, prepare
from seqloom.training.log import Reporter
from seqloom.training.precision import pick_device


def check_language_model(config: LanguageModelConfig, reporter: Reporter) -> dict[str, Any]:
    """Findings, a summary of each text, and an estimate; without the last two if the files cannot be read."""
    torch.set_num_threads(config.training.threads or os.cpu_count() or 1)
    files = (config.data.train, config.data.valid, config.data.test)
    findings = [finding for paths in files for finding in scan_texts(paths)]
    result: dict[str, Any] = {"summary": [], "findings": [asdict(f) for f in findings]}
    if findings:
        return result
    reporter.say("making the tokenizer and timing a few steps")
    prepared = prepare(config, reporter)
    result["summary"] = [_summary(name, text, prepared) for name, text in prepared.texts.items()]
    result["estimate"] = _estimate(config, prepared).as_dict()
    return result


def _summary(name: str, text: Text, prepared: Prepared) -> dict[str, Any]:
    known = {"train": prepared.batches.ids, "valid": prepared.valid[0]}
    ids = known[name] if name in known else encode_text(text, prepared.tokenizer)[0]
    lengths = [len(line.split()) for line in text.lines if line]
    return {
        "split": name,
        "texts": sum(not line for line in text.lines),
        "lines": len(lengths),
        "words": sum(lengths),
        "mean": statistics.fmean(lengths),
        "95 %": int(np.quantile(lengths, 0.95, method="higher")),
        "longest": max(lengths),
        "distinct": len(Counter(word for line in text.lines for word in line.split())),
        "tokens": len(ids),
        "unknown": int((ids == prepared.tokenizer.unknown).sum()),
    }


def _estimate(config: LanguageModelConfig, prepared: Prepared) -> Estimate:
    model = build_model(config, prepared.tokenizer.words).to(pick_device(config.training.device))
    validation = Validation(config, prepared, model)
    return estimate_steps(config, model, prepared.batches, lambda: validation.measure(0))
