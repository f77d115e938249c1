from __future__ import annotations

from types import ModuleType

import pytest
import sacrebleu.utils
from sacrebleu.metrics.bleu import BLEU

from seqloom.evaluation import tokenization
from seqloom.evaluation.comparison import compare_translations
from seqloom.evaluation.tokenization import bleu_tokenization, words_by
from seqloom.evaluation.translation import score_translations, zero_bleu

JAPANESE = ["今日はとても良い天気です。", "私は学生です。", "昨日、東京へ行きました。"]
CHINESE = ["今天天气很好。", "我是学生。", "昨天我去了北京。"]
KOREAN = ["오늘은 날씨가 좋습니다.", "저는 학생입니다."]
THAI = ["วันนี้อากาศดีมาก", "ฉันเป็นนักเรียน"]
GERMAN = ["Heute ist das Wetter gut.", "Ich bin Student."]


@pytest.mark.parametrize(
    ("texts", "language", "expected"),
    [
        (JAPANESE, "", "ja-mecab"),
        (JAPANESE, "ja", "ja-mecab"),
        (["東京"], "ja-JP", "ja-mecab"),
        (CHINESE, "", "zh"),
        (["2024"], "zh_Hant", "zh"),
        (JAPANESE, "yue", "zh"),
        (KOREAN, "", "ko-mecab"),
        (["abc"], "kor_Hang", "ko-mecab"),
        (THAI, "", "flores200"),
        (["abc"], "tha_Thai", "flores200"),
        (["မြန်မာဘာသာ"], "", "flores200"),
        (["ភាសាខ្មែរ"], "xx", "flores200"),
        (GERMAN, "", "13a"),
        (GERMAN, "de", "13a"),
        (["Привет, мир", "مرحبا بالعالم", "नमस्ते दुनिया"], "", "13a"),
        (["漢 means Chinese, as everyone knows"], "", "13a"),
        ([], "", "13a"),
        (["1 2 3 ."], "", "13a"),
    ],
)
def test_the_language_or_else_the_script_decides(monkeypatch, texts, language, expected):
    monkeypatch.setattr(tokenization, "_is_there", lambda name: True)
    assert bleu_tokenization(texts, language) == expected


def test_single_characters_stand_in_for_what_is_not_installed(monkeypatch, tmp_path):
    """Nothing is downloaded: flores200 is used where its model lies in the folder of sacreBLEU."""
    monkeypatch.setattr(sacrebleu.utils, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr(tokenization, "find_spec", lambda name: None)
    assert [bleu_tokenization(texts) for texts in (JAPANESE, KOREAN, THAI, CHINESE)] == ["char", "char", "char", "zh"]
    monkeypatch.setattr(tokenization, "find_spec", lambda name: ModuleType(name))
    assert [bleu_tokenization(texts) for texts in (JAPANESE, KOREAN, THAI)] == ["ja-mecab", "ko-mecab", "char"]
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "flores200sacrebleuspm").touch()
    assert bleu_tokenization(THAI) == "flores200"


@pytest.mark.parametrize(("texts", "language"), [(CHINESE, ""), (JAPANESE, "ja"), (KOREAN, "ko"), (THAI, "th")])
def test_perfect_translations_have_a_bleu_of_100_and_its_signature_says_how(texts, language):
    """13a gives 0 here: a sentence is one word."""
    scores = score_translations(["a b c"] * len(texts), texts, texts, ["x"] * len(texts), language)
    used = bleu_tokenization(texts, language)
    assert scores["bleu"] == scores["bleu_lowercased"] == pytest.approx(100)
    assert all(f"|tok:{used}|" in signature for signature in (scores["signature"], scores["signature_lowercased"]))
    assert scores["by_length"][0]["bleu"] == scores["by_kind"][0]["bleu"] == 100
    assert 0 < scores["distinct_2"] <= 100


@pytest.mark.parametrize(("references", "language"), [(CHINESE, ""), (KOREAN, "ko")])
def test_bleu_is_that_of_its_signature(references, language):
    """Computed anew with the tokenization that the signature names, alone and in a comparison of systems."""
    hypotheses = [text[:-2] + text[-1] for text in references]
    scores = score_translations(["a"] * len(references), hypotheses, references, language=language)
    (name,) = [part[4:] for part in scores["signature"].split("|") if part.startswith("tok:")]
    assert scores["bleu"] == pytest.approx(BLEU(tokenize=name).corpus_score(hypotheses, [references]).score)
    assert 0 < scores["bleu"] < 100
    systems = {"a": hypotheses, "b": references}
    found = compare_translations(systems, ["a"] * len(references), references, references, 20, language)
    assert found["tokenization"] == name
    expected = BLEU(tokenize=name, lowercase=True).corpus_score(hypotheses, [references]).score
    assert [row["bleu"] for row in found["systems"]] == pytest.approx([expected, 100])
    assert {row["f1"]["b"] for row in found["by_frequency"]} == {100}
    assert found["ngrams"][0]["more"]


def test_words_without_spaces():
    assert words_by("13a")("Ich bin da.") == ["Ich", "bin", "da."]
    assert words_by("zh")("我是abc学生") == ["我", "是", "abc", "学", "生"]
    assert words_by("char")("ab c") == ["a", "b", "c"]


def test_sources_without_spaces_have_lengths():
    scores = score_translations(["今天天气很好", "好"], ["a", "b"], ["a", "b"])
    assert [(row["from"], row["sentences"]) for row in scores["by_length"]] == [(0, 1), (5, 1)]


def test_a_bleu_of_zero_beside_right_translations_is_a_warning():
    assert "exact match is 50.0 %" in zero_bleu(0.0, ["ja", "nein"], ["ja", "doch"])
    assert "chrF" in zero_bleu(0.0, ["Hauskatze"], ["Hauskatzen"])
    assert zero_bleu(0.0, ["xyz"], ["ja"]) == ""
    assert zero_bleu(0.01, ["ja"], ["ja"]) == ""
