"""What OpenAI's interface has no route for, against the predictors."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
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


def wave(steps: int = 20) -> np.ndarray:
    values = np.stack((np.sin(0.7 * np.arange(steps)), 9 - 0.5 * np.arange(steps)), -1).astype(np.float32)
    values[3, 1] = np.nan
    return values


def frames(values: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(x) else x for x in frame] for frame in values.tolist()]


def files(values: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    """The same numbers as files of each format, and as one of two series."""
    rows = [["" if np.isnan(x) else repr(x) for x in frame] for frame in values.tolist()]
    channels = [":".join(",".join(row[c] or "?" for row in rows) for c in range(2))]
    texts = {
        form: "\n".join(comma.join(row) for row in [["a", "b"], *rows]) for form, comma in (("csv", ","), ("tsv", "\t"))
    }
    texts |= {"jsonl": json.dumps({"series": frames(values)}), "ts": f"@classlabel false\n@data\n{channels[0]}"}
    np.savez(folder / "two.npz", values=np.stack((0 * values, values)))
    sent = [{"format": form, "data": coded(text.encode())} for form, text in texts.items()]
    return [*sent, {"format": "npz", "data": coded((folder / "two.npz").read_bytes()), "series": 2}]


@pytest.mark.parametrize(
    ("model", "route", "key"), [("waves", "classify", "probabilities"), ("steps", "classify", "labels")]
)
def test_a_signal_is_read_the_same_in_each_form(ask, models: Models, tmp_path: Path, model, route, key):
    values = wave()
    answer = posted(ask, route, model=model, signals=[frames(values), *files(values, tmp_path)])
    (wanted,) = models.get(model).predictor([values])
    assert len(answer["predictions"]) == 6
    for prediction in answer["predictions"]:
        assert not {"text", "signal", "where"} & {*prediction}
        assert prediction[key] == (
            pytest.approx(wanted.probabilities) if key == "probabilities" else list(wanted.labels)
        )
    other = posted(ask, route, model=model, signals=[frames(values + 5)])["predictions"][0]
    assert other[key] != answer["predictions"][0][key]


def test_signals_are_continued_and_translated(ask, models: Models):
    values, forecaster = wave(), models.get("ahead").predictor
    answer = posted(ask, "forecast", model="ahead", signals=[frames(values), frames(values[:7])], steps=3)
    assert answer["channels"] == ["north", "east"]
    for found, wanted in zip(answer["forecasts"], forecaster([values, values[:7]], 3), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert len(posted(ask, "forecast", model="ahead", signals=[frames(values)])["forecasts"][0]) == 5  # its horizon
    texts = posted(ask, "translate", model="pens", signals=[frames(values), frames(values[:9])], beam=2)["translations"]
    pens = models.get("pens").predictor
    assert [row[0]["text"] for row in texts] == pens([json.dumps(frames(v)) for v in (values, values[:9])], beam=2)


def npz(**arrays: Any) -> str:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return coded(file.getvalue())


SERIES = {"format": "csv", "data": coded(b"a,b\n1,2\n3,4\n")}


@pytest.mark.parametrize(
    ("model", "signal", "told"),
    [
        ("waves", [1, 2, 3], "signal 1: 1 channel, and the model reads 2"),
        ("waves", [[1, 2], [3]], "signal 1: a series of steps that differ"),
        ("waves", [[None, None]], "signal 1: a series without values"),
        ("waves", [[1e39, 1]], "signal 1: a value that is infinite"),
        ("waves", [[1e30, 1]], "signal 1: a value that is more than 1,000,000 deviations"),
        ("waves", [[1, 2]] * 31, "31 time steps, and the model reads 30"),
        ("waves", [], "signals"),
        ("waves", [["a", "b"]], "signals"),
        ("waves", "/etc/passwd", "signals.0: Input should be"),
        ("waves", {"format": "csv", "data": coded(b"a,b\n1,x\n")}, "signal 1:2: the value 'x'"),
        ("waves", {"format": "npz", "data": coded(b"PK\x03\x04")}, "signal 1: not an .npz"),
        ("waves", {"format": "npz", "data": npz(values=np.zeros((2, 9, 2)))}, "signal 1: has 2 series"),
        ("waves", {"format": "npz", "data": npz(values=np.zeros(2**24))}, "signal 1: unpacks to 134,217"),
        ("waves", {"format": "npz", "data": npz(values=np.array([{}]))}, "signal 1: not an .npz"),
        ("waves", {**SERIES, "series": 2}, "signal 1: has 1 series"),
        ("waves", {**SERIES, "format": "gz"}, "signals.0.format: Input should be 'csv'"),
        ("waves", {**SERIES, "path": "/etc/passwd"}, "signals"),
        ("ahead", {"format": "csv", "data": coded(b"east,north\n1,2\n")}, "signal 1: has the columns east, north"),
    ],
)
def test_a_signal_that_cannot_be_read_is_refused(ask, model, signal, told):
    route = "forecast" if model == "ahead" else "classify"
    response = ask("POST", f"/v1/{route}", json={"model": model, "signals": [signal]})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"].startswith(told)
    assert "/tmp" not in response.text


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("translate", {"model": "mt", "texts": ["ba", "ko " * 600]}),
        ("translate", {"model": "mt"}),
        ("translate", {"model": "mt", "signals": [[1, 2]]}),
        ("translate", {"model": "pens", "texts": "a.csv"}),
        ("classify", {"model": "waves", "texts": "/etc/passwd"}),
        ("classify", {"model": "waves", "signals": [[[1, 2]]], "texts": "ba"}),
        ("forecast", {"model": "ahead", "signals": [[[1, 2]]], "steps": 1001}),
        ("forecast", {"model": "ahead", "signals": [[[1, 2]]], "steps": 0}),
        ("forecast", {"model": "waves", "signals": [[[1, 2]]]}),
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


def picture(seed: int = 1) -> bytes:
    images, file = pytest.importorskip("PIL.Image"), io.BytesIO()
    images.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_a_text_is_translated_beside_its_picture(ask, models: Models):
    files, texts = [picture(1), picture(1), picture(2)], ["ba ko", "mi tesu lan", "ba ko"]
    guide = {"model": "guide/german", "images": [*map(coded, files)]}
    found = [row[0] for row in posted(ask, "caption", **guide, texts=texts)["captions"]]
    translator = models.get("guide/german").predictor
    sources = [f"{translator.medium.sent(data, 'image')}\t{text}" for data, text in zip(files, texts, strict=True)]
    wanted = [row[0] for row in translator.translate(sources)]
    assert [one["text"] for one in found] == [one.text for one in wanted]
    assert [one["score"] for one in found] == pytest.approx([one.score for one in wanted], abs=1e-5)
    assert len({round(one["score"], 4) for one in found}) == 3  # both the picture and the text count
    (one,) = posted(ask, "caption", model="guide/german", images=guide["images"][:1], texts="ba ko")["captions"]
    assert one[0] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.parametrize(
    ("model", "images", "more", "told"),
    [
        ("guide/german", 1, {}, "texts: the model 'guide/german' reads images, each with a text beside it"),
        ("guide/german", 2, {"texts": ["ba"]}, "texts: 1 text for 2 images"),
        ("guide/german", 2, {"texts": ["ba", " \u3000"]}, "text 2: there is no text beside the image"),
        ("guide/german", 1, {"texts": "ba\tko"}, "text 1: a tab in the text beside the image"),
        ("guide/german", 1, {"texts": "ba", "beam": 99}, "beam: "),
        ("scenes", 1, {"texts": "ba"}, "images: the model 'scenes' reads images"),
    ],
)
def test_a_picture_without_its_text_is_refused(ask, model, images, more, told):
    body = {"model": model, "images": [coded(picture())] * images, **more}
    response = ask("POST", "/v1/caption", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"].startswith(told)
