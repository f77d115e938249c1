"""What holds for every encoder-decoder, whatever it is made of (docs/design.md, "What must hold", 2 and 4)."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, cached_property
from itertools import combinations, cycle, product
from typing import Any, get_args

import pytest
import torch
from members import members, same
from torch import Tensor

from seqloom.inspection.capture import look
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.decoders import DecoderConfig
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, cross_attentions
from seqloom.models.encoders import EncoderConfig
from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig
from seqloom.nn.attention import CrossAttention, SelfAttention
from seqloom.nn.embedders import Inputs
from seqloom.nn.feedforward import Activation
from seqloom.nn.masks import padding_mask
from seqloom.nn.memory import Memory
from seqloom.nn.norms import NormKind
from seqloom.nn.positions import Learned, PositionConfig
from seqloom.nn.recurrent import Cell
from seqloom.nn.scored_attention import AttentionConfig, ScoredAttention
from seqloom.nn.transformer import TransformerConfig

V, B, S, T = 17, 3, 7, 5
LENGTHS = torch.tensor([7, 2, 5])
MASK = padding_mask(LENGTHS, S)
AXES: dict[str, tuple[Any, ...]] = {
    "positions": get_args(PositionConfig),
    "norm_position": ("before", "after"),
    "norm": get_args(NormKind),
    "activation": get_args(Activation),
    "kv_heads": (0, 2, 1),
    "bias": (True, False),
    "tie": ("all", "decoder-output", "none"),
    "embedding": (0, 5),
}


def cover(axes: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Few combinations in which any two values of two different axes meet at least once."""
    rows = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    pairs = [frozenset(combinations(row.items(), 2)) for row in rows]
    open_pairs, chosen = frozenset[Any]().union(*pairs), []
    while open_pairs:
        best = max(range(len(rows)), key=lambda i: len(pairs[i] & open_pairs))
        open_pairs -= pairs[best]
        chosen.append(rows[best])
    return chosen


CHOICES = cover(AXES)
CELLS = get_args(Cell)
ENCODERS = members(
    EncoderConfig,
    {
        TransformerConfig: [TransformerConfig(layers=1, width=12, inner=8, heads=2)],
        ConvolutionalConfig: [ConvolutionalConfig(layers=3, width=12)],
        RecurrentEncoderConfig: [
            RecurrentEncoderConfig(cell, 2, 6 if direction == "both" else 12, direction, residual, dropout=0.2)
            for cell, direction, residual in zip(
                CELLS * 3, ("forward",) * 3 + ("backward",) * 3 + ("both",) * 3, (True, False) * 5, strict=False
            )
        ],
    },
)
ATTENTIONS = [AttentionConfig(score) for score in ("dot", "general", "additive", "scaled-dot")]
ATTENTIONS += [
    AttentionConfig("multi-head", heads=2),
    AttentionConfig("general", window=2),
    AttentionConfig(coverage=True),
]
WAYS: dict[str, tuple[Any, ...]] = {
    "cell": CELLS,
    "layers": (1, 2),
    "residual": (True, False),
    "context": ("initial", "repeated"),
    "attention": (None, *ATTENTIONS),
    "place": ("before", "after"),
    "input_feeding": (False, True),
}
DECODERS = members(
    DecoderConfig,
    {
        TransformerConfig: [TransformerConfig(layers=1, width=12, inner=8, heads=2)],
        ConvolutionalConfig: [ConvolutionalConfig(layers=3, width=12)],
        RecurrentDecoderConfig: [RecurrentDecoderConfig(width=12, dropout=0.2, **way) for way in cover(WAYS)],
    },
)
# The sharing of tables goes round beside it.
TABLES = cycle([("none", 0), ("decoder-output", 5), ("all", 5), ("none", 5), ("decoder-output", 0)])
# A decoder knows an encoder only by its memory: each of the recurrent ones meets a third of the encoders here, and each
# kind meets all in tests/learning/test_every_pair.py.
PAIRS = [
    (e, d)
    for (i, e), (j, d) in product(enumerate(ENCODERS), enumerate(DECODERS))
    if not isinstance(d, RecurrentDecoderConfig) or (i + j) % 3 == 0
]
FAMILY = [
    EncoderDecoderConfig(encoder=e, decoder=d, tie=tie, embedding=embedding)
    for (e, d), (tie, embedding) in zip(PAIRS, TABLES, strict=False)
]


def short(config: Any) -> str:
    if not is_dataclass(config):
        return str(config)
    given = [short(getattr(config, f.name)) for f in fields(config) if getattr(config, f.name) != f.default]
    return ",".join([getattr(config, "kind", "reading"), *given])


def name_of(config: EncoderDecoderConfig) -> str:
    return f"{short(config.encoder)}-{short(config.decoder)}-{config.tie}-{config.embedding}"


