"""Translation speed with a beam of 5: seqloom, Hugging Face and JoeyNMT, in one run.

    python benchmarks/translate.py --joeynmt-python PATH
    SEQLOOM_DATA=FOLDER python benchmarks/translate.py --joeynmt-python PATH --json figures.json
    python benchmarks/translate.py --quick --systems hf-fp32

The source sentences are those of test_2016_flickr, sorted by length. The models have the same size and random weights.
Every output has exactly 20 tokens (the end symbol is barred), so that all systems write the same amount. Each system
has a process of its own. First each finds its best batch size on the middle part of the sentences. Then they take turns
with that size, part by part over all sentences, in several rounds.

JoeyNMT needs an environment of its own. Install torch there first:
    pip install torch==2.13.0 && pip install joeynmt==2.3.0 importlib_metadata torch==2.13.0
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
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
    """A system: its label, the functions that build its model and translate with it, and the largest batch size to try.

    `translate(model, sources, size)` returns a list of exactly OUTPUT_LENGTH ids for each source, in order.
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
            ids = model.generate(
                input_ids=source,
                attention_mask=(source != PAD).long(),
                num_beams=BEAM,
                do_sample=False,
                min_new_tokens=OUTPUT_LENGTH,
                max_new_tokens=OUTPUT_LENGTH,
            )
        outputs.extend(ids[:, 1:].tolist())
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
        decoded = decode_rows(model, rows, config, start=BOS, end=EOS)
        outputs.extend(list(hypotheses[0].ids) for hypotheses in decoded)
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
    """How long the worker takes to translate one part of the sentences."""
    return report.seconds(worker, {"begin": part[0], "end": part[1], "size": size})


def best_sizes(workers: list[Worker], part: Part, sizes: Sequence[int], tries: int) -> list[dict[int, float]]:
    """For each worker, its shortest time on the part by batch size, the best size first."""
    result: list[dict[int, float]] = [{} for _ in workers]
    for worker in workers:
        seconds(worker, (part[0], part[0] + sizes[0]), sizes[0])
    for size in report.track([size for _ in range(tries) for size in sizes], "batch sizes"):
        for worker, times in zip(workers, result, strict=True):
            if size <= SYSTEMS[common.base(worker.system)].largest:
                times[size] = min(seconds(worker, part, size), times.get(size, math.inf))
    return [dict(sorted(times.items(), key=lambda item: item[1])) for times in result]


def measure(workers: list[Worker], parts: list[Part], sizes: Sequence[int], rounds: int) -> list[Row]:
    """Find each system's best batch size, then let the systems take turns on each part, round after round."""
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
    if "joeynmt" in map(common.base, chosen.systems) and not chosen.joeynmt_python:
        print("skipped: joeynmt: name the Python of its environment by --joeynmt-python", file=sys.stderr)
        chosen.systems = [name for name in chosen.systems if common.base(name) != "joeynmt"]
    if chosen.rounds < 1:
        options.error("--rounds must be at least 1")
    data = translation_data.load(chosen.seed, quick=chosen.quick)
    sources = sorted(data.test, key=len)
    step, sizes, rounds = (QUICK_PART, QUICK_SIZES, 1) if chosen.quick else (PART, SIZES, chosen.rounds)
    if chosen.quick:
        sources = sources[:: len(sources) // QUICK_SENTENCES][:QUICK_SENTENCES]
    parts = [(begin, min(begin + step, len(sources))) for begin in range(0, len(sources), step)]

    settings = {
        "data": f"{len(sources):,} sources of {data.origin}, sorted by length",
        "search": f"beam {BEAM}, exactly {OUTPUT_LENGTH} output tokens per sentence, random weights",
        "rounds": rounds,
        "batch sizes tried": f"{', '.join(map(str, sizes))} (JoeyNMT up to {SYSTEMS['joeynmt'].largest})",
    }
    report.run(
        "translation with a beam",
        "sentences/s",
        chosen,
        {"sources": sources},
        lambda workers: measure(workers, parts, sizes, rounds),
        settings,
        {"joeynmt": chosen.joeynmt_python},
    )


if __name__ == "__main__":
    main()
