"""The scores of translations of test data."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from seqloom import config as configs
from seqloom.data.formats.parallel import usable
from seqloom.data.rows import Pairs
from seqloom.errors import DataError, MissingExtra, UsageError
from seqloom.evaluation.classification import nearest
from seqloom.evaluation.comparison import compare_translations
from seqloom.evaluation.tokenization import SPACED, bleu_tokenization
from seqloom.evaluation.translation import (
    References,
    cider,
    corpus_bleu,
    moses_bleu,
    score_translations,
    zero_bleu,
)
from seqloom.files import Json
from seqloom.tasks.encoder.media import ImageMedium
from seqloom.tasks.seq2seq.config import TranslateKeys
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.task import decoding_config
from seqloom.training.log import Reporter


def score(
    config: TranslateKeys, translator: Translator, test: Sequence[str], options: Sequence[str], reporter: Reporter
) -> Json:
    """Translates the test set and scores it; see RunConfig.score."""
    every, dropped = usable(pairs_of(config, test))
    if dropped:
        reporter.warn(f"{dropped} test pairs with an empty side are left out")
    pairs, references = answers(config, every)
    translator.config, translator.long_input = decoding_config(translator.config, options), "cut"
    how = "sampling" if translator.config.kind == "sample" else f"beam {translator.config.beam}"
    reporter.say(
        f"translating {len(pairs):,} {'sentences' if config.modality == 'text' else f'{config.modality}s'}, {how}"
    )
    began = time.perf_counter()
    hypotheses = translator(pairs.sources)
    seconds = time.perf_counter() - began
    if translator.cuts:
        reporter.warn(f"{translator.cuts} sources were cut to {translator.max_source} tokens, special ones included")
    language = config.data.language()
    sources = pairs.sources if config.modality == "text" else ()
    scores = score_translations(sources, hypotheses, references, pairs.kinds, language)
    if warning := zero_bleu(scores["bleu"], hypotheses, references):
        reporter.warn(warning)
    scores["perplexity"] = _perplexity(translator, every)
    if len(every) > len(pairs):
        scores["references"] = len(every)
    if isinstance(translator.source, ImageMedium):
        scores |= _of_nearest(config, translator.source, pairs.sources, references, reporter)
    if language and bleu_tokenization(pairs.targets, language) == SPACED:
        try:
            scores["bleu_moses"], scores["moses_signature"] = moses_bleu(hypotheses, pairs.targets, language)
        except MissingExtra as error:
            reporter.say(str(error))
    rows = zip(pairs.sources, hypotheses, references, strict=True)
    translations = [{"source": s, "translation": h, **_shown(r)} for s, h, r in rows]
    decoding = configs.tree_of(translator.config)
    return {**scores, "seconds": round(seconds, 3), "decoding": decoding, "translations": translations}


def answers(config: TranslateKeys, pairs: Pairs) -> tuple[Pairs, References]:
    """The pairs that are translated, and the right answers to each."""
    return pairs.grouped() if config.data.several else (pairs, pairs.targets)


def _shown(reference: str | tuple[str, ...]) -> Json:
    if isinstance(reference, str):
        return {"reference": reference}
    return {"reference": reference[0], **({"references": reference} if len(reference) > 1 else {})}


def _of_nearest(
    config: TranslateKeys, medium: ImageMedium, sources: Sequence[str], references: References, reporter: Reporter
) -> Json:
    """The scores of the first text of the training image whose pixels are nearest."""
    try:
        train, _ = usable(config.data.splits().train)
    except (DataError, UsageError) as error:
        reporter.say(f"the training images cannot be read, so that the nearest ones are not compared: {error}")
        return {}
    images = [[medium.row(source).values for source in side] for side in (sources, train.grouped()[0].sources)]
    texts = [train.grouped()[0].targets[i] for i in nearest(*images)]
    tokenization = bleu_tokenization(train.targets)
    scores = {"nearest_bleu": corpus_bleu(texts, references, tokenize=tokenization)[0]}
    of_cider = cider(texts, references, tokenization).get("cider")
    return scores | ({"nearest_cider": of_cider} if of_cider is not None else {})


def _perplexity(translator: Translator, pairs: Pairs) -> float | None:
    """The perplexity of the references per token, with the end; those too long for the model are left out."""
    limit = translator.model.config.decoder.limit or 1 << 30
    tokens = [len(ids) + 1 for ids in translator.target.encode(pairs.targets)]
    fit = [i for i, n in enumerate(tokens) if n <= limit]
    log_p = translator.score([pairs.sources[i] for i in fit], [pairs.targets[i] for i in fit])
    return math.exp(-sum(log_p) / sum(tokens[i] for i in fit)) if fit else None


def pairs_of(config: TranslateKeys, test: Sequence[str]) -> Pairs:
    """The pairs of some test files, by default those of the config. Raises UsageError where there are none."""
    pairs = config.data.read(test) if test else config.data.splits().test
    if pairs is None:
        raise UsageError("the config names no test data", where="--test", cure="--test SOURCE REFERENCE")
    return pairs


def compare(names: Sequence[str], evaluations: Sequence[Json], training: Sequence[str], language: str) -> Json:
    """Compares translations of one test set by several systems; `training`: the targets of the training data."""
    rows = evaluations[0]["translations"]
    sources = [row["source"] for row in rows]
    references = [tuple(row.get("references", [row["reference"]])) for row in rows]
    translations = ([row["translation"] for row in scores["translations"]] for scores in evaluations)
    systems = dict(zip(names, translations, strict=True))
    kinds = []
    for rows in zip(*(scores["by_kind"] for scores in evaluations), strict=True):
        exact = {name: row["exact_match"] for name, row in zip(names, rows, strict=True)}
        kinds.append({"kind": rows[0]["kind"], "sentences": rows[0]["sentences"], "exact_match": exact})
    return {**compare_translations(systems, sources, references, training, language=language), "by_kind": kinds}
