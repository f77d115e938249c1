"""What a training will take: measured on a few real steps, before it begins."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from seqloom.data.batches.order import Batches
from seqloom.data.formats.parallel import usable
from seqloom.decoding.search import DecodingConfig
from seqloom.models.weights import parameter_count
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.seq2seq.task import Prepared, TranslateConfig, build_model
from seqloom.training.fit import TrainingConfig
from seqloom.training.loop import train
from seqloom.training.optimizer import FlatWeights, Optimizer
from seqloom.training.precision import KERNEL_BYTES, KERNELS, dtype_for, peak_bytes, pick_device, resident_bytes

_SAMPLES = 12
_EPOCHS = 8
_WARM, _TIMED = 4, 8


@dataclass(frozen=True)
class Estimate:
    """What a training will take on this machine.

    Args:
        steps: of the optimizer.
        epochs: how often each sentence is seen.
        minutes: of training and evaluations.
        gigabytes: the most memory at a time.
        disk_gigabytes: the run directory at its largest.
        parameters: numbers learned.
        words_per_second: target words.
        padding: share of positions that are padding.
    """

    steps: int
    epochs: float
    minutes: float
    gigabytes: float
    disk_gigabytes: float
    parameters: int
    words_per_second: float
    padding: float

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def disk_gigabytes(parameters: int, training: TrainingConfig) -> float:
    """The checkpoints of a run at their most."""
    copies = 4 + (training.ema > 0)  # to use, master, and two moments
    kept = 3 + (training.average_count if training.average != "none" else 0)
    return 4 * parameters * copies * kept / 1e9


def estimate(config: TranslateConfig, prepared: Prepared) -> Estimate:
    """Takes a few steps on batches from the whole range of lengths, the largest among them, and translates a little."""
    device = pick_device(config.training.device)
    model = build_model(config, prepared.source, prepared.target).to(device)
    optimizer = Optimizer(FlatWeights(model, dtype_for(config.training.precision, device)), config.optimizer)
    batches = prepared.batches
    chosen = _chosen(batches)
    # Twice: a shape met for the first time costs the compilation of its kernels. The largest first, for the memory.
    order = [*reversed(chosen), *chosen]
    steps = train(model, config.objective, lambda n: batches(order[n]).to(device), optimizer, lambda n: 1e-5)
    next(steps)
    before = resident_bytes()
    for _ in chosen[1:]:
        next(steps)
    per_shape = (resident_bytes() - before) / (len(chosen) - 1)
    taken = [next(steps) for _ in chosen]
    seconds = statistics.fmean(s.seconds for s in taken)
    training = config.training.lasting(batches.per_epoch / config.batches.accumulate)
    evaluations = -(-training.steps // training.evaluate_every) + (training.average != "none")
    total = training.steps * config.batches.accumulate * seconds
    total += evaluations * _evaluation_seconds(config, prepared, model)
    numbers = parameter_count(model)
    used = training.steps * config.batches.accumulate
    # A later shape shares about half of its kernels with earlier ones, as measured on the demo.
    kernels = per_shape / 2 * max(0, _shapes(batches, used) - len(chosen)) if device.type == "cpu" else 0.0
    return Estimate(
        steps=training.steps,
        epochs=used / batches.per_epoch,
        minutes=total / 60,
        gigabytes=(peak_bytes(device) + min(kernels, KERNELS * KERNEL_BYTES)) / 1e9,
        disk_gigabytes=disk_gigabytes(numbers, config.training),
        parameters=numbers,
        words_per_second=sum(s.words for s in taken) / sum(s.seconds for s in taken),
        padding=batches.padding(),
    )


def estimate_steps(config: Any, model: nn.Module, batches: Any, evaluate: Callable[[], object]) -> Estimate:
    """Takes the first steps of a training of a task without pairs, and evaluates once.

    Args:
        config: with `objective`, `optimizer`, `batches.accumulate` and `training`.
        model: on its device.
        batches: by number, without end; `per_epoch` of them are an epoch.
        evaluate: the validation of the model.
    """
    device = next(model.parameters()).device
    optimizer = Optimizer(FlatWeights(model, dtype_for(config.training.precision, device)), config.optimizer)
    accumulate = config.batches.accumulate
    total = config.training.lasting(batches.per_epoch / accumulate).steps
    steps = train(
        model, config.objective, lambda n: batches(n).to(device), optimizer, lambda n: 1e-5, accumulate=accumulate
    )
    for _ in range(_WARM):
        next(steps)
    taken = [next(steps) for _ in range(_TIMED)]
    began = time.perf_counter()
    evaluate()
    evaluation = time.perf_counter() - began
    evaluations = -(-total // config.training.evaluate_every) + (config.training.average != "none")
    numbers = parameter_count(model)
    return Estimate(
        steps=total,
        epochs=total * accumulate / batches.per_epoch,
        minutes=(total * statistics.fmean(s.seconds for s in taken) + evaluations * evaluation) / 60,
        gigabytes=peak_bytes(device) / 1e9,
        disk_gigabytes=disk_gigabytes(numbers, config.training),
        parameters=numbers,
        words_per_second=sum(s.words for s in taken) / sum(s.seconds for s in taken),
        padding=0.0,
    )


def _chosen(batches: Batches) -> list[int]:
    """The numbers of some batches of the longest epoch, from the smallest to the largest."""
    parts = batches.epoch(batches.longest)
    sources, targets = batches.lengths(batches.longest)
    positions = [len(p) * int(sources[p].max() + targets[p].max()) for p in parts]
    ranked = sorted(range(len(parts)), key=positions.__getitem__)
    first = batches.longest * batches.per_epoch
    return [first + ranked[round(i * (len(ranked) - 1) / (_SAMPLES - 1))] for i in range(_SAMPLES)]


def _evaluation_seconds(config: TranslateConfig, prepared: Prepared, model: Any) -> float:
    pairs, _ = usable(prepared.splits.valid)
    sample = list(pairs.sources[:: max(1, len(pairs) // 256)])
    lengths = [len(ids) for ids in prepared.target.encode(pairs.targets[:: max(1, len(pairs) // 256)])]
    # An untrained model does not know when to stop: it is made to write as much as the references have.
    words = max(1, round(statistics.fmean(lengths)))
    forced = DecodingConfig(beam=1, min_length=words, max_length=words)
    translator = Translator(model, prepared.source, prepared.target, forced, long_input="cut")
    began = time.perf_counter()
    translator(sample)
    # The validation loss is one pass more, about as much as a twentieth of the decoding.
    return 1.05 * (time.perf_counter() - began) * len(pairs) / len(sample)


def _shapes(batches: Batches, count: int) -> int:
    """How many shapes of batches a training of `count` batches meets, as far as its first epochs tell."""
    found = set()
    for epoch in range(min(_EPOCHS, -(-count // batches.per_epoch))):
        source, target = batches.lengths(epoch)
        found |= {(len(p), int(source[p].max()), int(target[p].max())) for p in batches.epoch(epoch)}
    return len(found)
