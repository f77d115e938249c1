from __future__ import annotations

from dataclasses import replace

import pytest

from seqloom.data.sources.digits import Digits

SMALL = Digits(size=700, valid_size=50, test_size=60)


@pytest.mark.parametrize("task", ["copy", "reverse", "sort"])
def test_each_target_is_the_source_rearranged(task):
    splits = replace(SMALL, task=task).splits()
    assert splits.test is not None
    seen: set[str] = set()
    for pairs, size in ((splits.train, 700), (splits.valid, 50), (splits.test, 60)):
        assert len(pairs) == size
        assert seen.isdisjoint(pairs.sources)
        seen.update(pairs.sources)
        for source, target, kind in zip(pairs.sources, pairs.targets, pairs.kinds, strict=True):
            row = source.split(" ")
            assert 4 <= len(row) <= 8
            assert all(len(digit) == 1 and digit.isdigit() for digit in row)
            assert kind == ("1 digit" if len(row) == 1 else f"{len(row)} digits")
            assert target.split(" ") == {"copy": row, "reverse": row[::-1], "sort": sorted(row)}[task]
    assert len(seen) == 810


def test_every_length_is_about_as_frequent():
    kinds = SMALL.splits().train.kinds
    for digits in range(4, 9):
        assert 90 < kinds.count(f"{digits} digits") < 190


def test_a_seed_is_a_corpus():
    assert SMALL.splits().train.digest() == SMALL.splits().train.digest()
    assert SMALL.splits().train.digest() != replace(SMALL, seed=2).splits().train.digest()
    assert replace(SMALL, test_size=0).splits().test is None


def test_fresh_rows_for_each_epoch():
    splits = replace(SMALL, fresh=True).splits()
    fixed = SMALL.splits()
    assert fixed.fresh is None
    assert [p.digest() for p in (splits.train, splits.valid, splits.test)] == [
        p.digest() for p in (fixed.train, fixed.valid, fixed.test)
    ]
    held = {*splits.valid.sources, *splits.test.sources}
    epochs = [splits.fresh.draw(n) for n in range(4)]
    assert epochs[0].digest() == splits.train.digest()
    assert len({pairs.digest() for pairs in epochs}) == 4
    for pairs in epochs:
        assert len(pairs) == 700
        assert held.isdisjoint(pairs.sources)
        assert all(t == " ".join(s.split()[::-1]) for s, t in zip(pairs.sources, pairs.targets, strict=True))
    assert replace(SMALL, fresh=True).splits().fresh.draw(3).digest() == epochs[3].digest()


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"least": 0}, "least must be"),
        ({"least": 5, "most": 4}, "most must not be below least, not 4 and 5"),
        ({"size": 0}, "size must be from 1"),
        ({"test_size": -1}, "test_size must be from 0"),
        ({"least": 2, "most": 2, "size": 100}, "not enough rows of 2 digits"),
    ],
)
def test_impossible_corpora(wrong, word):
    with pytest.raises(ValueError, match=word):
        replace(SMALL, **wrong)
