"""Text or image in, answer out: whether a run and another program's own pipeline, tokenizer included, answer alike."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqloom.errors import SeqloomError
from seqloom.media.images import pillow
from seqloom.run import Run
from seqloom.tasks.assets import Assets
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.tasks.task import RunConfig, config_of
from seqloom.workflows.export import Exported

_TEXTS = (
    "A cat sat on the mat.",
    "Somebody plays the guitar!",
    "Ein Hund, der bellt: \u00e4\u00f6\u00fc \u00df",
    "x",
    "Angela Schmidt, New York (12.5 %)",
    "Two lines:\n the second, and\n\na third",
    "\u5f88\u597d \u5417 \N{THUMBS UP SIGN}",
)
TOLERANCE = 1e-3
"""By how much numbers may differ."""
Differences = dict[str, object]


def compare_texts(run: Run, exported: Exported, theirs: Any, folder: Path) -> Differences:
    """Whether texts have the same ids and get the same answers; each with the first one that differs.

    Args:
        run: the run.
        exported: its model, as other programs see it.
        theirs: the model of transformers.
        folder: where that comes from.
    """
    try:
        config, assets = config_of(run, RunConfig), Assets(exported.pair, exported.facts or None)
        side = Counterpart(config, exported.model, exported.heads, assets, theirs, folder)
    except Exception as error:  # whatever their tokenizers raise
        return {"texts": f"DIFFERENT: transformers cannot read the tokenizer or the preprocessor: {_first_line(error)}"}
    if exported.pair is None:
        return _compare_images(side)
    texts = _texts(side)
    if not texts:
        return {"texts": "none fits the vocabulary and the length of the model"}
    with torch.inference_mode():
        read = ((text, config.ids(side, text), side.read(text).input_ids[0].tolist()) for text in texts)
        differences: Differences = {"ids of texts": _compared(read)}
        for name, answers in config.answers(side, texts):
            differences[name] = _compared(answers)
    return differences


def _compare_images(side: Counterpart) -> Differences:
    """Whether image files get the same answers: of other sizes than the model's, in colours, in grey, with an alpha."""
    random = np.random.Generator(np.random.Philox(2))
    with tempfile.TemporaryDirectory(prefix="seqloom-") as folder, torch.inference_mode():
        paths = []
        for i, form in enumerate(((37, 53, 3), (53, 37, 4), (61, 61), (1, 1, 3))):
            paths.append(str(Path(folder, f"{i}.png")))
            pillow().fromarray(random.integers(0, 256, form, dtype=np.uint8)).save(paths[-1])
        return {name: _compared(answers) for name, answers in side.config.answers(side, paths)}


def _texts(side: Counterpart) -> list[str]:
    """Texts that have tokens, and not more than the model reads: some fixed ones, and some of the vocabulary.

    None holds a special token: their tokenizers read it as such, ours as text.
    """
    tokenizer, generator = side.source, torch.Generator().manual_seed(2)
    special = {str(token) for token in side.reader.all_special_tokens}
    names = tokenizer.tokens(range(tokenizer.inner.get_vocab_size()))
    ids = torch.tensor([i for i, name in enumerate(names) if not any(token in name for token in special)])
    rows = ids[torch.randint(len(ids), (4, 5), generator=generator)].tolist() if len(ids) else []
    drawn = [" ".join(text.split()) for text in tokenizer.decode(rows)]
    unreadable = {*special, "\N{REPLACEMENT CHARACTER}"}
    texts = [text for text in (*_TEXTS, *drawn) if text and not any(token in text for token in unreadable)]
    room = side.limit - len(tokenizer.template.before) - len(tokenizer.template.after)
    return [text for text, row in zip(texts, tokenizer.encode(texts), strict=True) if 0 < len(row) <= room]


def _compared(answers: Compared) -> str:
    """Whether all answers are alike; or the first that is not."""
    count = 0
    try:
        for text, ours, theirs in answers:
            if not _alike(ours, theirs):
                return f"DIFFERENT for {str(text)[:80]!r}: {repr(ours)[:200]} here, {repr(theirs)[:200]} there"
            count += 1
    except SeqloomError:
        raise
    except Exception as error:  # whatever their pipelines raise
        return f"DIFFERENT: one of the two fails: {_first_line(error)}"
    return "the same" if count else "not compared: no text fits"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]


def _alike(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_alike(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (float, np.ndarray)):
        return bool(np.shape(ours) == np.shape(theirs) and np.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE))
    return bool(ours == theirs)
