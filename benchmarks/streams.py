"""Texts translated per second by our own engine on one thread, on all, and in as many streams of one thread.

    GOMP_SPINCOUNT=1000 python benchmarks/streams.py --run runs/demo --texts sentences.txt
    python benchmarks/streams.py --quick

The three take turns, and the first turn does not count. "ratio" is the speed as a multiple of the better one of one
thread and all, "same" how many of the texts have the very translation and log-probability of one thread. Without --run,
it is a Transformer of the demo's size with random weights.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from engines import write_translator

from seqloom.decoding.config import BeamSearch, Greedy
from seqloom.decoding.streams import Streams
from seqloom.tasks import load


def main() -> None:
    """Read the options, let the three take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a run that translates texts")
    parser.add_argument("--texts", help="a file with one text per line")
    parser.add_argument("--most", type=int, default=1000, help="texts that are translated")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "auto"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args()
    lines = Path(options.texts or __file__).read_text(encoding="utf-8").split("\n")
    texts = [line for line in lines if line.strip()][: 9 if options.quick else options.most]
    most, rounds = options.threads, 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or write_translator(Path(folder), *((1, 16) if options.quick else (3, 192)))
        print(f"{'':16} {'':20} {'texts/s':>10} {'ratio':>8} {'same':>6}")
        for precision in options.precisions:
            for config in (Greedy(max_length=60), BeamSearch(max_length=60)):
                translator = load(run, precision=precision, rows=2 if options.quick else 128)
                translator.config = config
                streams = Streams(translator.hypotheses, most)
                ways = {"one thread": (1, None), "all threads": (most, None), "streams": (1, streams)}
                seconds: dict[str, list[float]] = {name: [] for name in ways}
                results = {}
                for _ in range(rounds + 1):
                    for name, (threads, translator.streams) in ways.items():
                        torch.set_num_threads(threads)
                        began = time.perf_counter()
                        results[name] = translator.translate(texts)
                        seconds[name].append(time.perf_counter() - began)
                streams.close()
                rates = {name: len(texts) / statistics.median(taken[1:]) for name, taken in seconds.items()}
                best = max(rates["one thread"], rates["all threads"])
                for name, rate in rates.items():
                    same = sum(a == b for a, b in zip(results[name], results["one thread"], strict=True))
                    work = f"{precision}, {config.kind}"
                    print(f"{work:16} {name:20} {rate:10.1f} {rate / best:8.2f} {same:6d}", flush=True)


if __name__ == "__main__":
    main()
