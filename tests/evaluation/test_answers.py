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
    assert found["examples"] == 3


def test_questions_with_and_without_an_answer_apart():
    """As the SQuAD 2 script's HasAns and NoAns; without questions of the second kind there is one score."""
    found = score_answers(["1963", "in 1963", "", "x", ""], [["1963"], ["1962", "1963"], [], [], ["y"]])
    assert found == {
        "examples": 5,
        "exact_match": pytest.approx(40),
        "f1": pytest.approx(100 * (1 + 2 / 3 + 1 + 0 + 0) / 5),
        "has_answer_questions": 3,
        "has_answer_exact_match": pytest.approx(100 / 3),
        "has_answer_f1": pytest.approx(100 * (1 + 2 / 3) / 3),
        "no_answer_questions": 2,
        "no_answer_exact_match": 50,
        "no_answer_f1": 50,
    }
    assert set(score_answers(["a"], [["a"]])) == {"examples", "exact_match", "f1"}
    only = score_answers(["something"], [[]])
    assert (only["f1"], only["no_answer_f1"], "has_answer_f1" in only) == (0, 0, False)
