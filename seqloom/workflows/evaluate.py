"""The score of a run on a test set, saved in the run."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqloom import config as configs
from seqloom.data.formats.parallel import read_pairs, usable
from seqloom.data.rows import Pairs
from seqloom.errors import MissingExtra, UsageError
from seqloom.evaluation.translation import moses_bleu, score_translations
from seqloom.run import Run, title_of, write_json
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.seq2seq.task import Files, TranslateConfig, config_of, load_splits, load_translator
from seqloom.tasks.task import decoding_config
from seqloom.training.log import Reporter


def evaluate_run(
    path: str | Path, test: Sequence[str], name: str, words: Sequence[str], reporter: Reporter
) -> dict[str, Any]:
    """Translates the test set, scores it, and saves all of it as eval/NAME.json.

    Args:
        path: the run.
        test: its files; empty = the test data of the run's config.
        name: what to save it as; by default the name of the first file, or "test".
        words: decoding options as on the command line.
        reporter: where progress goes.
    """
    title, run = title_of(name, test), Run.open(path)
    config = config_of(run)
    languages = (getattr(config.data, "source", ""), getattr(config.data, "target", ""))
    pairs = _test_pairs(config, test, languages)
    pairs, dropped = usable(pairs)
    if dropped:
        reporter.warn(f"{dropped} test pairs with an empty side are left out")
    translator = load_translator(path, long_input="cut", say=reporter.warn)
    translator.config = decoding_config(translator.config, words)
    how = "drawing words" if translator.config.sample else f"beam {translator.config.beam}"
    reporter.say(f"translating {len(pairs):,} sentences, {how}")
    began = time.perf_counter()
    hypotheses = translator(pairs.sources)
    seconds = time.perf_counter() - began
    if translator.cuts:
        reporter.warn(f"{translator.cuts} over-long sources were cut to {translator.max_source - 1} words")
    scores = score_translations(pairs.sources, hypotheses, pairs.targets, pairs.kinds).as_dict()
    scores["perplexity"] = _perplexity(translator, pairs)
    if isinstance(config.data, Files) and config.data.target:
        try:
            scores["bleu_moses"], scores["moses_signature"] = moses_bleu(hypotheses, pairs.targets, config.data.target)
        except MissingExtra as error:
            reporter.say(str(error))
    result = {
        "test": title,
        **scores,
        "seconds": round(seconds, 3),
        "decoding": configs.tree_of(translator.config),
        "checkpoint": run.best(lambda text: None).path.name,
        "files": list(test),
        "translations": [
            {"source": s, "translation": h, "reference": r}
            for s, h, r in zip(pairs.sources, hypotheses, pairs.targets, strict=True)
        ],
    }
    write_json(run.evaluation_path(title), result)
    return result


def _perplexity(translator: Translator, pairs: Pairs) -> float | None:
    """Of the references, by the words of the tokenizer with the end; those too long for the model are left out."""
    limit = translator.model.config.decoder.limit or 1 << 30
    words = [len(ids) + 1 for ids in translator.target.encode(pairs.targets)]
    fit = [i for i, n in enumerate(words) if n <= limit]
    log_p = translator.score([pairs.sources[i] for i in fit], [pairs.targets[i] for i in fit])
    return math.exp(-sum(log_p) / sum(words[i] for i in fit)) if fit else None


def _test_pairs(config: TranslateConfig, test: Sequence[str], languages: tuple[str, str]) -> Pairs:
    if test:
        return read_pairs(test, languages=languages)
    found = load_splits(config.data).test
    if found is None:
        raise UsageError("the config names no test data", where="--test", cure="--test SOURCE REFERENCE")
    return found
