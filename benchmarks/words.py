"""Word vectors: the speed and the quality of seqloom, gensim and the original C program, in one run.

    python benchmarks/words.py CORPUS [--word2vec PATH] [--rounds 3] [--seeds 1 2 3] [--tests FILE ...]

CORPUS is text with one sentence per line and blanks between words. Speed: one epoch each, taking turns; raw words per
second of training alone, and of whole processes from the text file to the vectors. In training alone gensim reads the
file while it trains (corpus_file, its fastest way), and seqloom has read it before; in whole processes both read it.
Quality: all epochs, each seed, the same test lists and the same vocabulary for both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common
import gensim_peer
import numpy as np

from seqloom.data.sources.words import WordText
from seqloom.evaluation.word_tests import word_test
from seqloom.interop.vectors import from_gensim
from seqloom.models.word_vectors import Word2Vec, Word2VecConfig, WordVectors
from seqloom.training.log import Reporter
from seqloom.training.schedule import Linear
from seqloom.training.word_learner import BlockConfig, WordLearner

WIDTH, WINDOW, NEGATIVE, SAMPLE, LEAST = 100, 5, 5, 1e-3, 5
RATES = {"skip-gram": 0.025, "cbow": 0.05}
Json = dict[str, Any]
Trained = tuple[WordVectors, float]


class Seqloom:
    """The text, read once, and trainings on it, each from the start."""

    def __init__(self, corpus: str, folder: Path, threads: int) -> None:
        self.threads = threads
        began = time.perf_counter()
        self.vocabulary, self.ids = WordText((corpus,), min_count=LEAST).encoded(folder, Reporter(0).say)
        self.reading = time.perf_counter() - began

    def train(self, method: str, epochs: int, seed: int) -> Trained:
        config = Word2VecConfig(method, WIDTH, WINDOW, True, NEGATIVE, 0.75, SAMPLE)  # type: ignore[arg-type]
        model = Word2Vec(config, len(self.vocabulary), seed)
        learner = WordLearner(model, self.vocabulary, self.ids, BlockConfig(), seed, self.threads)
        total = epochs * learner.per_epoch
        steps = learner.steps(0, lambda n: RATES[method] * Linear(0, 1e-4).factor(n, total))
        began = time.perf_counter()
        for _ in range(total):
            next(steps)
        return WordVectors(self.vocabulary, model.input.numpy()), time.perf_counter() - began


def gensim_settings(method: str, epochs: int, seed: int, threads: int) -> Json:
    """The same training in gensim's words."""
    sizes: Json = {"vector_size": WIDTH, "window": WINDOW, "negative": NEGATIVE, "sample": SAMPLE, "min_count": LEAST}
    rate: Json = {"sg": int(method == "skip-gram"), "alpha": RATES[method]}
    return sizes | rate | {"seed": seed, "workers": threads, "epochs": epochs}


def train_gensim(corpus: str, method: str, epochs: int, seed: int, threads: int) -> Trained:
    model, seconds = gensim_peer.train(corpus, gensim_settings(method, epochs, seed, threads))
    return from_gensim(model.wv), seconds


def whole_gensim(corpus: str, method: str, threads: int) -> float:
    """Seconds of a program that trains gensim for one epoch, from the file to the vectors."""
    with tempfile.TemporaryDirectory() as folder:
        settings = json.dumps(gensim_settings(method, 1, 1, threads))
        return seconds_of([sys.executable, gensim_peer.__file__, corpus, f"{folder}/v.bin", settings])


def whole_original(program: str, corpus: str, method: str, threads: int) -> float:
    """Seconds of the C program for one epoch, from the file to the vectors."""
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "-train", corpus, "-output", f"{folder}/v.bin", "-binary", "1", "-iter", "1"]
        command += ["-size", str(WIDTH), "-window", str(WINDOW), "-negative", str(NEGATIVE), "-hs", "0"]
        command += ["-sample", str(SAMPLE), "-min-count", str(LEAST), "-threads", str(threads)]
        command += ["-cbow", str(int(method == "cbow")), "-alpha", str(RATES[method])]
        return seconds_of(command)


