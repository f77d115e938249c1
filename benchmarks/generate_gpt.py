"""Generation by a GPT of 124 million parameters: seqloom and Hugging Face transformers, in one run.

    python benchmarks/generate_gpt.py
    python benchmarks/generate_gpt.py --rows 8 --systems hf-bf16 seqloom-bf16
    python benchmarks/generate_gpt.py --systems seqloom-fp32-unpacked seqloom-fp32
    python benchmarks/generate_gpt.py --device cuda

Random weights of GPT-2's sizes. Every system continues the same prompts greedily by the same number of tokens. Each has
a process of its own, and they take turns. A step reads every weight once; "of the memory's rate" is the rate of these
reads as a share of the rate at which this machine reads its memory (measured in the same run by the sum of a large
tensor).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import common
import report
from common import Json, Worker
from report import Row

VOCAB_SIZE, PROMPT, LAYERS = 50257, 32, 12
FLOATS, QUICK_FLOATS = 1 << 28, 1 << 20  # of the large tensor that is read
Generate = Callable[[Any, int], int]


def hugging_face(first: Json, *, dtype: str) -> tuple[Any, Generate]:
    """GPT2LMHeadModel.generate with its cache."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=first["layers"], bos_token_id=None, eos_token_id=None, pad_token_id=0)
    model = GPT2LMHeadModel(config).to(first["device"], getattr(torch, dtype)).eval()
    model.generation_config.eos_token_id = None

    def generate(ids: Any, tokens: int) -> int:
        with torch.inference_mode():
            outputs = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, pad_token_id=0
            )
        return int(outputs.shape[1] - ids.shape[1])

    return model, generate


def seqloom(first: Json, *, dtype: str, packed: bool = True, int8: bool = False) -> tuple[Any, Generate]:
    """seqloom's preset and its engine, with the weights packed as loading a run packs them, or as they are."""
    import torch

    from seqloom.config import build
    from seqloom.decoding.config import Greedy
    from seqloom.decoding.engine import Engine
    from seqloom.decoding.job import Request
    from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
    from seqloom.nn.linear import pack

    common.keep_kernels()
    model = LanguageModel(
        build(DecoderOnlyConfig, {"preset": "gpt2", "decoder": {"layers": first["layers"]}}), VOCAB_SIZE
    )
    model = model.to(first["device"], getattr(torch, dtype)).eval()
    with torch.no_grad():
        model.head.weight[0] = 0  # never the best of 50,257: no text ends early
    if packed:
        pack(model, int8=int8)
    engine = Engine(model, context=None, padding=0)

    def generate(ids: Any, tokens: int) -> int:
        hypotheses = engine.generate(ids.tolist(), Request(tokens, end=0), Greedy())
        return min(len(row[0].ids) for row in hypotheses)

    return model, generate


SYSTEMS = {
    "hf-fp32": ("Hugging Face fp32", partial(hugging_face, dtype="float32")),
    "hf-bf16": ("Hugging Face bf16", partial(hugging_face, dtype="bfloat16")),
    "seqloom-fp32": ("seqloom fp32", partial(seqloom, dtype="float32")),
    "seqloom-bf16": ("seqloom bf16", partial(seqloom, dtype="bfloat16")),
    "seqloom-int8": ("seqloom, 8 bits", partial(seqloom, dtype="float32", int8=True)),
    "seqloom-fp32-unpacked": ("seqloom fp32, unpacked", partial(seqloom, dtype="float32", packed=False)),
    "seqloom-bf16-unpacked": ("seqloom bf16, unpacked", partial(seqloom, dtype="bfloat16", packed=False)),
}
DEFAULT = ("hf-fp32", "hf-bf16", "seqloom-fp32", "seqloom-bf16")


def build(system: str, first: Json) -> tuple[common.Work, Json]:
    """The worker's system, ready for {"tokens": n}."""
    import torch

    from seqloom.nn.linear import Rounded

    model, generate = SYSTEMS[system][1](first)
    ids = torch.randint(1, VOCAB_SIZE, (first["rows"], PROMPT)).to(first["device"])

    def work(question: Json) -> Json:
        begun, tokens = time.perf_counter(), question["tokens"]
        count = generate(ids, tokens)
        common.settle(first["device"])
        seconds = time.perf_counter() - begun
        return {"seconds": seconds} if count == tokens else {"error": f"wrote {count} tokens, not {tokens}"}

    size = sum(p.numel() * p.element_size() for p in model.parameters())
    rounded = (m for m in model.modules() if isinstance(getattr(m, "packed", None), Rounded))
    size -= sum(3 * m.weight.numel() for m in rounded)  # a byte each instead of four
    facts = {
        "parameters": common.parameters(model),
        "bytes": size,
        "read": _read_rate(first["floats"], first["device"]),
    }
    return work, {**facts, "versions": common.versions("torch", "transformers", "seqloom")}


def _read_rate(floats: int, device: str) -> float:
    import torch

    large, best = torch.ones(floats, device=device), 0.0
    for _ in range(3):
        common.settle(device)
        begun = time.perf_counter()
        large.sum()
        common.settle(device)
        best = max(best, large.nbytes / (time.perf_counter() - begun))
    return best


def measure(workers: list[Worker], rounds: int, rows: int, tokens: int) -> list[Row]:
    """Let the systems take turns, round by round; the first round is not timed."""
    labels = {name: title for name, (title, _) in SYSTEMS.items()}
    result = report.take_turns(workers, labels, [({"tokens": tokens}, rows * tokens)] * (rounds + 1), 1, "rounds")
    for worker, row in zip(workers, result, strict=True):
        share = worker.ready["bytes"] * max(row.rates) / rows / worker.ready["read"]
        row.extra = {"of the memory's rate": round(share, 2), **row.extra}
    return result


def main() -> None:
    """Read the options, run the systems and report."""
    options = report.parser(__doc__, SYSTEMS, DEFAULT)
    options.add_argument("--rows", type=int, default=1, help="texts continued side by side")
    options.add_argument("--tokens", type=int, default=64, help="new tokens of each text")
    options.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options.add_argument("--rounds", type=int, default=5, help="timed rounds, after one that is not")
    chosen = options.parse_args()
    if chosen.worker:
        common.serve(partial(build, chosen.worker))
        return
    if chosen.quick:
        chosen.rounds, chosen.tokens = 1, 4
    layers, floats = (1, QUICK_FLOATS) if chosen.quick else (LAYERS, FLOATS)
    rows, tokens, rounds = chosen.rows, chosen.tokens, chosen.rounds
    report.run(
        "generation by a GPT-2 of 124M",
        "tokens/s",
        chosen,
        {"rows": rows, "device": chosen.device, "layers": layers, "floats": floats},
        lambda workers: measure(workers, rounds, rows, tokens),
        {"work": f"{rows} prompts of {PROMPT}, {tokens} more tokens each, greedy; {rounds} rounds"},
    )


if __name__ == "__main__":
    main()
