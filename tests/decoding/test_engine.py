"""The engine of a language model, against one pass over the whole row for each id."""

from __future__ import annotations

import pytest
import torch

from seqloom.decoding.config import BeamSearch, Greedy
from seqloom.decoding.engine import Engine
from seqloom.decoding.job import Request
from seqloom.decoding.search import last_of
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import Inputs
from seqloom.nn.transformer import TransformerConfig

WORDS, PAD, END = 13, 0, 2
DECODERS = [
    TransformerConfig(layers=2, width=6, inner=10, heads=2, dropout=0.0),
    RecurrentDecoderConfig(width=7, layers=1, dropout=0.0),
    ConvolutionalConfig(width=7, layers=2, dropout=0.0),
]
ROWS = [[1], [1, 7, 5], [1, 9], [1, 4, 11]]


def engine(decoder: object, context: int | None = None) -> Engine:
    torch.manual_seed(5)
    model = LanguageModel(DecoderOnlyConfig(decoder=decoder), WORDS)  # type: ignore[arg-type]
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return Engine(model.eval(), context, PAD)


def log_probabilities(made: Engine, row: list[int]) -> torch.Tensor:
    return made.model.head(made.model(Inputs.text(torch.tensor([row])))[0][0, -1]).float().log_softmax(-1)


@torch.no_grad()
def likeliest(made: Engine, row: list[int], length: int) -> list[int]:
    seen, found = list(row), list[int]()
    while len(found) < length:
        if made.context is not None and len(seen) > made.context:
            seen = seen[-(made.context // 2) :]
        word = int(log_probabilities(made, seen).argmax())
        if word == END:
            break
        found.append(word)
        seen.append(word)
    return found


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: d.kind)
@pytest.mark.parametrize("context", [None, 5])
def test_rows_of_several_lengths_are_continued_as_if_alone(decoder: object, context: int | None) -> None:
    made, request = engine(decoder, context), Request(11, END)
    found = made.generate(ROWS, request, Greedy())
    assert [list(h.ids) for (h,) in found] == [likeliest(made, row, 11) for row in ROWS]
    assert any(len(h.ids) + 1 > 5 for (h,) in found)  # the context was left
    for row, (hypothesis,) in zip(ROWS, found, strict=True):
        assert last_of(made.stream(row, request, Greedy())).ids == hypothesis.ids


@torch.no_grad()
def penalized(made: Engine, row: list[int], length: int, penalty: float, prompt: bool) -> list[int]:
    """Greedy decoding whose logits are divided or multiplied where a token was used, id by id."""
    found = list[int]()
    while len(found) < length:
        logits = made.model.head(made.model(Inputs.text(torch.tensor([[*row, *found]])))[0][0, -1]).float()
        for i in set(found) | (set(row) if prompt else set()):
            logits[i] = logits[i] / penalty if logits[i] > 0 else logits[i] * penalty
        if (word := int(logits.argmax())) == END:
            break
        found.append(word)
    return found


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: d.kind)
@pytest.mark.parametrize("beam", [False, True])
def test_penalties_count_the_prompt_by_option(decoder: object, beam: bool) -> None:
    """By default the ids of the result alone, with the option those of the prompt, too, also in rows of a batch."""
    made, request, rows = engine(decoder), Request(7, END), [*ROWS, [1, 8], [1, 3, 8, 0]]
    results = []
    for prompt in (False, True):
        options = {"repetition_penalty": 3.0, "count_prompt": prompt}
        config = BeamSearch(beam=1, **options) if beam else Greedy(**options)  # type: ignore[arg-type]
        found = [list(h.ids) for (h,) in made.generate(rows, request, config)]
        assert found == [penalized(made, row, 7, 3.0, prompt) for row in rows]
        results.append(found)
    assert results[0] != results[1]
    # With n-grams of one id, none occurs twice.
    for prompt in (False, True):
        config = BeamSearch(beam=3, no_repeat_ngram=1, count_prompt=prompt)
        ids = made.generate([[1, 7, 5, 9]], request, config)[0][0].ids
        assert len({*ids}) == len(ids)
        assert not prompt or not {1, 7, 5, 9} & {*ids}


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: d.kind)
@torch.no_grad()
def test_scores_are_of_the_last_ids_and_agree_with_the_search(decoder: object) -> None:
    made = engine(decoder)
    rows, last = [[1, 7, 5, 3], [1, 9], [1, 4, 11, 12, 6]], [2, 1, 4]
    expected = [
        sum(float(log_probabilities(made, row[:i])[row[i]]) for i in range(len(row) - n, len(row)))
        for row, n in zip(rows, last, strict=True)
    ]
    assert made.score(rows, last) == pytest.approx(expected, abs=1e-4)
    best, *_ = made.generate([[1, 7]], Request(20, END), BeamSearch(beam=3, n_best=3))[0]
    assert made.score([[1, 7, *best.ids, END]], [len(best.ids) + 1]) == pytest.approx([best.log_p], abs=1e-4)


def test_a_draft_writes_the_same_and_no_rows_give_nothing() -> None:
    made, request = engine(DECODERS[0]), Request(9, END)
    alone = last_of(made.stream([1, 7], request, Greedy()))
    assert last_of(made.stream([1, 7], request, Greedy(), engine(DECODERS[0]), 3)).ids == alone.ids
    assert made.generate([], request, Greedy()) == []
