"""Translation: from parallel text, or images and texts, to a trained run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqloom.config import Tree
from seqloom.data.batches.pairs import make_batch
from seqloom.data.batches.windows import Window
from seqloom.data.checks.pairs import Finding, check_splits
from seqloom.data.formats.parallel import usable
from seqloom.data.sources.captions import text_beside
from seqloom.data.sources.chats.dialogues import Dialogues
from seqloom.decoding.config import Greedy
from seqloom.errors import SeqloomError
from seqloom.evaluation.tokenization import bleu_tokenization
from seqloom.evaluation.translation import cider, corpus_bleu, exact_match, zero_bleu
from seqloom.files import Json
from seqloom.inspection.page import join
from seqloom.models.assemblies import TextWriter, parameter_count
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.presets import for_modality
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.objectives.cross_entropy import CrossEntropy
from seqloom.run import Run
from seqloom.tasks.assets import Assets, load_facts, load_tokenizers
from seqloom.tasks.building import on_start
from seqloom.tasks.counterpart import GREEDY, NEW, Compared, Counterpart
from seqloom.tasks.encoder.media import ImageMedium
from seqloom.tasks.encoder.signals import SignalMedium
from seqloom.tasks.seq2seq.config import TranslateKeys
from seqloom.tasks.seq2seq.data import Corpus, read_corpus, readers, summary, trial
from seqloom.tasks.seq2seq.look import look, look_over
from seqloom.tasks.seq2seq.predictor import Translator, encoded
from seqloom.tasks.seq2seq.score import answers, compare, score
from seqloom.tasks.task import Prepared, Seen, gradient_plan, refuse_other_tests
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.fit import Measured
from seqloom.training.log import Reporter

_MODELS = {"image": "vit-lstm", "signal": "signal-lstm"}
"""The preset of a model for a modality, where the config names none; that for text is the default of its keys."""


@dataclass(frozen=True)
class TranslateConfig(TranslateKeys):
    """The config of a translation run."""

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree merged into the model of the run that training starts from, or into that for its modality."""
        return for_modality(cls, on_start(tree, EncoderDecoderConfig.kind), _MODELS)

    @property
    def used_by(self) -> str:
        """See RunConfig."""
        used_by = "caption" if self.modality == "image" else "translate"
        return "chat" if isinstance(self.data, Dialogues) else used_by

    def scan(self) -> tuple[list[Finding], bool]:
        """See RunConfig."""
        findings = self.data.scan()
        return findings, any(finding.severity == "error" for finding in findings)

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """See RunConfig."""
        corpus = read_corpus(self, reporter, run)
        splits, batches = corpus.splits, corpus.batches
        named = {"train": splits.train, "valid": splits.valid, "test": splits.test}

        def measure(model: TextWriter) -> Callable[[int], Measured]:
            return _Validation(self, corpus, model, reporter).measure

        return Prepared(
            {name: pairs.digest() for name, pairs in named.items() if pairs is not None},
            corpus.assets,
            lambda config, model: gradient_plan(config, model, batches, measure(model)),
            f"{len(splits.train):,} pairs, {batches.per_epoch} batches an epoch, "
            f"{100 * batches.order.padding():.1f} % padding; vocabulary of {corpus.target.vocab_size:,}",
            lambda: summary(corpus),
            lambda: check_splits(splits, self.modality == "text", self.data.several),
            trial(corpus),
            (batches, measure),
        )

    def learned_texts(self, say: Callable[[str], None]) -> Iterable[str]:
        """The training texts of the sides that are texts."""
        train, _ = usable(self.data.splits().train)
        beside = map(text_beside, train.sources if getattr(self.data, "beside", "") else ())
        return [*(train.sources if self.modality == "text" else beside), *train.targets]

    def assets(self, run: Run) -> Assets:
        """See RunConfig."""
        return Assets(load_tokenizers(run), load_facts(run) or None)

    def build(self, assets: Assets) -> EncoderDecoder:
        """See RunConfig."""
        assert assets.tokenizers is not None
        torch.manual_seed(self.seed)
        source, target = assets.tokenizers
        model = self.model.sized((assets.facts or {}).get("sizes", {}))
        return EncoderDecoder(model, source.vocab_size, target.vocab_size)

    def tables(
        self, model: EncoderDecoder, assets: Assets
    ) -> Iterable[tuple[EmbedderConfig, TokenEmbedder, Tokenizer]]:
        """See RunConfig."""
        assert assets.tokenizers is not None
        sides = (self.model.source, model.source), (self.model.target, model.target)
        for (config, embedder), tokenizer in zip(sides, assets.tokenizers, strict=True):
            if isinstance(config, EmbedderConfig) and isinstance(embedder, TokenEmbedder):
                yield config, embedder, tokenizer

    def predictor(self, model: TextWriter, assets: Assets, **options: Any) -> Translator:
        """The options are `rows` and `long_input` of Translator."""
        return Translator(model, *readers(self, assets), self.decoding, **options)

    def score(self, predictor: Translator, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """See RunConfig; the options are those of decoding."""
        return score(self, predictor, test, options, reporter)

    def ids(self, other: Counterpart, text: str) -> list[int]:
        """See RunConfig."""
        return [int(i) for i in other.predictor.encode([text])[0]]

    def answers(self, other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
        """See RunConfig."""
        yield "generated texts", _generated(other, texts)

    def look(self, run: Run, predictor: Translator, texts: Sequence[str], samples: Sequence[Json]) -> Seen:
        """See RunConfig: the attention over texts, by default over some samples."""
        references = {row["source"]: row["reference"] for row in samples}
        chosen = list(texts) or list(dict.fromkeys(row["source"] for row in samples))[:3]
        predictor.long_input = "cut"
        parameters = parameter_count(predictor.model)
        if isinstance(medium := predictor.source, ImageMedium | SignalMedium):
            figures = [look_over(predictor, medium, each, references.get(each, "")) for each in medium.named(chosen)]
            return Seen([], parameters, {f"{self.modality.capitalize()}s": join(figures)} if figures else {})
        return Seen([look(predictor, text, references.get(text, "")) for text in chosen], parameters)

    def compared(
        self, runs: Sequence[Run], names: Sequence[str], evaluations: Sequence[Json], reporter: Reporter
    ) -> Json | None:
        """See RunConfig."""
        tests = [[(row["source"], row["reference"]) for row in scores["translations"]] for scores in evaluations]
        refuse_other_tests(tests, runs, names)
        training: Sequence[str] = ()
        try:
            training = self.data.splits().train.targets
        except SeqloomError as error:
            reporter.warn(f"no scores by the frequency of words in the training data: {error.problem}")
        return compare(names, evaluations, training, self.data.language())


def _generated(other: Counterpart, texts: Sequence[str]) -> Compared:
    for text in texts:
        read = {k: v for k, v in other.read(text).items() if k != "token_type_ids"}
        ids = other.theirs.generate(**read, max_new_tokens=NEW, **GREEDY)
        ours = other.predictor([text], **other.greedy())[0]
        if not other.has_unknown(ours):
            yield text, ours, other.words.decode(ids[0, 1:], skip_special_tokens=True)


class _Validation:
    """The loss of the validation pairs, the scores of their greedy translations, and a few samples."""

    def __init__(self, config: TranslateConfig, corpus: Corpus, model: TextWriter, reporter: Reporter) -> None:
        self.pairs, _ = usable(corpus.splits.valid)
        self.asked, self.references = answers(config, self.pairs)
        self.tokenization = bleu_tokenization(self.pairs.targets, config.data.language())
        self.reporter, self.warned = reporter, False
        self.model = model
        self.translator = Translator(model, corpus.source, corpus.target, Greedy(), long_input="cut")
        sides: Any = (
            (corpus.source, self.pairs.sources, model.config.encoder.limit),
            (corpus.target, self.pairs.targets, model.config.decoder.limit),
        )
        self.rows = [
            [
                ids if isinstance(ids, Window) else np.append(ids[: (limit or len(ids) + 1) - 1], t.end)
                for ids in encoded(t, texts)
            ]
            for t, texts, limit in sides
        ]
        self.start = corpus.target.start

    def measure(self, step: int) -> Measured:
        """Loss in nats a token, perplexity, BLEU, exact match, perhaps CIDEr-D; and the first translations."""
        device = next(self.model.parameters()).device
        order = sorted(range(len(self.pairs)), key=lambda i: len(self.rows[1][i]))
        nll, tokens = 0.0, 0
        objective = CrossEntropy(smoothing=0.0)
        with torch.inference_mode():
            for i in range(0, len(order), 64):
                part = order[i : i + 64]
                batch = make_batch([self.rows[0][j] for j in part], [self.rows[1][j] for j in part], self.start)
                loss = objective(self.model, batch.to(device))
                nll, tokens = nll + loss.nll, tokens + loss.tokens
        hypotheses = self.translator(self.asked.sources)
        bleu, _ = corpus_bleu(hypotheses, self.references, tokenize=self.tokenization)
        if not self.warned and (warning := zero_bleu(bleu, hypotheses, self.references)):
            self.warned = True
            self.reporter.warn(warning)
        scores: dict[str, Any] = {"bleu": bleu, "exact_match": exact_match(hypotheses, self.references)}
        if (of_cider := cider(hypotheses, self.references, self.tokenization).get("cider")) is not None:
            scores["cider"] = of_cider
        rows = zip(self.asked.sources[:5], self.asked.targets[:5], hypotheses[:5], strict=True)
        samples = [{"step": step, "source": s, "reference": r, "translation": t} for s, r, t in rows]
        mean = nll / max(1, tokens)
        return {"loss": mean, "perplexity": math.exp(min(mean, 50.0)), **scores}, samples
