"""Every comparison in one go: the first table of docs/benchmarks.md, with a column for each kind of processor.

    make bench BENCH='--word2vec PATH --joeynmt-python PATH --run runs/en-de --texts sentences.txt'
    python benchmarks/suite.py --works generate words
    python benchmarks/suite.py --as-avx2
    python benchmarks/suite.py --smoke

Each work is a script of this folder, whose systems take turns. What is not installed is skipped and named. The figures
go into the column of this processor: AVX2, where float32 is the fastest type, or bf16. The other column stays as it
is, and so do the works that were not run, unless the column was of another machine; then it begins anew.

Shares of the limit are seqloom's: arithmetic of a training as a share of the rate of products of 2,048 x 2,048 here, in
the type that seqloom computes in, and weights read in generation as a share of the rate at which memory is read.
--as-avx2 keeps torch, MKL, CTranslate2, numba and OpenBLAS from all instructions beyond AVX2; compiled peers still have
them.

--smoke runs few works with one thread, and fails where a ratio is below its floor by more than the noise, three times
in succession.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import common
import report
import train_encoder
import train_gpt
import train_translation
import translation_data
from common import INNER, LAYERS, VOCAB_SIZE, WIDTH

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/benchmarks.md"
BEGIN, END = "<!-- written by make bench -->", "<!-- end of what make bench writes -->"
COLUMNS, NONE = ("AVX2", "bf16"), "–"
AS_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "CT2_FORCE_CPU_ISA": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+f16c,+popcnt,+sse4.2",
    "OPENBLAS_CORETYPE": "Haswell",
}
TEXTS = ("imdb/unlabelled.txt.xz", "multi30k/train.en.xz", "novels/train.txt.xz")
WORDS = 5_000_000  # of the corpus of word vectors


class Work(NamedTuple):
    """One run of a script.

    Args:
        title: the work, as the table names it.
        script, options: what is run.
        peers: the peers in the table, each by the key that `ratios` gives its ratio.
        ours: of a script with --systems, seqloom's, of which the last that has a place here is compared.
        arithmetic: floating-point operations of each token or image, if the limit is arithmetic.
        needs: a package without which there is nothing to compare.
    """

    title: str
    script: str
    options: Sequence[str]
    peers: Mapping[str, str]
    ours: Sequence[str] = ()
    arithmetic: int = 0
    needs: str = ""


# Three times 2 operations for each weight and token (forward, and both gradients), of all weights that tokens are
# multiplied with; and the products of a context with itself (Chowdhery et al. 2022, appendix B). Translations are so
# short that the latter are left out, and so are the first and the last layer of a ViT. seqloom's BERT scores the
# vocabulary at masked tokens alone.
def blocks(layers: int, width: int, length: int) -> int:
    """The operations of a position in a Transformer whose feed-forward layers are four times as wide as it is."""
    return 12 * layers * width * (6 * width + length)


_BERT, _VIT = train_encoder.MODELS["bert"], train_encoder.MODELS["vit"]
BERT_HEAD = round(6 * train_encoder.MASKED * _BERT.width * (_BERT.width + _BERT.vocab_size))
BERT = blocks(_BERT.layers, _BERT.width, _BERT.positions) + BERT_HEAD
VIT = _VIT.positions * blocks(_VIT.layers, _VIT.width, _VIT.positions)
GPT = blocks(train_gpt.LAYERS, train_gpt.WIDTH, 256) + 6 * train_gpt.VOCAB_SIZE * train_gpt.WIDTH
TRANSLATION = 6 * (LAYERS * (12 * WIDTH**2 + 4 * WIDTH * INNER) + VOCAB_SIZE * WIDTH)
_LSTM = train_translation.LSTM_WIDTH
LSTM = 6 * (2 * train_translation.LSTM_LAYERS * 8 * _LSTM**2 + VOCAB_SIZE * _LSTM)

NANOGPT = {
    "nanogpt-fp32": "nanoGPT, fp32",
    "nanogpt-fp32+alloc": "nanoGPT, fp32, allocator set",
    "nanogpt-bf16+alloc": "nanoGPT, bf16 autocast, allocator set",
    "nanogpt-bf16-plain+alloc": "nanoGPT, bf16, plain attention, allocator set",
}
ENGINES = {
    "ours, float32": ("Hugging Face generate", "Hugging Face generate"),
    "--engine ctranslate2": ("CTranslate2 itself", "CTranslate2 directly"),
}
"""Of engines.py, each of seqloom's with its peer, as the table names both and by its own name."""
ENCODER = {
    "hf-fp32": "Hugging Face, fp32",
    "hf-fp32+alloc": "Hugging Face, fp32, allocator set",
    "hf-fp32-eager+alloc": "Hugging Face, fp32, eager, allocator set",
    "hf-bf16": "Hugging Face, bf16 autocast",
    "hf-bf16-eager+alloc": "Hugging Face, bf16, eager, allocator set",
}
GENERATION = {"hf-fp32": "Hugging Face, fp32", "hf-bf16": "Hugging Face, bf16"}
WORKS = {
    "train-translation": Work(
        "training a translation model",
        "train_translation",
        ["--batches", "6"],
        {
            "hf-fp32": "Hugging Face Marian, fp32",
            "hf-fp32+alloc": "Marian, fp32, allocator set",
            "hf-bf16": "Marian, bf16 autocast",
            "hf-bf16-eager+alloc": "Marian, bf16 autocast, eager, allocator set",
            "hf-bf16-weights-eager+alloc": "Marian, bf16 weights, eager, allocator set",
        },
        ["seqloom+alloc"],
        TRANSLATION,
    ),
    "train-lstm": Work(
        "training an LSTM to translate",
        "train_translation",
        ["--batches", "6"],
        {
            "lstm-fp32": "torch.nn.LSTM, fp32",
            "lstm-fp32+alloc": "torch.nn.LSTM, fp32, allocator set",
            "lstm-bf16": "torch.nn.LSTM, bf16 autocast",
            "lstm-bf16+alloc": "torch.nn.LSTM, bf16, allocator set",
            "lstm-bf16-weights+alloc": "torch.nn.LSTM, bf16 weights, allocator set",
        },
        ["seqloom-lstm+alloc"],
        LSTM,
    ),
    "train-gpt": Work(
        "training a GPT, dropout 0.2",
        "train_gpt",
        ["--steps", "4", "--batch", "32"],
        NANOGPT,
        ["seqloom+alloc"],
        GPT,
    ),
    "train-gpt-plain": Work(
        "training a GPT, no dropout",
        "train_gpt",
        ["--steps", "4", "--batch", "32", "--dropout", "0"],
        NANOGPT,
        ["seqloom+alloc"],
        GPT,
    ),
    "train-bert": Work(
        "training a BERT", "train_encoder", ["--model", "bert", "--steps", "4"], ENCODER, ["seqloom+alloc"], BERT
    ),
    "train-vit": Work(
        "training a ViT", "train_encoder", ["--model", "vit", "--steps", "4"], ENCODER, ["seqloom+alloc"], VIT
    ),
    "translate": Work(
        "translating, beam 5",
        "translate",
        ["--rounds", "1"],
        {
            "hf-fp32": "Hugging Face, fp32",
            "hf-fp32+alloc": "Hugging Face, fp32, allocator set",
            "hf-bf16": "Hugging Face, bf16",
            "hf-bf16-eager+alloc": "Hugging Face, bf16, eager, allocator set",
            "joeynmt": "JoeyNMT 2.3, fp32",
        },
        ["seqloom-fp32+alloc", "seqloom-bf16+alloc"],
    ),
    "engines": Work(
        "translating by a trained run",
        "engines",
        ["--most", "64", "--rounds", "3"],
        {
            f"{engine}, {size} at a time, {search}": f"{peer}, {size} at once, {search}"
            for engine, (peer, _) in ENGINES.items()
            for search in ("greedy", "beam 5")
            for size in (1, 32)
        },
        needs="ctranslate2",
    ),
    "generate": Work("generation by GPT-2, 1 text", "generate_gpt", [], GENERATION, ["seqloom-fp32", "seqloom-bf16"]),
    "generate-8": Work(
        "generation by GPT-2, 8 texts",
        "generate_gpt",
        ["--rows", "8", "--rounds", "3"],
        GENERATION,
        ["seqloom-fp32", "seqloom-bf16"],
    ),
    "words": Work(
        "word vectors",
        "words",
        [],
        {
            f"{method}, {what}, {system}": f"{system}, {method}, {what}"
            for method in ("skip-gram", "cbow")
            for what, system in (
                ("training alone", "gensim"),
                ("whole process", "gensim"),
                ("whole process", "word2vec.c"),
            )
        },
        needs="numba",
    ),
}
# Less than half of what was measured on one thread: training 3.10 with bfloat16 and 1.12 as AVX2 alone, generation
# 1.17 and 0.97.
SMOKE = {
    "train-translation": (["--batches", "2", "--passes", "3"], "hf-fp32", 0.5),
    "generate": (["--rounds", "5", "--tokens", "16"], "hf-fp32", 0.4),
}
Figures = dict[str, tuple[list[float], float | None]]  # by peer, the ratios of each turn, and the share of the limit


