from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import sentences

from seqloom.data.batches.masked import Documents, MaskConfig, MaskedBatches, mask_of, with_mask, word_starts
from seqloom.data.rows import Text
from seqloom.data.sources.text import text_source
from seqloom.errors import DataError, UsageError
from seqloom.text.tokenizer import BPE, Special, Template, Tokenizer, WordLevel
from seqloom.text.training import train_tokenizer

LINES = sentences(120, 1)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masked") / "a.txt"
    parts = ["\n".join(LINES[i : i + 30]) for i in range(0, 120, 30)]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def made(path: Path, tokenizer: Tokenizer, seed: int = 5, **sizes: object) -> MaskedBatches:
    config = MaskConfig(**({"tokens": 200, "length": 24} | sizes))  # type: ignore[arg-type]
    return MaskedBatches(Documents.of(Text.of(text_source([str(path)])), tokenizer), tokenizer, config, seed)


WORD = with_mask(train_tokenizer(WordLevel(), LINES))
PIECES = with_mask(train_tokenizer(BPE(size=270), LINES))


def unmasked(batches: MaskedBatches, number: int) -> list[list[int]]:
    batch = batches(number)
    text = batch.inputs["text"]
    ids = torch.where(batch.targets >= 0, batch.targets, text.values)
    real = torch.ones_like(ids, dtype=torch.bool) if text.mask is None else text.mask
    return [row[kept].tolist() for row, kept in zip(ids, real, strict=True)]


@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_has_every_word_once(text, epoch):
    batches = made(text, WORD)
    numbers = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
    rows = [row for n in numbers for row in unmasked(batches, n)]
    assert all(row[0] == WORD.start and row[-1] == WORD.end and len(row) <= 24 for row in rows)
    words = [word for row in rows for word in row[1:-1]]
    assert sorted(words) == sorted(np.concatenate(WORD.encode(LINES)).tolist())


def test_a_batch_is_a_function_of_seed_and_number_and_masks_change(text):
    one, two = made(text, WORD), made(text, WORD)
    assert torch.equal(one(7).inputs["text"].values, two(7).inputs["text"].values)
    assert torch.equal(one(7).targets, two(7).targets)
    assert not all(
        torch.equal(one(7).inputs["text"].values, batch.inputs["text"].values)
        for batch in (made(text, WORD, 6)(7), one(7 + one.per_epoch))
    )


def test_only_tokens_of_the_text_are_targets(text):
    batches = made(text, WORD, share=0.5)
    for batch in map(batches, range(10 * batches.per_epoch)):
        text = batch.inputs["text"]
        assert batch.tokens == int((batch.targets >= 0).sum())
        real = torch.ones_like(text.values, dtype=torch.bool) if text.mask is None else text.mask
        assert not (batch.targets >= 0)[~real].any()
        assert not {*batch.targets.flatten().tolist()} & {WORD.start, WORD.end, WORD.pad}


def test_the_shares_of_masked_replaced_and_kept_tokens_to_a_hundredth(text):
    """Of 100,000 tokens; a replaced one is another of the ten words, or the same."""
    ids = np.random.default_rng(3).choice(made(text, WORD).ordinary, (500, 400))
    read, targets = made(text, WORD, share=0.5)._masked(ids, None, 0)
    chosen = targets >= 0
    assert chosen.mean() == pytest.approx(0.5, abs=0.005)
    assert np.array_equal(targets[chosen], ids[chosen])
    assert np.array_equal(read[~chosen], ids[~chosen])
    masked, same = read[chosen] == mask_of(WORD)[1], read[chosen] == ids[chosen]
    assert masked.mean() == pytest.approx(0.8, abs=0.01)
    assert same.mean() == pytest.approx(0.1 + 0.1 / len(made(text, WORD).ordinary), abs=0.01)
    assert (~masked & ~same).mean() == pytest.approx(0.1 - 0.1 / len(made(text, WORD).ordinary), abs=0.01)


def test_whole_words_are_chosen_together(text):
    batches = made(text, PIECES, whole_words=True, share=0.4)
    starts = word_starts(PIECES)
    several = 0
    for batch in map(batches, range(batches.per_epoch)):
        ids = torch.where(batch.targets >= 0, batch.targets, batch.inputs["text"].values).numpy()
        for row, chosen in zip(ids, (batch.targets >= 0).numpy(), strict=True):
            for t in range(1, len(row)):
                if not starts[row[t]] and row[t] > 3 and row[t - 1] > 3:
                    assert chosen[t] == chosen[t - 1]
                    several += 1
    assert several > 20


def test_half_of_the_pairs_go_on(text):
    batches = made(text, WORD, next_sentence=True, tokens=4000)
    whole = Documents.of(Text.of(text_source([str(text)])), WORD).ids.tolist()
    counts = {0: 0, 1: 0}
    for batch in map(batches, range(batches.per_epoch)):
        for row, segments, continues in zip(
            unmasked(batches, batch.number), batch.inputs["text"].segments, batch.pairs, strict=True
        ):
            middle = row.index(WORD.end)
            assert segments[: len(row)].tolist() == [0] * (middle + 1) + [1] * (len(row) - middle - 1)
            joined = row[1:middle] + row[middle + 1 : -1]
            inside = any(whole[i : i + len(joined)] == joined for i in range(len(whole)))
            assert inside or not continues
            counts[int(continues)] += 1
    assert abs(counts[0] - counts[1]) <= 1


def test_what_stands_around_and_between_texts_is_the_tokenizer_s(text):
    """RoBERTa separates a pair by two tokens, and has one segment (Liu et al. 2019)."""
    ids = WORD.pad, WORD.unknown, WORD.start, WORD.end
    pair = Template((WORD.start,), (WORD.end, WORD.end), (WORD.end,), segments=False)
    tokenizer = Tokenizer(WORD.inner, Special(WORD.vocab_size, *ids, template=pair))
    batches = made(text, tokenizer, next_sentence=True)
    for batch in map(batches, range(batches.per_epoch)):
        assert batch.inputs["text"].segments is None
        for row in unmasked(batches, batch.number):
            assert len(row) <= 24
            at = row.index(WORD.end)
            assert [row[0], *row[at : at + 2], row[-1]] == [WORD.start, WORD.end, WORD.end, WORD.end]
            assert not {WORD.start, WORD.end} & {*row[1:at], *row[at + 2 : -1]}


def test_a_mask_is_added_once_and_is_left_out_of_text():
    assert with_mask(WORD) is WORD
    assert WORD.vocab_size == train_tokenizer(WordLevel(), LINES).vocab_size + 1
    assert WORD.decode([[mask_of(WORD)[1], *WORD.encode(["ba"])[0].tolist()]]) == ["ba"]
    assert mask_of(WORD)[1] not in WORD.encode(["ba <mask> ko"])[0]
    with pytest.raises(UsageError, match="none of the tokens <mask>"):
        mask_of(train_tokenizer(WordLevel(), LINES))


def test_a_text_of_one_word_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("ba\n", encoding="utf-8")
    with pytest.raises(DataError, match="fewer than two tokens"):
        made(tmp_path / "a.txt", WORD)
