"""Training throughput of a GPT: seqloom and nanoGPT's own model and loop, in one run.

    python benchmarks/train_gpt.py --nanogpt FOLDER
    python benchmarks/train_gpt.py --nanogpt FOLDER --dropout 0 --systems nanogpt-bf16-plain+alloc seqloom+alloc
    python benchmarks/train_gpt.py --nanogpt FOLDER --device cuda --systems nanogpt-bf16 nanogpt-compiled seqloom

FOLDER is a checkout of https://github.com/karpathy/nanoGPT. The model is the "baby" of its train_shakespeare_char.py: 6
layers, 384 wide, 6 heads, context 256, 65 characters, batches of 64; forward, loss, backward, clipping, AdamW. Dropout
is where nanoGPT has it: on embeddings, attention weights and both sublayers. nanoGPT attends by torch's fused kernel;
where the name has plain in it, by plain products, as it does with a torch that has no such kernel. Each system has a
process of its own, and they take turns step by step, so that other load on the machine affects all alike.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import common
import report
from common import Json, Stepper

LAYERS, WIDTH, HEADS, VOCAB_SIZE, RATE = 6, 384, 6, 65, 1e-3


def nanogpt(first: Json, *, bf16: bool, plain: bool = False, compiled: bool = False) -> Stepper:
    """nanoGPT's model with the step of its train.py."""
    import torch

    if not (Path(first["nanogpt"]) / "model.py").is_file():
        raise OSError(f"there is no model.py in {first['nanogpt'] or 'the folder: give --nanogpt FOLDER'}")
    sys.path.insert(0, first["nanogpt"])
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    config = GPTConfig(first["context"], VOCAB_SIZE, LAYERS, HEADS, WIDTH, first["dropout"], False)
    model = GPT(config)
    if plain:
        for layer in model.transformer.h:
            layer.attn.flash = False
            layer.attn.register_buffer("bias", torch.ones(1, 1, first["context"], first["context"]).tril())
    model = model.train().to(first["device"])
    optimizer = model.configure_optimizers(0.1, RATE, (0.9, 0.99), first["device"])
    forward = torch.compile(model) if compiled else model
    torch.set_float32_matmul_precision("high")  # as its train.py allows

    def step(ids: torch.Tensor) -> float:
        with torch.autocast(first["device"], torch.bfloat16, enabled=bf16):
            _, loss = forward(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.item())

    return Stepper(step, common.parameters(model))


def seqloom(first: Json) -> Stepper:
    """seqloom's preset of the same size, trained as its loop does."""
    import torch

    from seqloom.config import build
    from seqloom.data.batches.batch import StreamBatch
    from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
    from seqloom.nn.embedders import Inputs
    from seqloom.objectives.next_token import NextToken
    from seqloom.training.optimizer import AdamW

    sizes = {"dropout": first["dropout"], "attention_dropout": first["dropout"]}
    decoder = {**sizes, "positions": {"kind": "learned", "length": first["context"]}}
    common.keep_kernels()
    model = LanguageModel(build(DecoderOnlyConfig, {"preset": "nano", "decoder": decoder}), VOCAB_SIZE)
    model = model.to(first["device"])

    def batch(ids: torch.Tensor) -> StreamBatch:
        targets = ids[:, 1:].contiguous()
        return StreamBatch(Inputs.text(ids[:, :-1].contiguous()), targets, True, targets.numel())

    return common.seqloom_stepper(model, NextToken(), AdamW(lr=RATE, betas=(0.9, 0.99), weight_decay=0.1), batch)


SYSTEMS = {
    "nanogpt-fp32": ("nanoGPT fp32", partial(nanogpt, bf16=False)),
    "nanogpt-bf16": ("nanoGPT bf16 autocast", partial(nanogpt, bf16=True)),
    "nanogpt-fp32-plain": ("nanoGPT fp32, plain attention", partial(nanogpt, bf16=False, plain=True)),
    "nanogpt-bf16-plain": ("nanoGPT bf16 autocast, plain attention", partial(nanogpt, bf16=True, plain=True)),
    "nanogpt-compiled": ("nanoGPT bf16 autocast, torch.compile", partial(nanogpt, bf16=True, compiled=True)),
    "seqloom": ("seqloom", seqloom),
}
DEFAULT = (
    "nanogpt-fp32",
    "nanogpt-bf16",
    "nanogpt-bf16+alloc",
    "nanogpt-fp32-plain+alloc",
    "nanogpt-bf16-plain+alloc",
    "seqloom+alloc",
)


def build(system: str, first: Json) -> tuple[common.Work, Json]:
    """The worker's system, ready for {"step": i}."""
    import torch

    stepper = SYSTEMS[system][1](first)

    def work(question: Json) -> Json:
        generator = torch.Generator().manual_seed(question["step"])
        ids = torch.randint(VOCAB_SIZE, (first["batch"], first["context"] + 1), generator=generator)
        return common.timed_step(lambda: stepper.step(ids.to(first["device"])), first["device"])

    return work, {"parameters": stepper.parameters, "versions": common.versions("torch", "seqloom")}


def main() -> None:
    """Read the options, run the systems and report."""
    options = report.parser(__doc__, SYSTEMS, DEFAULT)
    options.add_argument("--nanogpt", default="", metavar="FOLDER", help="a checkout of nanoGPT")
    options.add_argument("--dropout", type=float, default=0.2)
    options.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options.add_argument("--steps", type=int, default=6, help="timed steps of each system, after one that is not")
    options.add_argument("--batch", type=int, default=64, help="texts in a batch")
    options.add_argument("--context", type=int, default=256, help="characters of each text")
    chosen = options.parse_args()
    if chosen.worker:
        common.serve(partial(build, chosen.worker))
        return
    if chosen.quick:
        chosen.steps, chosen.batch, chosen.context = 1, 2, 16
    labels = {name: title for name, (title, _) in SYSTEMS.items()}
    work = [({"step": i}, chosen.batch * chosen.context) for i in range(chosen.steps + 1)]
    sizes = f"{LAYERS} layers, {WIDTH} wide, {HEADS} heads, context {chosen.context}, dropout {chosen.dropout}"
    report.run(
        "training a GPT",
        "tokens/s",
        chosen,
        {key: getattr(chosen, key) for key in ("nanogpt", "dropout", "batch", "context", "device")},
        lambda workers: report.take_turns(workers, labels, work, 1, "steps"),
        {"model": sizes, "batch": f"{chosen.batch} x {chosen.context}; {chosen.steps} steps after one of warm-up"},
    )


if __name__ == "__main__":
    main()
