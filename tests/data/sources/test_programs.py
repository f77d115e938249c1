from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.data.checks.pairs import check_splits
from seqloom.data.rows import Pairs, Splits
from seqloom.data.sources.programs import Programs, difficulty

ALL = ("addition", "subtraction", "multiplication", "assignment", "if", "for")
SMALL = Programs(size=200, valid_size=30, test_size=40, ramp=6)
ADDITION = replace(SMALL, task="addition", length=5)
# Options and not configs: beartype looks at a random item of a tuple, which hypothesis does not want within a strategy.
OPTIONS = st.fixed_dictionaries(
    {
        "task": st.sampled_from(["programs", "programs", "addition"]),
        "statements": st.lists(st.sampled_from(ALL), min_size=1, max_size=6, unique=True).map(tuple),
        "length": st.integers(1, 7),
        "nesting": st.integers(1, 7),
        "curriculum": st.sampled_from(["baseline", "naive", "mix", "combined"]),
        "ramp": st.integers(0, 5),
        "table": st.booleans(),
        "size": st.integers(1, 30),
        "valid_size": st.integers(1, 5),
        "test_size": st.integers(0, 5),
        "seed": st.integers(0, 1000),
    }
)


def to_program(line: str) -> str:
    return line.replace(";", "\n")


def printed(program: str) -> str:
    """What Python makes of a program, with nothing in reach but print and range."""
    printed: list[int] = []
    exec(program, {"__builtins__": {}, "print": printed.append, "range": range})
    assert len(printed) == 1
    return str(printed[0])


def all_pairs(splits: Splits, epochs: Sequence[int]) -> list[Pairs]:
    assert splits.fresh is not None
    held = [splits.valid] if splits.test is None else [splits.valid, splits.test]
    return [*held, *map(splits.fresh.draw, epochs)]


def bounds(kind: str) -> tuple[int, int]:
    """Length and nesting of a kind."""
    nesting, length = re.fullmatch(r"(?:nesting (\d+), )?length (\d+)", kind).groups()
    return int(length), int(nesting or 1)


def statements_of(program: str) -> int:
    lines = program.split("\n")
    loops = program.count("for ")
    signs = sum(line.count("+") + line.count("-") + line.count("*") for line in lines)
    # The line in a loop has the sign of its "+=", which is the loop's own; an assignment has that of what follows it.
    return signs + program.count(" if ") + loops - program.count("+=") - program.count("-=")


class TestPrograms:
    @given(options=OPTIONS, epoch=st.integers(0, 8))
    @settings(max_examples=120)
    def test_a_target_is_what_python_prints(self, options, epoch):
        for pairs in all_pairs(Programs(**options).splits(), [epoch]):
            for source, target in zip(pairs.sources, pairs.targets, strict=True):
                assert printed(to_program(source)) == target
                assert source.isascii()
                assert not {"\n", "\t", "\r"} & set(source)

    @given(options=OPTIONS, epoch=st.integers(0, 8))
    @settings(max_examples=60)
    def test_a_program_is_no_more_difficult_than_its_kind_says(self, options, epoch):
        config = Programs(**options)
        for pairs in all_pairs(config.splits(), [epoch]):
            for source, kind in zip(pairs.sources, pairs.kinds, strict=True):
                length, nesting = bounds(kind)
                assert (length, nesting) in config.levels
                assert statements_of(to_program(source)) == nesting
                assert all(int(n) <= 4 * length for n in re.findall(r"range\((\d+)\)", source))
                numbers = re.findall(r"\d+", re.sub(r"range\(\d+\)|\*\d+|\d+\*", "", source))
                assert all(len(number) <= length for number in numbers)
                if config.task == "addition":
                    assert [len(n) for n in re.fullmatch(r"print\((\d+)\+(\d+)\)", source).groups()] == [length] * 2

    @pytest.mark.parametrize("statement", ALL)
    def test_one_statement_alone(self, statement):
        pairs = replace(SMALL, statements=(statement,), curriculum="baseline").splits().train
        sign = {"addition": "+", "subtraction": "-", "multiplication": "*", "assignment": "=", "if": " if ", "for": ":"}
        assert all(source.count(sign[statement]) >= 3 for source in pairs.sources)
        for other in {"multiplication", "if", "for"} - {statement}:
            assert not any(sign[other] in source for source in pairs.sources)

    def test_each_operand_can_be_the_value_so_far(self):
        sources = replace(SMALL, nesting=2, curriculum="baseline", size=3000).splits().train.sources
        chosen = [r"if \(.*<\d+", r"if \d+<\(", r"\(\(.* if \d+.\d+ else", r"else \("]
        for pattern in (r"\(\d+-\(", r"\)-\d+\)", r"  .\+=\(", *chosen):
            assert any(re.search(pattern, source) for source in sources), pattern