def fast_bf16() -> bool:
    import torch

    from seqloom.training.precision import bf16_is_fast

    return bf16_is_fast(torch.device("cpu"))


def systems(work: Work, peers: Iterable[str]) -> list[str]:
    """The systems that compute in types for which this processor has instructions: the peers, and one of ours."""
    allowed = [[name for name in names if fast_bf16() or "bf16" not in name] for names in (peers, work.ours)]
    return [*allowed[0], *allowed[1][-1:]] if work.ours else []


def command(work: Work, options: argparse.Namespace, folder: Path) -> list[str]:
    """The arguments of a work's script, without those for the systems. Raises OSError if something is not there."""
    chosen = [*work.options]
    if options.quick:
        chosen.append("--quick")
    if work.script == "train_gpt":
        if not (Path(options.nanogpt) / "model.py").is_file():
            raise OSError("nanoGPT is not there: --nanogpt FOLDER")
        chosen += ["--nanogpt", options.nanogpt]
    elif work.script == "translate" and options.joeynmt_python:
        chosen += ["--joeynmt-python", options.joeynmt_python]
    elif work.script == "engines" and not options.quick:
        if not (options.run and options.texts):  # with random weights no text ends, which is not what it is used for
            raise OSError("a run that translates and its texts are not named: --run RUN --texts FILE")
        chosen += ["--run", options.run, "--texts", options.texts]
    elif work.script == "words":
        chosen = [str(corpus(folder)), *work.options, "--word2vec", options.word2vec]
    return chosen


