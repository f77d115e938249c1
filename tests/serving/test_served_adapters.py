"""Adapters of one base, which are models of a server by their names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import clients
from made_up import sentences, write_corpus
from safetensors.torch import load_file
from toys import Listener

import seqloom
from seqloom.adaptation.config import AdaptConfig, BitFit, LastLayers, LoRA
from seqloom.config import load
from seqloom.data.batches.windows import TextBatchConfig
from seqloom.data.sources.labelled import LabelledFiles
from seqloom.data.sources.pairs import Files
from seqloom.data.sources.text import TextFiles
from seqloom.errors import SeqloomError, UsageError
from seqloom.run import Run
from seqloom.serving.served import Models, load_models
from seqloom.tasks.encoder.classify import ClassifyConfig
from seqloom.tasks.encoder.masked_words import MaskedWordsConfig
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.training.config import TrainingConfig
from seqloom.training.log import Reporter
from seqloom.training.optimizer import AdamW
from seqloom.training.schedule import Linear
from seqloom.workflows.adapter import export_adapter
from seqloom.workflows.train import train_run

TEXTS = ["ba ko", "mi tesu lan"]
WAYS: dict[str, AdaptConfig] = {
    "lora": LoRA(rank=2),
    "lora2": LoRA(rank=2, scaling="root-rank"),
    "tables": LoRA(rank=2, targets=("*",)),
    "bitfit": BitFit(norms=True),
    "last": LastLayers(),
}
BASES = {"mt": "mt", "lm": "lm", "label": "vectors"}
"""The run that each started from: of labels one of masked words, so that they have a head of their own."""


def config_of(name: str, base: Path, folder: Path) -> Any:
    """A config of what is learned from a base, with its data."""
    if name == "mt":
        pair = write_corpus(folder, "pairs", 8, 1)
        return replace(load(TranslateConfig, base / "config.toml"), data=Files(pair, pair))
    if name == "lm":
        (folder / "texts.txt").write_text("\n".join(sentences(40, 1)), encoding="utf-8")
        data = TextFiles((str(folder / "texts.txt"),), (str(folder / "texts.txt"),))
        return replace(load(LanguageModelConfig, base / "config.toml"), data=data)
    rows = [f"{'few' if i % 2 else 'many'}\t{text}" for i, text in enumerate(sentences(20, 1))]
    (folder / "labels.tsv").write_text("\n".join(["label\ttext", *rows]), encoding="utf-8")
    data = LabelledFiles((str(folder / "labels.tsv"),), (str(folder / "labels.tsv"),))
    masked: Any = load(MaskedWordsConfig, base / "config.toml")
    return ClassifyConfig(data=data, model=masked.model, batches=TextBatchConfig(length=24))


@pytest.fixture(scope="module")
def learned(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """(base, way) -> a run that learned on it, so much that it writes or predicts something else."""
    done: dict[tuple[str, str], Path] = {}

    def of(name: str, way: str) -> Path:
        if (name, way) not in done:
            folder, base = tmp_path_factory.mktemp("adapters"), runs / BASES[name]
            learning = replace(
                config_of(name, base, folder),
                run=str(folder / way),
                start=str(base),
                adapt=WAYS[way],
                optimizer=AdamW(lr=0.3),
                schedule=Linear(warmup=1),
                training=TrainingConfig(steps=2, evaluate_every=2, metric="loss", threads=1),
            )
            done[name, way] = train_run(learning, Listener()).path
        return done[name, way]

    return of


@pytest.fixture(scope="module", params=BASES)
def served(request: Any, runs: Path, learned: Callable[[str, str], Path]) -> Iterator[tuple[str, Models, Any]]:
    """The name of a base, a server of it with all its adapters, and each of them alone, by name."""
    name, base = request.param, runs / BASES[request.param]
    paths = {way: learned(name, way) for way in WAYS}
    models = load_models([f"base={base}"], lambda text: None, [f"{w}={p}" for w, p in paths.items()], precision="fp32")
    alone = {way: seqloom.load(path, precision="fp32") for way, path in paths.items()}
    yield name, models, alone if name == "label" else {"base": seqloom.load(base, precision="fp32"), **alone}
    models.close()


ROUTES = {
    "mt": ("translate", {"texts": TEXTS, "beam": 2, "max_tokens": 8}),
    "lm": ("completions", {"prompt": TEXTS, "max_tokens": 6, "temperature": 0}),
    "label": ("classify", {"texts": TEXTS}),
}


def answers(models: Models, name: str, names: list[str]) -> dict[str, Any]:
    """What each model of a server answers, all asked at once."""
    route, body = ROUTES[name]

    async def go() -> list[Any]:
        async with clients(models) as client:
            each = [client.post(f"/v1/{route}", json={"model": one, **body}) for one in names]
            return [response.json() for response in await asyncio.gather(*each)]

    return dict(zip(names, asyncio.run(go()), strict=True))


def numbers(name: str, answer: Any) -> tuple[list[str], list[float]]:
    """The texts or labels of an answer, and its numbers."""
    if name == "mt":
        rows = [row[0] for row in answer["translations"]]
        return [row["text"] for row in rows], [row["score"] for row in rows]
    if name == "lm":
        return [row["text"] for row in answer["choices"]], []
    rows = answer["predictions"]
    return [row["label"] for row in rows], [x for row in rows for x in row["probabilities"].values()]


def expected(name: str, use: Any) -> tuple[list[str], list[float]]:
    """The same of the run alone."""
    if name == "mt":
        rows = [row[0] for row in use.translate(TEXTS, beam=2, max_length=8)]
        return [row.text for row in rows], [row.score for row in rows]
    if name == "lm":
        rows = [row[0] for row in use.batch(TEXTS, kind="greedy", max_length=6)]
        return [row.text.removeprefix(text) for row, text in zip(rows, TEXTS, strict=True)], []
    rows = use(TEXTS)
    return [row.label for row in rows], [x for row in rows for x in row.probabilities.values()]


def test_an_adapter_of_any_kind_is_a_model_that_computes_what_its_run_does(served: Any):
    name, models, alone = served
    found = answers(models, name, [*alone])
    for way, use in alone.items():
        (texts, values), (wanted_texts, wanted) = numbers(name, found[way]), expected(name, use)
        assert values == pytest.approx(wanted, abs=1e-4), way
        assert texts == wanted_texts, way
    assert len({str(numbers(name, answer)) for answer in found.values()}) == len(alone)
    assert [models.get(way).adapter for way in WAYS] == ([None] * 5 if name == "label" else [0, 1, None, None, None])
    assert len(models.workers) == 1


def weights_of(model: torch.nn.Module, *, beside: bool) -> dict[int, int]:
    """The bytes of the weights of a model by where they lie in memory, perhaps with those beside its layers."""
    layers: list[Any] = [layer for layer in model.modules() if beside and getattr(layer, "beside", None)]
    tensors = [*model.parameters(), *(p for x in layers for each in x.beside.values() for p in each.parameters())]
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


def test_the_memory_of_an_adapter_is_what_it_learned(served: Any):
    _, models, _ = served
    base = models.get("base").loaded.model
    own = weights_of(base, beside=False)  # what lies beside its layers is that of the adapters
    for way in WAYS:
        loaded = models.get(way).loaded
        learned = load_file(loaded.run.best(print).weights)
        added = {at: size for at, size in weights_of(loaded.model, beside=True).items() if at not in own}
        size = sum(value.numel() * value.element_size() for value in learned.values())
        if way == "tables":  # which are merged, as each of their rows is read as it is
            changed = {key.partition(".changes.")[0] for key in learned if ".changes." in key}
            layers = {key: loaded.model.get_submodule(key) for key in changed}
            merged = {key for key, layer in layers.items() if getattr(layer, "beside", None) is None}
            assert any("embedder" in key or key in ("source", "target") for key in merged), merged
            assert sum(added.values()) > size
        else:
            assert sum(added.values()) == size, way
        for layer in loaded.model.modules():
            if getattr(layer, "packed", None) is not None and layer.weight.data_ptr() in own:
                assert any(layer.packed is getattr(other, "packed", None) for other in base.modules())


@pytest.mark.parametrize("served", ["lm"], indirect=True)
def test_a_prompt_is_read_by_the_adapter(served: Any):
    _, models, alone = served

    async def go() -> list[Any]:
        async with clients(models) as client:
            read = {"prompt": TEXTS[1], "max_tokens": 0, "logprobs": 0, "echo": True}
            return [(await client.post("/v1/completions", json={"model": way, **read})).json() for way in alone]

    for (way, use), answer in zip(alone.items(), asyncio.run(go()), strict=True):
        wanted = [choice.log_p for choice in use.engine.read(use.job(TEXTS[1]).job.row, 0)]
        assert answer["choices"][0]["logprobs"]["token_logprobs"][1:] == pytest.approx(wanted, abs=1e-4), way


@pytest.mark.parametrize("served", ["mt"], indirect=True)
def test_what_is_looked_at_of_an_adapter_is_its_own(served: Any):
    _, models, alone = served

    async def go() -> list[Any]:
        async with clients(models) as client:
            ask = {way: {"model": way, "text": TEXTS[0], "target": "BA KO"} for way in alone}
            return [(await client.post("/inspect/inside", json=question)).json() for question in ask.values()]

    for (way, use), seen in zip(alone.items(), asyncio.run(go()), strict=True):
        wanted = use.look(TEXTS[0], "BA KO").data()["predictions"]
        assert [row["p"] for row in seen["predictions"]] == pytest.approx([row["p"] for row in wanted], abs=1e-4), way


@pytest.mark.parametrize("way", ["lora", "bitfit"])
def test_a_file_is_served_like_its_run(way: str, runs: Path, learned: Callable[[str, str], Path], tmp_path: Path):
    path, run = tmp_path / "up.safetensors", learned("mt", way)
    export_adapter(Run.open(run), path, Reporter(0))
    models = load_models([str(runs / "mt")], pytest.fail, [f"run={run}", f"file={path}"], precision="fp32")

    async def go() -> list[int]:
        async with clients(models) as client:
            asked = client.post("/inspect/training", json={"model": "file"}), client.get("/v1/models")
            return [each.status_code for each in await asyncio.gather(*asked)]

    of_run, of_file = (numbers("mt", answer) for answer in answers(models, "mt", ["run", "file"]).values())
    assert of_run[0] == of_file[0]
    assert of_run[1] == pytest.approx(of_file[1], abs=1e-5)
    assert asyncio.run(go()) == [200, 200]
    models.close()


def test_names_are_clear(runs: Path):
    for adapters, problem in (
        (["a=x", "a=y"], "two adapters have the name 'a'"),
        (["a b=x"], "no blanks and no slashes"),
        (["a/b=x"], "no blanks and no slashes"),
    ):
        with pytest.raises(UsageError, match=problem):
            load_models([str(runs / "mt")], pytest.fail, adapters)


def test_what_is_no_adapter_of_the_base_is_refused(runs: Path, learned: Callable[[str, str], Path]):
    with pytest.raises(UsageError, match="all of its parameters"):
        load_models([str(runs / "mt")], pytest.fail, [f"a={runs / 'mt'}"])
    with pytest.raises(UsageError, match="adapters are not computed in 8 bits"):
        load_models([str(runs / "mt")], pytest.fail, [f"a={runs / 'mt'}"], engine="ctranslate2", int8=True)
    with pytest.raises(SeqloomError, match="is for another base"):
        load_models([str(runs / "mt")], pytest.fail, [f"a={learned('lm', 'bitfit')}"])