@dataclass(frozen=True)
class Subject:
    """A model, in float64 so that a leak stands out from rounding, and sentences for it: one for all tests."""

    config: EncoderDecoderConfig
    model: EncoderDecoder
    source: Tensor
    target: Tensor

    @property
    def inputs(self) -> Inputs:
        return Inputs.text(self.source, MASK)

    @cached_property
    def memory(self) -> Memory:
        with torch.no_grad():
            return self.model.encode(self.inputs)

    @cached_property
    def expected(self) -> Tensor:
        """The target at once."""
        with torch.no_grad():
            return self.hidden(self.target)

    def hidden(self, target: Tensor, rows: Tensor | None = None) -> Tensor:
        """The whole of another target at once, over the memory of the given sentences."""
        memory = self.memory if rows is None else self.memory.select(rows)
        return self.model.decode(target, self.model.start(memory, keep=False))[0]


def config_of(choice: dict[str, Any]) -> EncoderDecoderConfig:
    stack = {key: value for key, value in choice.items() if key not in ("tie", "embedding", "positions")}
    positions = Learned(length=11) if choice["positions"] is Learned else choice["positions"]()
    encoder = TransformerConfig(layers=2, width=24, inner=13, heads=4, positions=positions, dropout=0.2, **stack)
    encoder = replace(encoder, attention_dropout=0.1, activation_dropout=0.1)
    decoder = replace(encoder, inner=19)
    if choice["tie"] != "all" or choice["embedding"]:
        encoder = replace(encoder, width=40)
    return EncoderDecoderConfig(encoder=encoder, decoder=decoder, tie=choice["tie"], embedding=choice["embedding"])


@cache
def subject_of(config: EncoderDecoderConfig) -> Subject:
    torch.manual_seed(0)
    model = EncoderDecoder(config, V, V).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return Subject(config, model, torch.randint(V, (B, S)), torch.randint(V, (B, T)))


@pytest.fixture(params=[*map(config_of, CHOICES), *FAMILY], ids=name_of)
def subject(request: pytest.FixtureRequest) -> Subject:
    subject = subject_of(request.param)
    torch.manual_seed(1)  # what a test draws does not depend on whether it is the first
    return subject


def test_the_cover_meets_every_pair_of_values() -> None:
    for a, b in combinations(AXES, 2):
        assert {(row[a], row[b]) for row in CHOICES} == set(product(AXES[a], AXES[b]))


# Several inputs are tried within a test, and in one batch where they can, since each call of a model costs the same.
@torch.no_grad()
def test_the_whole_sequence_at_once_is_one_step_at_a_time(subject: Subject) -> None:
    model, whole = subject.model, subject.expected
    same(model(subject.inputs, subject.target), whole)
    for pieces in ([1] * T, [2, 1, 2], [4, 1]):
        state, found = model.start(subject.memory), []
        for piece in subject.target.split(pieces, dim=1):
            hidden, state = model.decode(piece, state)
            found.append(hidden)
            state = state.select(None)
        assert state.length == T
        same(torch.cat(found, 1), whole)


@torch.no_grad()
def test_padding_and_batch_mates_change_nothing(subject: Subject) -> None:
    model, memory, together = subject.model, subject.memory, subject.expected
    for b, length in enumerate(LENGTHS.tolist()):
        alone = model.encode(Inputs.text(subject.source[b : b + 1, :length]))
        same(memory.states[b, :length], alone.states[0])
        same(memory.summary[b], alone.summary[0])
        hidden, _ = model.decode(subject.target[b : b + 1], model.start(alone, keep=False))
        same(together[b], hidden[0])


@torch.no_grad()
def test_what_stands_in_the_padding_changes_nothing(subject: Subject) -> None:
    other = torch.where(MASK, subject.source, (subject.source + 1) % V)
    changed = replace(subject, source=other)
    same(changed.memory.states[MASK], subject.memory.states[MASK])
    same(changed.memory.summary, subject.memory.summary)
    same(changed.expected, subject.expected)


@torch.no_grad()
def test_a_later_token_changes_no_earlier_output(subject: Subject) -> None:
    before = subject.expected
    others = (subject.target + torch.eye(T, dtype=torch.int64)[:, None]) % V  # in row t, all but token t are the same
    for changed, after in enumerate(subject.hidden(others.flatten(0, 1), torch.arange(B).repeat(T)).split(B)):
        same(after[:, :changed], before[:, :changed])
        # in float64, rounding is below 1e-12
        assert ((after - before)[:, changed:].abs().amax((0, 2)) > 1e-4).all(), changed
    for length in range(1, T):
        same(subject.hidden(subject.target[:, :length]), before[:, :length])


@torch.no_grad()
def test_every_real_source_word_counts(subject: Subject) -> None:
    sources = (subject.source + torch.eye(S, dtype=torch.int64)[:, None]) % V  # in row s, all but word s are the same
    found = subject.model(Inputs.text(sources.flatten(0, 1), MASK.repeat(S, 1)), subject.target.repeat(S, 1))
    for s, hidden in enumerate(found.split(B)):
        difference = (hidden - subject.expected).abs().amax((1, 2))
        assert ((difference > 1e-5) == MASK[:, s]).all()


