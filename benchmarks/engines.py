"""Sentences per second by each engine: ours, CTranslate2 behind `--engine` and directly, Hugging Face's `generate`.

    python benchmarks/engines.py --run runs/demo --texts sentences.txt
    python benchmarks/engines.py --quick

Texts are translated one at a time and 32 at a time, greedily and with a beam of 5; the engines take turns. Without
--run, it is a Transformer of the demo's size with random weights, whose results are as long as they may be. "ratio" is
the speed as a multiple of our own engine's in float32, "same" how many of the texts have its very results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common
import torch

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

Json = dict[str, Any]
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


def directly(run: str, config: DecodingConfig) -> Translate:
    """The model that is kept in the run, by CTranslate2's own interface, with a worker for each thread."""
    import ctranslate2

    threads = torch.get_num_threads()
    ours(run, config, engine="ctranslate2")(["a text"])  # which converts it
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


def measured(run: str, texts: Sequence[str], options: argparse.Namespace) -> list[Json]:
    """The rates of all engines for each kind of work, engines taking turns."""
    rows: list[Json] = []
    for config in (Greedy(max_length=options.length), BeamSearch(max_length=options.length)):
        exact = ours(run, config, precision="fp32")
        wanted = exact(texts)
        engines = {
            "ours, float32": exact,
            "ours, auto": ours(run, config),
            "--engine ctranslate2": ours(run, config, engine="ctranslate2", precision="fp32"),
            "the same with --int8": ours(run, config, engine="ctranslate2", int8=True, precision="fp32"),
            "CTranslate2 directly": directly(run, config),
        }
        if find_spec("transformers"):
            engines["Hugging Face generate"] = hugging_face(run, config)
        for size in (1, 32):
            taken: dict[str, list[float]] = {name: [] for name in engines}
            same = dict.fromkeys(engines, 0)
            for turn in range(options.rounds):
                for name, translate in [*engines.items()][:: -1 if turn % 2 else 1]:  # no engine follows the same one
                    began = time.perf_counter()
                    found = [text for i in range(0, len(texts), size) for text in translate(texts[i : i + size])]
                    taken[name].append(time.perf_counter() - began)
                    same[name] = sum(a == b for a, b in zip(found, wanted, strict=True))
            work = f"{size} at a time, {'greedy' if config.beam == 1 else f'beam {config.beam}'}"
            first = statistics.median(taken["ours, float32"])
            for name, seconds in taken.items():
                rate, ratio = len(texts) / statistics.median(seconds), first / statistics.median(seconds)
                row = {"work": work, "engine": name, "texts/s": rate, "ratio": ratio, "same": same[name]}
                rows.append(row | {"rates": [len(texts) / turn for turn in seconds]})
    return rows


def main() -> None:
    """Read the options, let the engines take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a run that translates texts")
    parser.add_argument("--texts", help="a file with one text per line")
    parser.add_argument("--most", type=int, default=128, help="texts that are translated")
    parser.add_argument("--length", type=int, default=60, help="the most tokens of a result")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="a tiny model, in seconds")
    options = parser.parse_args()
    if options.quick:
        options.most, options.length, options.rounds = 4, 5, 1
    torch.set_num_threads(options.threads)
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
