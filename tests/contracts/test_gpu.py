"""What a model computes on a processor it computes on a GPU, too: losses, gradients, words, and a training resumed."""

from __future__ import annotations

from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_encoder_models import FAMILY as READERS
from test_language_models import FAMILY as WRITERS
from test_models import CHOICES, config_of, name_of
from test_models import FAMILY as TRANSLATORS
from torch import nn

from seqloom.data.batches.batch import ReadingBatch, StreamBatch
from seqloom.data.batches.pairs import make_batch
from seqloom.decoding.config import BeamSearch, Greedy
from seqloom.decoding.encoder_decoder import decode_rows
from seqloom.decoding.job import Task
from seqloom.decoding.results import Hypothesis
from seqloom.decoding.search import decode
from seqloom.models.decoder import LanguageModel
from seqloom.models.encoder import EncoderOnly
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.embedders import Inputs
from seqloom.objectives.cross_entropy import CrossEntropy
from seqloom.objectives.next_token import NextToken
from seqloom.objectives.reading import Labels, MaskedTokens
from seqloom.training.loop import GradientLearner
from seqloom.training.optimizer import AdamW, Muon

V, END = 17, 1
GPU = torch.device("cuda")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


def twins(model: nn.Module) -> tuple[Any, Any]:
    """A model that drops nothing, here and on the GPU."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    model = model.double().train()
    return model, deepcopy(model).to(GPU)


def learn_alike(models: tuple[nn.Module, nn.Module], batch: Any, objective: Any) -> None:
    """The same loss and gradients; a loss is summed in float32 at least."""
    found = [objective(model, b) for model, b in zip(models, (batch, batch.to(GPU)), strict=True)]
    assert found[1].value.device.type == "cuda"
    torch.testing.assert_close(found[1].value.cpu(), found[0].value, rtol=1e-5, atol=1e-5, check_dtype=False)
    assert found[1].nll == pytest.approx(found[0].nll, rel=1e-5)
    for loss in found:
        loss.value.backward()
    there = dict(models[1].named_parameters())
    for name, parameter in models[0].named_parameters():
        expected, got = parameter.grad, there[name].grad
        if expected is None or got is None:
            assert got is expected, name
        else:
            assert torch.allclose(got.cpu(), expected, rtol=1e-4, atol=1e-5), name


def write_alike(first: list[list[Hypothesis]], second: list[list[Hypothesis]]) -> None:
    assert [[h.ids for h in row] for row in first] == [[h.ids for h in row] for row in second]
    for a, b in zip(first, second, strict=True):
        assert [h.log_p for h in a] == pytest.approx([h.log_p for h in b], rel=1e-4)


@pytest.mark.parametrize("config", WRITERS, ids=lambda c: f"{c.decoder}-{c.tie}-{c.embedding}")
def test_language_models(config: Any) -> None:
    models = twins(LanguageModel(config, V))
    ids = torch.randint(V, (3, 7))
    targets = ids[:, 1:].clone()
    targets[1, 4:] = -1
    documents = torch.tensor([[0, 0, 1, 1, 1, 2], [0] * 6, [0, 1, 2, 2, 2, 2]])
    learn_alike(models, StreamBatch(Inputs.text(ids[:, :-1]), ids[:, 1:].contiguous(), True, 18), NextToken())
    learn_alike(
        models, StreamBatch(Inputs.text(ids[:, :-1], segments=documents), targets, True, 16), NextToken(smoothing=0.1)
    )
    for beam in (1, 3):
        found = []
        for model in models:
            device = next(model.eval().parameters()).device

            def step(last: Any, state: Any, model: Any = model) -> Any:
                hidden, state = model.decode(last, state)
                return model.head(hidden[:, -1]), state

            task = Task(2, END, torch.full((3,), 7, device=device))
            with torch.inference_mode():
                found.append(decode(step, model.start(), task, BeamSearch(beam=beam, n_best=beam)))
        write_alike(*found)


@pytest.mark.parametrize("config", [*map(config_of, CHOICES), *TRANSLATORS], ids=name_of)
def test_encoder_decoders(config: Any) -> None:
    models = twins(EncoderDecoder(config, V, V))
    draw = np.random.default_rng(5)
    sources, targets = ([draw.integers(3, V, n) for n in lengths] for lengths in ((7, 2, 5), (3, 5, 4)))
    learn_alike(models, make_batch(sources, targets, 2), CrossEntropy(smoothing=0.1))
    for model in models:
        model.eval()
    for decoding in (Greedy(max_length=6), BeamSearch(beam=3, n_best=2)):
        write_alike(*(decode_rows(model, sources, decoding, start=2, end=END) for model in models))


@pytest.mark.parametrize(
    "config", READERS, ids=lambda c: f"{c.encoder.kind}-{c.pooling}-{c.segments}-{c.embedding}-{c.matches}"
)
def test_readers(config: Any) -> None:
    models = twins(EncoderOnly(config, V, {"masked": 0, "label": 5, "tags": 4, "span": 2}))
    ids, mask = torch.randint(V, (3, 7)), torch.arange(7) < torch.tensor([7, 4, 2])[:, None]
    kinds = 2 if config.matches else config.segments
    segments = torch.randint(kinds, (3, 7)) if kinds else None
    words = torch.where(mask & (torch.rand(3, 7) < 0.6), ids, -1)
    inputs = Inputs.text(ids, mask, segments)
    learn_alike(models, ReadingBatch(inputs, words, None, int((words >= 0).sum())), MaskedTokens())
    for model in models:
        model.heads = nn.ModuleDict({"label": model.heads["label"]})
    labels = torch.tensor([3, 0])
    learn_alike(models, ReadingBatch(inputs, labels, torch.tensor([0, 1, 1]), 2), Labels(r_drop=2.0))


@pytest.mark.parametrize("optimizer", [AdamW(lr=0.01, weight_decay=0.1), Muon(lr=0.01, weight_decay=0.1)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "config", [WRITERS[0], [c for c in WRITERS if c.carries][-1]], ids=["transformer", "recurrent"]
)
def test_training_and_resuming(config: Any, optimizer: Any, precision: Any, tmp_path: Path) -> None:
    ids = torch.randint(V, (20, 4, 9))

    def learner(model: Any) -> GradientLearner:
        device = next(model.float().parameters()).device
        batches = [StreamBatch(Inputs.text(row[:, :-1]), row[:, 1:].contiguous(), True, 32).to(device) for row in ids]
        return GradientLearner(model, NextToken(), batches.__getitem__, optimizer, ema=0.9, precision=precision)

    def losses(made: GradientLearner, start: int, end: int) -> list[float]:
        return [step.loss for step in islice(made.steps(start, lambda _: 0.01), end - start)]

    here, there = twins(LanguageModel(config, V))
    resumed, tolerance = learner(deepcopy(there)), 1e-4 if precision == "fp32" else 0.05
    expected, first = losses(learner(here), 0, 20), learner(there)
    assert losses(first, 0, 10) == pytest.approx(expected[:10], rel=tolerance)
    first.save(tmp_path)
    resumed.load(tmp_path)
    rest = losses(first, 10, 20)
    assert rest == pytest.approx(expected[10:], rel=tolerance)
    assert losses(resumed, 10, 20) == pytest.approx(rest, rel=1e-4)
