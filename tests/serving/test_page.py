"""The page's files, and the routes that its views ask."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
import torch

from seqloom.errors import UsageError
from seqloom.files import WEIGHTS
from seqloom.media.images import png_uri
from seqloom.run import Run
from seqloom.serving.app import make_app
from seqloom.serving.inspect import Given, source_of
from seqloom.serving.limits import Access
from seqloom.serving.page import FILES, FOLDER
from seqloom.serving.served import Models, load_models
from seqloom.tasks.building import load_run
from seqloom.tasks.task import RunConfig
from seqloom.training.checkpoint import Progress, save_checkpoint, save_weights

MODULES = {name: (FOLDER / name).read_text(encoding="utf-8") for name in FILES.values() if name.endswith(".js")}


def post(ask: Any, name: str, **question: Any) -> Any:
    response = ask("POST", f"/inspect/{name}", json=question)
    assert response.status_code == 200, response.text
    return response.json()


def stream(ask: Any, **question: Any) -> list[Any]:
    response = ask("POST", "/inspect/decode", json=question)
    assert response.status_code == 200, response.text
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n")]
    assert lines[-2:] == ["[DONE]", ""]
    return [json.loads(line) for line in lines[:-2]]


@pytest.mark.parametrize("address", FILES)
def test_a_file_of_the_page_is_served_as_what_it_is(ask, address: str):
    response = ask("GET", address)
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", "": "text/html"}
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(kinds[Path(address).suffix])


def test_no_other_file_is_served(ask):
    assert [ask("GET", path).status_code for path in ("/page/", "/page/../page.py", "/page/%2e%2e/app.py")] == [404] * 3


def test_the_page_loads_its_own_files_alone():
    named = {path for text in MODULES.values() for path in re.findall(r'from "\./([^"]+)"', text)}
    assert named <= {address.removeprefix("/page/") for address in FILES}
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert {*re.findall(r'(?:href|src)="(/[^"]*)"', html)} <= {*FILES}
    assert not [text for text in (html, *MODULES.values()) if re.search(r"https?://|style=|innerHTML|onclick=\"", text)]
    assert sum(map(len, MODULES.values())) < 300_000


def test_names_of_modules_differ_so_that_they_can_be_one_script():
    found = re.compile(r"^(?:export )?(?:async )?(?:const|let|class|function)\*? (\w+|\{[^}]*\}|\[[^\]]*\])", re.M)
    names = [name for text in MODULES.values() for each in found.findall(text) for name in re.findall(r"\w+", each)]
    assert len(names) > 40
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_runs_are_listed_with_what_they_do(ask):
    runs = {run["name"]: run for run in ask("GET", "/inspect/runs").json()["runs"]}
    does = {"lm": "chat", "bytes": "chat", "mt": "translate", "label": "classify", "span": "answer", "words": "fill"}
    assert {name: runs[name]["does"] for name in does} == does
    assert runs["words"]["mask"] == "<mask>"
    assert [runs[name]["tables"] for name in ("mt", "lm")] == [["source", "target"], ["tokens"]]
    assert not any(run["trained"] for run in runs.values())


def test_tokens_are_those_of_the_translator(ask, models: Models):
    tokens = stream(ask, model="mt", text="ba ko", temperature=0)
    (best,) = models.get("mt").predictor.translate(["ba ko"], kind="greedy")[0]
    assert tokens[-1]["text"] == best.text
    assert sum(one["log_p"] for one in tokens if not one["end"]) >= best.log_p - 1e-4
    for one in tokens:
        assert one["top"][0][0] == one["id"]
        assert one["top"][0][2] == pytest.approx(one["log_p"], abs=1e-4)
        assert len(one["top"]) == 8
        assert sum(math.exp(log_p) for _, _, log_p, _ in one["top"]) <= 1 + 1e-4


@pytest.mark.parametrize(("model", "at"), [("mt", 2), ("lm", 1), ("bytes", 3)])
def test_a_forced_token_keeps_what_is_before_it_and_its_probability(ask, model: str, at: int):
    question = {"model": model, "text": "ba ko mi", "temperature": 0, "max_tokens": 9}
    free = stream(ask, **question)
    other, name, log_p, _ = next(row for row in free[at]["top"][1:] if not row[3])
    forced = stream(ask, **question, forced=[*(one["id"] for one in free[:at]), other])
    assert [one["id"] for one in forced[:at]] == [one["id"] for one in free[:at]]
    assert (forced[at]["id"], forced[at]["token"]) == (other, name)
    assert forced[at]["log_p"] == pytest.approx(log_p, abs=1e-4)
    assert [row[0] for row in forced[at]["top"]] == [row[0] for row in free[at]["top"]]
    assert [one["forced"] for one in forced] == [True] * (at + 1) + [False] * (len(forced) - at - 1)
    assert len([one for one in forced if not one["end"]]) <= 9


def test_the_same_seed_draws_the_same_tokens(ask):
    drawn = [
        [one["id"] for one in stream(ask, model="lm", text="ba", temperature=2, seed=seed, max_tokens=12)]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    "wrong",
    [{"model": "label"}, {"forced": [99999]}, {"text": " \u3000"}, {"forced": [-1]}, {"model": "none"}, {"more": 1}],
)
def test_what_cannot_be_decoded_is_refused(ask, wrong):
    response = ask("POST", "/inspect/decode", json={"model": "mt", "text": "ba", **wrong})
    assert response.status_code in (400, 404)
    assert response.json()["error"]["message"]


def test_a_model_of_images_reads_no_path():
    served: Any = SimpleNamespace(name="vit", modality="image", predictor=SimpleNamespace(source=None, reader=None))
    served.predictor.reader = SimpleNamespace(medium=None)
    with pytest.raises(UsageError):
        source_of(served, Given(model="vit", text="/etc/passwd"))


@pytest.fixture
def growing(runs: Path, tmp_path: Path) -> Run:
    """A run in training, whose model at step 20 is not that at step 0."""
    run = Run(Path(shutil.copytree(runs / "mt", tmp_path / "growing")))
    run.append("metrics.jsonl", *({"kind": "train", "step": s, "loss": 3 / s, "seconds": 1.0 * s} for s in (10, 20)))
    run.append("samples.jsonl", {"step": 20, "source": "ba <b>ko</b>", "translation": "mi"})
    loaded = load_run(run, RunConfig, precision="fp32")
    weights = {name: value.detach().flip(0) for name, value in loaded.model.named_parameters()}
    save_checkpoint(run, Progress(step=20), lambda folder: save_weights(folder / WEIGHTS, weights))
    return run


@pytest.fixture
def ask_growing(growing: Run) -> Any:
    """(name, **question) -> the response of a server of that run."""
    models = load_models([str(growing.path)], pytest.fail)

    async def go(name: str, question: Any) -> Any:
        transport = httpx2.ASGITransport(make_app(models, Access()))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.post(f"/inspect/{name}", json={"model": "growing", **question})

    yield lambda name, **question: asyncio.run(go(name, question))
    models.close()


def test_a_training_is_shown_as_it_grows(ask_growing, growing: Run):
    found = ask_growing("training").json()
    assert "<svg" in found["charts"]
    assert "ba &lt;b&gt;ko&lt;/b&gt;" in found["samples"]
    assert found["text"] == "ba <b>ko</b>"
    assert (found["step"], found["finished"], found["checkpoints"], found["best"]) == (20, False, [0, 20], 0)
    assert "charts" not in ask_growing("training", rows=found["rows"]).json()
    growing.append("metrics.jsonl", {"kind": "train", "step": 30, "loss": 0.1, "seconds": 30.0})
    again = ask_growing("training", rows=found["rows"]).json()
    assert again["step"] == 30
    assert again["charts"] != found["charts"]


def test_attention_is_that_of_the_step(ask_growing):
    first, later, best = (ask_growing("look", text="ba ko", step=step).json()["markup"] for step in (0, 20, -1))
    assert "cross-attention" in first
    assert re.findall(r"<path[^>]*>", first) == re.findall(r"<path[^>]*>", best)
    assert first != later
    response = ask_growing("look", text="ba ko", step=7)
    assert response.status_code == 400
    assert "does not exist" in response.json()["error"]["message"]


def test_neighbours_and_maps_are_of_the_table_that_is_asked_for(ask, models: Models):
    model = models.get("mt").loaded.model
    for table, embedder in enumerate((model.source, model.target)):
        weight = torch.nn.functional.normalize(embedder.weight.detach().float(), dim=1)
        tokenizer = models.get("mt").loaded.assets.tokenizers[table]
        names = tokenizer.tokens(range(tokenizer.vocab_size))
        word = next(name for name in names if name.startswith("_") and len(name) > 1)
        found = post(ask, "near", model="mt", table=table, words=[word.removeprefix("_")])
        assert found["words"] == [word]
        cosines = weight[: len(names)] @ weight[names.index(word)]
        best = cosines.topk(2).values[1]
        assert found["near"][0][1] == pytest.approx(float(best), abs=1e-3)
    mapped = post(ask, "map", model="mt", words=[name for name in names if len(name) == 1 and name.isalpha()][:7])
    assert mapped["markup"].count("<circle") == len(mapped["words"]) == 7


def test_an_analogy_needs_three_words(ask):
    assert ask("POST", "/inspect/near", json={"model": "lm", "words": ["ba"], "analogy": True}).status_code == 400
    words = [*post(ask, "map", model="lm")["words"]][:3]
    found = post(ask, "near", model="lm", words=words, analogy=True)
    assert not {*words} & {word for word, _ in found["near"]}


WAVE = [[0.3 * i, 9 - i] for i in range(12)]
PIXELS = [png_uri(np.full((1, 8, 8), shade, np.uint8)).partition(",")[2] for shade in (9, 200)]


@pytest.mark.parametrize(
    ("model", "question"),
    [
        ("mt", {"text": "ba ko"}),
        ("lm", {"text": "ba ko"}),
        ("pens", {"signal": WAVE}),
        ("scenes", {"image": PIXELS[0]}),
        ("guide/german", {"image": PIXELS[0], "text": "ba ko"}),
    ],
)
def test_all_that_writes_is_searched(ask, model: str, question: Any):
    tree = post(ask, "beam", model=model, **question, beam=2)
    assert tree["beam"] == 2
    assert [node["step"] for node in tree["nodes"] if node["id"] in tree["winner"]] == [*range(len(tree["winner"]))]


def test_a_text_beside_a_picture_is_a_part_of_each_question(ask):
    (run,) = (run for run in ask("GET", "/inspect/runs").json()["runs"] if run["name"] == "guide/german")
    assert (run["does"], run["reads"], run["beside"]) == ("translate", "image", "text")

    def inside(image: str, text: str) -> Any:
        return post(ask, "inside", model="guide/german", image=image, text=text)

    found = inside(PIXELS[0], "ba ko")
    assert "ba" in "".join(found["sides"]["text encoder"]["names"])
    assert found["picture"].startswith("data:image/png")
    columns = next(each["columns"] for each in found["attention"] if each["title"] == "cross-attention")
    assert columns == [name for side in ("encoder", "text encoder") for name in found["sides"][side]["names"]]
    others = [inside(PIXELS[1], "ba ko"), inside(PIXELS[0], "mi")]
    assert all(each["predictions"][0]["p"] != found["predictions"][0]["p"] for each in others)
    tokens = stream(ask, model="guide/german", image=PIXELS[0], text="ba ko", temperature=0)
    assert tokens[-1]["text"] == found["written"]
    for text in ("", "ba\tko"):
        body = {"model": "guide/german", "image": PIXELS[0], "text": text}
        response = ask("POST", "/inspect/inside", json=body)
        assert response.status_code == 400
        assert "beside the image" in response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["map", "near"])
def test_there_is_no_other_table(ask, name):
    assert ask("POST", f"/inspect/{name}", json={"model": "lm", "table": 1, "words": ["a"]}).status_code == 400
