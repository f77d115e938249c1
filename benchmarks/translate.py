"""Translation speed with a beam of 5: seqloom, Hugging Face and JoeyNMT, in one run.

    python benchmarks/translate.py --joeynmt-python PATH
    SEQLOOM_DATA=FOLDER python benchmarks/translate.py --joeynmt-python PATH --json figures.json
    python benchmarks/translate.py --quick --systems hf-fp32

The source sentences are those of test_2016_flickr, sorted by length. The models have the same size and random weights,
and the end symbol is barred until every output has exactly 20 tokens, so that all systems write the same amount. Each
system has a process of its own. First each finds its best batch size on the middle part of the sentences; then they
take turns part by part with that size, over all sentences, several rounds.

JoeyNMT needs an environment of its own, into which torch goes first:
    pip install torch==2.13.0 && pip install joeynmt==2.3.0 importlib_metadata torch==2.13.0
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import common
import joeynmt_peer
import report
import translation_data
from common import BEAM, BOS, EOS, OUTPUT_LENGTH, PAD, Ids, Translate, Worker
from report import Row

SIZES: Sequence[int] = (16, 32, 64, 128, 256)
QUICK_SIZES: Sequence[int] = (4, 8)
PART, QUICK_PART = 256, 8
QUICK_SENTENCES = 16
Part = tuple[int, int]


class System(NamedTuple):
    """A system: its label, what builds its model, what translates with it, and the largest batch size to try.

    `translate(model, sources, size)` returns one list of exactly OUTPUT_LENGTH ids for each source, in order.
    """

    label: str
    model: Callable[[], Any]
    translate: Translate
    largest: int = SIZES[-1]


def hf_model(*, bf16: bool, attention: str = "sdpa") -> Any:
    """Marian with its weights in fp32 or bf16."""
    import torch

    model: torch.nn.Module = common.marian(attention)
    return model.eval().to(torch.bfloat16 if bf16 else torch.float32)


def hf_translate(model: Any, sources: list[Ids], size: int) -> list[Ids]:
    """Translate by `generate`, `size` sentences at a time."""
    import torch

    outputs: list[Ids] = []
    for begin in range(0, len(sources), size):
        source = torch.tensor(translation_data.pad(sources[begin : begin + size]))
        with torch.inference_mode():
            found = model.generate(
                input_ids=source,
                attention_mask=(source != PAD).long(),
                num_beams=BEAM,
                do_sample=False,
                min_new_tokens=OUTPUT_LENGTH,
                max_new_tokens=OUTPUT_LENGTH,
            )
        outputs.extend(found[:, 1:].tolist())
    return outputs


def seqloom_model(*, bf16: bool) -> Any:
    """seqloom's model of the benchmark's size, in float32 or bfloat16."""
    import torch

    return common.seqloom_model().to(torch.bfloat16 if bf16 else torch.float32).eval()


def seqloom_translate(model: Any, sources: list[Ids], size: int) -> list[Ids]:
    """Translate by seqloom's beam search, `size` sentences at a time, on torch.get_num_threads() threads in all."""
    import numpy as np

    from seqloom.decoding.config import BeamSearch
    from seqloom.decoding.encoder_decoder import decode_rows

    config = BeamSearch(beam=BEAM, min_length=OUTPUT_LENGTH, max_length=OUTPUT_LENGTH)
    outputs: list[Ids] = []
    for begin in range(0, len(sources), size):
        rows = [np.array(source) for source in sources[begin : begin + size]]
        found = decode_rows(model, rows, config, start=BOS, end=EOS)
        outputs.extend(list(hypotheses[0].ids) for hypotheses in found)
    return outputs


SYSTEMS = {
    "hf-fp32": System("Hugging Face fp32", partial(hf_model, bf16=False), hf_translate),
    "hf-fp32-eager": System(
        "Hugging Face fp32, eager attention", partial(hf_model, bf16=False, attention="eager"), hf_translate
    ),
    "hf-bf16": System("Hugging Face bf16", partial(hf_model, bf16=True), hf_translate),
    "hf-bf16-eager": System(
        "Hugging Face bf16, eager attention", partial(hf_model, bf16=True, attention="eager"), hf_translate
    ),
    "joeynmt": System("JoeyNMT fp32", joeynmt_peer.joeynmt_model, joeynmt_peer.joeynmt_translate, 128),
    "seqloom-fp32": System("seqloom fp32", partial(seqloom_model, bf16=False), seqloom_translate),
    "seqloom-bf16": System("seqloom bf16", partial(seqloom_model, bf16=True), seqloom_translate),
}
DEFAULT = (
    "hf-fp32",
    "hf-bf16",
    "hf-fp32+alloc",
    "hf-bf16+alloc",
    "hf-bf16-eager+alloc",
    "joeynmt",
    "seqloom-fp32+alloc",
    "seqloom-bf16+alloc",
)


