"""Adapters of one base, which are models of a server by their names."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_process import clients
from made_up import write_corpus
from toys import Listener

import seqloom
from seqloom.adaptation.config import LoRA
from seqloom.config import load
from seqloom.data.sources.pairs import Files
from seqloom.errors import UsageError
from seqloom.serving.served import load_models
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.training.config import TrainingConfig
from seqloom.training.optimizer import AdamW
from seqloom.training.schedule import Linear
from seqloom.workflows.train import train_run

TEXTS = ["ba ko", "mi tesu lan"]


@pytest.fixture(scope="module")
def adapter(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned on mt."""
    folder = tmp_path_factory.mktemp("adapters")
    pair = write_corpus(folder, "pairs", 8, 1)
    learning = replace(
        load(TranslateConfig, runs / "mt" / "config.toml"),
        run=str(folder / "learned"),
        data=Files(pair, pair),
        start=str(runs / "mt"),
        adapt=LoRA(rank=2),
        optimizer=AdamW(lr=0.3),
        schedule=Linear(warmup=1),
        training=TrainingConfig(steps=2, evaluate_every=2, metric="loss", threads=1),
    )
    return train_run(learning, Listener()).path


def test_an_adapter_is_a_model_whose_rows_are_computed_beside_the_others(runs: Path, adapter: Path):
    models = load_models([str(runs / "mt")], pytest.fail, [f"a={adapter}"], precision="fp32")
    alone = {name: seqloom.load(path, precision="fp32") for name, path in (("mt", runs / "mt"), ("a", adapter))}

    async def go() -> list[Any]:
        async with clients(models) as client:
            each = [
                client.post("/v1/translate", json={"model": name, "texts": TEXTS, "beam": 2, "max_tokens": 8})
                for name in alone
            ]
            return [response.json()["translations"] for response in await asyncio.gather(*each)]

    answers = dict(zip(alone, asyncio.run(go()), strict=True))
    for name, translator in alone.items():
        wanted = translator.translate(TEXTS, beam=2, max_length=8)
        assert [[t["text"] for t in row] for row in answers[name]] == [[t.text for t in row] for row in wanted]
        scores = [t["score"] for row in answers[name] for t in row]
        assert scores == pytest.approx([t.score for row in wanted for t in row], abs=1e-4)
    assert answers["mt"] != answers["a"]
    models.close()


def test_what_is_no_adapter_of_the_base_is_refused(runs: Path):
    with pytest.raises(UsageError, match="all of its parameters"):
        load_models([str(runs / "mt")], pytest.fail, [f"a={runs / 'mt'}"])