def seconds_of(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def whole_seqloom(corpus: str, method: str, threads: int) -> float:
    """Seconds of `seqloom train`, from the file to the run with its report."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "words.toml"
        config.write_text(
            f'task = "embed_words"\nrun = "{folder}/run"\n[data]\ntrain = ["{corpus}"]\n'
            f'[model]\nmethod = "{method}"\n[optimizer]\nlr = {RATES[method]}\n'
            f"[training]\nepochs = 1\nthreads = {threads}\n"
        )
        return seconds_of([sys.executable, "-m", "seqloom", "train", str(config), "-q"])


def arithmetic(seqloom: Seqloom, raw: int, method: str) -> float:
    """Floating-point operations per raw word: products and two updates for the words that subsampling keeps."""
    counts = seqloom.vocabulary.counts
    share = SAMPLE * counts.sum() / counts
    kept = float((counts * np.minimum(1, np.sqrt(share) + share)).sum()) / raw
    neighbours = 2 * (WINDOW + 1) / 2  # on average, away from the ends of lines
    products = (1 + NEGATIVE) * WIDTH * 2
    return kept * (3 * products * neighbours if method == "skip-gram" else 3 * products + 2 * neighbours * WIDTH * 2)


def speeds(options: argparse.Namespace, seqloom: Seqloom, raw: int) -> list[Json]:
    corpus, threads = options.corpus, options.threads
    rows: list[Json] = []
    limit = common.product_rate(threads, options.product, "float32")
    for method in options.methods:
        alone: dict[str, Callable[[], float]] = {
            "seqloom": lambda method=method: seqloom.train(method, 1, 1)[1],  # type: ignore[misc]
            "gensim": lambda method=method: train_gensim(corpus, method, 1, 1, threads)[1],  # type: ignore[misc]
        }
        whole: dict[str, Callable[[], float]] = {
            "seqloom": partial(whole_seqloom, corpus, method, threads),
            "gensim": partial(whole_gensim, corpus, method, threads),
        }
        if not options.gensim:
            del alone["gensim"], whole["gensim"]
        if options.word2vec:
            whole["word2vec.c"] = partial(whole_original, options.word2vec, corpus, method, threads)
        seqloom.train(method, 1, 1)  # compiles the kernel
        for what, systems in (("training alone", alone), ("whole process", whole)):
            times: dict[str, list[float]] = {name: [] for name in systems}
            for _ in range(options.rounds):
                for name, run in systems.items():
                    times[name].append(run())
            for name, taken in times.items():
                ratios = [a / b for a, b in zip(taken, times["seqloom"], strict=True)]
                rate = raw / statistics.median(taken)
                row = {"method": method, "what": what, "system": name, "words_per_second": rate}
                row |= {"least": raw / max(taken), "most": raw / min(taken), "seqloom_is": statistics.median(ratios)}
                row["rates"] = [raw / seconds for seconds in taken]
                if what == "training alone" and name == "seqloom":
                    row["share_of_peak"] = rate * arithmetic(seqloom, raw, method) / 1e9 / limit
                    row["peak_gflops"] = limit
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def quality(options: argparse.Namespace, seqloom: Seqloom) -> list[Json]:
    rows: list[Json] = []
    for method in options.methods:
        for seed in options.seeds:
            trained = {"seqloom": seqloom.train(method, options.epochs, seed)}
            if options.gensim:
                trained["gensim"] = train_gensim(options.corpus, method, options.epochs, seed, options.threads)
            for system, (vectors, seconds) in trained.items():
                index = vectors.vocabulary.index
                order = [index[word] for word in seqloom.vocabulary.words]
                aligned = WordVectors(seqloom.vocabulary, vectors.vectors[order])
                row: Json = {"method": method, "system": system, "seed": seed, "seconds": seconds}
                for path in options.tests:
                    result = word_test(aligned, path, 30_000)
                    if result["kind"] == "similarity":
                        row[result["file"]] = result["spearman"]
                    else:
                        row |= {s["section"]: s["accuracy"] for s in result["sections"][-3:]}
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--word2vec", default="", help="the original C program, compiled")
    parser.add_argument("--methods", nargs="+", default=list(RATES), choices=RATES)
    parser.add_argument("--product", type=int, default=2048, help="rows of the matrices that show the processor's rate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tests", nargs="*", default=[])
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    if not options.word2vec:
        print("skipped: the original C program; name it by --word2vec PATH", file=sys.stderr)
    options.gensim = find_spec("gensim") is not None
    if not options.gensim:
        print("skipped: gensim, which is not installed", file=sys.stderr)
    with open(options.corpus, encoding="utf-8") as file:  # noqa: PTH123
        raw = sum(len(line.split()) for line in file)
    with tempfile.TemporaryDirectory() as folder:
        seqloom = Seqloom(options.corpus, Path(folder), options.threads)
        print(
            f"{raw:,} words, {len(seqloom.vocabulary):,} different; read and encoded in {seqloom.reading:.1f} s",
            flush=True,
        )
        report = {"words": raw, "speed": speeds(options, seqloom, raw) if options.rounds else []}
        report["quality"] = quality(options, seqloom) if options.seeds else []
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
