"""What holds for every language model, whatever its decoder (docs/design.md, "What must hold", 2 and 4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, get_args

import pytest
import torch
from members import members, same
from torch import Tensor

from seqloom.errors import UsageError
from seqloom.models.convolutional import ConvolutionalConfig, ConvolutionalState
from seqloom.models.decoder import DecoderOnlyConfig, DecoderReader, LanguageModel
from seqloom.models.decoders import DecoderConfig
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import EmbedderConfig, Inputs
from seqloom.nn.positions import Learned, PositionConfig, Rotary
from seqloom.nn.recurrent import Cell
from seqloom.nn.transformer import TransformerConfig

V, B, T = 17, 3, 6
FORMS: dict[Any, list[Any]] = {
    TransformerConfig: [
        *(
            TransformerConfig(layers=2, width=12, inner=8, heads=2, positions=p(length=9) if p is Learned else p())
            for p in get_args(PositionConfig)
        ),
        TransformerConfig(layers=2, width=12, inner=8, heads=2, norm_position="after", kv_heads=1),
        TransformerConfig(
            layers=2,
            width=12,
            inner=8,
            heads=4,
            kv_heads=2,
            head_width=4,
            window=3,
            qk_norm=True,
            norm="rms",
            eps=1e-5,
            activation="swiglu",
            positions=Rotary(),
            bias=False,
            qkv_bias="yes",
            embedding_norm=True,
        ),
    ],
    RecurrentDecoderConfig: [
        RecurrentDecoderConfig(cell, layers, 12, residual, dropout=0.2, weight_drop=drop)
        for cell in get_args(Cell)
        for layers, residual, drop in ((1, False, 0.3), (2, True, 0.3), (2, False, 0.0))
    ],
    ConvolutionalConfig: [
        ConvolutionalConfig(layers=3, width=12),
        ConvolutionalConfig(layers=2, width=12, kernel=1),
        ConvolutionalConfig(layers=2, width=12, kernel=5, positions=Learned(length=9)),
    ],
}
DECODERS = members(DecoderConfig, FORMS)
TABLES = cycle([(True, 0), (True, 5), (False, 0), (False, 5)])
FAMILY = [
    DecoderOnlyConfig(decoder=d, tie=tie, embedding=e, embedder=EmbedderConfig(scaled=e == 0))
    for d, (tie, e) in zip(DECODERS, TABLES, strict=False)
]


@dataclass(frozen=True)
class Subject:
    """A model, in float64 so that a leak stands out from rounding, and texts for it."""

    config: DecoderOnlyConfig
    model: LanguageModel
    ids: Tensor

    def hidden(self, ids: Tensor) -> Tensor:
        return self.model(Inputs.text(ids))[0]


@pytest.fixture(params=FAMILY, ids=lambda c: f"{c.decoder}-{c.tie}-{c.embedding}")
def subject(request: pytest.FixtureRequest) -> Subject:
    model = LanguageModel(request.param, V).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return Subject(request.param, model, torch.randint(V, (B, T)))


@torch.no_grad()
@pytest.mark.parametrize("pieces", [[1] * T, [2, 1, 3], [5, 1]], ids=str)
def test_the_whole_text_at_once_is_one_step_at_a_time(subject: Subject, pieces: list[int]) -> None:
    state, found = subject.model.start(), []
    for piece in subject.ids.split(pieces, dim=1):
        hidden, state = subject.model.decode(piece, state)
        found.append(hidden)
        state = state.select(None)
    assert state.length == T
    same(torch.cat(found, 1), subject.hidden(subject.ids))


@torch.no_grad()
def test_batch_mates_change_nothing(subject: Subject) -> None:
    together = subject.hidden(subject.ids)
    for b in range(B):
        same(together[b : b + 1], subject.hidden(subject.ids[b : b + 1]))


@torch.no_grad()
def test_a_text_is_scored_by_its_last_token_whatever_stands_beside_it(subject: Subject) -> None:
    reader = DecoderReader(subject.config, V, {"label": 2}).double().eval()
    for parameter in reader.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    lengths = torch.tensor([T, 1, 4])
    mask = torch.arange(T) < lengths[:, None]
    together = reader.score("label", reader(Inputs.text(subject.ids.masked_fill(~mask, 0), mask)))
    for b, n in enumerate(lengths.tolist()):
        memory = reader(Inputs.text(subject.ids[b : b + 1, :n]))
        same(together[b], reader.score("label", memory)[0])
        same(memory.summary, memory.states[:, -1])
    owner = torch.tensor([0, 0, 1])
    means = reader.heads["label"](torch.stack([memory.summary[0], memory.summary[0]]))
    same(reader.score("label", memory.select(torch.zeros(3, dtype=torch.long)), owner), means)
    assert together.std(0).min() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("changed", range(T))
def test_a_later_word_changes_no_earlier_output(subject: Subject, changed: int) -> None:
    other = subject.ids.clone()
    other[:, changed] = (other[:, changed] + 1) % V
    before, after = subject.hidden(subject.ids), subject.hidden(other)
    same(after[:, :changed], before[:, :changed])
    assert ((after - before)[:, changed].abs().amax(-1) > 1e-3).all()
    same(subject.hidden(subject.ids[:, : changed + 1]), before[:, : changed + 1])


@torch.no_grad()
def test_a_selected_state_is_one_computed_anew(subject: Subject) -> None:
    model, rows = subject.model, torch.tensor([2, 0, 0, 1])
    empty = model.start().select(rows, rows)
    same(model.decode(subject.ids[rows], empty)[0], subject.hidden(subject.ids[rows]))
    _, state = model.decode(subject.ids[:, :3], model.start())
    picked = state.select(rows, rows)
    rest = torch.randint(V, (4, 2))
    expected = subject.hidden(torch.cat([subject.ids[rows, :3], rest], 1))
    for t in range(2):
        hidden, picked = model.decode(rest[:, t : t + 1], picked)
        same(hidden[:, 0], expected[:, 3 + t])


@torch.no_grad()
def test_a_carried_state_is_one_long_pass_and_only_recurrent_ones_are_carried(subject: Subject) -> None:
    whole = subject.hidden(subject.ids)
    first, carry = subject.model(Inputs.text(subject.ids[:, :4]))
    rest, _ = subject.model(Inputs.text(subject.ids[:, 4:]), carry)
    same(first, whole[:, :4])
    assert bool(carry) == subject.model.carries == isinstance(subject.config.decoder, RecurrentDecoderConfig)
    if carry:
        same(rest, whole[:, 4:])
    else:
        same(rest, subject.hidden(subject.ids[:, 4:]))


@torch.no_grad()
def test_documents_of_a_row_see_nothing_of_each_other(subject: Subject) -> None:
    documents = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 0]])
    found, _ = subject.model(Inputs.text(subject.ids, segments=documents))
    for row, (ids, own) in enumerate(zip(subject.ids, documents, strict=True)):
        alone = [subject.hidden(ids[own == d][None])[0] for d in own.unique().tolist()]
        same(found[row], torch.cat(alone))


@torch.no_grad()
def test_only_document_0_continues_what_was_carried(subject: Subject) -> None:
    _, carry = subject.model(Inputs.text(subject.ids))
    documents = torch.tensor([[0, 0, 0, 1, 1, 2], [1, 1, 1, 1, 2, 2], [1, 2, 2, 2, 2, 2]])
    found, after = subject.model(Inputs.text(subject.ids, segments=documents), carry)
    fresh, _ = subject.model(Inputs.text(subject.ids, segments=documents))
    continued, _ = subject.model(Inputs.text(subject.ids), carry)
    same(found[0, :3], continued[0, :3])
    same(found[0, 3:], fresh[0, 3:])
    same(found[1:], fresh[1:])
    for row, start in enumerate((5, 4, 1)):  # what is carried on is what the last document left
        _, alone = subject.model(Inputs.text(subject.ids[row : row + 1, start:]))
        for name in alone:
            same(after[name][row], alone[name][0])


@torch.no_grad()
def test_rows_padded_on_the_left_go_on_like_each_alone(subject: Subject) -> None:
    if not subject.model.start().keeps_positions:
        with pytest.raises(UsageError, match="cannot read padded rows"):
            subject.model.start().padded(torch.tensor([0, 2, 1]))
        return
    model, padding, more = subject.model, torch.tensor([0, 2, 1]), torch.randint(V, (B, 2))
    _, state = model.decode(subject.ids, replace(model.start(), padding=padding))
    rows = torch.tensor([2, 1])
    state, found = state.select(rows, rows), []
    for word in more[rows].split(1, dim=1):
        hidden, state = model.decode(word, state)
        found.append(hidden)
    for i, row in enumerate(rows.tolist()):
        text = torch.cat([subject.ids[row, padding[row] :], more[row]])[None]
        same(torch.cat(found, 1)[i : i + 1], subject.hidden(text)[:, -2:])


@torch.no_grad()
def test_a_state_goes_back_where_it_keeps_positions(subject: Subject) -> None:
    _, state = subject.model.decode(subject.ids, subject.model.start())
    assert state.length == T
    if state.keeps_positions:
        again, _ = subject.model.decode(subject.ids[:, 4:], state.back(2))
        same(again, subject.hidden(subject.ids)[:, 4:])
        return
    assert state.back(0) is state.padded(None) is state.apart(None) is state
    with pytest.raises(UsageError, match="cannot go back"):
        state.back(1)
    if isinstance(state, ConvolutionalState):
        with pytest.raises(UsageError, match="documents cannot be told apart"):
            state.apart(subject.ids)


@pytest.mark.parametrize(
    "subject",
    [c for c in FAMILY if getattr(c.decoder, "weight_drop", 0)],
    indirect=True,
    ids=lambda c: f"{c.decoder}-{c.tie}-{c.embedding}",
)
def test_dropped_weights_are_one_draw_for_a_whole_text(subject: Subject) -> None:
    model = subject.model.train()
    for name, module in model.named_modules():
        if hasattr(module, "p") and "changes" not in name:
            module.p = 0.0
    state = start = model.start()
    assert start.matrices[0] is not None
    whole, _ = model.decode(subject.ids, start)
    steps = []
    for word in subject.ids.split(1, dim=1):
        hidden, state = model.decode(word, state)
        steps.append(hidden)
    same(torch.cat(steps, 1), whole)
    assert not torch.allclose(whole, model.decode(subject.ids, model.start())[0])
