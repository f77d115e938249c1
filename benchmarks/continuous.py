"""Requests decoded together, against the same ones one at a time: texts and tokens a second of the processor.

    python benchmarks/continuous.py
    python benchmarks/continuous.py --run RUN --jobs 8 16 32 --texts 200 --kind beam

Without RUN, which translates or continues texts, a model of the size of recipes/translate-phrases.toml with random
weights writes 12 tokens for each. As many requests as `jobs` are under way at any time: where one is finished, the next
one joins. Seconds are those of the processor, so that other work on the machine matters less. All is done
twice, and the second time counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any


def measured(predictor: Any, texts: Sequence[str], jobs: int, options: dict[str, Any]) -> dict[str, float]:
    """The texts and the tokens a second, and the median milliseconds from joining to the last piece."""
    running, waiting = predictor.continuous(rows=10_000), deque(texts)
    begun, writings, latencies, tokens = {}, {}, [], 0
    start = time.process_time()
    while waiting or len(running):
        while waiting and len(running) < jobs:
            writing = predictor.job(waiting.popleft(), **options)
            running.join(writing.job)
            writings[writing.job], begun[writing.job] = writing, time.process_time()
        for update in running.step():
            writing = writings[update.job]
            writing.take(update)
            if writing.results is not None:
                tokens += writing.usage.completion
                latencies.append(time.process_time() - begun[update.job])
    seconds = time.process_time() - start
    return {
        "texts/s": len(texts) / seconds,
        "tokens/s": tokens / seconds,
        "median ms": 1000 * statistics.median(latencies),
    }


def numbers(count: int) -> list[str]:
    """Amounts of money, as the demo's translator reads them."""
    return [f"${(7919 * i) % 99_991 / 100:,.2f} on day {i % 31 + 1}" for i in range(1, count + 1)]


def untrained() -> Any:
    """A translator with random weights."""
    import torch

    from seqloom.decoding.config import Greedy
    from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
    from seqloom.nn.transformer import TransformerConfig
    from seqloom.tasks.seq2seq.predictor import Translator
    from seqloom.text.tokenizer import Characters
    from seqloom.text.training import train_tokenizer

    torch.manual_seed(1)
    tokenizer = train_tokenizer(Characters(), numbers(100))
    stack = TransformerConfig(layers=2, width=128, inner=512, heads=4)
    model = EncoderDecoder(
        EncoderDecoderConfig(encoder=stack, decoder=stack), tokenizer.vocab_size, tokenizer.vocab_size
    )
    config = Greedy(min_length=12, max_length=12)
    return Translator(model.eval(), tokenizer, tokenizer, config)


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run")
    parser.add_argument("--jobs", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--kind", choices=("greedy", "beam", "sample"), default="greedy")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    import torch

    import seqloom

    torch.set_num_threads(options.threads)
    predictor, texts = seqloom.load(options.run) if options.run else untrained(), numbers(options.texts)
    alone: dict[str, float] = {}
    for jobs in (1, *options.jobs):
        # The first time, kernels are compiled for each shape.
        _, figures = (measured(predictor, texts, jobs, {"kind": options.kind}) for _ in range(2))
        alone = alone or figures
        shown = "  ".join(f"{value:8.1f} {name}" for name, value in figures.items())
        say(f"{jobs:3} at a time  {shown}  ratio {figures['texts/s'] / alone['texts/s']:.2f}")


if __name__ == "__main__":
    main()
