"""How far back the states of several runs remember."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqloom.data.batches.batch import SequenceBatch
from seqloom.data.batches.pairs import make_batch
from seqloom.data.formats.parallel import usable
from seqloom.data.sources.pairs import PairSource
from seqloom.errors import DataError, UsageError
from seqloom.files import output_in, write_json, write_text
from seqloom.inspection.microscope import examine
from seqloom.inspection.microscope_page import render_microscope
from seqloom.run import Run
from seqloom.tasks.building import load_run
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.log import Reporter
from seqloom.workflows.compare import run_names

_ROWS = 16


def examine_runs(
    paths: Sequence[str | Path], folder: str | Path, reporter: Reporter, sentences: int = 64, untrained: bool = False
) -> dict[str, Any]:
    """Measures how far back runs remember, and writes microscope.json and microscope.html to `folder`.

    Args:
        paths: the runs, each measured on its own validation data.
        folder: where the files are written.
        reporter: prints progress.
        sentences: the number of pairs, evenly spaced over the validation data.
        untrained: whether each run is also measured with its initial weights.

    Raises:
        UsageError: no run, or the same run twice.
        DataError: the validation data has fewer pairs.
    """
    opened = [Run.open(path) for path in paths]
    names = run_names(opened)
    if not names or sentences < 1 or len({*names}) < len(names):
        problem = "needs one run or more, each named once, and at least one sentence"
        raise UsageError(problem, where="microscope", cure="seqloom microscope RUN [RUN ...]")
    target = Path(folder)
    with output_in(target, "microscope.json", "microscope.html"):
        each = (measured(*one, sentences, reporter, untrained) for one in zip(opened, names, strict=True))
        result = {"sentences": sentences, "runs": [row for rows in each for row in rows]}
        write_json(target / "microscope.json", result)
        write_text(target / "microscope.html", render_microscope(result))
    reporter.say(f"{target / 'microscope.html'} written")
    return result


def measured(run: Run, name: str, sentences: int, reporter: Reporter, untrained: bool = False) -> list[dict[str, Any]]:
    """What is measured of one run, and perhaps of its model with initial weights; see `examine_runs`."""
    loaded = load_run(run, TranslateConfig, precision="fp32", say=reporter.warn)
    if not isinstance(loaded.config.data, PairSource):
        cure = f"name the run it started from: {loaded.config.begins_with}"
        raise UsageError("was validated on preferences, not on pairs of texts", where=str(run.path), cure=cure)
    translator = loaded.predictor(long_input="cut")
    if not isinstance(translator.source, Tokenizer):
        raise UsageError("reads no text, whose tokens are measured", where=str(run.path), cure="leave it out")
    batches = _sample(loaded.config, translator, sentences)
    tokens = translator.source.tokens, translator.target.tokens
    reporter.say(f"measuring {run.path}")
    rows = [{"name": name, **examine(translator.model, batches, tokens)}]
    if untrained:
        initial = loaded.config.build(loaded.assets).to(batches[0].target_in.device)
        rows.append({"name": f"{name}, untrained", **examine(initial, batches, tokens)})
    return rows


def _sample(config: TranslateConfig, translator: Translator, count: int) -> list[SequenceBatch]:
    """Pairs evenly spaced over the validation data, in batches sorted by length; long ones are truncated."""
    pairs, _ = usable(config.data.splits().valid)
    if len(pairs) < count:
        problem = f"{count} pairs are asked for, and the validation data has {len(pairs)}"
        raise DataError(problem, where=pairs.files[0], cure=f"--sentences {len(pairs)}")
    chosen = np.linspace(0, len(pairs) - 1, count).round().astype(int)
    sources = translator.encode([pairs.sources[i] for i in chosen])
    most = min(translator.max_source, config.model.decoder.limit or translator.max_source) - 1
    targets = translator.target.encode([pairs.targets[i] for i in chosen])
    targets = [np.append(row[:most], translator.target.end) for row in targets]
    order = sorted(range(count), key=lambda i: len(sources[i]))
    device = next(translator.model.parameters()).device
    batches = []
    for part in (order[at : at + _ROWS] for at in range(0, count, _ROWS)):
        batch = make_batch([sources[i] for i in part], [targets[i] for i in part], translator.target.start)
        batches.append(batch.to(device))
    return batches
