"""Language modeling: from running text to a trained run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from seqloom import config as configs
from seqloom.config import Tree
from seqloom.data.checks.pairs import Finding
from seqloom.errors import UsageError
from seqloom.evaluation.perplexity import perplexities, text_nll
from seqloom.files import Json
from seqloom.interop.published_tokenizer import read_template
from seqloom.models.assemblies import parameter_count
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.run import Run
from seqloom.tasks.assets import Assets
from seqloom.tasks.building import on_start
from seqloom.tasks.counterpart import GREEDY, NEW, Compared, Counterpart
from seqloom.tasks.language_model.config import LanguageModelKeys
from seqloom.tasks.language_model.data import Corpus, read_corpus, summary
from seqloom.tasks.language_model.look import look
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.task import Prepared, Seen, gradient_plan, refuse_options
from seqloom.text.chat import Message
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.fit import Measured
from seqloom.training.log import Reporter

_SAMPLE = 40  # new tokens of a sample
_STRIDE = "--batches.stride"


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(LanguageModelKeys):
    """The config of a run of a language model."""

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree, with the kind of its data, merged over the config of the run it starts from."""
        data = tree.get("data")
        if isinstance(data, Mapping) and data and "kind" not in data:
            tree = {**tree, "data": {"kind": "text", **data}}
        return on_start(tree, DecoderOnlyConfig.kind)

    @property
    def title(self) -> str:
        """See RunConfig."""
        return self.data.title

    @property
    def used_by(self) -> str:
        """See RunConfig."""
        return "chat" if self.data.chats else "generate"

    def scan(self) -> tuple[list[Finding], bool]:
        """See RunConfig."""
        findings = self.data.scan()
        return findings, bool(findings)

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """See RunConfig."""
        corpus = read_corpus(self, reporter, run)
        batches, tokenizer = corpus.batches, corpus.tokenizer
        return Prepared(
            corpus.digests,
            Assets((tokenizer, tokenizer)),
            lambda config, model: gradient_plan(config, model, batches, Validation(self, corpus, model).measure),
            f"{batches.tokens:,} tokens of text, {batches.per_epoch} batches an epoch; "
            f"{tokenizer.vocab_size:,} tokens in the vocabulary",
            lambda: [summary(name, text, tokenizer) for name, text in corpus.texts.items()],
        )

    def assets(self, run: Run) -> Assets:
        """See RunConfig."""
        assets = super().assets(run)
        return replace(assets, template=read_template(lambda name: run.asset(f"published/{name}"), assets.tokenizer))

    def build(self, assets: Assets) -> LanguageModel:
        """See RunConfig."""
        torch.manual_seed(self.seed)
        return LanguageModel(self.model, assets.vocab_size)

    def tables(self, model: LanguageModel, assets: Assets) -> Iterable[tuple[EmbedderConfig, TokenEmbedder, Tokenizer]]:
        """See RunConfig."""
        config: Any = self.model.embedder
        return ((config, model.embedder, assets.tokenizer),)

    def predictor(self, model: LanguageModel, assets: Assets, **options: Any) -> Generator:
        """The options are those of Generator."""
        options |= {"template": assets.template}
        return Generator(model, assets.tokenizer, self.decoding, self.batches.length, **options)

    def score(self, predictor: Generator, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """The perplexities of a test text; see RunConfig.

        A recurrent model reads the text from end to end; any other model sees windows of batches.length tokens, and
        conversations whole. The only option is --batches.stride, in tokens, which replaces that of the config.
        """
        refuse_options([word for word in options if word.startswith("--") and word.partition("=")[0] != _STRIDE])
        carries = predictor.model.carries
        whole = "its state carries over" if carries else "conversations are read whole" * self.data.chats
        if options and whole:
            raise UsageError(f"there are no windows to move: {whole}", where=_STRIDE, cure="leave it out")
        config = configs.build(type(self), configs.merge(configs.tree_of(self), configs.read_overrides(options)))
        lanes = 1 if carries else config.batches.lanes
        reading = config.data.tested(test).reading(predictor.tokenizer, config.layout, lanes)
        tokens = reading.batches.tokens
        reporter.say(f"reading {tokens:,} tokens")
        began = time.perf_counter()
        scores = perplexities(text_nll(predictor.model, reading.batches), tokens, reading.sizes)
        stride = None if whole else config.batches.stride or -(-config.batches.length // 2)
        return {
            **scores,
            "tokens": tokens,
            "unknown": reading.unknown,
            "unknown_share": 100 * reading.unknown / tokens,
            **reading.sizes,
            "context": None if carries else config.batches.length,
            "stride": stride,
            "reading": whole or f"windows of {config.batches.length}, {stride} apart",
            "seconds": round(time.perf_counter() - began, 3),
        }

    def ids(self, other: Counterpart, text: str) -> list[int]:
        """See RunConfig."""
        return list(other.predictor.encode(text))

    def answers(self, other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
        """See RunConfig."""
        yield "continued texts", _continued(other, texts)

    def look(self, run: Run, predictor: Generator, texts: Sequence[str], samples: Sequence[Json]) -> Seen:
        """See RunConfig: the attention within the texts or the last samples; empty for a model without attention."""
        chosen = list(texts) or [row["text"] for row in samples[-2:]]
        return Seen(look(predictor, chosen), parameter_count(predictor.model))


def _continued(other: Counterpart, texts: Sequence[str]) -> Compared:
    generate, pipeline, new = other.predictor, other.pipeline("text-generation"), min(NEW, other.limit // 2)
    options = other.greedy() | {"max_length": new}
    for text in texts:
        if len(generate.encode(text)) > other.limit - new:  # both see it whole
            continue
        theirs = pipeline(text, return_full_text=False, max_new_tokens=new, **GREEDY)[0]["generated_text"]
        ours = generate(text, **options)
        if not other.has_unknown(text, ours):
            yield text, ours[len(text) :].lstrip(), theirs.lstrip()  # theirs loses the space before its first word


class Validation:
    """Measures the validation text, in as many lanes as in training, and continues some of its lines."""

    def __init__(self, config: LanguageModelConfig, corpus: Corpus, model: LanguageModel) -> None:
        self.model, self.reading = model, corpus.valid
        self.generator = Generator(model, corpus.tokenizer, config.decoding, config.batches.length)

    def measure(self, step: int) -> Measured:
        """The loss and the perplexities, and a sample for each prompt."""
        reading = self.reading
        scores = perplexities(text_nll(self.model, reading.batches), reading.batches.tokens, reading.sizes)
        samples = [{"step": step, **self._sample(prompt)} for prompt in reading.prompts]
        return {name: scores[name] for name in ("loss", "perplexity", "word_perplexity")}, samples

    def _sample(self, prompt: str | tuple[Message, ...]) -> dict[str, str]:
        if isinstance(prompt, str):
            return {"prompt": prompt, "text": self.generator(prompt, max_length=_SAMPLE)}
        return {"prompt": prompt[-1].text, "text": "".join(self.generator.reply(prompt, max_length=_SAMPLE))}