def corpus(folder: Path) -> Path:
    """The text for word vectors, in lower case, letters and digits alone."""
    data = os.environ.get("SEQLOOM_DATA")
    if not data:
        raise OSError("its text comes from the folder that SEQLOOM_DATA names, which is not set")
    path, left = folder / "corpus.txt", WORDS
    with path.open("w", encoding="utf-8") as file:
        for name in TEXTS:
            for line in translation_data.lines(Path(data) / name):
                words = re.findall("[a-z0-9]+", line.lower())[: max(0, left)]
                left -= len(words)
                file.write(" ".join(words) + "\n" if words else "")
    return path


def run(work: Work, arguments: Sequence[str], peers: Iterable[str], threads: int, path: Path) -> Any:
    """The JSON of a work's script."""
    words = [sys.executable, str(HERE / f"{work.script}.py"), *arguments, "--threads", str(threads)]
    chosen = systems(work, peers)
    words += ["--systems", *chosen] if chosen else []
    subprocess.run([*words, "--json", str(path)], stdout=subprocess.DEVNULL, check=True)
    return json.loads(path.read_text(encoding="utf-8"))


def ratios(made: Any, limit: float) -> Figures:
    """What a script's JSON says of each peer.

    Args:
        limit: the tokens per second that the machine's arithmetic would allow; 0 = another limit, or none.
    """
    if isinstance(made, list):  # engines.py
        rates = {(row["work"], row["engine"]): row["rates"] for row in made}
        return {
            f"{engine}, {work}": (divided(rates[work, engine], rates[work, peer]), None)
            for engine, (_, peer) in ENGINES.items()
            for work, of in rates
            if of == peer
        }
    if "speed" in made:  # words.py
        rows = {(row["method"], row["what"], row["system"]): row for row in made["speed"]}
        return {
            f"{method}, {what}, {system}": (
                divided(rows[method, what, "seqloom"]["rates"], row["rates"]),
                rows[method, what, "seqloom"].get("share_of_peak"),
            )
            for (method, what, system), row in rows.items()
        }
    rows = {row["system"]: row for row in made["systems"]}
    ours = [row for name, row in rows.items() if name.startswith("seqloom")][-1]
    share = ours["median"] / limit if limit else ours["extra"].get("of the memory's rate")
    return {name: (divided(ours["rates"], row["rates"]), share) for name, row in rows.items()}


