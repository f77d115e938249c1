"""Seconds of a training step against the length of DNA: an LSTM, a Transformer, and one behind convolutions.

    python benchmarks/lengths.py --picture lengths.svg

Each step reads as many letters as the longest sequence has, in as many sequences as that makes: forward, loss,
backward, clipping, AdamW, in the precision that training chooses. The letters are random, for the time does not depend
on them. The models take turns step by step; the first steps, which compile kernels, are not timed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping
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


def steps_of(model: Any, objective: Any, batch: list[Any]) -> Iterator[Any]:
    """The training steps of a model, each on what `batch` then holds."""
    import torch

    from seqloom.training.loop import train
    from seqloom.training.optimizer import AdamW, FlatWeights, Optimizer
    from seqloom.training.precision import dtype_for

    optimizer = Optimizer(FlatWeights(model, dtype_for("auto", torch.device("cpu"))), AdamW(lr=1e-3))
    return train(model, objective, lambda _: batch[0], optimizer, lambda _: 1e-3)


def take_turns(steps: Mapping[str, Iterator[Any]], renew: Callable[[], None], repeats: int) -> dict[str, float]:
    """The median seconds of a step of each model, which take turns, each time after `renew`."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(2 + repeats):
        renew()
        for name, each in steps.items():
            taken[name].append(next(each).seconds)
    return {name: statistics.median(each[2:]) for name, each in taken.items()}


def reader(tree: dict[str, Any]) -> Any:
    """A model that classifies sequences of DNA."""
    import torch

    from seqloom.config import build
    from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig

    torch.manual_seed(0)
    config = build(EncoderOnlyConfig, {**tree, "pooling": "mean", "segments": 0, "embedding": 32})
    return EncoderOnly(config, 8, {"label": 2})


def measured(lengths: list[int], repeats: int) -> Iterator[dict[str, float]]:
    """The median seconds of a step of each model, for one length after the other."""
    import torch

    from seqloom.data.batches.batch import ReadingBatch
    from seqloom.nn.embedders import Inputs
    from seqloom.objectives.reading import Labels

    batch: list[Any] = []
    steps = {name: steps_of(reader(tree), Labels(), batch) for name, tree in MODELS.items()}
    for length in lengths:
        rows = max(lengths) // length

        def renew(rows: int = rows, length: int = length) -> None:
            ids, labels = torch.randint(4, 8, (rows, length)), torch.randint(2, (rows,))
            batch[:] = [ReadingBatch(Inputs.text(ids), labels, None, rows, ())]

        yield take_turns(steps, renew, repeats)


def begin(threads: int) -> str:
    """Set the process up as the command line does; a note of the machine, the threads and the precision."""
    common.keep_kernels()
    import torch

    from seqloom.training.precision import dtype_for, keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    precision = str(dtype_for("auto", torch.device("cpu"))).removeprefix("torch.")
    facts = {**report.machine(), "torch": torch.__version__, "threads": threads, "precision": precision}
    return ", ".join(f"{name}: {value}" for name, value in facts.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--picture", metavar="FILE.svg", help="also draw the curves")
    options = parser.parse_args()
    note = begin(options.threads)
    print("| letters | sequences |", " | ".join(MODELS), "|\n|" + "---|" * (2 + len(MODELS)))
    seconds: dict[str, list[tuple[int, float]]] = {name: [] for name in MODELS}
    for length, found in zip(options.lengths, measured(options.lengths, options.repeats), strict=True):
        for name, taken in found.items():
            seconds[name].append((length, taken))
        cells = (f"{taken:.3f}" for taken in found.values())
        print(f"| {length:,} | {max(options.lengths) // length} |", " | ".join(cells), "|", flush=True)
    print(note)
    if options.picture:
        title = f"Seconds of a step of {max(options.lengths):,} letters, by the letters of a sequence"
        report.picture(options.picture, note, {title: seconds})


if __name__ == "__main__":
    main()