class TestCurricula:
    def levels(self, epoch: int, **options: object) -> Counter[tuple[int, int]]:
        config = replace(SMALL, length=3, nesting=2, **{"size": 3000, **options})
        fresh = config.splits().fresh
        return Counter(map(bounds, fresh.draw(epoch).kinds))

    def test_baseline_is_always_as_difficult_as_can_be(self):
        assert set(self.levels(0, curriculum="baseline")) == {(3, 2)}

    def test_naive_goes_up_by_length_and_then_by_nesting(self):
        climbed = [self.levels(epoch, curriculum="naive", size=50) for epoch in range(9)]
        assert all(len(levels) == 1 for levels in climbed)
        assert [next(iter(levels)) for levels in climbed] == [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), *[(3, 2)] * 4]
        assert set(self.levels(0, curriculum="naive", ramp=0)) == {(3, 2)}

    @pytest.mark.parametrize("epoch", [0, 9])
    def test_mix_is_even(self, epoch):
        levels = self.levels(epoch, curriculum="mix")
        assert set(levels) == {(length, nesting) for length in (1, 2, 3) for nesting in (1, 2)}
        assert all(400 < count < 600 for count in levels.values())

    @pytest.mark.parametrize(("epoch", "naive"), [(0, (1, 1)), (3, (1, 2)), (50, (3, 2))])
    def test_combined_is_half_of_each(self, epoch, naive):
        levels = self.levels(epoch, curriculum="combined")
        assert len(levels) == 6
        assert 1600 < levels.pop(naive) < 1900  # 3000 (1/2 + 1/12)
        assert all(180 < count < 320 for count in levels.values())

    def test_the_longest_epoch_is_the_first_of_full_difficulty(self):
        for curriculum, epoch in (("baseline", 0), ("mix", 0), ("naive", 6), ("combined", 6)):
            config = replace(SMALL, curriculum=curriculum)
            splits = config.splits()
            assert splits.fresh.longest == epoch
            assert splits.train.digest() == splits.fresh.draw(epoch).digest()
            naive = replace(config, curriculum="naive")
            assert difficulty(naive, Random(1), 6) == (4, 3)
            assert difficulty(naive, Random(1), 5) != (4, 3)


class TestSplits:
    @given(options=OPTIONS)
    @settings(max_examples=60)
    def test_an_epoch_is_a_pure_function_of_seed_and_number(self, options):
        config = Programs(**options)
        first, second = config.splits(), config.splits()
        digests = {n: first.fresh.draw(n).digest() for n in (0, 1, 7)}
        assert {n: second.fresh.draw(n).digest() for n in (7, 0, 1)} == digests
        assert first.valid.digest() == second.valid.digest()
        assert all(len(first.fresh.draw(n)) == config.size for n in (0, 3))

    def test_epochs_and_seeds_differ(self):
        draw, other = SMALL.splits().fresh.draw, replace(SMALL, seed=2).splits().fresh.draw
        assert len({draw(0).digest(), draw(1).digest(), draw(2).digest(), other(0).digest()}) == 4

    @pytest.mark.parametrize("config", [SMALL, ADDITION, replace(ADDITION, length=2, table=True)])
    def test_no_program_stands_in_two_splits(self, config):
        splits = replace(config, curriculum="mix", size=3000).splits()
        valid, test, *trained = (set(pairs.sources) for pairs in all_pairs(splits, range(3)))
        assert len(valid) == len(splits.valid)
        assert len(test) == len(splits.test)
        assert valid.isdisjoint(test)
        assert (valid | test).isdisjoint(set.union(*trained))

    @pytest.mark.parametrize("config", [replace(SMALL, size=2000), replace(ADDITION, size=2000, length=3)])
    def test_nothing_is_found_wrong_with_them(self, config):
        assert check_splits(config.splits()) == []

    def test_the_other_splits_are_of_full_difficulty(self):
        splits = SMALL.splits()
        assert (set(splits.valid.kinds), len(splits.valid)) == ({"nesting 3, length 4"}, 30)
        assert (set(splits.test.kinds), len(splits.test)) == ({"nesting 3, length 4"}, 40)
        assert replace(SMALL, test_size=0).splits().test is None

    def test_a_table_has_as_many_of_each_kind(self):
        splits = replace(SMALL, test_size=121, table=True).splits()
        counts = Counter(splits.test.kinds)
        assert set(splits.valid.kinds) == {"nesting 3, length 4"}
        assert set(counts) == {f"nesting {n}, length {m}" for n in (1, 2, 3) for m in (1, 2, 3, 4)}
        assert (min(counts.values()), max(counts.values())) == (10, 11)

    def test_a_difficulty_with_few_programs_gives_those_it_has(self):
        splits = replace(ADDITION, length=2, table=True, test_size=100).splits()
        counts = Counter(splits.test.kinds)
        assert counts["length 2"] == 50
        assert 0 < counts["length 1"] < 20  # of 81


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"length": 0}, "length must be from 1"),
        ({"nesting": 0}, "nesting must be from 1 to 25"),
        ({"nesting": 26}, "nesting must be from 1 to 25"),
        ({"statements": ()}, "statements must name"),
        ({"size": 0}, "size must be from 1"),
        ({"ramp": -1}, "ramp must be from 0"),
    ],
)
def test_impossible_corpora(wrong, word):
    with pytest.raises(ValueError, match=word):
        replace(SMALL, **wrong)
