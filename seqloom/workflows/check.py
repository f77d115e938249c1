"""Data and config looked over before any training."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import torch

from seqloom.data.checks.pairs import check_splits, scan_files, summary
from seqloom.data.rows import Splits
from seqloom.tasks.seq2seq.task import Files, Prepared, TranslateConfig, load_splits, prepare
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.log import Reporter
from seqloom.workflows.estimate import estimate


def check_translation(config: TranslateConfig, reporter: Reporter) -> dict[str, Any]:
    """Findings, a summary of each side, and an estimate; without the last two if the files cannot be read."""
    torch.set_num_threads(config.training.threads or os.cpu_count() or 1)
    findings = []
    if isinstance(config.data, Files):
        languages = (config.data.source, config.data.target)
        for paths in (config.data.train, config.data.valid, config.data.test):
            findings += scan_files(paths, languages=languages) if paths else []
    result: dict[str, Any] = {"summary": [], "findings": [asdict(f) for f in findings]}
    if any(f.severity == "error" for f in findings):
        return result
    splits = load_splits(config.data)
    # What the scan of the files has said already is not said twice.
    said = {(f.what, f.where) for f in findings}
    result["findings"] += [asdict(f) for f in check_splits(splits) if (f.what, f.where) not in said]
    reporter.say("making the tokenizer and timing a few steps")
    prepared = prepare(config, reporter)
    result["summary"] = _summary(splits, prepared)
    result["estimate"] = estimate(config, prepared).as_dict()
    return result


def _summary(splits: Splits, prepared: Prepared) -> list[dict[str, Any]]:
    rows = []
    for name, pairs in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
        if pairs is None:
            continue
        facts: dict[str, Any] = summary(pairs)
        sides = (("source", prepared.source, pairs.sources), ("target", prepared.target, pairs.targets))
        for side, tokenizer, texts in sides:
            own = facts[side]
            tokens, unknown = _coverage(tokenizer, list(texts))
            rows.append(
                {
                    "split": name,
                    "side": side,
                    "pairs": len(pairs),
                    "words": own["words"],
                    "mean": own["words_mean"],
                    "95 %": own["words_95"],
                    "longest": own["words_max"],
                    "distinct": own["distinct_words"],
                    "tokens": tokens,
                    "unknown": unknown,
                }
            )
    return rows


def _coverage(tokenizer: Tokenizer, texts: list[str]) -> tuple[int, int]:
    tokens = unknown = 0
    for ids in tokenizer.encode(texts):
        tokens += len(ids)
        unknown += int((ids == tokenizer.unknown).sum())
    return tokens, unknown
