"""What a key of a config says reaches the training: each test fails when the one line that passes it on is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up import sentences
from safetensors.torch import load_file
from toys import Listener, damage

from seqloom.config import build, merge, read_overrides, tree_of
from seqloom.data.batches.order import BatchConfig
from seqloom.data.batches.stream import StreamConfig, encode_text
from seqloom.data.sources.pairs import Files
from seqloom.data.sources.text import TextFiles
from seqloom.errors import RunError
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.run import Checkpoint, Run
from seqloom.tasks.building import begin
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.resume import refuse_another
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.text.tokenizer import BPE, WordLevel
from seqloom.training.config import TrainingConfig
from seqloom.training.loop import Step
from seqloom.training.optimizer import AdamW
from seqloom.training.schedule import Noam
from seqloom.workflows import verify
from seqloom.workflows.train import train_run

STACK = TransformerConfig(layers=1, width=16, inner=16, heads=2, dropout=0.0)


@pytest.fixture
def text(tmp_path: Path) -> str:
    lines = sentences(60, 1)
    (tmp_path / "a.txt").write_text("".join(f"{line}\n" * 2 + "\n" for line in lines), encoding="utf-8")
    return str(tmp_path / "a.txt")


@pytest.fixture
def translation(text: str, tmp_path: Path) -> TranslateConfig:
    return TranslateConfig(
        run=str(tmp_path / "run"),
        data=Files((text, text), (text, text)),
        tokenizer=BPE(size=290),
        model=EncoderDecoderConfig(encoder=STACK, decoder=STACK),
        batches=BatchConfig(tokens=200),
        optimizer=AdamW(lr=0.01),
        schedule=Noam(warmup=3),
        training=TrainingConfig(steps=6, threads=1, precision="fp32"),
    )


@pytest.fixture
def language(text: str, tmp_path: Path) -> LanguageModelConfig:
    return LanguageModelConfig(
        run=str(tmp_path / "run"),
        data=TextFiles((text,)),
        tokenizer=WordLevel(),
        model=DecoderOnlyConfig(decoder=STACK),
        batches=StreamConfig(lanes=3, length=17),
        optimizer=AdamW(lr=0.01),
        training=TrainingConfig(steps=2, evaluate_every=1, threads=1, precision="fp32", metric="loss"),
    )


def changed(config: Any, **values: Any) -> Any:
    """The config with other values, by key: `training__ema=0.5`."""
    words = [word for key, value in values.items() for word in (f"--{key.replace('__', '.')}", str(value))]
    return build(type(config), merge(tree_of(config), read_overrides(words)))


def learned(config: Any, folder: Path, steps: int = 2) -> tuple[list[Step], dict[str, torch.Tensor]]:
    """The first steps of a training, and the weights that a checkpoint would keep."""
    torch.manual_seed(1)
    prepared = config.prepare(Listener())
    plan = prepared.plan(config, config.build(prepared.assets))
    found = list(islice(plan.learner.steps(0, lambda number: 0.01), steps))
    folder.mkdir()
    plan.learner.save(folder)
    return found, load_file(folder / "model.safetensors")


def test_the_moving_average_is_what_is_kept(translation: TranslateConfig, tmp_path: Path) -> None:
    kept = [
        learned(changed(translation, training__ema=decay), tmp_path / f"{decay}-{steps}", steps)[1]
        for decay, steps in ((0.0, 1), (0.0, 2), (0.75, 2))
    ]
    start = {n: p.detach() for n, p in _untrained(translation).named_parameters()}
    for name in start:
        first = 0.75 * start[name] + 0.25 * kept[0][name]
        torch.testing.assert_close(kept[2][name], 0.75 * first + 0.25 * kept[1][name], rtol=1e-4, atol=1e-6)


def _untrained(config: Any) -> torch.nn.Module:
    model: torch.nn.Module = config.build(config.prepare(Listener()).assets)
    return model


def test_a_step_takes_as_many_batches_as_it_accumulates(translation: TranslateConfig, tmp_path: Path) -> None:
    single, _ = learned(translation, tmp_path / "1", 6)
    triple, _ = learned(changed(translation, batches__accumulate=3), tmp_path / "3", 2)
    tokens = [step.tokens for step in single]
    assert [step.tokens for step in triple] == [sum(tokens[:3]), sum(tokens[3:])]


def test_bpe_dropout_cuts_words_into_more_pieces(translation: TranslateConfig, tmp_path: Path) -> None:
    def tokens(dropout: float) -> int:
        steps, _ = learned(changed(translation, tokenizer__dropout=dropout), tmp_path / str(dropout), 12)
        return sum(step.tokens for step in steps)

    assert tokens(0.9) > 1.05 * tokens(0.0)


def test_the_documents_of_a_text_are_told_apart_in_its_batches(language: LanguageModelConfig) -> None:
    for crossing in (False, True):
        config = changed(language, batches__crossing=crossing)
        source = config.data.read(config.data.train)
        tokenizer = config.prepare(Listener()).assets.tokenizer
        batch = config.layout.stream(*encode_text(source.text, tokenizer), tokenizer)(0)
        read = batch.inputs["text"]
        starts = (read.values[:, 1:] == tokenizer.start).long()
        assert starts.any()
        if crossing:
            assert read.segments is None
        else:
            assert torch.equal(read.segments.diff(dim=1), starts)


# What a training starts from is checked


def best_of(run: Run) -> Checkpoint:
    best = run.pointed("best")
    assert best is not None
    return best


def test_a_training_starts_from_no_damaged_weights(language: LanguageModelConfig) -> None:
    run = train_run(language, Listener())
    damage(best_of(run).weights)
    config = replace(language, run=f"{language.run}-2", start=str(run.path))
    listener, prepared = Listener(), config.prepare(Listener())
    begin(config, config.build(prepared.assets), prepared.assets, listener)
    assert "model.safetensors differs from its digest" in " ".join(listener.warnings)
    for checkpoint in run.checkpoints():
        if checkpoint != best_of(run):
            damage(checkpoint.weights)
    with pytest.raises(RunError, match="no checkpoint is undamaged"):
        begin(config, config.build(prepared.assets), prepared.assets, Listener())


# What makes another training of it


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 2),
        ("schedule.warmup", 4),
        ("model.decoder.dropout", 0.5),
        ("model.tie", "none"),
        ("tokenizer.size", 300),
        ("tokenizer.dropout", 0.1),
        ("batches.tokens", 201),
        ("batches.accumulate", 2),
        ("optimizer.lr", 0.5),
        ("objective.smoothing", 0.25),
        ("training.ema", 0.5),
        ("training.precision", "bf16"),
        ("data.max_length", 100),
    ],
)
def test_a_run_is_not_resumed_with_another(key: str, value: object, translation: TranslateConfig) -> None:
    run = Run.create(Path(translation.run), "", {"corpus": {}})
    with pytest.raises(RunError, match=rf"{key}: .* -> {value}"):
        refuse_another(run, translation, changed(translation, **{key.replace(".", "__"): value}), {})
    refuse_another(run, translation, translation, {})


# A band that is not measured is not reached


@pytest.mark.parametrize(("scores", "reached"), [({}, False), ({"bleu": None}, False), ({"bleu": 30.0}, True)])
def test_what_was_not_measured_reaches_no_band(
    scores: dict[str, Any], reached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", "", {"training": {"minutes": 1.0}})
    replaced: dict[str, Callable[..., Any]] = {
        "train_run": lambda config, reporter: run,
        "evaluate_run": lambda *args: scores,
        "finish": lambda run, reporter: None,
    }
    for name, made in replaced.items():
        monkeypatch.setattr(verify, name, made)
    (tmp_path / "recipe.toml").write_text(
        'task = "translate"\naccept = { bleu = 0.0, minutes = 2 }\n', encoding="utf-8"
    )
    found = verify.verify_recipe(tmp_path / "recipe.toml", (), Listener())
    assert [(row["metric"], row["measured"], row["reached"]) for row in found] == [
        ("bleu", scores.get("bleu"), reached),
        ("minutes", 1.0, True),
    ]


def test_the_seed_changes_batches_and_weights(translation: TranslateConfig) -> None:
    def begun(seed: int) -> tuple[list[tuple[int, ...]], torch.Tensor]:
        config = replace(translation, seed=seed)
        prepared = config.prepare(Listener())
        model = config.build(prepared.assets)
        learner: Any = prepared.plan(config, model).learner
        return [learner.batches(n).rows for n in range(4)], next(model.parameters()).detach().clone()

    (rows, weights), (again, same), (others, different) = (begun(seed) for seed in (1, 1, 2))
    assert rows == again != others
    assert torch.equal(weights, same)
    assert not torch.equal(weights, different)
