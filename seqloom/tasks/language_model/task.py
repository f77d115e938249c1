"""Language modelling: from running text to a trained run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from seqloom import config as configs
from seqloom.data.rows import NoData
from seqloom.data.sources.conversations import Conversations
from seqloom.data.sources.text import TextFiles
from seqloom.errors import UsageError
from seqloom.evaluation.perplexity import perplexities, text_nll
from seqloom.models.decoder import LanguageModel
from seqloom.run import Run, title_of, write_json
from seqloom.tasks.building import load_tokenizers, save_tokenizers, take_start
from seqloom.tasks.language_model.config import LanguageModelConfig
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.language_model.prepare import Prepared, prepare, read_files
from seqloom.tasks.task import Ready, gradient_plan, tested_on, train_run, trained
from seqloom.tasks.word_vectors.starting import take_vectors
from seqloom.text.chat import Message
from seqloom.training.fit import Measured, Plan
from seqloom.training.log import Reporter
from seqloom.training.precision import Precision

_SAMPLE = 40  # words that a sample goes on for
_STRIDE = "--batches.stride"


def build_model(config: LanguageModelConfig, words: int) -> LanguageModel:
    """The model, with weights drawn from the config's seed."""
    torch.manual_seed(config.seed)
    return LanguageModel(config.model, words)


def train_language_model(config: LanguageModelConfig, reporter: Reporter) -> Run:
    """Trains to the end and returns the run; goes on where an earlier call stopped."""

    def ready(run: Run) -> Ready:
        prepared = prepare(config, reporter, run)
        batches, tokenizer = prepared.batches, prepared.tokenizer

        def build() -> LanguageModel:
            model = build_model(config, tokenizer.words)
            if not run.checkpoints() and config.start:
                take_start(config.start, model, tokenizer.words, reporter)
            elif not run.checkpoints():
                take_vectors(config.model.embedder, model.embedder, tokenizer, reporter)
            return model

        def plan(model: LanguageModel) -> Plan:
            return gradient_plan(config, model, batches, Validation(config, prepared, model).measure)

        return Ready(
            prepared.corpus,
            lambda path: save_tokenizers(path, tokenizer, tokenizer),
            [tokenizer.digest()] * 2,
            build,
            plan,
            f"{prepared.words:,} words of text, {batches.per_epoch} batches an epoch; "
            f"{tokenizer.words:,} in the vocabulary",
        )

    return train_run(config, reporter, ready)


class Validation:
    """The perplexity of the validation text, read in as many lanes as in training, and continuations of its lines."""

    def __init__(self, config: LanguageModelConfig, prepared: Prepared, model: LanguageModel) -> None:
        self.model, self.reading = model, prepared.valid
        self.generator = Generator(model, prepared.tokenizer, config.decoding, config.batches.length)

    def measure(self, step: int) -> Measured:
        """Loss and perplexities; and what the model makes of the beginnings of some texts."""
        reading = self.reading
        found = perplexities(text_nll(self.model, reading.batches), reading.tokens, reading.sizes)
        samples = [{"step": step, **self._sample(prompt)} for prompt in reading.prompts]
        return {name: found[name] for name in ("loss", "perplexity", "word_perplexity")}, samples

    def _sample(self, prompt: str | tuple[Message, ...]) -> dict[str, str]:
        if isinstance(prompt, str):
            return {"prompt": prompt, "text": self.generator(prompt, max_length=_SAMPLE)}
        return {"prompt": prompt[-1].text, "text": "".join(self.generator.reply(prompt, max_length=_SAMPLE))}


def load_generator(
    path: str | Path,
    *,
    precision: Precision = "auto",
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Generator:
    """The generator of a run, from its best checkpoint.

    Args:
        path: the run directory.
        precision: what to compute in; "auto" = bfloat16 where it is fast.
        device: "auto" = a GPU if there is one.
        say: is told which damaged checkpoints were passed over.
    """
    run = Run.open(path)
    config = configs.load(LanguageModelConfig, run.path / "config.toml")
    tokenizer, _ = load_tokenizers(run)
    model = trained(build_model(config, tokenizer.words), run, precision, device, say)
    return Generator(model, tokenizer, config.decoding, config.batches.length)


def evaluate_language_model(
    path: str | Path, test: Sequence[str], name: str, words: Sequence[str], reporter: Reporter
) -> dict[str, Any]:
    """The perplexities of a test text, saved as eval/NAME.json.

    A recurrent model reads it from end to end; any other one sees windows of batches.length words. Conversations are
    read whole.

    Args:
        path: the run.
        test: its files; empty = the test data of the run's config, or its validation data if it has none.
        name: what to save it as; by default the name of the first file, or "test".
        words: empty, or --batches.stride and another number of words than that of the run's config.
        reporter: where progress goes.
    """
    run = Run.open(path)
    other = [word for word in words if word.startswith("--") and word.partition("=")[0] != _STRIDE]
    config = configs.load(LanguageModelConfig, run.path / "config.toml", () if other else words)
    own_name = "valid" if isinstance(config.data, TextFiles | Conversations) and not config.data.test else "test"
    title = title_of(name, test, own_name)
    own = config.data.test if isinstance(config.data, NoData) else ("its own",)
    tested_on(test, own, other)
    generator = load_generator(path, precision="fp32", say=reporter.warn)
    carries = generator.model.carries
    whole = "its state goes on" if carries else "conversations are read whole" * isinstance(config.data, Conversations)
    if words and whole:
        raise UsageError(f"there are no windows: {whole}", where=_STRIDE, cure="leave it out")
    reading = read_files(config, test, generator.tokenizer, 1 if carries else config.batches.lanes)
    reporter.say(f"reading {reading.tokens:,} words")
    stride = None if whole else config.batches.stride or -(-config.batches.length // 2)
    began = time.perf_counter()
    found = perplexities(text_nll(generator.model, reading.batches), reading.tokens, reading.sizes)
    result = {
        "test": title,
        **found,
        "tokens": reading.tokens,
        "unknown": reading.unknown,
        "unknown_share": 100 * reading.unknown / reading.tokens,
        **reading.sizes,
        "context": None if carries else config.batches.length,
        "stride": stride,
        "reading": whole or f"windows of {config.batches.length}, {stride} apart",
        "seconds": round(time.perf_counter() - began, 3),
        "checkpoint": run.best(lambda text: None).path.name,
        "files": list(test),
    }
    write_json(run.evaluation_path(title), result)
    return result
