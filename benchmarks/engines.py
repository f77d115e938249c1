"""Sentences per second by each engine: ours, CTranslate2 behind `--engine` and directly, Hugging Face's `generate`.

    python benchmarks/engines.py --run runs/demo --texts sentences.txt
    python benchmarks/engines.py --quick

Texts are translated one at a time and 32 at a time, greedily and with a beam of 5; each engine has a process of its
own, and they take turns. Without --run, it is a Transformer of the demo's size with random weights, whose results are
as long as they may be. "ratio" is the speed as a multiple of our own engine's in float32, "same" how many of the texts
have its very results.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from itertools import product
from operator import eq
from pathlib import Path
from typing import Any

import common

from seqloom.data.sources.none import NoData
from seqloom.decoding.config import BeamSearch, DecodingConfig, Greedy
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks import load
from seqloom.tasks.engine import names_and_ends
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.text.tokenizer import BPE
from seqloom.training.log import Reporter
from seqloom.workflows.export import export_run

Json, OURS = dict[str, Any], "ours, float32"
CONVERTING, DIRECTLY = "--engine ctranslate2", "CTranslate2 directly"
Translate = Callable[[Sequence[str]], list[str]]


def write_translator(folder: Path, layers: int, width: int) -> str:
    """A run of a translator with random weights."""
    stack = TransformerConfig(layers=layers, width=width, inner=4 * width, heads=max(2, width // 64))
    model = EncoderDecoderConfig(encoder=stack, decoder=stack)
    config = TranslateConfig(data=NoData(), tokenizer=BPE(size=2000), model=model)
    return common.write_random_run(folder, "translator", config)


def ours(run: str, config: DecodingConfig, **options: Any) -> Translate:
    """A run by one of its engines."""
    predictor = load(run, **options)
    predictor.config = config
    return predictor  # type: ignore[no-any-return]


def directly(run: str, config: DecodingConfig, threads: int) -> Translate:
    """The model that is kept in the run, by CTranslate2's own interface, with a worker for each thread.

    The engine before it has converted it. torch computes nothing here, so that none of its threads wait.
    """
    import ctranslate2

    model = ctranslate2.Translator(str(Path(run) / "ctranslate2"), inter_threads=threads, intra_threads=1)
    predictor = load(run, precision="fp32")
    target = predictor.target
    names, _ = names_and_ends(predictor.model, (predictor.source, target))
    source, ids_of = names[0] or [], {name: i for i, name in enumerate(names[1])}

    def translate(texts: Sequence[str]) -> list[str]:
        rows = [[source[int(i)] for i in row] for row in predictor.encode(texts)]
        results = model.translate_batch(
            rows,
            beam_size=config.beam,
            length_penalty=config.length_penalty,
            max_decoding_length=config.max_length,
            max_batch_size=max(1, -(-len(rows) // threads)),
        )
        decoded: list[str] = target.decode([[ids_of[token] for token in r.hypotheses[0]] for r in results])
        return decoded

    return translate


def hugging_face(run: str, config: DecodingConfig) -> Translate:
    """The run's export by transformers' `generate`, in float32, with as many hypotheses until the search stops."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = f"{run}-hf"
    if not Path(folder).exists():
        export_run(run, "hf", folder, Reporter(0))
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def translate(texts: Sequence[str]) -> list[str]:
        inputs = tokenizer(list(texts), return_tensors="pt", padding=True)
        options = {"num_beams": config.beam, "max_new_tokens": config.max_length, "early_stopping": config.beam > 1}
        with torch.inference_mode():
            found = model.generate(**inputs, do_sample=False, length_penalty=config.length_penalty, **options)
        decoded: list[str] = tokenizer.batch_decode(found, skip_special_tokens=True)
        return decoded

    return translate


def engines(run: str, threads: int) -> dict[str, Callable[[DecodingConfig], Translate]]:
    """What makes each engine, for a way to decode."""
    found: dict[str, Callable[[DecodingConfig], Translate]] = {
        OURS: lambda config: ours(run, config, precision="fp32"),
        "ours, auto": lambda config: ours(run, config),
        CONVERTING: lambda config: ours(run, config, engine="ctranslate2", precision="fp32"),
        "the same with --int8": lambda config: ours(run, config, engine="ctranslate2", int8=True),
        DIRECTLY: lambda config: directly(run, config, threads),
    }
    return found | ({"Hugging Face generate": lambda config: hugging_face(run, config)} if has_peer() else {})


