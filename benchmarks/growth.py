"""How the cost of training grows: tokens per second of language models by batch, length, width and vocabulary.

    python benchmarks/growth.py --picture docs/growth.svg

One of the four sizes varies, the others are as in BASE. A step is forward, loss, backward, clipping and AdamW, in the
precision that training chooses, on random tokens, for the time does not depend on them. The models take turns step by
step; the first steps, which compile kernels, are not timed.
"""

from __future__ import annotations

import argparse
from typing import Any

import lengths
import report

BASE = {"batch": 8, "length": 128, "width": 128, "vocabulary": 4096}
AXES = {
    "batch": [1, 2, 4, 8, 16, 32, 48],
    "length": [32, 64, 128, 256, 512, 1024],
    "width": [64, 128, 256, 384, 512],
    "vocabulary": [1024, 4096, 8192, 16384, 32768],
}
MODELS: dict[str, dict[str, Any]] = {
    "Transformer": {"kind": "transformer", "layers": 2, "heads": 4, "positions": "rotary"},
    "LSTM": {"kind": "recurrent", "cell": "lstm", "layers": 2},
    "convolutional": {"kind": "convolutional", "layers": 2},
}


def writer(tree: dict[str, Any], width: int, vocabulary: int) -> Any:
    """A language model."""
    import torch

    from seqloom.config import build
    from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel

    inner = {"inner": 4 * width} if tree["kind"] == "transformer" else {}
    torch.manual_seed(0)
    return LanguageModel(build(DecoderOnlyConfig, {"decoder": {**tree, **inner, "width": width}}), vocabulary)


def tokens_per_second(sizes: dict[str, int], repeats: int) -> dict[str, float]:
    """Of each model, with these sizes."""
    import torch

    from seqloom.data.batches.batch import StreamBatch
    from seqloom.nn.embedders import Inputs
    from seqloom.objectives.next_token import NextToken

    batch: list[Any] = []
    rows, length, width, vocabulary = (sizes[name] for name in BASE)

    def renew() -> None:
        ids = torch.randint(vocabulary, (rows, length + 1))
        batch[:] = [StreamBatch(Inputs.text(ids[:, :-1].contiguous()), ids[:, 1:].contiguous(), True, rows * length)]

    models = {name: writer(tree, width, vocabulary) for name, tree in MODELS.items()}
    steps = {name: lengths.steps_of(model, NextToken(), batch) for name, model in models.items()}
    taken = lengths.take_turns(steps, renew, repeats)
    return {name: rows * length / seconds for name, seconds in taken.items()}


def main() -> None:
    """Read the options, measure, and print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, values in AXES.items():
        parser.add_argument(f"--{name}", nargs="*", type=int, default=values)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--picture", metavar="FILE.svg", help="also draw the curves")
    options = parser.parse_args()
    note = lengths.begin(options.threads)
    charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for axis in AXES:
        print(f"| {axis} |", " | ".join(MODELS), "|\n|" + "---|" * (1 + len(MODELS)))
        curves = charts.setdefault(f"tokens per second, by {axis}", {name: [] for name in MODELS})
        for value in getattr(options, axis):
            rates = tokens_per_second({**BASE, axis: value}, options.repeats)
            for name, rate in rates.items():
                curves[name].append((value, rate))
            print(f"| {value:,} |", " | ".join(f"{rate:,.0f}" for rate in rates.values()), "|", flush=True)
    note = f"Otherwise {', '.join(f'{name} {value:,}' for name, value in BASE.items())}. {note}"
    print(note)
    if options.picture:
        report.picture(options.picture, note, charts)


if __name__ == "__main__":
    main()
