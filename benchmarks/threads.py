"""The cost of waiting threads: matrix products per second on two threads, alone and beside busy programs.

    python benchmarks/threads.py [--busy 1] [--rounds 3] [--settings NAME ...] [--seconds 3]

Each setting runs in a process of its own, because libgomp reads its environment once, when it is loaded. The settings
take turns, so that a machine that slows down does so for all of them. Each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    **{f"GOMP_SPINCOUNT={n}": {"GOMP_SPINCOUNT": str(n)} for n in (0, 1000, 3000, 10_000)},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def products(seconds: float) -> float:
    """Products of 600 x 192 x 512 per second, each with an activation after it, as in a layer."""
    import torch

    x, w = torch.randn(600, 192), torch.randn(192, 512)
    for _ in range(50):
        (x @ w).relu()
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(20):
            (x @ w).relu()
        count += 20
    return count / passed


def measured(setting: dict[str, str], seconds: float) -> float:
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    result = subprocess.run(
        [sys.executable, __file__, "--one", "--seconds", str(seconds)],
        env=clean | setting,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=1, help="busy programs beside it; each takes a core")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS, metavar="NAME")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(products(options.seconds))
        return
    figures: dict[str, dict[str, float]] = {}
    for title, count in (("alone", 0), (f"beside {options.busy}", options.busy)):
        beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            rounds = [
                {name: measured(SETTINGS[name], options.seconds) for name in options.settings}
                for _ in range(options.rounds)
            ]
        finally:
            for program in beside:
                program.kill()
                program.wait()
        figures[title] = {name: statistics.median(row[name] for row in rounds) for name in options.settings}
    first = options.settings[0]
    alone = figures["alone"][first]
    print(f"{'setting':26s}" + "".join(f"{title:>12s} {'ratio':>11s}" for title in figures))
    for name in options.settings:
        print(f"{name:26s}" + "".join(f"{rate[name]:12.0f} {rate[name] / alone:10.2f}x" for rate in figures.values()))
    print(f"ratio: the rate over that of {first} alone")


if __name__ == "__main__":
    main()
