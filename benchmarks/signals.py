"""Accuracy on signals and DNA beside that of simple methods and of MiniRocket, on exactly the same examples.

    python benchmarks/signals.py                                   # the peers of every set
    python benchmarks/signals.py --sets GunPoint --seeds 1 2 3     # and three runs of seqloom
    python benchmarks/signals.py recipes/ecg5000.toml --folds 4

A recipe's own test data are predicted. For data without a test part, --folds cuts the training data into as many parts
of equal shares of labels, each of which is predicted by what is trained on the others. --forward is for windows of a
stream: as many parts in the order of time, each of which, from the second on, is predicted by what is trained on those
before it, without the windows that overlap it.

For the peers, signals are standardized and stretched to the length of the longest, for MiniRocket (Dempster et al.
2021) to 9 steps at least. It is that of aeon, which asks for an older numba than constraints.txt has, and is skipped
where that is not installed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import stop

Parts = tuple[Sequence[Any], Sequence[Any]]  # what is learned from, and what is predicted
RECIPES, DATA = Path(__file__).parents[1] / "recipes", "${SEQLOOM_DATA}/"
OTHERS = {"BasicMotions": "basic_motions", "JapaneseVowels": "japanese_vowels"}
SETS: dict[str, list[str]] = {
    "GunPoint": ["motion-series", "--member", "cnn"],
    **{
        name: ["motion-series", "--member", "cnn"]
        + [f"--data.{part}={DATA}motion_series/{folder}/{part}.jsonl.xz" for part in ("train", "test")]
        for name, folder in OTHERS.items()
    },
    "PickupGesture": ["pickup-gesture"],
    "ECG5000": ["ecg5000", "--folds", "4"],
    "pen_digits": ["pen-digits"],
    "eeg_motor_imagery": ["eeg-motor-imagery"],
    "eeg_eye_state": ["eeg-eye-state", "--forward", "6"],
    "dna_splice": ["dna-splice"],
    "dna_coding_300bp": ["dna-coding"],
    "dna_coding_long": ["dna-coding-long"],
    "dna_gene_family": ["dna-gene-family"],
}


def folds(labels: Sequence[str], count: int, seed: int) -> list[np.ndarray]:
    """The indices of the examples of each part."""
    by_label = defaultdict(list)
    for i in np.random.default_rng(seed).permutation(len(labels)):
        by_label[labels[i]].append(int(i))
    dealt = [i for _, group in sorted(by_label.items()) for i in group]
    return [np.array(dealt[k::count]) for k in range(count)]


def forward(count: int, parts: int, overlap: int) -> Iterator[tuple[range, range]]:
    """The indices of what is learned from and of what is predicted, of windows in the order of time.

    Args:
        count, parts: of windows, and of parts.
        overlap: how many windows before a window overlap it.
    """
    edges = np.linspace(0, count, parts + 1).round().astype(int).tolist()
    for first, end in pairwise(edges[1:]):
        yield range(first - overlap), range(first, end)


def parts_of(config: Any, options: argparse.Namespace) -> Iterator[Parts]:
    """What is learned from and what is predicted, once or for each part."""
    rows = config.data.read(config.data.train)
    if options.folds:
        # A label may be in the part alone: what is never learned counts as wrong.
        for held in map(set, folds([row.label for row in rows], options.folds, 0)):
            yield [r for i, r in enumerate(rows) if i not in held], [r for i, r in enumerate(rows) if i in held]
    elif options.forward:
        overlap = -(-config.data.window // (config.data.stride or config.data.window)) - 1
        for learned, asked in forward(len(rows), options.forward, overlap):
            yield [rows[i] for i in learned], [rows[i] for i in asked]
    elif config.data.test:
        yield rows, config.data.read(config.data.test)
    else:
        stop("the recipe names no test data: --folds 4")


def write(path: Path, rows: Sequence[Any]) -> str:
    """Series as JSON lines."""
    lines = []
    for row in rows:
        steps = [[None if np.isnan(v) else v for v in step] for step in row.values.astype(float).tolist()]
        lines.append(json.dumps({"label": row.label, "series": steps}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def peers(train: Sequence[Any], test: Sequence[Any], config: Any) -> dict[str, np.ndarray]:
    """The labels that each method predicts of the test examples."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    from seqloom.evaluation.classification import nearest
    from seqloom.media.signals import stretched
    from seqloom.text.dna import kmers

    names = np.array([row.label for row in train])
    labels, counts = np.unique(names, return_counts=True)
    found = {"most frequent": np.full(len(test), labels[counts.argmax()])}
    if config.modality == "text":
        for size in (6, 9):
            bag = CountVectorizer(analyzer=lambda row, size=size: kmers(row.text, size, 1).split())
            bayes = MultinomialNB().fit(bag.fit_transform(train), names)
            found[f"{size}-mer naive Bayes"] = bayes.predict(bag.transform(test))
        return found
    learned, steps = config.data.learned(train)["scale"], max(len(row.values) for row in train)
    mean, deviation = (np.array(learned[name]) for name in ("mean", "deviation"))

    def series(rows: Sequence[Any], least: int = 0) -> np.ndarray:
        return np.stack([stretched((row.values - mean) / deviation, max(steps, least)) for row in rows])

    known, asked = (series(part).reshape(len(part), -1) for part in (train, test))
    found["nearest neighbour"] = names[nearest([*asked], [*known])]
    found["logistic regression"] = LogisticRegression(max_iter=2000).fit(known, names).predict(asked)
    try:
        from aeon.classification.convolution_based import MiniRocketClassifier
    except ImportError:
        print("skipped: MiniRocket: pip install aeon", file=sys.stderr)
    else:
        rocket = MiniRocketClassifier(random_state=1).fit(series(train, 9), names)
        found["MiniRocket"] = rocket.predict(series(test, 9))
    return found


