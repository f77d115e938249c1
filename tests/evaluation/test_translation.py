from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.errors import DataError, MissingExtra
from seqloom.evaluation.translation import corpus_bleu, distinct, length_classes, moses_bleu, score_translations

CAT = "the cat sat on the mat"


class TestBleu:
    def test_equal_is_100_and_disjoint_is_0(self):
        assert corpus_bleu([CAT], [CAT])[0] == pytest.approx(100)
        assert corpus_bleu(["x y z w v"], [CAT], smooth_method="none")[0] == 0

    def test_by_hand(self):
        # The last word is wrong: 5/6 words, 4/5 pairs, 3/4 triples and 2/3 fours are right.
        expected = 100 * (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
        assert corpus_bleu(["the cat sat on the hat"], [CAT])[0] == pytest.approx(expected)

    def test_the_brevity_penalty_by_hand(self):
        # All that is there is right, but it has 5 words of 6.
        assert corpus_bleu(["the cat sat on the"], [CAT])[0] == pytest.approx(100 * math.exp(1 - 6 / 5))

    def test_counts_are_pooled_over_the_corpus(self):
        # Of the two together: 11/12 words, 9/10 pairs, 7/8 triples and 5/6 fours.
        expected = 100 * (11 / 12 * 9 / 10 * 7 / 8 * 5 / 6) ** 0.25
        assert corpus_bleu(["the cat sat on the hat", CAT], [CAT, CAT])[0] == pytest.approx(expected)

    def test_the_signature_says_what_was_computed(self):
        assert corpus_bleu([CAT], [CAT])[1].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
        assert "case:lc" in corpus_bleu([CAT], [CAT], lowercase=True)[1]

    @pytest.mark.parametrize("name", ["13a", "intl", "char", "none"])
    def test_the_score_is_that_of_the_tokens_in_its_signature(self, name):
        """A text whose score is another by each tokenization, with n-grams counted here."""
        texts = "He said: \u00abno-one\u00bb, at 3.5% of $10!", "He said , \u00ab no-one \u00bb at 3.5 % of $10 ."
        by_each = {n: _by_counts(*(cut(text).split() for text in texts)) for n, cut in _tokenizers().items()}
        assert len({round(score, 3) for score in by_each.values()}) == len(by_each)
        score, signature = corpus_bleu(texts[:1], texts[1:], tokenize=name)
        assert f"|tok:{name}|" in signature
        assert score == pytest.approx(by_each[name])
        score, signature = corpus_bleu(texts[:1], texts[1:])
        assert score == pytest.approx(by_each[dict(part.split(":", 1) for part in signature.split("|"))["tok"]])


def _tokenizers() -> dict[str, Callable[[str], str]]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_char import TokenizerChar
    from sacrebleu.tokenizers.tokenizer_intl import TokenizerV14International

    return {"13a": Tokenizer13a(), "intl": TokenizerV14International(), "char": TokenizerChar(), "none": str}


def _by_counts(hypothesis: list[str], reference: list[str]) -> float:
    """BLEU of one sentence, by hand; a precision of 0 halves at each (smoothing "exp")."""
    logs, zeros = [], 1.0
    for n in range(1, 5):
        ours, theirs = (
            Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (hypothesis, reference)
        )
        right, total = (ours & theirs).total(), ours.total()
        zeros *= 1 if right else 2
        logs.append(math.log(right / total if right else 1 / (zeros * total)))
    brevity = min(0.0, 1 - len(reference) / len(hypothesis))
    return 100 * math.exp(sum(logs) / 4 + brevity)


class TestScores:
    def test_case(self):
        scores = score_translations(["a"] * 2, [CAT.upper(), CAT], [CAT, CAT])
        assert scores["bleu"] < scores["bleu_lowercased"] == pytest.approx(100)
        assert "case:mixed" in scores["signature"]
        assert "case:lc" in scores["signature_lowercased"]
        assert scores["exact_match"] == 50
        assert scores["sentences"] == 2

    def test_chrf_by_hand(self):
        # Characters of "ab" against "ac", n-grams of 1 and 2 only: 1/2 and 0/1; the mean of both is P = R = F.
        scores = score_translations(["x"], ["ab"], ["ac"])
        assert scores["chrf"] == pytest.approx(100 * (1 / 2 + 0) / 2)
        assert "chrF2" in scores["chrf_signature"] or "nc:6" in scores["chrf_signature"]

    @given(st.lists(st.tuples(st.integers(1, 130), st.booleans()), min_size=1, max_size=12))
    @settings(max_examples=20)
    def test_by_length_adds_up_to_all(self, rows):
        sources = [" ".join(["w"] * n) for n, _ in rows]
        references = [f"{CAT} {i}" for i in range(len(rows))]
        hypotheses = [r if right else CAT for r, (_, right) in zip(references, rows, strict=True)]
        scores = score_translations(sources, hypotheses, references)
        assert sum(row["sentences"] for row in scores["by_length"]) == len(rows)
        exact = sum(row["sentences"] * row["exact_match"] for row in scores["by_length"]) / len(rows)
        assert exact == pytest.approx(scores["exact_match"], abs=0.01)
        for row in scores["by_length"]:
            own = [n for n, _ in rows if row["from"] <= n and (row["below"] is None or n < row["below"])]
            assert len(own) == row["sentences"]
        lower = [row["from"] for row in scores["by_length"]]
        assert lower == sorted(lower)

    def test_by_kind(self):
        kinds = ["date", "money", "date"]
        scores = score_translations(["a"] * 3, [CAT, "no", "no"], [CAT] * 3, kinds)
        assert [(r["kind"], r["sentences"], r["exact_match"]) for r in scores["by_kind"]] == [
            ("date", 2, 50),
            ("money", 1, 0),
        ]
        assert scores["by_kind"][0]["bleu"] == round(corpus_bleu([CAT, "no"], [CAT, CAT])[0], 2)
        assert score_translations(["a"], [CAT], [CAT])["by_kind"] == []

    def test_it_can_be_saved(self):
        scores = score_translations([CAT, "a b"], [CAT, "c"], [CAT, "d"], ["x", "y"])
        assert json.loads(json.dumps(scores)) == scores
        assert {"bleu", "chrf", "exact_match", "signature", "sentences"} <= scores.keys()

    def test_nothing_to_score(self):
        with pytest.raises(DataError):
            score_translations([], [], [])

    def test_empty_translations_score_0(self):
        scores = score_translations(["a b"], [""], [CAT])
        assert (scores["bleu"], scores["chrf"], scores["exact_match"]) == (0, 0, 0)


class TestMoses:
    def test_tokens_and_lowercase(self):
        # Of the tokens "der mann , 5 jahre , lacht ." all but "lacht" are right, and the last but one is wrong:
        # 7/8 words, 5/7 pairs, 4/6 triples and 3/5 fours.
        hypothesis, reference = "Der Mann, 5 Jahre, weint.", "der Mann, 5 Jahre, lacht."
        expected = 100 * (7 / 8 * 5 / 7 * 4 / 6 * 3 / 5) ** 0.25
        assert moses_bleu([hypothesis], [reference], "de")[0] == pytest.approx(expected)

    def test_the_language_decides(self):
        # "L'homme" is "l'" and "homme" in French, and would be "l" and "'homme" in English.
        french, english = (moses_bleu(["homme rit dehors ici"], ["L'homme rit dehors ici"], x)[0] for x in ("fr", "en"))
        assert french == pytest.approx(100 * math.exp(1 - 5 / 4))
        assert english < french

    def test_nothing_is_escaped(self):
        assert moses_bleu(["a & b < c's d"], ["a &amp; b &lt; c &apos;s d"], "en")[0] < 100
        assert moses_bleu(["A & b < c's d"], ["a & b < c's d"], "en")[0] == pytest.approx(100)

    def test_the_signature_says_what_was_computed(self):
        _, signature = moses_bleu([CAT], [CAT], "de")
        assert "tok:none" in signature
        assert signature.endswith("|moses:de|case:lc")

    def test_without_the_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sacremoses", None)
        with pytest.raises(MissingExtra, match="moses"):
            moses_bleu([CAT], [CAT], "de")


def test_distinct_counts_different_ngrams_within_texts():
    assert distinct(["a b a", "b"], 1) == 50.0
    assert distinct(["a b a", "b", "a b"], 2) == pytest.approx(100 * 2 / 3)
    assert distinct(["a"], 2) == 0


def test_kinds_with_numbers_stand_in_their_order():
    kinds = ["length 10", "length 2", "date", "2", "length 2, nesting 1"]
    rows = score_translations(["a b c d"] * 5, ["x"] * 5, ["a b c d"] * 5, kinds)["by_kind"]
    assert [row["kind"] for row in rows] == ["2", "date", "length 2", "length 2, nesting 1", "length 10"]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({3: 9, 7: 9, 40: 9}, [(0, 5, 9), (5, 10, 9), (30, 50, 9)]),
        ({3: 2, 7: 9, 40: 1}, [(0, 50, 12)]),
        ({3: 2, 7: 9, 12: 8, 40: 1, 60: 2}, [(0, 10, 11), (10, 100, 11)]),
        ({3: 2, 7: 1, 12: 1, 40: 1}, [(0, 50, 5)]),
        ({3: 1}, [(0, 5, 1)]),
        ({200: 1, 7: 5}, [(5, None, 6)]),
    ],
)
def test_small_classes_of_length_join_a_neighbour(counts, expected):
    sources = ["w " * length for length, count in counts.items() for _ in range(count)]
    found = length_classes(sources, 5)
    assert [(low, below, len(rows)) for (low, below), rows in found] == expected
    assert sorted(i for _, rows in found for i in rows) == list(range(len(sources)))
