"""The model of several modalities and tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from seqloom.data.batches.pairs import make_batch
from seqloom.decoding.config import BeamSearch, Greedy
from seqloom.decoding.encoder_decoder import decode_rows
from seqloom.errors import UsageError
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.encoder import EncoderOnlyConfig
from seqloom.models.multimodal import Multimodal, MultimodalConfig, Reading, Writing
from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig
from seqloom.nn.embedders import FrameConfig, Inputs, Modality, PatchConfig
from seqloom.nn.positions import NoPositions
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.cross_entropy import CrossEntropy

V, D = 17, 12
STACK = TransformerConfig(layers=1, width=D, inner=7, heads=2, dropout=0.0)
DECODERS = [
    STACK,
    RecurrentDecoderConfig(layers=1, width=D, dropout=0.0),
    ConvolutionalConfig(layers=1, width=D, kernel=3, dropout=0.0),
]
ENCODERS = {
    "text": EncoderOnlyConfig(encoder=RecurrentEncoderConfig(layers=1, width=5), segments=0),
    "image": EncoderOnlyConfig(
        encoder=replace(STACK, positions=NoPositions()),
        embedder=PatchConfig(size=6, patch=3, channels=1, class_token=False),
        pooling="mean",
        segments=0,
    ),
    "signal": EncoderOnlyConfig(encoder=STACK, embedder=FrameConfig(channels=2), pooling="mean", segments=0),
}
TASKS = {"films": ("text", 2), "strokes": ("signal", 3), "letters": ("image", 0), "german": ("text", 0)}


def model_of(decoder: Any = STACK, tasks: Any = TASKS, **more: Any) -> Multimodal:
    encoders = {name: config for name, config in ENCODERS.items() if name in {m for m, _ in tasks.values()}}
    return Multimodal(MultimodalConfig(encoders=encoders, decoder=decoder, **more), V, tasks).double().eval()


def inputs_of(modality: str) -> Inputs:
    values = {
        "text": torch.randint(V, (2, 5)),
        "image": torch.randn(2, 1, 6, 6).double(),
        "signal": torch.randn(2, 7, 2).double(),
    }
    return Inputs({modality: Modality(values[modality])})


def outputs(model: Multimodal, task: str, inputs: Inputs, target: Tensor) -> Tensor:
    view = model.view(task)
    if isinstance(view, Reading):
        return view.score("label", view(inputs))
    return view.head(view(inputs, target))


@pytest.fixture
def asked() -> tuple[dict[str, Inputs], Tensor]:
    return {task: inputs_of(modality) for task, (modality, _) in TASKS.items()}, torch.randint(V, (2, 4))


@torch.no_grad()
@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: d.kind)
@pytest.mark.parametrize("separate", [False, True], ids=["shared", "separate"])
def test_a_query_changes_its_own_task_alone(decoder: Any, separate: bool, asked: Any) -> None:
    model, (inputs, target) = model_of(decoder, separate=separate), asked
    before = {task: outputs(model, task, inputs[task], target) for task in TASKS}
    for changed in TASKS:
        query = model.queries[changed].data.clone()
        model.queries[changed].data.zero_()
        for task in TASKS:
            same = torch.equal(outputs(model, task, inputs[task], target), before[task])
            assert same == (task != changed), (changed, task)
        model.queries[changed].data = query


@torch.no_grad()
@pytest.mark.parametrize("separate", [False, True], ids=["shared", "separate"])
def test_a_separate_decoder_belongs_to_one_task(separate: bool, asked: Any) -> None:
    model, (inputs, target) = model_of(separate=separate), asked
    before = {task: outputs(model, task, inputs[task], target) for task in TASKS}
    for parameter in model.decoder("letters").parameters():
        parameter.data += 0.1
    differing = {task for task in TASKS if not torch.equal(outputs(model, task, inputs[task], target), before[task])}
    assert differing == ({"letters"} if separate else {*TASKS})


@torch.no_grad()
@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: d.kind)
def test_writing_all_at_once_equals_one_token_at_a_time(decoder: Any) -> None:
    model, target = model_of(decoder), torch.randint(V, (2, 6))
    view = model.view("letters")
    assert isinstance(view, Writing)
    inputs = inputs_of("image")
    state = view.start(view.encode(inputs))
    steps = []
    for t in range(6):
        hidden, state = view.decode(target[:, t : t + 1], state)
        steps.append(hidden)
    torch.testing.assert_close(torch.cat(steps, 1), view(inputs, target), rtol=0, atol=1e-12)


@torch.no_grad()
def test_padding_changes_no_label() -> None:
    model, ids = model_of(), torch.randint(V, (1, 5))
    alone = outputs(model, "films", Inputs.text(ids), ids)
    padded = F.pad(ids, (0, 3))
    mask = torch.arange(8)[None] < 5
    torch.testing.assert_close(outputs(model, "films", Inputs.text(padded, mask), ids), alone, rtol=0, atol=1e-12)


@torch.no_grad()
def test_windows_of_one_text_are_averaged() -> None:
    model, ids = model_of(), torch.randint(V, (3, 5))
    view = model.view("films")
    memory = view(Inputs.text(ids))
    mean = torch.stack((memory.summary[0], memory.summary[1:].mean(0)))
    expected = model.heads["films"](mean)
    torch.testing.assert_close(view.score("label", memory, torch.tensor([0, 1, 1])), expected)


@torch.no_grad()
def test_a_beam_of_one_is_greedy() -> None:
    view: Any = model_of().view("german")
    rows = [np.array([3, 5, 7]), np.array([11, 2])]
    greedy, beam = (
        [[h.ids for h in row] for row in decode_rows(view, rows, how, start=0, end=1)]
        for how in (Greedy(max_length=9), BeamSearch(beam=1, max_length=9))
    )
    assert greedy == beam


def test_inputs_that_no_encoder_reads_are_an_error() -> None:
    model = model_of(tasks={"films": ("text", 2)})
    with pytest.raises(UsageError, match="reads text, the inputs are image"):
        model.view("films")(inputs_of("image"))


def test_an_image_decides_what_an_ambiguous_word_means() -> None:
    """Half of the words have one translation, the others one for bright images and another one for dark ones."""
    torch.manual_seed(1)
    tasks = {"german": ("text", 0), "pictures": ("image", 2)}
    encoders = {**ENCODERS, "text": replace(ENCODERS["text"], encoder=STACK)}
    config = MultimodalConfig(encoders={name: encoders[name] for name in ("text", "image")}, decoder=STACK)
    model = Multimodal(config, V, tasks).train()
    view: Any = model.view("german")
    optimizer, objective = torch.optim.Adam(model.parameters(), 0.01), CrossEntropy(smoothing=0.0)

    def batch(count: int) -> Any:
        words, bright = torch.randint(2, 8, (count,)), torch.randint(2, (count,))
        meanings = torch.where(words < 5, words + 6, words + 6 + 3 * bright)
        made = make_batch([np.array([w, 1]) for w in words.tolist()], [np.array([m, 1]) for m in meanings.tolist()], 0)
        pixels = torch.randn(count, 1, 6, 6) + 2 * bright[:, None, None, None] - 1
        return replace(made, inputs=Inputs({**made.inputs.modalities, **Inputs.image(pixels).modalities}))

    for _ in range(250):
        optimizer.zero_grad()
        drawn = batch(32)
        (objective(view, drawn).value / drawn.tokens).backward()
        optimizer.step()
    model.eval()
    tested = batch(200)

    def correct(inputs: Inputs) -> float:
        with torch.no_grad():
            chosen = view.head(view(inputs, tested.target_in)).argmax(-1)
        return float((chosen[:, 0] == tested.target_out[:, 0]).float().mean())

    with_images, without = correct(tested.inputs), correct(Inputs.text(tested.inputs["text"].values))
    assert with_images > 0.97
    assert 0.6 < without < 0.85  # one half, and of the other half what chance allows
