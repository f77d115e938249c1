from __future__ import annotations

import pytest

from seqloom.evaluation.answers import normalized, score_answers, word_f1


def test_articles_punctuation_and_capitals_do_not_count():
    assert normalized("The  Eiffel Tower,  a tower!") == "eiffel tower tower"
    assert word_f1("the big red dog", "A red dog.") == pytest.approx(2 * 2 / (3 + 2))
    assert word_f1("cat", "dog") == 0
    assert word_f1("red red dog", "red dog") == pytest.approx(4 / 5)


@pytest.mark.parametrize("article", ["a", "an", "the", "A", "An", "THE"])
def test_each_article_is_left_out_and_no_part_of_a_word(article):
    assert normalized(f"{article} answer {article} theatre {article}") == "answer theatre"
    assert normalized(f"another{article} {article}nother") == f"another{article} {article}nother".lower()


def test_the_best_reference_counts_and_no_answer_is_one():
    found = score_answers(["1963", "in 1963", ""], [["1963"], ["1962", "1963"], []])
    assert found["exact_match"] == pytest.approx(200 / 3)
    assert found["f1"] == pytest.approx(100 * (1 + 2 / 3 + 1) / 3)
    assert score_answers(["something"], [[]]) == {"examples": 1, "exact_match": 0, "f1": 0}
