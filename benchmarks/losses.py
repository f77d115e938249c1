"""Losses of the same training by seqloom and by Hugging Face: do they differ by more than seeds do?

    SEQLOOM_DATA=FOLDER python benchmarks/losses.py
    python benchmarks/losses.py --quick

All train the translation model of train_translation.py on the same batches, with the AdamW of torch's defaults. A seed
decides the batches, the first weights, which each system draws in its own way, and the dropout. A loss is the mean of
the last tenth of the steps. "ratio" is how far a mean over seeds is from that of the first system, as a multiple of
the larger standard deviation of the two.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
from functools import partial
from importlib.util import find_spec

import common
import torch
import train_translation
import translation_data

from seqloom.training.optimizer import AdamW

ADAMW = AdamW(lr=train_translation.LEARNING_RATE, clip=common.CLIP, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
SYSTEMS = {
    "Hugging Face Marian, fp32": train_translation.SYSTEMS["hf-fp32"][1],
    "seqloom, fp32": partial(train_translation.seqloom_stepper, precision="fp32", optimizer=ADAMW),
    "seqloom, as the command line trains": partial(train_translation.seqloom_stepper, optimizer=ADAMW),
}


def main() -> None:
    """Read the options, train each system with each seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=768, help="the most target tokens of a batch")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="a smoke test: two steps, meaningless figures")
    options = parser.parse_args()
    if len({*options.seeds}) < max(2, len(options.seeds)) or min(options.steps, options.tokens) < 1:
        parser.error("a spread needs two different --seeds, and --steps and --tokens are at least 1")
    if find_spec("transformers") is None:
        common.stop("transformers is not installed: pip install 'seqloom[verify]'")
    steps = 2 if options.quick else options.steps
    torch.set_num_threads(options.threads)
    pairs = translation_data.load(1, quick=options.quick).pairs
    losses: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    for seed in options.seeds:
        batches = translation_data.batches(pairs, options.tokens, random.Random(seed))[:steps]
        for name, build in SYSTEMS.items():
            torch.manual_seed(seed)
            stepper = build(batches)
            taken = [stepper.step(i % len(batches)) for i in range(steps)]
            losses[name].append(statistics.mean(taken[-max(1, steps // 10) :]))
            print(f"seed {seed}, {name}: {losses[name][-1]:.3f}", flush=True)
    first = next(iter(losses.values()))
    print(f"\nloss after {steps} steps {'':20} {'mean':>8} {'± sd':>8} {'ratio':>8}")
    for name, values in losses.items():
        spread = max(map(statistics.stdev, (values, first)))
        ratio = abs(statistics.mean(values) - statistics.mean(first)) / spread
        print(f"{name:40} {statistics.mean(values):8.3f} {statistics.stdev(values):8.3f} {ratio:8.2f}")


if __name__ == "__main__":
    main()
