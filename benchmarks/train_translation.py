"""Training throughput of a small translation model: seqloom and Hugging Face or torch.nn.LSTM, in one run.

    python benchmarks/train_translation.py
    python benchmarks/train_translation.py --systems lstm-fp32+alloc lstm-bf16+alloc seqloom-lstm+alloc
    SEQLOOM_DATA=FOLDER python benchmarks/train_translation.py --json figures.json
    python benchmarks/train_translation.py --quick --systems hf-fp32

All systems train an encoder-decoder of the same size on the same length-sorted batches: forward, loss with label
smoothing, backward, gradient clipping, AdamW. The model is a Transformer or, where the name has lstm in it, an LSTM of
2 layers of 512 without attention, whose last encoder state starts the decoder; seqloom has a learned bridge in between.
Each system has a process of its own, and they take turns batch by batch, so that other load on the machine affects all
alike. Target tokens are counted without padding.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import common
import report
import translation_data
from common import CLIP, HUGGING_FACE, PAD, SMOOTHING, VOCAB_SIZE, Json, Stepper
from translation_data import Batch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from seqloom.training.optimizer import AdamW
    from seqloom.training.precision import Precision

    Logits = Callable[[Tensor, Tensor], Tensor]

LEARNING_RATE = 5e-4
TOKENS, QUICK_TOKENS = 4096, 256
LSTM_LAYERS, LSTM_WIDTH = 2, 512


def plain_stepper(model: nn.Module, logits: Logits, batches: list[Batch], *, autocast: bool) -> Stepper:
    """A plain loop; a step is given the index of a batch.

    Args:
        logits: (source, target_in) -> scores (B T V) of the model.
    """
    import torch
    from torch.nn.functional import cross_entropy

    tensors = [tuple(torch.tensor(part) for part in batch) for batch in batches]

    def loss(i: int) -> Tensor:
        source, target_in, target_out = tensors[i]
        scores = logits(source, target_in).view(-1, VOCAB_SIZE).float()
        return cross_entropy(scores, target_out.view(-1), ignore_index=PAD, label_smoothing=SMOOTHING)

    return common.plain_stepper(model, loss, LEARNING_RATE, autocast=autocast)


def hf_stepper(
    batches: list[Batch], *, autocast: bool = False, bf16_weights: bool = False, attention: str = "sdpa"
) -> Stepper:
    """Marian, with the fused AdamW that its Trainer uses."""
    import torch

    model = common.marian(attention).train()
    model.to(torch.bfloat16 if bf16_weights else torch.float32)

    def logits(source: Tensor, target_in: Tensor) -> Tensor:
        mask = (source != PAD).long()
        output = model(input_ids=source, attention_mask=mask, decoder_input_ids=target_in, use_cache=False)
        scores: Tensor = output.logits
        return scores

    return plain_stepper(model, logits, batches, autocast=autocast)


def lstm_stepper(batches: list[Batch], *, autocast: bool = False, bf16_weights: bool = False) -> Stepper:
    """torch.nn.LSTM; it reads padding like other tokens."""
    import torch
    from torch import nn

    read, written = (nn.Embedding(VOCAB_SIZE, LSTM_WIDTH) for _ in range(2))
    head = nn.Linear(LSTM_WIDTH, VOCAB_SIZE)
    encoder, decoder = (nn.LSTM(LSTM_WIDTH, LSTM_WIDTH, LSTM_LAYERS, batch_first=True) for _ in range(2))
    model = nn.ModuleList([read, written, encoder, decoder, head])
    model.to(torch.bfloat16 if bf16_weights else torch.float32)

    def logits(source: Tensor, target_in: Tensor) -> Tensor:
        _, state = encoder(read(source))
        hidden, _ = decoder(written(target_in), state)
        scores: Tensor = head(hidden)
        return scores

    return plain_stepper(model, logits, batches, autocast=autocast)


def seqloom_stepper(
    batches: list[Batch], *, lstm: bool = False, precision: Precision = "auto", optimizer: AdamW | None = None
) -> Stepper:
    """seqloom's model and objective."""
    import torch

    from seqloom.data.batches.batch import SequenceBatch
    from seqloom.nn.embedders import Inputs
    from seqloom.objectives.cross_entropy import CrossEntropy
    from seqloom.training.optimizer import AdamW

    optimizer = optimizer or AdamW(lr=LEARNING_RATE, clip=CLIP)
    model = common.seqloom_lstm(LSTM_LAYERS, LSTM_WIDTH) if lstm else common.seqloom_model()
    ready = []
    for batch in batches:
        source, target_in, target_out = (torch.tensor(part) for part in batch)
        masks = [None if mask.all() else mask for mask in (source != PAD, target_out != PAD)]
        ready.append(SequenceBatch(Inputs.text(source, masks[0]), target_in, target_out, masks[1], batch.tokens))
    return common.seqloom_stepper(model, CrossEntropy(SMOOTHING), optimizer, ready.__getitem__, precision)


