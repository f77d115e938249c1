"""Products of few rows with packed weights against torch's `F.linear`, by the size of the weight and the rows.

    python benchmarks/packed.py
    python benchmarks/packed.py --dtypes float32 --threads 1 --shapes 128x512 192x768 256x1024 --rows 1 2 8 32

A row of the table shows microseconds, plain / packed, each the best of the repeats, which take turns; the ratio of the
two; and the rates at which the weight is read. `seqloom.nn.linear.pack` applies the results.
"""

from __future__ import annotations

import argparse
import time

import torch

from seqloom.nn.linear import Linear, packed_weight


def best_of(plain: Linear, packed: Linear, x: torch.Tensor, repeats: int) -> list[float]:
    """The shortest seconds of each layer's product."""
    best = [float("inf")] * 2
    with torch.inference_mode():
        for _ in range(2 + repeats):
            for i, layer in enumerate((plain, packed)):
                begun = time.perf_counter()
                layer(x)
                best[i] = min(best[i], time.perf_counter() - begun)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["768x3072"], metavar="DxE", help="inputs x outputs")
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 8, 160])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads; plain / packed")
    print("| weight | type | rows | microseconds | ratio | GB/s |\n|---|---|---|---|---|---|")
    for dtype in options.dtypes:
        for shape in options.shapes:
            inputs, outputs = map(int, shape.split("x"))
            plain, packed = (Linear(inputs, outputs).to(getattr(torch, dtype)) for _ in range(2))
            packed.packed = packed_weight(packed.weight)
            if packed.packed is None:
                print(f"skipped: {dtype}: this processor has no kernels for packed weights of this type")
                break
            for rows in options.rows:
                x = torch.randn(rows, inputs).to(plain.weight.dtype)
                seconds = best_of(plain, packed, x, options.repeats)
                times = " / ".join(f"{1e6 * taken:.0f}" for taken in seconds)
                rates = " / ".join(f"{plain.weight.nbytes / taken / 1e9:.1f}" for taken in seconds)
                ratio = seconds[0] / seconds[1]
                print(f"| {inputs} x {outputs} | {dtype} | {rows} | {times} | {ratio:.2f} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