def divided(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


# ---- the page ----

Cells = dict[tuple[str, str], list[str]]  # of each work and peer, the columns


def written(text: str) -> tuple[Cells, dict[str, str]]:
    """The cells of the table in a page, and the note of each column."""
    block = text.partition(BEGIN)[2].partition(END)[0]
    cells, title = {}, ""
    for line in re.findall(r"^\| (.*) \|$", block, re.MULTILINE)[1:]:
        work, peer, *rest = (cell.strip() for cell in line.split("|"))
        title = work or title
        cells[title, peer] = rest
    notes = re.findall(r"^- (\w+): (.*(?:\n  .*)*)", block, re.MULTILINE)
    return cells, {name: re.sub(r"\s+", " ", note) for name, note in notes}


def rewritten(text: str, column: str, note: str, new: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """A page with what was measured in the column of this machine.

    Args:
        note: the machine, then after a semicolon what may differ within a column.
        new: a ratio and a share of the limit for each work and peer.
    """
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    cells, notes = written(text)
    same = notes.get(column, "").partition(";")[0] == note.partition(";")[0]
    at = 2 * COLUMNS.index(column)
    heading = " | ".join(f"{name} | of the limit" for name in COLUMNS)
    lines, last = [f"| work | peer | {heading} |", "|---" * (2 + 2 * len(COLUMNS)) + "|"], ""
    for title, peer in ((work.title, peer) for work in WORKS.values() for peer in work.peers.values()):
        row = cells.get((title, peer), [NONE] * 2 * len(COLUMNS))
        if not same:
            row[at : at + 2] = [NONE, NONE]
        row[at : at + 2] = new.get((title, peer), row[at : at + 2])
        lines.append(f"| {title if title != last else ''} | {peer} | {' | '.join(row)} |")
        last = title
    notes[column] = note
    shown = [
        textwrap.fill(f"- {name}: {notes.get(name, 'not measured')}", 118, subsequent_indent="  ") for name in COLUMNS
    ]
    return head + "\n".join([BEGIN, "", *lines, "", *shown, "", END]) + tail


def shown(figures: tuple[list[float], float | None]) -> list[str]:
    """The cells of a ratio and a share."""
    turns, share = figures
    ends = f" ({min(turns):.2f} - {max(turns):.2f})" if len(turns) > 1 else ""
    return [f"{statistics.median(turns):.2f}{ends}", NONE if share is None else f"{100 * share:.0f} %"]


def machine() -> str:
    """This machine, and behind a semicolon the versions and the day."""
    facts, imitated = report.machine(), AS_AVX2.items() <= os.environ.items()
    units = "avx2 alone, imitated" if imitated else facts["units"]
    found = common.versions("torch", "transformers", "ctranslate2", "gensim")
    versions = ", ".join(f"{name} {version}" for name, version in found.items())
    return f"{facts['processor']}, {facts['cores']} cores, {units}; {versions}; {time.strftime('%Y-%m-%d')}"


# ---- what is run ----


def measured(work: Work, options: argparse.Namespace) -> Figures:
    """The figures of one work. Raises OSError with the reason why there are none."""
    if work.needs and find_spec(work.needs) is None:
        raise OSError(f"{work.needs} is not installed")
    dtype = "bfloat16" if fast_bf16() else "float32"
    with TemporaryDirectory() as folder:
        arguments, path = command(work, options, Path(folder)), Path(folder) / "made.json"
        rates = [common.product_rate(options.threads, 2048, dtype)] if work.arithmetic else []
        made = run(work, arguments, work.peers, options.threads, path)
        rates += [common.product_rate(options.threads, 2048, dtype)] if work.arithmetic else []
    return ratios(made, max(rates) * 1e9 / work.arithmetic if rates else 0.0)


def fill(options: argparse.Namespace) -> int:
    """Run the works and write the table, after each of them; how many failed."""
    page, failed = Path(options.page), 0
    for work in (WORKS[name] for name in options.works):
        began = time.monotonic()
        try:
            figures = measured(work, options)
        except OSError as error:
            print(f"skipped: {work.title}: {error}", file=sys.stderr)
            continue
        except subprocess.CalledProcessError as error:
            print(f"failed: {work.title}: {error}", file=sys.stderr)
            failed += 1
            continue
        new = {(work.title, work.peers[key]): shown(found) for key, found in figures.items() if key in work.peers}
        text = rewritten(page.read_text(encoding="utf-8"), COLUMNS[fast_bf16()], machine(), new)
        page.write_text(text, encoding="utf-8")
        for (title, peer), (ratio, share) in new.items():
            print(f"{title:30} {peer:50} ratio {ratio:20} {share}")
        print(f"{work.title} took {time.monotonic() - began:.0f} s", flush=True)
    return failed


def fallen(turns: Sequence[float], floor: float) -> bool:
    """Whether the median ratio is below its floor by more than the middle half of all turns spreads."""
    low, _, high = statistics.quantiles(turns, n=4)
    return statistics.median(turns) + high - low < floor


def smoke() -> int:
    """Run the works of SMOKE, each up to three times; how many stay below their floors."""
    failed = 0
    for name, (arguments, peer, floor) in SMOKE.items():
        for _ in range(3):
            with TemporaryDirectory() as folder:
                figures = ratios(run(WORKS[name], arguments, [peer], 1, Path(folder) / "made.json"), 0.0)
            if peer not in figures:
                below = False
                break
            turns = figures[peer][0]
            below = fallen(turns, floor)
            ratio = f"{statistics.median(turns):.2f} ({min(turns):.2f} - {max(turns):.2f})"
            verdict = f"{'BELOW' if below else 'above'} its floor of {floor}"
            print(f"{WORKS[name].title} / {WORKS[name].peers[peer]}: {ratio}, {verdict}", flush=True)
            if not below:
                break
        failed += below
    return failed


def main() -> None:
    """Read the options, and run all works or the smoke test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="+", default=list(WORKS), choices=WORKS, metavar="NAME", help=", ".join(WORKS))
    parser.add_argument("--page", default=str(PAGE), help="where the table is")
    parser.add_argument("--nanogpt", default="", metavar="FOLDER", help="a checkout of nanoGPT")
    parser.add_argument("--word2vec", default="", metavar="PATH", help="the original C program, compiled")
    parser.add_argument("--joeynmt-python", default="", metavar="PATH", help="the Python of JoeyNMT's environment")
    parser.add_argument("--run", default="", help="a run that translates texts")
    parser.add_argument("--texts", default="", metavar="FILE", help="its texts, one per line")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--as-avx2", action="store_true", help="imitate a processor with AVX2 alone")
    parser.add_argument("--smoke", action="store_true", help="few works, which fail below their floors")
    parser.add_argument("--quick", action="store_true", help="tiny work, meaningless figures")
    options = parser.parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as seqloom's command line sets it, here for all systems
    if options.as_avx2:
        os.environ.update(AS_AVX2)
    if smoke() if options.smoke else fill(options):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