def trained(config: Any, seed: int, train: Sequence[Any], test: Sequence[Any], part: bool) -> list[str]:
    """The labels that a run of the recipe predicts of the test examples."""
    from seqloom.tasks import load
    from seqloom.training.log import Reporter
    from seqloom.workflows.train import train_run

    with TemporaryDirectory() as folder:
        if part:
            none: Any = {"axes": "auto", "values": "", "names": (), "window": 0, "onsets": "", "label": "label"}
            files = (write(Path(folder) / "train.jsonl", train),)
            config = replace(config, data=replace(config.data, train=files, test=(), **none))
        run = train_run(replace(config, seed=seed, run=f"{folder}/run"), Reporter(0))
        return [prediction.label for prediction in load(run).predictions(test)]


def row_of(recipe: str, options: argparse.Namespace, keys: Sequence[str]) -> dict[str, str]:
    """The cells of a line of the table."""
    from seqloom.tasks import read_config
    from seqloom.workflows.lineage import read_members

    member = options.member
    config: Any = read_members(recipe, keys, member)[member] if member else read_config(recipe, keys)
    right: dict[str, list[bool]] = defaultdict(list)
    for train, test in parts_of(config, options):
        truth = np.array([row.label for row in test])
        found = peers(train, test, config)
        for seed in options.seeds:
            labels = trained(config, seed, train, test, bool(options.folds or options.forward))
            found[f"seqloom, seed {seed}"] = np.array(labels)
        for method, predictions in found.items():
            right[method] += (predictions == truth).tolist()
    shares = {method: float(np.mean(each)) for method, each in right.items()}
    count = len(right["most frequent"])
    errors = [200 * (share * (1 - share) / count) ** 0.5 for share in shares.values()]
    best = f"{min(errors):.1f} to {max(errors):.1f}"
    return {"examples": f"{count:,}", "±": best, **{k: f"{100 * share:.1f}" for k, share in shares.items()}}


def main() -> None:
    """Print a table: the accuracy of each method in percent, and the range of twice their standard errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--member", default="")
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--forward", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="*")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=[*SETS], metavar="NAME", help=", ".join(SETS))
    options, keys = parser.parse_known_args()  # the others are keys of the config: --data.window 64
    rows = {}
    for name in [options.recipe] if options.recipe else options.sets:
        own, own_keys = options, keys
        if not options.recipe:
            recipe, *more = SETS[name]
            own, own_keys = parser.parse_known_args([f"{RECIPES / recipe}.toml", *more])
            own.seeds, own_keys = options.seeds or [], own_keys + keys
        elif own.seeds is None:
            own.seeds = [1]
        rows[name] = row_of(own.recipe, own, own_keys)
        print(f"{name}: {rows[name]}", file=sys.stderr)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    print("| data |", " | ".join(columns), "|\n|" + "---|" * (len(columns) + 1))
    for name, row in rows.items():
        print(f"| {name} |", " | ".join(row.get(column, "") for column in columns), "|")


if __name__ == "__main__":
    main()
