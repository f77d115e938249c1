"""Training throughput of a GPT: seqloom and nanoGPT's own model and loop, in one run.

    python benchmarks/train_gpt.py --nanogpt FOLDER
    python benchmarks/train_gpt.py --nanogpt FOLDER --dropout 0 --systems nanogpt-bf16+alloc seqloom+alloc
    python benchmarks/train_gpt.py --nanogpt FOLDER --device cuda --systems nanogpt-bf16 nanogpt-compiled seqloom

FOLDER is a checkout of https://github.com/karpathy/nanoGPT. The model is the "baby" of its train_shakespeare_char.py: 6
layers, 384 wide, 6 heads, context 256, 65 characters, batches of 64; forward, loss, backward, clipping, AdamW. Dropout
is where nanoGPT has it: on embeddings, attention weights and both sublayers. Each system has a process of its own, and
they take turns step by step, so that whatever disturbs the machine disturbs all alike.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import common
import report
from common import Json, Worker
from report import Row

LAYERS, WIDTH, HEADS, WORDS, RATE = 6, 384, 6, 65, 1e-3


def nanogpt(first: Json, *, bf16: bool, compiled: bool = False) -> tuple[Any, Any]:
    """nanoGPT's model with the step of its train.py."""
    import torch

    if not (Path(first["nanogpt"]) / "model.py").is_file():
        raise OSError(f"there is no model.py in {first['nanogpt'] or 'the folder: give --nanogpt FOLDER'}")
    sys.path.insert(0, first["nanogpt"])
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    config = GPTConfig(first["context"], WORDS, LAYERS, HEADS, WIDTH, first["dropout"], False)
    model = GPT(config).train().to(first["device"])
    optimizer = model.configure_optimizers(0.1, RATE, (0.9, 0.99), first["device"])
    called = torch.compile(model) if compiled else model
    torch.set_float32_matmul_precision("high")  # as its train.py allows

    def step(ids: torch.Tensor) -> float:
        with torch.autocast(first["device"], torch.bfloat16, enabled=bf16):
            _, loss = called(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.item())

    return model, step


def seqloom(first: Json) -> tuple[Any, Any]:
    """seqloom's preset of the same size, trained as its loop does."""
    import torch

    from seqloom.config import build
    from seqloom.data.batches.batch import StreamBatch
    from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
    from seqloom.nn.embedders import Inputs
    from seqloom.objectives.next_token import NextToken
    from seqloom.training.loop import train
    from seqloom.training.optimizer import AdamW, FlatWeights, Optimizer
    from seqloom.training.precision import dtype_for

    sizes = {"dropout": first["dropout"], "attention_dropout": first["dropout"]}
    decoder = {**sizes, "positions": {"kind": "learned", "length": first["context"]}}
    model = LanguageModel(build(DecoderOnlyConfig, {"preset": "nano", "decoder": decoder}), WORDS).to(first["device"])
    weights = FlatWeights(model, dtype_for("auto", torch.device(first["device"])))
    optimizer = Optimizer(weights, AdamW(lr=RATE, betas=(0.9, 0.99), weight_decay=0.1))
    now: list[StreamBatch] = []
    steps = train(model, NextToken(), lambda _: now[0], optimizer, lambda _: RATE)

    def step(ids: torch.Tensor) -> float:
        now[:] = [StreamBatch(Inputs.text(ids[:, :-1].contiguous()), ids[:, 1:].contiguous(), True, ids[:, 1:].numel())]
        return next(steps).loss

    return model, step


SYSTEMS = {
    "nanogpt-fp32": ("nanoGPT fp32", partial(nanogpt, bf16=False)),
    "nanogpt-bf16": ("nanoGPT bf16 autocast", partial(nanogpt, bf16=True)),
    "nanogpt-compiled": ("nanoGPT bf16 autocast, torch.compile", partial(nanogpt, bf16=True, compiled=True)),
    "seqloom": ("seqloom", seqloom),
}
DEFAULT = ("nanogpt-fp32", "nanogpt-bf16", "nanogpt-bf16+alloc", "seqloom+alloc")


def build(system: str, first: Json) -> tuple[common.Work, Json]:
    """The worker's system, ready for {"step": i}."""
    import torch

    model, step = SYSTEMS[system][1](first)

    def work(question: Json) -> Json:
        generator = torch.Generator().manual_seed(question["step"])
        ids = torch.randint(WORDS, (first["batch"], first["context"] + 1), generator=generator)
        begun = time.perf_counter()
        loss = step(ids.to(first["device"]))
        common.settle(first["device"])
        return {"seconds": time.perf_counter() - begun, "loss": loss}

    return work, {"parameters": common.parameters(model), "versions": common.versions("torch", "seqloom")}


def measure(workers: list[Worker], steps: int, tokens: int) -> list[Row]:
    """Let the systems take turns step by step; the first step is not timed."""
    labels = {name: words for name, (words, _) in SYSTEMS.items()}
    rows = [Row(worker.system, report.label(worker.system, labels)) for worker in workers]
    for i in report.track(range(steps + 1), "steps"):
        for worker, row in zip(workers, rows, strict=True):
            answer = common.resting_ask(worker, {"step": i})
            if not math.isfinite(answer["loss"]):
                raise SystemExit(f"{worker.system}: the loss of step {i} is {answer['loss']}: it diverged")
            if i:
                row.rates.append(tokens / answer["seconds"])
            row.extra = {"last loss": round(answer["loss"], 3), "parameters": worker.ready["parameters"]}
    return rows


def main() -> None:
    """Read the options, run the systems and report."""
    options = report.parser(__doc__, SYSTEMS, DEFAULT)
    options.add_argument("--nanogpt", default="", metavar="FOLDER", help="a checkout of nanoGPT")
    options.add_argument("--dropout", type=float, default=0.2)
    options.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options.add_argument("--steps", type=int, default=6, help="timed steps of each, after one that is not")
    options.add_argument("--batch", type=int, default=64, help="texts in a batch")
    options.add_argument("--context", type=int, default=256, help="characters of each")
    chosen = options.parse_args()
    if chosen.worker:
        common.serve(partial(build, chosen.worker))
        return
    report.check_systems(options, chosen.systems, SYSTEMS)
    if chosen.quick:
        chosen.steps, chosen.batch, chosen.context = 1, 2, 16
    keys = ("threads", "seed", "nanogpt", "dropout", "batch", "context", "device")
    first = {key: getattr(chosen, key) for key in keys}
    with ExitStack() as stack:
        script = Path(__file__).resolve()
        workers = common.start(
            stack, chosen.systems, lambda system: [sys.executable, script, "--worker", system], first
        )
        rows = measure(workers, chosen.steps, chosen.batch * chosen.context)
        versions = report.versions(workers)
    settings = {
        "model": f"{LAYERS} layers, {WIDTH} wide, {HEADS} heads, context {chosen.context}, dropout {chosen.dropout}",
        "batch": f"{chosen.batch} x {chosen.context}; {chosen.steps} steps after one of warm-up",
        "threads": chosen.threads,
        "versions": versions,
        **report.machine(chosen.device),
    }
    report.deliver("training a GPT", "tokens/s", rows, settings, chosen.json)


if __name__ == "__main__":
    main()
