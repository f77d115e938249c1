"""Text and config of a language model looked over before any training."""

from __future__ import annotations

import os
import statistics
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from seqloom.data.checks.pairs import scan_texts
from seqloom.data.rows import NoData
from seqloom.data.sources.conversations import Conversations, parse_conversations
from seqloom.data.sources.standard_library import StandardLibrary
from seqloom.data.sources.text import Piece, blocks_of, encode_block, record_text
from seqloom.tasks.language_model.config import LanguageModelConfig
from seqloom.tasks.language_model.prepare import Prepared, prepare
from seqloom.tasks.language_model.task import Validation, build_model
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.log import Reporter
from seqloom.training.precision import pick_device
from seqloom.workflows.estimate import Estimate, estimate_steps


def check_language_model(config: LanguageModelConfig, reporter: Reporter) -> dict[str, Any]:
    """Findings, a summary of each text, and an estimate; without the last two if the files cannot be read."""
    torch.set_num_threads(config.training.threads or os.cpu_count() or 1)
    data = config.data
    if isinstance(data, NoData):
        data.refuse()
    files = () if isinstance(data, StandardLibrary) else (data.train, data.valid, data.test)
    parsers = {"": parse_conversations} if isinstance(data, Conversations) else {".jsonl": record_text}
    findings = [finding for paths in files for finding in scan_texts(paths, parsers)]
    result: dict[str, Any] = {"summary": [], "findings": [asdict(f) for f in findings]}
    if findings:
        return result
    reporter.say("making the tokenizer and timing a few steps")
    prepared = prepare(config, reporter)
    result["summary"] = [_summary(name, text, prepared.tokenizer) for name, text in prepared.texts.items()]
    result["estimate"] = _estimate(config, prepared).as_dict()
    return result


def _summary(name: str, pieces: Iterable[Piece], tokenizer: Tokenizer) -> dict[str, Any]:
    lengths, words = array("q"), Counter[str]()
    texts = tokens = unknown = 0
    for block in blocks_of(pieces):
        ids, _ = encode_block(block, tokenizer)
        tokens, unknown = tokens + len(ids), unknown + int((ids == tokenizer.unknown).sum())
        for line, _ in block:
            own = (line or "").split()
            texts += line is None
            words.update(own)
            if own:
                lengths.append(len(own))
    return {
        "split": name,
        "texts": texts,
        "lines": len(lengths),
        "words": sum(lengths),
        "mean": statistics.fmean(lengths),
        "95 %": int(np.quantile(lengths, 0.95, method="higher")),
        "longest": max(lengths),
        "distinct": len(words),
        "tokens": tokens,
        "unknown": unknown,
    }


def _estimate(config: LanguageModelConfig, prepared: Prepared) -> Estimate:
    model = build_model(config, prepared.tokenizer.words).to(pick_device(config.training.device))
    validation = Validation(config, prepared, model)
    return estimate_steps(config, model, prepared.batches, lambda: validation.measure(0))