def has_peer() -> bool:
    """Whether Hugging Face's library is installed."""
    return find_spec("transformers") is not None


def build(engine: str, first: Json) -> tuple[common.Work, Json]:
    """One engine, asked for {"beam": n, "size": n}, which is how many texts it is given at a time."""
    texts, make = first["texts"], engines(first["run"], first["threads"])[engine]
    ways: dict[int, Translate] = {}

    def work(question: Json) -> Json:
        beam, size = question["beam"], question["size"]
        if beam not in ways:
            config = (
                BeamSearch(max_length=first["length"], beam=beam) if beam > 1 else Greedy(max_length=first["length"])
            )
            ways[beam] = make(config)
            ways[beam](texts[:size])
        began = time.perf_counter()
        found = [text for i in range(0, len(texts), size) for text in ways[beam](texts[i : i + size])]
        return {"seconds": time.perf_counter() - began, "texts": found}

    work({"beam": 1, "size": len(texts)})  # converts and compiles
    return work, {}


def measured(run: str, texts: Sequence[str], options: argparse.Namespace) -> list[Json]:
    """The rates of all engines, each in a process of its own, for each kind of work; they take turns."""
    rows: list[Json] = []
    first = {"run": run, "texts": texts, "length": options.length, "threads": options.threads, "seed": 0}
    with ExitStack() as stack:
        names = [name for name in engines(run, options.threads) if name in (OURS, *options.engines)]
        workers = common.start(stack, names, lambda name: [sys.executable, __file__, "--worker", name], first)
        for beam, size in product((1, 5), (1, 32)):
            taken: dict[str, list[float]] = {worker.system: [] for worker in workers}
            for turn in range(options.rounds + 1):
                for worker in workers[:: -1 if turn % 2 else 1]:  # no engine follows the same one
                    answer = common.resting_ask(worker, {"beam": beam, "size": size})
                    taken[worker.system] += [answer["seconds"]] * (turn > 0)
            wanted = next(worker.latest["texts"] for worker in workers if worker.system == OURS)
            work = f"{size} at a time, {'greedy' if beam == 1 else f'beam {beam}'}"
            median = {name: statistics.median(seconds) for name, seconds in taken.items()}
            for worker in workers:
                name, same = worker.system, sum(map(eq, worker.latest["texts"], wanted))
                row = {"work": work, "engine": name, "texts/s": len(texts) / median[name], "same": same}
                rates = [len(texts) / turn for turn in taken[name]]
                rows.append(row | {"ratio": median[OURS] / median[name], "rates": rates})
    return rows


def main() -> None:
    """Read the options, let the engines take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*engines("", 1)]
    parser.add_argument(
        "--engines",
        nargs="+",
        default=names,
        choices=names,
        metavar="NAME",
        help=f"of {'; '.join(names)}",
    )
    parser.add_argument("--run", help="a run that translates texts")
    parser.add_argument("--texts", help="a file with one text per line")
    parser.add_argument("--most", type=int, default=128, help="texts that are translated")
    parser.add_argument("--length", type=int, default=60, help="the most tokens of a result")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="a tiny model, in seconds")
    parser.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve(partial(build, options.worker))
        return
    if DIRECTLY in options.engines and CONVERTING not in options.engines:
        parser.error(f"{DIRECTLY!r} reads what {CONVERTING!r} converts: name both")
    if options.quick:
        options.most, options.length, options.rounds = 4, 5, 1
    lines = Path(options.texts or __file__).read_text(encoding="utf-8").split("\n")
    texts = [line for line in lines if line.strip()][: options.most]
    with tempfile.TemporaryDirectory() as folder:
        layers, width = (1, 16) if options.quick else (3, 192)
        rows = measured(options.run or write_translator(Path(folder), layers, width), texts, options)
    print(f"{'':24} {'':24} {'texts/s':>10} {'ratio':>8} {'same':>6}")
    for row in rows:
        cells = f"{row['texts/s']:10.1f} {row['ratio']:8.2f} {row['same']:6d}"
        print(f"{row['work']:24} {row['engine']:24} {cells}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