@torch.no_grad()
def test_rows_that_share_a_memory_row_are_rows_with_a_copy_each(subject: Subject) -> None:
    model, K = subject.model, 2
    target = torch.randint(V, (B * K, T))
    expected = subject.hidden(target, torch.arange(B).repeat_interleave(K))
    state, found = model.start(subject.memory).select(torch.arange(B).repeat_interleave(K)), []
    for piece in target.split([2, 1, 1, 1], dim=1):
        hidden, state = model.decode(piece, state)
        found.append(hidden)
    same(torch.cat(found, 1), expected)


@torch.no_grad()
def test_documents_of_a_row_see_nothing_of_each_other(subject: Subject) -> None:
    documents = torch.tensor([[0, 0, 1, 1, 2], [0, 0, 0, 0, 0], [0, 1, 1, 1, 1]])
    found, _ = subject.model.decode(subject.target, subject.model.start(subject.memory, keep=False).apart(documents))
    for begin, end in ((0, 2), (2, 4), (4, 5)):
        rows = torch.tensor([0])
        same(found[:1, begin:end], subject.hidden(subject.target[:1, begin:end], rows))
    same(found[1:2], subject.expected[1:2])
    same(found[2:, 1:], subject.hidden(subject.target[2:, 1:], torch.tensor([2])))


CHOSEN: list[tuple[list[int], list[int] | None]] = [
    ([1, 0, 2, 2, 5, 4], None),  # beams of each sentence change places
    ([5, 4, 0, 0], [2, 0]),  # a sentence is done, the others change places
    ([3], [1]),
    ([0, 1, 1, 2, 3, 3, 5, 4, 4], [0, 1, 2]),  # more beams
]


@torch.no_grad()
def test_a_selected_state_is_one_computed_anew(subject: Subject) -> None:
    model, K = subject.model, 2
    twice = torch.arange(B).repeat_interleave(K)
    prefix, counts = torch.randint(V, (B * K, 3)), [len(rows) for rows, _ in CHOSEN]
    every = torch.tensor([row for rows, _ in CHOSEN for row in rows])
    targets = torch.cat([prefix[every], torch.randint(V, (len(every), 2))], dim=1)
    whole = subject.hidden(targets, every // K)
    _, state = model.decode(prefix, model.start(subject.memory).select(twice))
    for (rows, sentences), target, expected in zip(CHOSEN, targets.split(counts), whole.split(counts), strict=True):
        # Each time from the same state, so that a selection that changed it is found out by the next.
        picked = state.select(torch.tensor(rows), None if sentences is None else torch.tensor(sentences))
        for t in (3, 4):
            hidden, picked = model.decode(target[:, t : t + 1], picked)
            same(hidden[:, 0], expected[:, t])
    rest = torch.randint(V, (B * K, 1))
    same(model.decode(rest, state)[0], subject.hidden(torch.cat([prefix, rest], 1), twice)[:, 3:])


@torch.no_grad()
def test_rows_of_attention_sum_to_one_over_what_mask_and_time_show(subject: Subject) -> None:
    model = subject.model
    with look(model) as seen:
        model(subject.inputs, subject.target)
    across = cross_attentions(model)
    layers = [name for name, m in model.named_modules() if isinstance(m, SelfAttention | CrossAttention)]
    layers += [name for name, m in across.items() if isinstance(m, ScoredAttention) and m.config.score != "multi-head"]
    assert sorted(seen.attention) == sorted(layers)
    for name in layers:
        weights = seen.weights(name)
        rows, columns = (T, S) if name in across else (S, S) if name.startswith("encoder") else (T, T)
        assert weights.shape == (B, weights.shape[1], rows, columns)
        if not getattr(getattr(across.get(name), "config", None), "window", 0):
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]).to(weights))
        hidden = (~MASK)[:, None, None] if columns == S else torch.ones(T, T, dtype=torch.bool).triu(1)
        assert (weights[hidden.expand_as(weights)] == 0).all()


@torch.no_grad()
def test_capture_while_decoding_sees_the_same_weights(subject: Subject) -> None:
    model = subject.model
    with look(model) as whole:
        model(subject.inputs, subject.target)
    state = model.start(subject.memory)
    with look(model) as steps:
        for word in subject.target.split(1, dim=1):
            _, state = model.decode(word, state)
    for name in steps.attention:
        same(steps.weights(name), whole.weights(name))
    for name in steps.streams:
        same(steps.stream(name), whole.stream(name))
    for name in steps.passes:
        same(steps.recurrent(name).h, whole.recurrent(name).h)


def test_the_same_seed_makes_the_same_model(subject: Subject) -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        weights.append(EncoderDecoder(subject.config, V, V).state_dict())
    torch.testing.assert_close(*weights, rtol=0, atol=0)
