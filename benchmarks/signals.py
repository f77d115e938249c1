"""Accuracy on signals: a recipe beside the nearest neighbour and logistic regression, on the same examples.

    python benchmarks/signals.py recipes/ecg5000.toml --folds 4

Without --folds the recipe's own test data are predicted. With it, the training data are cut into as many parts of equal
shares of labels, each of which is predicted by a run trained on the others, for data without a test part.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import stop


def folds(labels: Sequence[str], count: int, seed: int) -> list[np.ndarray]:
    """The indices of the examples of each part."""
    by_label = defaultdict(list)
    for i in np.random.default_rng(seed).permutation(len(labels)):
        by_label[labels[i]].append(int(i))
    dealt = [i for _, group in sorted(by_label.items()) for i in group]
    return [np.array(dealt[k::count]) for k in range(count)]


def write(path: Path, rows: Sequence[Any]) -> str:
    """Series as JSON lines."""
    lines = []
    for row in rows:
        steps = [[None if np.isnan(v) else v for v in step] for step in row.values.astype(float).tolist()]
        lines.append(json.dumps({"label": row.label, "series": steps}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def plain(train: Sequence[Any], test: Sequence[Any], learned: Any) -> dict[str, list[bool]]:
    """Whether each test example is right by the methods to compare with, on standardized series of one length."""
    from sklearn.linear_model import LogisticRegression

    from seqloom.evaluation.classification import nearest
    from seqloom.media.signals import stretched

    mean, deviation = (np.array(learned["scale"][name]) for name in ("mean", "deviation"))
    steps = max(len(row.values) for row in train)
    known, asked = (
        np.stack([stretched((row.values - mean) / deviation, steps).ravel() for row in part]) for part in (train, test)
    )
    names, truth = np.array([row.label for row in train]), np.array([row.label for row in test])
    regression = LogisticRegression(max_iter=2000).fit(known, names)
    near = names[nearest([*asked], [*known])]
    return {
        "nearest neighbour": (near == truth).tolist(),
        "logistic regression": (regression.predict(asked) == truth).tolist(),
    }


def trained(config: Any, seed: int, folder: Path, test: Sequence[Any]) -> list[bool]:
    """Whether each test example is right by a run of the recipe."""
    from seqloom.tasks import load
    from seqloom.training.log import Reporter
    from seqloom.workflows.train import train_run

    run = train_run(replace(config, seed=seed, run=str(folder / f"run-{seed}")), Reporter(0))
    predictor = load(run)
    return [found.label == row.label for found, row in zip(predictor.predictions(test), test, strict=True)]


def main() -> None:
    """Print a line for each method: the accuracy, and twice its standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--member", default="")
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    options, keys = parser.parse_known_args()  # the others are keys of the config: --data.window 64

    from seqloom.tasks import read_config
    from seqloom.workflows.lineage import read_members

    if options.member:
        config: Any = read_members(options.recipe, keys, options.member)[options.member]
    else:
        config = read_config(options.recipe, keys)
    if not (options.folds or config.data.test):
        stop("the recipe names no test data: --folds 4")
    rows = config.data.read(config.data.train)
    parts = folds([row.label for row in rows], options.folds, 0) if options.folds else []
    right: dict[str, list[bool]] = defaultdict(list)
    for k in range(max(1, options.folds)):
        with TemporaryDirectory() as name:
            folder, made = Path(name), config
            train, test = rows, [] if parts else config.data.read(config.data.test)
            if parts:
                held = set(parts[k].tolist())
                train, test = ([r for i, r in enumerate(rows) if (i in held) == tested] for tested in (False, True))
                # A label may be in the part alone: what is never learned counts as wrong.
                files = (write(folder / "train.jsonl", train),)
                data = replace(config.data, train=files, test=(), axes="auto", values="", names=())
                made = replace(config, data=data)
            for method, found in plain(train, test, config.data.learned(train)).items():
                right[method] += found
            for seed in options.seeds:
                right[f"seqloom, seed {seed}"] += trained(made, seed, folder, test)
    for method, found in right.items():
        share = float(np.mean(found))
        error = 2 * (share * (1 - share) / len(found)) ** 0.5
        print(f"{method:24} {100 * share:6.2f} % ± {100 * error:.2f} of {len(found):,} examples")


if __name__ == "__main__":
    main()
