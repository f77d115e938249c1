"""The tokenizers of a run: made from its data, written into it, and found there again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from seqloom.data.corpus import Pairs
from seqloom.errors import RunError, UsageError
from seqloom.run import Run, write_text
from seqloom.text.tokenizer import Tokenizer, TokenizerConfig, TokenizerFile, train_tokenizer


def make_tokenizer(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer of texts without a second side."""
    return _read_tokenizer(config.path) if isinstance(config, TokenizerFile) else train_tokenizer(config, texts)


def make_tokenizers(config: TokenizerConfig, train: Pairs) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers of source and target; the same object where they are joint."""
    if isinstance(config, TokenizerFile):
        source = _read_tokenizer(config.path)
        return source, _read_tokenizer(config.target) if config.target else source
    if config.joint:
        both = train_tokenizer(config, [*train.sources, *train.targets])
        return both, both
    return train_tokenizer(config, train.sources), train_tokenizer(config, train.targets)


def _read_tokenizer(path: str) -> Tokenizer:
    return _load_tokenizer(path, "let tokenizer.path name a tokenizer.json, or train one with tokenizer.kind = 'bpe'")


def _load_tokenizer(path: str | Path, cure: str) -> Tokenizer:
    try:
        return Tokenizer.load(path)
    except UsageError as error:
        raise RunError(error.problem, where=error.where, cure=error.cure or cure) from None


def save_tokenizers(path: Path, source: Tokenizer, target: Tokenizer) -> None:
    """Writes tokenizer.json, and tokenizer.source.json where the source has one of its own."""
    write_text(path / "tokenizer.json", target.to_json())
    if source is not target:
        write_text(path / "tokenizer.source.json", source.to_json())


def load_tokenizers(run: Run) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers of a run. Raises RunError if they are not those it was trained with."""
    cure = "put back the one that the run was written with"
    path, own = run.path / "tokenizer.json", run.path / "tokenizer.source.json"
    target = _load_tokenizer(path, cure)
    source = _load_tokenizer(own, cure) if own.is_file() else target
    if [source.digest(), target.digest()] != run.info()["tokenizer"]:
        raise RunError("is not the tokenizer this run was trained with", where=str(path), cure=cure)
    return source, target