def seconds(worker: Worker, part: Part, size: int) -> float:
    """The time the worker takes to translate one part of the sentences."""
    begin, end = part
    answer = common.resting_ask(worker, {"begin": begin, "end": end, "size": size})
    if "error" in answer:
        raise SystemExit(f"{worker.system}: {answer['error']}")
    taken: float = answer["seconds"]
    return taken


def best_sizes(workers: list[Worker], part: Part, sizes: Sequence[int], tries: int) -> list[dict[int, float]]:
    """For each worker the least time it took for the part with each of its batch sizes, the best size first."""
    found: list[dict[int, float]] = [{} for _ in workers]
    for worker in workers:
        seconds(worker, (part[0], part[0] + sizes[0]), sizes[0])
    for size in report.track([size for _ in range(tries) for size in sizes], "batch sizes"):
        for worker, times in zip(workers, found, strict=True):
            if size <= SYSTEMS[common.base(worker.system)].largest:
                times[size] = min(seconds(worker, part, size), times.get(size, math.inf))
    return [dict(sorted(times.items(), key=lambda item: item[1])) for times in found]


def measure(workers: list[Worker], parts: list[Part], sizes: Sequence[int], rounds: int) -> list[Row]:
    """Find each system's best batch size, then let the systems take turns with it on each part, round after round."""
    middle = parts[(len(parts) - 1) // 2]
    tried = best_sizes(workers, middle, sizes, tries=2)
    best = [next(iter(times)) for times in tried]
    taken = [[0.0] * rounds for _ in workers]
    for turn, part in report.track([(turn, part) for turn in range(rounds) for part in parts], "rounds"):
        for i, worker in enumerate(workers):
            taken[i][turn] += seconds(worker, part, best[i])
    labels = {name: system.label for name, system in SYSTEMS.items()}
    rows = []
    for i, worker in enumerate(workers):
        rates = [parts[-1][1] / total for total in taken[i]]
        tokens = round(OUTPUT_LENGTH * statistics.median(rates))
        extra = {"tokens/s": tokens, "best batch": best[i], "parameters": worker.ready["parameters"]}
        by_size = {size: round((middle[1] - middle[0]) / time, 2) for size, time in sorted(tried[i].items())}
        details = {"sentences/s by batch size": by_size}
        rows.append(Row(worker.system, report.label(worker.system, labels), rates, extra, details))
    return rows


def main() -> None:
    """Read the options, run the systems and report."""
    options = report.parser(__doc__, SYSTEMS, DEFAULT)
    options.add_argument("--joeynmt-python", metavar="PATH", help="the Python of JoeyNMT's own environment")
    options.add_argument("--rounds", type=int, default=3, help="passes over all sentences with the best batch size")
    chosen = options.parse_args()
    if chosen.worker:
        system = SYSTEMS[chosen.worker]
        common.serve_translator(system.model, system.translate)
        return
    report.check_systems(options, chosen.systems, SYSTEMS)
    if "joeynmt" in map(common.base, chosen.systems) and not chosen.joeynmt_python:
        options.error("joeynmt needs --joeynmt-python; to run without it, name the other systems by --systems")
    if chosen.rounds < 1:
        options.error("--rounds must be at least 1")
    data = translation_data.load(chosen.seed)
    sources = sorted(data.test, key=len)
    step, sizes, rounds = (QUICK_PART, QUICK_SIZES, 1) if chosen.quick else (PART, SIZES, chosen.rounds)
    if chosen.quick:
        sources = sources[:: len(sources) // QUICK_SENTENCES][:QUICK_SENTENCES]
    parts = [(begin, min(begin + step, len(sources))) for begin in range(0, len(sources), step)]

    def command(system: str) -> list[str | Path]:
        python = chosen.joeynmt_python if system == "joeynmt" else None
        return [python or sys.executable, Path(__file__).resolve(), "--worker", system]

    with ExitStack() as stack:
        first = {"threads": chosen.threads, "seed": chosen.seed, "sources": sources}
        workers = common.start(stack, chosen.systems, command, first)
        rows = measure(workers, parts, sizes, rounds)
        versions = report.versions(workers)
    settings = {
        "data": f"{len(sources):,} sources of {data.origin}, sorted by length",
        "search": f"beam {BEAM}, exactly {OUTPUT_LENGTH} output tokens a sentence, random weights",
        "rounds": rounds,
        "batch sizes tried": f"{', '.join(map(str, sizes))} (JoeyNMT up to {SYSTEMS['joeynmt'].largest})",
        "threads": chosen.threads,
        "seed": chosen.seed,
        "versions": versions,
        **report.machine(),
    }
    report.deliver("translating with a beam", "sentences/s", rows, settings, chosen.json)


if __name__ == "__main__":
    main()
