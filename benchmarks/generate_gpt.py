"""Generation by a GPT of 124 million parameters: seqloom and Hugging Face transformers, in one run.

    python benchmarks/generate_gpt.py
    python benchmarks/generate_gpt.py --rows 8 --systems hf-bf16 seqloom-bf16
    python benchmarks/generate_gpt.py --device cuda

Random weights of GPT-2's sizes; every system continues the same prompts greedily by exactly as many tokens. Each has a
process of its own and they take turns. "of the memory's rate" is what share of the rate at which this machine reads its
memory (measured beside it, by the sum of a large tensor) the weights alone take, each read once a step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import common
import report
from common import Json, Worker
from report import Row

WORDS, PROMPT = 50257, 32
Generate = Callable[[Any, int], int]


def hugging_face(first: Json, *, dtype: str) -> tuple[Any, Generate]:
    """GPT2LMHeadModel.generate with its cache."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(bos_token_id=None, eos_token_id=None, pad_token_id=0)
    model = GPT2LMHeadModel(config).to(first["device"], getattr(torch, dtype)).eval()
    model.generation_config.eos_token_id = None

    def generate(ids: Any, tokens: int) -> int:
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, pad_token_id=0
            )
        return int(found.shape[1] - ids.shape[1])

    return model, generate


def seqloom(first: Json, *, dtype: str) -> tuple[Any, Generate]:
    """seqloom's preset and its decoding loop."""
    import torch

    from seqloom.config import build
    from seqloom.decoding.config import Greedy
    from seqloom.decoding.search import Task, decode
    from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
    from seqloom.nn.linear import pack

    model = LanguageModel(build(DecoderOnlyConfig, {"preset": "gpt2"}), WORDS)
    model = model.to(first["device"], getattr(torch, dtype)).eval()
    with torch.no_grad():
        model.head.weight[0] = 0  # never the best of 50,257: no text ends early
    pack(model)  # as loading a run does

    def step(last: Any, state: Any) -> Any:
        hidden, state = model.decode(last, state)
        return model.head(hidden[:, -1]), state

    def generate(ids: Any, tokens: int) -> int:
        with torch.inference_mode():
            _, state = model.decode(ids[:, :-1], model.start())
            task = Task(ids[:, -1], 0, torch.full((len(ids),), tokens, device=ids.device))
            found = decode(step, state, task, Greedy())
        lengths = {len(row[0].ids) for row in found}
        return lengths.pop() if len(lengths) == 1 else -1

    return model, generate


SYSTEMS = {
    "hf-fp32": ("Hugging Face fp32", partial(hugging_face, dtype="float32")),
    "hf-bf16": ("Hugging Face bf16", partial(hugging_face, dtype="bfloat16")),
    "seqloom-fp32": ("seqloom fp32", partial(seqloom, dtype="float32")),
    "seqloom-bf16": ("seqloom bf16", partial(seqloom, dtype="bfloat16")),
}


def build(system: str, first: Json) -> tuple[common.Work, Json]:
    """The worker's system, ready for {"tokens": n}."""
    import torch

    model, generate = SYSTEMS[system][1](first)
    ids = torch.randint(1, WORDS, (first["rows"], PROMPT)).to(first["device"])

    def work(question: Json) -> Json:
        begun = time.perf_counter()
        tokens = generate(ids, question["tokens"])
        common.settle(first["device"])
        seconds = time.perf_counter() - begun
        return {"seconds": seconds} if tokens == question["tokens"] else {"error": f"wrote {tokens} tokens"}

    size = sum(p.numel() * p.element_size() for p in model.parameters())
    facts = {"parameters": common.parameters(model), "bytes": size, "read": _read_rate(first["device"])}
    return work, {**facts, "versions": common.versions("torch", "transformers", "seqloom")}


def _read_rate(device: str) -> float:
    import torch

    large, best = torch.ones(1 << 28, device=device), 0.0
    for _ in range(3):
        common.settle(device)
        begun = time.perf_counter()
        large.sum()
        common.settle(device)
        best = max(best, large.nbytes / (time.perf_counter() - begun))
    return best


def measure(workers: list[Worker], rounds: int, rows: int, tokens: int) -> list[Row]:
    """Let the systems take turns, round by round; the first round is not timed."""
    labels = {name: text for name, (text, _) in SYSTEMS.items()}
    found = [Row(worker.system, report.label(worker.system, labels)) for worker in workers]
    for turn in report.track(range(rounds + 1), "rounds"):
        for worker, row in zip(workers, found, strict=True):
            answer = common.resting_ask(worker, {"tokens": tokens})
            if "error" in answer:
                raise SystemExit(f"{worker.system}: {answer['error']}, not {tokens}")
            if turn:
                row.rates.append(rows * tokens / answer["seconds"])
                share = worker.ready["bytes"] * max(row.rates) / rows / worker.ready["read"]
                row.extra = {"of the memory's rate": round(share, 2), "parameters": worker.ready["parameters"]}
    return found


def main() -> None:
    """Read the options, run the systems and report."""
    options = report.parser(__doc__, SYSTEMS, tuple(SYSTEMS))
    options.add_argument("--rows", type=int, default=1, help="texts continued side by side")
    options.add_argument("--tokens", type=int, default=64, help="tokens that each is continued by")
    options.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options.add_argument("--rounds", type=int, default=5, help="timed rounds, after one that is not")
    chosen = options.parse_args()
    if chosen.worker:
        common.serve(partial(build, chosen.worker))
        return
    report.check_systems(options, chosen.systems, SYSTEMS)
    if chosen.quick:
        chosen.rounds, chosen.tokens = 1, 4
    first = {key: getattr(chosen, key) for key in ("threads", "seed", "rows", "device")}
    with ExitStack() as stack:
        script = Path(__file__).resolve()
        workers = common.start(
            stack, chosen.systems, lambda system: [sys.executable, script, "--worker", system], first
        )
        rows = measure(workers, chosen.rounds, chosen.rows, chosen.tokens)
        versions = report.versions(workers)
    settings = {
        "work": f"{chosen.rows} prompts of {PROMPT}, {chosen.tokens} more tokens each, greedy; {chosen.rounds} rounds",
        "threads": chosen.threads,
        "versions": versions,
        **report.machine(chosen.device),
    }
    report.deliver("generation by a GPT-2 of 124M", "tokens/s", rows, settings, chosen.json)


if __name__ == "__main__":
    main()
