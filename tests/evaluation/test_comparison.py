from __future__ import annotations

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from seqloom.errors import DataError
from seqloom.evaluation.comparison import compare_translations

SOURCES = ["one two three"] * 20 + ["one two three four five six seven"] * 20
REFERENCES = [f"the {n} dogs of the old town run home" for n in range(40)]
GOOD = [text.replace("old", "OLD") if n % 9 == 0 else text for n, text in enumerate(REFERENCES)]
BAD = [text.replace("dogs of the", "cats") if n % 3 else text for n, text in enumerate(REFERENCES)]
TRAINING = ["the " * 500, "dogs " * 7, "run"]


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    return compare_translations({"bad": BAD, "good": GOOD}, SOURCES, REFERENCES, TRAINING, samples=200)


def test_the_scores_are_sacrebleus(found):
    first, second = found["systems"]
    assert (first["name"], second["name"]) == ("bad", "good")
    for row, texts in ((first, BAD), (second, GOOD)):
        assert row["bleu"] == pytest.approx(BLEU(lowercase=True).corpus_score(texts, [REFERENCES]).score)
        assert row["chrf"] == pytest.approx(CHRF().corpus_score(texts, [REFERENCES]).score)
    assert second["bleu"] == pytest.approx(100)
    assert second["bleu_interval"] == pytest.approx(0)
    assert first["bleu_interval"] > 1
    assert first["p"] is None
    assert second["p"] < 0.01
    assert (first["exact_match"], second["exact_match"]) == (100 * 14 / 40, 100 * 35 / 40)


def test_a_system_against_itself_differs_by_chance_only():
    same = compare_translations({"a": BAD, "b": BAD}, SOURCES, REFERENCES, TRAINING, samples=100)
    assert same["systems"][1]["p"] > 0.9
    assert same["ngrams"] == [{"name": "b", "more": [], "less": []}]
    assert all(row["spread"] == 0 for row in same["differ"])


@pytest.mark.parametrize(("count", "some"), [(1, False), (2, False), (19, False), (20, True)])
def test_few_sentences_have_neither_intervals_nor_p(count, some):
    """All draws from one sentence are equal, which would be no spread at all and the lowest p that there is."""
    sides = {"right": REFERENCES[:count], "wrong": ["cats"] * count}
    compared = compare_translations(sides, SOURCES[:count], REFERENCES[:count], TRAINING, samples=100)
    for systems in (compared["systems"], compared["by_length"][0]["systems"]):
        stated = [row[key] is not None for row in systems for key in ("bleu_interval", "chrf_interval")]
        assert stated == [some] * 4
        assert [row["p"] is not None for row in systems] == [False, some]
        assert [round(row["bleu"]) for row in systems] == [100, 0]


def test_by_length_is_the_same_on_the_sentences_of_that_length(found):
    assert [(r["from"], r["below"], r["sentences"]) for r in found["by_length"]] == [(0, 5, 20), (5, 10, 20)]
    expected = BLEU(lowercase=True).corpus_score(BAD[20:], [REFERENCES[20:]]).score
    assert found["by_length"][1]["systems"][0]["bleu"] == pytest.approx(expected)


def test_gains_are_differences_on_short_and_on_long_sources(found):
    assert found["gains"] == []  # no source has twenty words
    sources = ["one two"] * 10 + ["word " * 20] * 30
    good = GOOD[:10] + REFERENCES[10:]
    (row,) = compare_translations({"bad": BAD, "good": good}, sources, REFERENCES, TRAINING, samples=20)["gains"]
    bleu = BLEU(lowercase=True)
    low, high = (bleu.corpus_score(BAD[rows], [REFERENCES[rows]]).score for rows in (slice(10), slice(10, None)))
    assert row == {"name": "good", "short": pytest.approx(100 - low), "long": pytest.approx(100 - high)}


def test_by_frequency_is_the_f1_of_the_words(found):
    rows = {r["from"]: r for r in found["by_frequency"]}
    assert [r["from"] for r in found["by_frequency"]] == [0, 1, 5, 100]
    assert rows[1]["words"] == 40
    assert rows[1]["f1"] == {"bad": 100.0, "good": 100.0}
    assert rows[5]["words"] == 40  # "dogs", of which the bad one wrote 14
    assert rows[5]["f1"]["bad"] == pytest.approx(200 * 14 / (40 + 14))
    assert rows[100]["words"] == 80  # "the" twice, of which the bad one leaves out one of 26
    assert rows[100]["f1"]["bad"] == pytest.approx(200 * 54 / (80 + 54))


def test_ngrams_that_one_has_right_more_often(found):
    (row,) = found["ngrams"]
    more = dict(map(tuple, row["more"]))
    assert more["dogs"] == 26
    assert more["dogs of the"] == 26
    assert dict(map(tuple, row["less"]))["old"] == -5
    assert row["more"][0][1] == max(more.values())


def test_sentences_that_differ_most_come_first(found):
    spreads = [row["spread"] for row in found["differ"]]
    assert spreads == sorted(spreads, reverse=True)
    first = found["differ"][0]
    assert first["spread"] == pytest.approx(abs(first["chrf"]["good"] - first["chrf"]["bad"]))
    assert first["reference"] in REFERENCES
    assert set(first["translations"]) == {"bad", "good"}


def test_nothing_to_compare():
    with pytest.raises(DataError, match="no sentence"):
        compare_translations({"a": [], "b": []}, [], [], [])
