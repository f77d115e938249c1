"""Phrases against plain loops over lists of words."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seqloom.data.batches import collocations
from seqloom.data.batches.word_ids import END
from seqloom.data.sources.words import WordText
from seqloom.errors import DataError

Lines = list[list[str]]


def by_hand(lines: Lines, config: WordText) -> tuple[dict[str, int], Lines]:
    """How often each word occurs, and the text, after all passes."""
    counts, lines = frequent(lines, config)
    for _ in range(config.phrases):
        pairs = Counter(pair for line in lines for pair in pairwise(line))
        total = sum(counts.values())
        phrases = {
            (a, b)
            for (a, b), n in pairs.items()
            if (n - config.min_count) * total / (counts[a] * counts[b]) > config.threshold and n >= config.min_count
        }
        counts, lines = frequent([joined(line, phrases) for line in lines], config)
    return counts, lines


def frequent(lines: Lines, config: WordText) -> tuple[dict[str, int], Lines]:
    """The words that are frequent enough, the most frequent first; and the text without the others."""
    counts = Counter(word for line in lines for word in line)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    kept = [word for word in ranked if counts[word] >= config.min_count][: config.max_words or None]
    return {word: counts[word] for word in kept}, [[word for word in line if word in kept] for line in lines]


def joined(line: list[str], phrases: set[tuple[str, str]]) -> list[str]:
    result, at = [], 0
    while at < len(line):
        pair = tuple(line[at : at + 2])
        result.append("_".join(pair) if pair in phrases else line[at])
        at += 2 if pair in phrases else 1
    return result


def by_us(lines: Lines, config: WordText, folder: Path) -> tuple[dict[str, int], Lines]:
    Path(config.train[0]).write_text("".join(f"{' '.join(line)}\n" for line in lines), encoding="utf-8")
    vocabulary, ids = config.encoded(folder, lambda text: None)
    text: Lines = [[]]
    for number in ids.read(0, ids.size).tolist():
        if number == END:
            text.append([])
        else:
            text[-1].append(vocabulary.words[number])
    assert text.pop() == []  # the last line has an end, too
    assert vocabulary.counts.sum() == sum(map(len, text))
    return dict(zip(vocabulary.words, vocabulary.counts.tolist(), strict=True)), text


def config(folder: Path, **options: Any) -> WordText:
    return WordText((str(folder / "text.txt"),), **({"min_count": 1, "phrases": 1, "threshold": 0.01} | options))


OPTIONS = st.fixed_dictionaries(
    {
        "min_count": st.integers(1, 3),
        "max_words": st.sampled_from([0, 0, 3]),
        "phrases": st.integers(0, 3),
        "threshold": st.sampled_from([0.001, 0.307, 0.703, 1.301, 2.903]),
    }
)
WORDS = st.sampled_from(["a", "b", "b", "c", "d", "a_b", "b_c"])


@given(lines=st.lists(st.lists(WORDS, max_size=13), min_size=1, max_size=9), options=OPTIONS, part=st.integers(1, 7))
@example([["a", "b", "c"]] * 5 + [["a", "b", "c", "d"]], {"phrases": 2, "min_count": 2, "threshold": 0.3}, 1)
def test_phrases_are_those_of_plain_loops(tmp_path_factory, lines, options, part):
    folder = tmp_path_factory.mktemp("corpus")
    settings = config(folder, **options)
    counts, expected = by_hand(lines, settings)
    if not counts:
        with pytest.raises(DataError):  # of a text from which no word is left, nothing can be learned
            by_us(lines, settings, folder)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collocations, "_PART", part)  # pairs are counted in many parts
        assert by_us(lines, settings, folder) == (counts, expected)


def test_two_passes_give_phrases_of_three_words(tmp_path):
    lines = [["new", "york", "times"]] * 14 + [["the"], ["of"], ["the", "times"]] * 11
    once, text = by_us(lines, config(tmp_path, min_count=5, threshold=2.0), tmp_path)
    assert text == [["new_york", "times"]] * 14 + lines[14:]
    assert once == {"times": 25, "the": 22, "new_york": 14, "of": 11}
    twice, text = by_us(lines, config(tmp_path, min_count=5, threshold=1.0, phrases=2), tmp_path)
    assert text == [["new_york_times"]] * 14 + lines[14:]
    assert twice == {"the": 22, "new_york_times": 14, "of": 11, "times": 11}


def test_the_score_of_a_pair(tmp_path):
    """20 words; a and b 4 times each, 3 times together: (3 - 1) * 20 / 16 = 2.5."""
    lines = [["a", "b"]] * 3 + [["a"], ["b"], *([str(n)] for n in range(12))]
    assert "a_b" in by_us(lines, config(tmp_path, threshold=2.499), tmp_path)[0]
    assert "a_b" not in by_us(lines, config(tmp_path, threshold=2.5), tmp_path)[0]


def test_pairs_are_joined_from_left_to_right(tmp_path):
    lines = [["a"] * 5, ["a"] * 2, ["a", "b", "a", "b", "a"]] * 3
    _, text = by_us(lines, config(tmp_path), tmp_path)
    assert text[:3] == [["a_a", "a_a", "a"], ["a_a"], ["a_b", "a_b", "a"]]


def test_no_phrase_reaches_over_the_end_of_a_line(tmp_path):
    lines = [["x", "new"], ["york", "x"]] * 50
    counts, _ = by_us(lines, config(tmp_path, threshold=0.001), tmp_path)
    assert set(counts) == {"x_new", "york_x"}
    lines = [["new"], ["york"]] * 50
    assert by_us(lines, config(tmp_path, threshold=0.001), tmp_path) == ({"new": 50, "york": 50}, lines)


def test_words_that_became_rare_are_left_out(tmp_path):
    """The word "new" occurs six times, but only once without "york"."""
    lines = [["new", "york"]] * 5 + [["new", "p"]] + [["p"]] * 30
    counts, text = by_us(lines, config(tmp_path, min_count=3, threshold=1.0), tmp_path)
    assert counts == {"p": 31, "new_york": 5}
    assert text == [["new_york"]] * 5 + [["p"]] * 31


def test_no_word_is_left(tmp_path):
    """Five pairs of nine are joined, each too rare to be a word; nothing can be learned from what remains."""
    lines = [["x"] * 10]
    with pytest.raises(DataError):
        by_us(lines, config(tmp_path, min_count=6, threshold=0.1), tmp_path)


def test_two_pairs_may_spell_the_same_phrase(tmp_path):
    lines = [["a_b", "c"], ["a", "b_c"]] * 5
    counts, text = by_us(lines, config(tmp_path), tmp_path)
    assert counts == {"a_b_c": 10}
    assert text == [["a_b_c"]] * 10


def test_forgetting_rare_pairs_keeps_frequent_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(collocations, "_PART", 100)
    monkeypatch.setattr(collocations, "_PAIRS", 50)
    random = np.random.default_rng(1)
    lines = [[f"w{n}" for n in random.integers(97, size=11)] + ["new", "york"] for _ in range(400)]
    settings = config(tmp_path, min_count=5, threshold=10.0)
    counts, _ = by_us(lines, settings, tmp_path)
    assert counts["new_york"] == 400
    monkeypatch.undo()
    assert by_us(lines, settings, tmp_path)[0]["new_york"] == 400
