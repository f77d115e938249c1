"""What a run keeps besides the weights: tokenizers or a vocabulary, and facts about the labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from seqloom.data.rows import Pairs
from seqloom.errors import RunError, UsageError
from seqloom.run import Json, Run, read_json, write_json, write_text
from seqloom.text.tokenizer import Tokenizer, TokenizerConfig, TokenizerFile, train_tokenizer
from seqloom.text.vocabulary import Vocabulary

LABELS, _VOCABULARY = "labels.json", "vocabulary.tsv"
_CURE = "put back the one that the run was written with"


@dataclass(frozen=True)
class Assets:
    """What the model and the predictor of a run need from its data.

    Args:
        tokenizers: of source and target, the same object where they share one; None for a model that reads no text.
        facts: the labels of the training data; None for a task without labels.
        vocabulary: that of word vectors, which have no tokenizer.
    """

    tokenizers: tuple[Tokenizer, Tokenizer] | None = None
    facts: Json | None = None
    vocabulary: Vocabulary | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the target, or the only one."""
        assert self.tokenizers is not None
        return self.tokenizers[1]

    @property
    def vocab_size(self) -> int:
        """V of the tokenizer; 0 where no text is read."""
        return self.tokenizers[1].vocab_size if self.tokenizers is not None else 0

    def digests(self) -> list[str]:
        """SHA-256 of each tokenizer, or of the vocabulary."""
        return [asset.digest() for asset in self.tokenizers or ([self.vocabulary] if self.vocabulary else ())]

    def save(self, folder: Path) -> None:
        """Writes them into the directory of a run."""
        if self.tokenizers is not None:
            save_tokenizers(folder, *self.tokenizers)
        if self.facts is not None:
            write_json(folder / LABELS, self.facts)
        if self.vocabulary is not None:
            write_text(folder / _VOCABULARY, self.vocabulary.to_tsv())


def begun(run: Run | None) -> bool:
    """Whether this is a run that already has its tokenizers."""
    return run is not None and (run.path / "run.json").is_file()


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


def save_tokenizers(path: Path, source: Tokenizer, target: Tokenizer) -> None:
    """Writes tokenizer.json, and tokenizer.source.json if the source has its own tokenizer."""
    write_text(path / "tokenizer.json", target.to_json())
    if source is not target:
        write_text(path / "tokenizer.source.json", source.to_json())


def load_tokenizers(run: Run) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers of a run. Raises RunError unless it was trained with them."""
    path, source_path = run.path / "tokenizer.json", run.path / "tokenizer.source.json"
    target = _load_tokenizer(path, _CURE)
    source = _load_tokenizer(source_path, _CURE) if source_path.is_file() else target
    if [source.digest(), target.digest()] != run.info()["tokenizer"]:
        raise RunError("is not the tokenizer this run was trained with", where=str(path), cure=_CURE)
    return source, target


def load_facts(run: Run) -> Json:
    """The facts about the labels of a run. Raises RunError."""
    return read_json(run.path / LABELS, _CURE)


def load_vocabulary(run: Run) -> Vocabulary:
    """The vocabulary of a run of word vectors. Raises RunError unless it was trained with it."""
    vocabulary = Vocabulary.load(run.path / _VOCABULARY)
    if [vocabulary.digest()] != run.info()["tokenizer"]:
        raise RunError("is not the vocabulary this run was trained with", where=str(run.path / _VOCABULARY), cure=_CURE)
    return vocabulary
