"""What OpenAI's interface has no route for, against the predictors."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest

from seqloom.serving.served import Models, load_models


def posted(ask: Any, route: str, **body: Any) -> Any:
    response = ask("POST", f"/v1/{route}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_translations_are_those_of_the_translator(ask, models: Models):
    texts = ["ba ko", "", "mi tesu lan"]
    answer = posted(ask, "translate", model="mt", texts=texts, beam=3, n=2, max_tokens=9)
    wanted = models.get("mt").predictor.translate(texts, beam=3, n_best=2, max_length=9)
    assert [[one["text"] for one in row] for row in answer["translations"]] == [[t.text for t in r] for r in wanted]
    for row, results in zip(answer["translations"], wanted, strict=True):
        assert [one["score"] for one in row] == pytest.approx([result.score for result in results], abs=1e-5)
    forced = posted(ask, "translate", model="mt", texts="ba", prefix="KO", max_tokens=9)
    assert forced["translations"][0][0]["text"].strip().startswith("KO")


def test_labels_answers_and_masked_words(ask, models: Models):
    texts = ["ba ko", "mi"]
    labels = posted(ask, "classify", model="label", texts=texts)["predictions"]
    assert [row["label"] for row in labels] == [p.label for p in models.get("label").predictor(texts)]
    passage = " ".join(["ba ko mi tesu"] * 9)  # of several windows
    answers = posted(ask, "answer", model="span", questions=["ko", "lan"], passage=passage)["answers"]
    assert answers == [vars(a) for a in models.get("span").predictor([("ko", passage), ("lan", passage)])]
    words = posted(ask, "fill", model="words", texts=["ba <mask> mi [MASK]", "<mask>"], count=3)["words"]
    assert [[len(mask) for mask in text] for text in words] == [[3, 3], [3]]
    assert words[0][0][0]["probability"] >= words[0][0][1]["probability"]


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_images_are_read_as_the_predictor_reads_them(ask, models: Models):
    images = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(1).integers(0, 256, (11, 7, 3), dtype=np.uint8)
    files = [io.BytesIO(), io.BytesIO()]
    for file, form in zip(files, ("PNG", "BMP"), strict=True):
        images.fromarray(pixels).save(file, form)
    answer = posted(ask, "classify", model="pictures", images=[coded(file.getvalue()) for file in files])
    (wanted,) = models.get("pictures").predictor([pixels])
    for prediction in answer["predictions"]:
        assert set(prediction) == {"label", "probabilities"}
        assert prediction["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-5)


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("translate", {"model": "mt", "texts": ["ba", "ko " * 600]}),
        ("classify", {"model": "label", "texts": ["ba", "ba ko " * 30]}),
        ("classify", {"model": "label", "images": [base64.b64encode(b"x").decode()]}),
        ("classify", {"model": "label"}),
        ("classify", {"model": "pictures", "texts": "/etc/passwd"}),
        ("classify", {"model": "pictures", "images": [coded(b"/etc/passwd")]}),
        ("classify", {"model": "pictures", "images": ["data:image/png;base64,aaaa"]}),
        ("classify", {"model": "pictures", "images": [coded(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")]}),
        ("answer", {"model": "span", "questions": "ba " * 40, "passage": "ko"}),
        ("fill", {"model": "words", "texts": "ba ko"}),
        ("fill", {"model": "words", "texts": "<mask> " * 600}),
        ("fill", {"model": "mt", "texts": "<mask>"}),
        ("translate", {"model": "mt", "texts": []}),
        ("translate", {"model": "mt", "texts": "ba", "beam": 99}),
        ("translate", {"model": "mt", "texts": "ba", "template": "{{ 1 }}"}),
    ],
)
def test_what_cannot_be_read_whole_is_refused(ask, route, body):
    response = ask("POST", f"/v1/{route}", json=body)
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_no_path_of_a_request_is_read(ask, tmp_path):
    (tmp_path / "secret.txt").write_text("ba", encoding="utf-8")
    answer = posted(ask, "classify", model="label", texts=[str(tmp_path / "secret.txt")[-20:]])
    assert answer["predictions"][0]["text"] == str(tmp_path / "secret.txt")[-20:]


def test_a_run_without_a_route_is_named(runs, monkeypatch):
    monkeypatch.setattr("seqloom.serving.served.ROUTES", {})
    said = list[str]()
    load_models([str(runs / "label")], said.append).close()
    assert said == ["label: has no route, only the page"]


@pytest.mark.parametrize(
    ("texts", "told"),
    [([], "texts: List should have at least 1 item"), (["a"] * 3000, "texts: List should have at most 2048 items")],
)
def test_a_list_of_texts_has_a_length(ask, texts, told):
    error = ask("POST", "/v1/translate", json={"model": "mt", "texts": texts}).json()["error"]
    assert error["message"].startswith(told)
    assert error["param"] == "texts"


@pytest.mark.parametrize(
    ("body", "told"),
    [(b"", "no JSON object"), (b'{"model": "mt"', "no JSON"), (b'{"model": "mt", "texts": "a"}', "send")],
)
def test_a_body_is_a_json_object(ask, body, told):
    response = ask("POST", "/v1/translate", content=body)
    assert response.status_code == 400
    assert told in response.json()["error"]["message"]
    assert response.json()["error"]["param"] is None


def test_translations_may_come_from_another_engine(runs):
    pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed: nothing is decoded by it")
    models = load_models([str(runs / "mt")], pytest.fail, precision="fp32", engine="ctranslate2")
    try:
        translator = models.get("mt").predictor
        assert translator.fast is not None
        texts = ["ba ko", "mi"]
        found = translator(texts, kind="greedy", max_length=7)
        translator.fast = None
        assert translator(texts, kind="greedy", max_length=7) == found
    finally:
        models.close()
