"""Text in, answer out: whether a run and another program's own pipeline, tokenizer included, answer alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqloom.data.batches.masked import has_mask
from seqloom.errors import SeqloomError
from seqloom.models.assemblies import limit_of
from seqloom.run import Run
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.answer import AnswerConfig
from seqloom.tasks.encoder.classify import ClassifyConfig
from seqloom.tasks.encoder.embed import TextEncoder
from seqloom.tasks.encoder.masked_words import MaskedWordsConfig
from seqloom.tasks.encoder.tag import TagConfig
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import RunConfig, config_of
from seqloom.text.tokenizer import Tokenizer
from seqloom.workflows.export import Exported

NEW = 20
"""The most tokens that are generated for a comparison."""
_TEXTS = (
    "A cat sat on the mat.",
    "Somebody plays the guitar!",
    "Ein Hund, der bellt: \u00e4\u00f6\u00fc \u00df",
    "x",
    "Angela Schmidt, New York (12.5 %)",
    "\u5f88\u597d \u5417 \N{THUMBS UP SIGN}",
)
TOLERANCE = 1e-3
"""By how much numbers may differ."""
GREEDY: dict[str, Any] = {
    **{"do_sample": False, "num_beams": 1, "max_length": None, "use_cache": False},
    "forced_eos_token_id": None,  # which would be one of the tokens that are generated
}
"""How transformers generates for a comparison."""
Differences = dict[str, object]


class _Side:
    """What both programs need: the run as a predictor, and the other program's model and tokenizer."""

    def __init__(self, run: Run, exported: Exported, theirs: Any, folder: Path) -> None:
        import transformers

        self.transformers: Any = transformers
        assert exported.pair is not None
        self.config, self.exported, self.theirs = config_of(run, RunConfig), exported, theirs
        self.source, self.tokenizer = exported.pair
        self.words: Any = self.transformers.AutoTokenizer.from_pretrained(folder)
        self.reader: Any = self.words
        if (folder / "tokenizer.source.json").is_file():
            file = str(folder / "tokenizer.source.json")
            self.reader = self.transformers.PreTrainedTokenizerFast(tokenizer_file=file)
        self.limit: int = limit_of(exported.model.config) or 1 << 30

    @cached_property
    def predictor(self) -> Any:
        """The run in use."""
        return self.config.predictor(self.exported.model, Assets(self.exported.pair, self.exported.facts or None))

    def pipeline(self, task: str, **options: Any) -> Any:
        return self.transformers.pipeline(task, model=self.theirs, tokenizer=self.words, device="cpu", **options)

    def has_unknown(self, *texts: str) -> bool:
        """Whether a text shows the unknown token, or has one: transformers leaves it out of what it writes."""
        name = str(self.tokenizer.inner.id_to_token(self.tokenizer.unknown))
        rows = self.tokenizer.encode(texts)
        return any(name in text for text in texts) or any(self.tokenizer.unknown in row for row in rows)

    def read(self, *texts: str) -> Any:
        """What their tokenizer makes of a text or a pair."""
        return self.reader(*texts, return_tensors="pt")


def compare_texts(run: Run, exported: Exported, theirs: Any, folder: Path) -> Differences:
    """Whether texts have the same ids and get the same answers; each with the first one that differs.

    Args:
        run: the run.
        exported: its model, as other programs see it.
        theirs: the model of transformers.
        folder: where that comes from.
    """
    try:
        side = _Side(run, exported, theirs, folder)
    except Exception as error:  # whatever their tokenizers raise
        return {"texts": f"DIFFERENT: transformers cannot read the tokenizer: {_first_line(error)}"}
    texts = _texts(side)
    if not texts:
        return {"texts": "none fits the vocabulary and the length of the model"}
    with torch.inference_mode():
        read = ((text, _ids(side, text), side.read(text).input_ids[0].tolist()) for text in texts)
        differences: Differences = {"ids of texts": _compared(read)}
        for name, answers in _answers(side, texts):
            differences[name] = _compared(answers)
    return differences


