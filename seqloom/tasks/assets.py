"""What a run keeps besides the weights: tokenizers or a vocabulary, facts about the labels, log-probabilities."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from seqloom.data.rows import Pairs
from seqloom.errors import DataError, RunError, UsageError, counted
from seqloom.files import Json, read_json, write_text
from seqloom.run import Run
from seqloom.text.template import ChatTemplate
from seqloom.text.tokenizer import Tokenizer, TokenizerConfig, TokenizerFile
from seqloom.text.training import train_tokenizer
from seqloom.text.vocabulary import Vocabulary

_TOKENIZER, _SOURCE = "tokenizer.json", "tokenizer.source.json"
_LABELS, _VOCABULARY, _REFERENCE = "labels.json", "vocabulary.tsv", "reference.json"
JSON_FILES = (_TOKENIZER, _SOURCE, _LABELS, _REFERENCE)
"""The files of assets that a run of texts may have."""
_CURE = "put back the one that the run was written with"


@dataclass(frozen=True)
class Assets:
    """What the model and the predictor of a run need from its data.

    Args:
        tokenizers: of source and target, the same object where they share one; None for a model that reads no text.
        facts: the labels of the training data; None for a task without labels.
        vocabulary: that of word vectors, which have no tokenizer.
        reference: what the model that a training of preferences starts from says about their answers.
        template: the chat format of an imported model, if it has its own.
    """

    tokenizers: tuple[Tokenizer, Tokenizer] | None = None
    facts: Json | None = None
    vocabulary: Vocabulary | None = None
    reference: Json | None = None
    template: ChatTemplate | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the target, or the only one."""
        assert self.tokenizers is not None
        return self.tokenizers[1]

    @property
    def vocab_size(self) -> int:
        """V of the tokenizer; 0 where no text is read."""
        return self.tokenizers[1].vocab_size if self.tokenizers is not None else 0

    def save(self, folder: Path) -> list[Path]:
        """Writes them into the directory of a run, and returns the files."""
        texts: dict[str, str] = {}
        if self.tokenizers is not None:
            source, target = self.tokenizers
            texts = {_TOKENIZER: target.to_json()} | ({_SOURCE: source.to_json()} if source is not target else {})
        if self.facts is not None:
            texts[_LABELS] = json.dumps(self.facts, indent=2, ensure_ascii=False) + "\n"
        if self.vocabulary is not None:
            texts[_VOCABULARY] = self.vocabulary.to_tsv()
        if self.reference is not None:
            texts[_REFERENCE] = json.dumps(self.reference) + "\n"
        for name, text in texts.items():
            write_text(folder / name, text)
        return [folder / name for name in texts]


def make_tokenizer(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer of single texts: read from its file, or trained."""
    return _read_tokenizer(config.path) if isinstance(config, TokenizerFile) else train_tokenizer(config, texts)


def make_tokenizers(config: TokenizerConfig, train: Pairs) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers of source and target; the same object if they are joint."""
    if isinstance(config, TokenizerFile):
        source = _read_tokenizer(config.path)
        return source, _read_tokenizer(config.target) if config.target else source
    if config.joint:
        joint = train_tokenizer(config, [*train.sources, *train.targets])
        return joint, joint
    return train_tokenizer(config, train.sources), train_tokenizer(config, train.targets)


def _read_tokenizer(path: str) -> Tokenizer:
    return _load_tokenizer(path, "let tokenizer.path name a tokenizer.json, or train one with tokenizer.kind = 'bpe'")


def _load_tokenizer(path: str | Path, cure: str) -> Tokenizer:
    try:
        return Tokenizer.load(path)
    except UsageError as error:
        raise RunError(error.problem, where=error.where, cure=error.cure or cure) from None


def load_tokenizers(run: Run) -> tuple[Tokenizer, Tokenizer] | None:
    """The tokenizers of a run; None if it reads no text. Raises RunError unless it was trained with them."""
    path, source = run.asset(_TOKENIZER), run.asset(_SOURCE)
    if path is None:
        return None
    target = _load_tokenizer(path, _CURE)
    return (_load_tokenizer(source, _CURE) if source else target), target


def load_facts(run: Run) -> Json:
    """The facts about the labels of a run; {} for a run without. Raises RunError unless it was trained with them."""
    path = run.asset(_LABELS)
    facts: Json = read_json(path, _CURE) if path else {}
    return facts


def standardized(facts: Json, start: str, run: Run | None) -> Json:
    """The facts about training data, with what standardized those of the run that training starts from.

    Raises DataError for another number of channels than that run has learned.
    """
    kept = load_facts(run if run is not None and run.begun else Run.open(start)) if start else {}
    here, there = (each.get("sizes", {}).get("channels") for each in (facts, kept))
    if here and there and here != there:
        problem = f"the data have {counted(here, 'channel')}, and {start} has learned {there}"
        raise DataError(problem, where="data.train", cure="name data of its form, or start from another run, or none")
    return facts | {key: kept[key] for key in ("scale", "resample") if key in kept}


def load_reference(run: Run) -> Json | None:
    """What the reference says about the answers of a run of preferences; None for a run of another task."""
    path = run.asset(_REFERENCE)
    reference: Json | None = read_json(path, _CURE) if path else None
    return reference


def load_vocabulary(run: Run) -> Vocabulary:
    """The vocabulary of a run of word vectors. Raises RunError unless it was trained with it."""
    path = run.asset(_VOCABULARY)
    if path is None:
        raise RunError("is not a run of word vectors", where=str(run.path))
    return Vocabulary.load(path)