SYSTEMS: dict[str, tuple[str, Callable[[list[Batch]], Stepper]]] = {
    **{name: (title, partial(hf_stepper, **options)) for name, (title, options) in HUGGING_FACE.items()},
    "hf-bf16-weights": ("Hugging Face bf16 weights", partial(hf_stepper, bf16_weights=True)),
    "hf-bf16-weights-eager": (
        "Hugging Face bf16 weights, eager attention",
        partial(hf_stepper, bf16_weights=True, attention="eager"),
    ),
    "seqloom": ("seqloom", seqloom_stepper),
    "lstm-fp32": ("torch.nn.LSTM fp32", lstm_stepper),
    "lstm-bf16": ("torch.nn.LSTM bf16 autocast", partial(lstm_stepper, autocast=True)),
    "lstm-bf16-weights": ("torch.nn.LSTM bf16 weights", partial(lstm_stepper, bf16_weights=True)),
    "seqloom-lstm-fp32": ("seqloom LSTM fp32", partial(seqloom_stepper, lstm=True, precision="fp32")),
    "seqloom-lstm": ("seqloom LSTM", partial(seqloom_stepper, lstm=True)),
}
DEFAULT = (
    "hf-fp32",
    "hf-bf16",
    "hf-bf16-eager",
    "hf-fp32+alloc",
    "hf-bf16+alloc",
    "hf-bf16-eager+alloc",
    "hf-bf16-weights+alloc",
    "hf-bf16-weights-eager+alloc",
    "seqloom+alloc",
)


def build(system: str, first: Json) -> tuple[common.Work, Json]:
    """The worker's system, ready to be asked for {"batch": i}."""
    stepper = SYSTEMS[system][1]([Batch(*parts) for parts in first["batches"]])

    def work(question: Json) -> Json:
        return common.timed_step(lambda: stepper.step(question["batch"]))

    return work, {"parameters": stepper.parameters, "versions": common.versions("torch", "transformers", "seqloom")}


def main() -> None:
    """Read the options, run the systems and report."""
    options = report.parser(__doc__, SYSTEMS, DEFAULT)
    options.add_argument("--batches", type=int, default=12, help="different batches")
    options.add_argument("--passes", type=int, default=2, help="timed passes over them, after one that is not")
    chosen = options.parse_args()
    if chosen.worker:
        common.serve(partial(build, chosen.worker))
        return
    count, passes, tokens = (2, 1, QUICK_TOKENS) if chosen.quick else (chosen.batches, chosen.passes, TOKENS)
    if count < 1 or passes < 1:
        options.error("--batches and --passes must be at least 1")
    data = translation_data.load(chosen.seed, quick=chosen.quick)
    batches = translation_data.batches(data.pairs, tokens, random.Random(chosen.seed))
    if len(batches) < count:
        options.error(f"--batches asks for {count} batches; the data make {len(batches)}")
    batches = batches[:count]
    labels = {name: title for name, (title, _) in SYSTEMS.items()}
    # In the first pass every system meets each shape for the first time, for which oneDNN compiles kernels.
    work = [({"batch": i}, batch.tokens) for _ in range(passes + 1) for i, batch in enumerate(batches)]
    positions = sum(len(batch.target_out) * len(batch.target_out[0]) for batch in batches)
    settings = {
        "data": data.origin,
        "batches": f"{count} of at most {tokens:,} target tokens, {passes} passes after one of warm-up",
        "target padding": f"{1 - sum(batch.tokens for batch in batches) / positions:.1%}",
    }
    report.run(
        "training a translation model",
        "target tokens/s",
        chosen,
        {"batches": batches},
        lambda workers: report.take_turns(workers, labels, work, count, "batches"),
        settings,
    )


if __name__ == "__main__":
    main()