def _texts(side: _Side) -> list[str]:
    """Texts that have tokens, and not more than the model reads: some fixed ones, and some of the vocabulary.

    None holds a special token: their tokenizers read it as such, ours as text.
    """
    tokenizer, generator = side.source, torch.Generator().manual_seed(2)
    special = {str(token) for token in side.reader.all_special_tokens}
    names = tokenizer.tokens(range(tokenizer.inner.get_vocab_size()))
    ids = torch.tensor([i for i, name in enumerate(names) if not any(token in name for token in special)])
    rows = ids[torch.randint(len(ids), (4, 5), generator=generator)].tolist() if len(ids) else []
    drawn = [" ".join(text.split()) for text in tokenizer.decode(rows)]
    unreadable = {*special, "\N{REPLACEMENT CHARACTER}"}
    texts = [text for text in (*_TEXTS, *drawn) if text and not any(token in text for token in unreadable)]
    room = side.limit
    if isinstance(side.config, LanguageModelConfig):
        room = min(room, side.config.batches.length) - _new(side.config)
    room -= len(tokenizer.template.before) + len(tokenizer.template.after)
    return [text for text, row in zip(texts, tokenizer.encode(texts), strict=True) if 0 < len(row) <= room]


def _new(config: LanguageModelConfig) -> int:
    """How many tokens are generated after a text: both see it whole."""
    return min(NEW, config.batches.length // 2)


def _ids(side: _Side, text: str) -> list[int]:
    """The ids that a text has here, with the special tokens around it."""
    match side.config:
        case LanguageModelConfig():
            return list(side.predictor.encode(text))
        case TranslateConfig():
            return [int(i) for i in side.predictor.encode([text])[0]]
    return _framed(side.tokenizer, text)


def _framed(tokenizer: Tokenizer, text: str) -> list[int]:
    template = tokenizer.template
    return [*template.before, *tokenizer.encode([text])[0].tolist(), *template.after]


Compared = Iterable[tuple[object, object, object]]


def _answers(side: _Side, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
    """The kinds of answers that a run gives: for each input, the answer here and the other one."""
    match side.config:
        case ClassifyConfig():
            yield "labels of texts", _labels(side, texts)
            yield "labels of pairs", _labels(side, list(zip(texts, reversed(texts), strict=True)))
        case TagConfig():
            yield "labels of words", _tags(side, texts)
        case AnswerConfig():
            yield "answers", _spans(side, texts)
        case MaskedWordsConfig() if "masked" in side.exported.heads and has_mask(side.tokenizer):
            yield "masked words", _masked(side, texts)
        case LanguageModelConfig():
            yield "continued texts", _continued(side, texts)
        case TranslateConfig():
            yield "generated texts", _generated(side, texts)
    if side.exported.model.config.kind == "encoder-only":
        yield "vectors of texts", _vectors(side, texts)


def _labels(side: _Side, texts: Sequence[Any]) -> Compared:
    predict, pipeline = side.predictor, side.pipeline("text-classification")
    pairs = not isinstance(texts[0], str)
    if pairs != predict.reader.config.pairs and predict.reader.config.data.train:
        return
    for text in texts:
        if pairs and len(side.read(*text).input_ids[0]) > side.limit:
            continue
        ours = predict([text])[0]
        inputs = {"text": text[0], "text_pair": text[1]} if pairs else text
        rows = pipeline(inputs, top_k=None)
        theirs = {row["label"]: row["score"] for row in (rows[0] if isinstance(rows[0], list) else rows)}
        if isinstance(ours.label, float):
            yield text, ours.label, next(iter(theirs.values()))
        else:
            yield text, ours.probabilities, theirs


def _tags(side: _Side, texts: Sequence[str]) -> Compared:
    predict, pipeline = side.predictor, side.pipeline("token-classification", ignore_labels=[])
    for text in (" ".join(text.split()) for text in texts):
        tokens, at, theirs = pipeline(text), 0, []
        for word in text.split():
            begin, at = at, at + len(word) + 1
            first = next((t["entity"] for t in tokens if t["start"] < begin + len(word) and t["end"] > begin), None)
            theirs.append(first)
        ours = predict([text])[0].labels
        # A word without a token has no label there.
        yield (
            text,
            [a for a, b in zip(ours, theirs, strict=True) if b is not None],
            [b for b in theirs if b is not None],
        )


def _spans(side: _Side, texts: Sequence[str]) -> Compared:
    reader = side.predictor.reader
    for pair in zip(texts, reversed(texts), strict=True):
        read = side.read(*pair)
        if read.input_ids.shape[1] > min(side.limit, reader.config.batches.length):
            continue
        out, row = side.theirs(**read), reader.row(pair)
        scores = torch.stack((out.start_logits[0], out.end_logits[0]), -1).numpy()
        expected = reader.predict(row, reader.items([row], learn=False)[0], [scores])
        yield pair, side.predictor([pair])[0].text, expected.text


def _masked(side: _Side, texts: Sequence[str]) -> Compared:
    fill, pipeline = side.predictor, side.pipeline("fill-mask")
    for text in texts:
        parts = text.split()
        masked = " ".join([*parts[: len(parts) // 2], fill.name, *parts[len(parts) // 2 + 1 :]])
        if len(fill.encode(masked)) > fill.length:
            continue
        theirs = {row["token"]: row["score"] for row in pipeline(masked, top_k=5)}
        yield masked, dict(fill.ids(masked, 5)[0]), theirs


def _vectors(side: _Side, texts: Sequence[str]) -> Compared:
    encoder = TextEncoder(side.exported.model, side.tokenizer, limit_of(side.exported.model.config) or 4096)  # type: ignore[arg-type]
    pipeline = side.pipeline("feature-extraction")
    pipeline.model = side.theirs.base_model
    for text in texts:
        yield text, encoder([text])[0], np.asarray(pipeline(text)[0], dtype=np.float32).mean(0)


def _continued(side: _Side, texts: Sequence[str]) -> Compared:
    generate, pipeline = side.predictor, side.pipeline("text-generation")
    assert isinstance(side.config, LanguageModelConfig)
    new = _new(side.config)
    options = _greedy(generate.config) | {"max_length": new}
    for text in texts:
        theirs = pipeline(text, return_full_text=False, max_new_tokens=new, **GREEDY)[0]["generated_text"]
        ours = generate(text, **options)
        if not side.has_unknown(text, ours):
            yield text, ours[len(text) :].lstrip(), theirs.lstrip()  # theirs loses the space before its first word


def _generated(side: _Side, texts: Sequence[str]) -> Compared:
    translate = side.predictor
    options = _greedy(translate.config)
    for text in texts:
        read = {k: v for k, v in side.read(text).items() if k != "token_type_ids"}
        ids = side.theirs.generate(**read, max_new_tokens=NEW, **GREEDY)
        ours = translate([text], **options)[0]
        if not side.has_unknown(ours):
            yield text, ours, side.words.decode(ids[0, 1:], skip_special_tokens=True)


def _greedy(config: Any) -> dict[str, Any]:
    """Greedy decoding with what else the run does to probabilities."""
    kept = ("repetition_penalty", "no_repeat_ngram", "count_prompt", "min_length")
    return {"kind": "greedy", "max_length": NEW, **{name: getattr(config, name) for name in kept}}


def _compared(answers: Compared) -> str:
    """Whether all answers are alike; or the first that is not."""
    count = 0
    try:
        for text, ours, theirs in answers:
            if not _alike(ours, theirs):
                return f"DIFFERENT for {str(text)[:80]!r}: {str(ours)[:200]} here, {str(theirs)[:200]} there"
            count += 1
    except SeqloomError:
        raise
    except Exception as error:  # whatever their pipelines raise
        return f"DIFFERENT: one of the two fails: {_first_line(error)}"
    return "the same" if count else "not compared: no text fits"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]


def _alike(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_alike(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (float, np.ndarray)):
        return bool(np.shape(ours) == np.shape(theirs) and np.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE))
    return bool(ours == theirs)
