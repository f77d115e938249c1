"""Seconds of a training step against the length of DNA: an LSTM, a Transformer, and one behind convolutions.

    python benchmarks/lengths.py --picture lengths.html

Each step reads as many letters as the longest sequence has, in as many sequences as that makes: forward, loss,
backward, clipping, AdamW, in the precision that training chooses. The letters are random, for the time does not depend
on them. The models take turns step by step; the first steps, which compile kernels, are not timed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import report

LENGTHS = [256, 512, 1024, 2048, 4096, 8192]
TRANSFORMER = {"layers": 2, "width": 128, "inner": 512, "heads": 4, "positions": "rotary"}
LSTM = {"kind": "recurrent", "cell": "lstm", "layers": 1, "width": 128, "direction": "both"}
MODELS: dict[str, dict[str, Any]] = {
    "LSTM": {"encoder": LSTM},
    "Transformer": {"encoder": TRANSFORMER},
    "convolutions, Transformer": {"encoder": TRANSFORMER, "front": {"strides": [4, 4], "kernel": 9}},
    "convolutions alone": {"encoder": {"kind": "bag", "width": 128}, "front": {"strides": [4, 4, 1, 1], "kernel": 9}},
}


def steps_of(tree: dict[str, Any], batch: list[Any]) -> Iterator[Any]:
    """The training steps of a model, each on what `batch` then holds."""
    import torch

    from seqloom.config import build
    from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
    from seqloom.objectives.reading import Labels
    from seqloom.training.loop import train
    from seqloom.training.optimizer import AdamW, FlatWeights, Optimizer
    from seqloom.training.precision import dtype_for

    torch.manual_seed(0)
    config = build(EncoderOnlyConfig, {**tree, "pooling": "mean", "segments": 0, "embedding": 32})
    model = EncoderOnly(config, 8, {"label": 2})
    optimizer = Optimizer(FlatWeights(model, dtype_for("auto", torch.device("cpu"))), AdamW(lr=1e-3))
    return train(model, Labels(), lambda _: batch[0], optimizer, lambda _: 1e-3)


def measured(lengths: list[int], repeats: int) -> Iterator[dict[str, float]]:
    """The median seconds of a step of each model, for one length after the other."""
    import torch

    from seqloom.data.batches.batch import ReadingBatch
    from seqloom.nn.embedders import Inputs

    batch: list[Any] = []
    steps = {name: steps_of(tree, batch) for name, tree in MODELS.items()}
    for length in lengths:
        rows = max(lengths) // length
        taken: dict[str, list[float]] = {name: [] for name in MODELS}
        for _ in range(2 + repeats):
            ids, labels = torch.randint(4, 8, (rows, length)), torch.randint(2, (rows,))
            batch[:] = [ReadingBatch(Inputs.text(ids), labels, None, rows, ())]
            for name in MODELS:
                taken[name].append(next(steps[name]).seconds)
        yield {name: statistics.median(each[2:]) for name, each in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--picture", metavar="FILE.html", help="also draw the curves")
    options = parser.parse_args()
    common.keep_kernels()
    import torch

    from seqloom.inspection.charts import Curve, line_figure
    from seqloom.inspection.page import join, page
    from seqloom.training.precision import dtype_for, keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    print("| letters | sequences |", " | ".join(MODELS), "|\n|" + "---|" * (2 + len(MODELS)))
    seconds: dict[str, list[tuple[int, float]]] = {name: [] for name in MODELS}
    for length, found in zip(options.lengths, measured(options.lengths, options.repeats), strict=True):
        for name, taken in found.items():
            seconds[name].append((length, taken))
        cells = (f"{taken:.3f}" for taken in found.values())
        print(f"| {length:,} | {max(options.lengths) // length} |", " | ".join(cells), "|", flush=True)
    facts = {**report.machine(), "torch": torch.__version__, "threads": options.threads}
    facts["precision"] = str(dtype_for("auto", torch.device("cpu")))
    note = ", ".join(f"{name}: {value}" for name, value in facts.items())
    print(note)
    if options.picture:
        curves = [Curve(name, points) for name, points in seconds.items()]
        title = f"Seconds of a step of {max(options.lengths):,} letters"
        drawn = join(line_figure(title, note, curves, lambda x: f"{x:,.0f} letters"))
        Path(options.picture).write_text(page(title, [], {"Lengths": drawn}), encoding="utf-8")


if __name__ == "__main__":
    main()
