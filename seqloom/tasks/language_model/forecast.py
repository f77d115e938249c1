"""Forecasting: language models of the frames of signals, from series of values to a trained run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from seqloom.config import Tree
from seqloom.data.batches.windows import ItemBatches, LengthConfig
from seqloom.data.rows import Recording, digest_rows
from seqloom.data.sources.signals import Recordings
from seqloom.files import Json
from seqloom.inspection.page import join
from seqloom.inspection.signals import forecast_figure
from seqloom.limits import Length
from seqloom.models.assemblies import parameter_count
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.inputs import check_reads
from seqloom.models.presets import for_modality
from seqloom.nn.embedders import FrameConfig
from seqloom.objectives.next_frame import NextFrame
from seqloom.run import Run
from seqloom.tasks.assets import Assets, load_facts, standardized
from seqloom.tasks.building import on_start
from seqloom.tasks.language_model.forecaster import Forecaster
from seqloom.tasks.language_model.recordings import FrameReader
from seqloom.tasks.task import GradientConfig, Prepared, Seen, gradient_plan, refuse_options
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Measured
from seqloom.training.log import Reporter
from seqloom.training.precision import Precision
from seqloom.training.schedule import Linear, Schedule

_VALIDATED = 256  # forecasts of a validation


@dataclass(frozen=True, kw_only=True)
class ForecastConfig(GradientConfig):
    """The config of a run that continues signals.

    Args:
        data: the signals it learns from, and is evaluated and tested with.
        model: the parts of the network and their sizes.
        objective: the loss.
        batches: how series are cut into windows: of batches.length steps, each half of the one before.
        horizon: the steps ahead that are predicted in an evaluation, and by default in use.
    """

    task: Literal["forecast"] = "forecast"
    other_run: ClassVar[str] = "name a run of the task forecast"
    used_by: ClassVar[str] = "forecast"
    unit: ClassVar[str] = "values"
    modality: ClassVar[str] = "signal"
    used_in: ClassVar[Precision] = "fp32"  # the rounding of bfloat16 would add up step by step
    data: Recordings
    model: DecoderOnlyConfig = field(default_factory=lambda: DecoderOnlyConfig(embedder=FrameConfig()))
    objective: NextFrame = field(default_factory=NextFrame)
    batches: LengthConfig = field(default_factory=lambda: LengthConfig(tokens=4096, length=128))
    horizon: Length = 16
    schedule: Schedule = field(default_factory=lambda: Linear(warmup=100))
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="skill", precision="fp32"))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training.check_metric("skill", "loss")
        check_reads(self.model, "embedder", "signal")
        limit = self.model.decoder.limit
        if limit is not None and limit < self.batches.length:
            raise ValueError(f"batches.length {self.batches.length} is more than the model's {limit} positions")

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree merged into the model of the run that training starts from, or into the default one."""
        whole = for_modality(cls, on_start(tree, DecoderOnlyConfig.kind), {"signal": "signal-lstm"})
        return {key: value for key, value in whole.items() if key != "tokenizer" or key in tree}

    def assets(self, run: Run) -> Assets:
        """See RunConfig."""
        return Assets(facts=load_facts(run))

    def build(self, assets: Assets) -> LanguageModel:
        """See RunConfig."""
        torch.manual_seed(self.seed)
        return LanguageModel(self.model.sized((assets.facts or {}).get("sizes", {})), 0)

    def predictor(self, model: LanguageModel, assets: Assets, **options: Any) -> Forecaster:
        """See RunConfig; there are no options."""
        return Forecaster(model, FrameReader(self, assets.facts or {}), **options)

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """See RunConfig."""
        rows = self.data.splits(reporter.say, self.seed)
        facts = standardized(self.data.learned(rows["train"]), self.start, run)
        reader = FrameReader(self, facts)
        items, held = reader.items(rows["train"], learn=True), reader.items(rows["valid"], learn=False)
        walk = reader.walk(rows["valid"], _VALIDATED)
        facts["autoregression"] = reader.fitted(rows["train"], walk).weights.tolist()
        assets, others = Assets(facts=facts), reader.others(walk)
        batches = ItemBatches(items, self.batches, self.seed)

        def measure(model: LanguageModel, step: int) -> Measured:
            forecaster = Forecaster(model, reader)
            scores, forecasts = forecaster.measured(walk, others)
            shown = {key: scores[key] for key in ("skill", "rmse", "mae")}
            samples = [{"step": step, **sample} for sample in reader.samples(walk, forecasts)]
            return {"loss": forecaster.loss(held), **shown}, samples

        return Prepared(
            {name: digest_rows(split) for name, split in rows.items()},
            assets,
            lambda config, model: gradient_plan(config, model, batches, partial(measure, model)),
            f"{len(items):,} windows, {batches.per_epoch} batches an epoch; {reader.medium.channels} channels",
            lambda: [{"split": name, **_summary(split)} for name, split in rows.items()],
        )

    def score(self, predictor: Forecaster, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """See RunConfig: the errors of forecasts at every horizon-th step; there are no options."""
        refuse_options(options)
        rows = self.data.tested(test)
        for line in self.data.described(tuple(test) or self.data.test):
            reporter.say(line)
        reader = predictor.reader
        walk = reader.walk(rows)
        reporter.say(f"{len(walk.places):,} forecasts of {self.horizon} steps")
        began = time.perf_counter()
        scores, forecasts = predictor.measured(walk, reader.others(walk))
        return {
            "loss": predictor.loss(reader.items(rows, learn=False)),
            **scores,
            "horizon": self.horizon,
            "order": reader.autoregression.weights.shape[1] - 1,
            "predictions": reader.samples(walk, forecasts),
            "seconds": round(time.perf_counter() - began, 3),
        }

    def look(self, run: Run, predictor: Forecaster, texts: Sequence[str], samples: Sequence[Json]) -> Seen:
        """See RunConfig: forecasts of the ends of these series, or of the last validation."""
        if texts:
            reader = predictor.reader
            rows = [reader.medium.row(place) for place in reader.medium.named(texts)]
            ends = [Recording(row.values, "", row.where, max(1, len(row.values) - self.horizon)) for row in rows]
            walk = reader.walk(ends)
            samples = reader.samples(walk, np.stack(predictor.continued(walk.pasts, self.horizon)), len(ends))
        last = samples[-1].get("step") if samples else None
        figures = [
            forecast_figure(row["signal"], *(_numbers(row[key]) for key in ("seen", "came", "forecast")))
            for row in samples
            if row.get("step") == last
        ]
        return Seen([], parameter_count(predictor.model), {"Forecasts": join(figures)} if figures else {})


def _numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def _summary(rows: Sequence[Recording]) -> Json:
    lengths = [len(row.values) for row in rows]
    size = {"series": len(rows), "steps": sum(lengths), "predicted": sum(lengths) - sum(row.first for row in rows)}
    missing = sum(int(np.isnan(row.values).sum()) for row in rows)
    return {**size, "shortest": min(lengths), "longest": max(lengths), "missing values": missing}
