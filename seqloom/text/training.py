"""Tokenizers trained on text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from seqloom.errors import DataError
from seqloom.text.dna import Kmers, kmers
from seqloom.text.tokenizer import BPE, SPECIAL, Characters, Special, Tokenizer, WordLevel


def train_tokenizer(config: BPE | WordLevel | Characters | Kmers, texts: Iterable[str]) -> Tokenizer:
    """Trains a tokenizer on texts; the same texts in the same order give the same bytes of tokenizer.json."""
    if isinstance(config, Kmers):
        form, words = (config.size, config.stride), WordLevel(size=10**7, lowercase=config.lowercase)
        inner = _train_words(words, (kmers(text, *form) for text in texts))
        pad, unknown, start, end = range(len(SPECIAL))
        return Tokenizer(inner, Special(inner.get_vocab_size(), pad, unknown, start, end, kmers=form))
    makers: dict[type, Any] = {BPE: _train_bpe, WordLevel: _train_words, Characters: _train_characters}
    return Tokenizer(makers[type(config)](config, texts))


def _normalizer(lowercase: bool, *more: normalizers.Normalizer) -> normalizers.Normalizer:
    return normalizers.Sequence([*([normalizers.Lowercase()] if lowercase else []), *more])


def _train_bpe(config: BPE, texts: Iterable[str]) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(models.BPE())
    # A space in front makes the first word like any other; decoding removes exactly that space again.
    inner.normalizer = _normalizer(config.lowercase, normalizers.Prepend(" "))
    digits = [pre_tokenizers.Digits(individual_digits=True)] if config.digits else []
    inner.pre_tokenizer = pre_tokenizers.Sequence([*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    inner.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=config.size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    return inner


def _train_words(config: WordLevel, texts: Iterable[str]) -> tokenizers.Tokenizer:
    # A "</s>" in the text must not end the sentence.
    special = Regex(r"(?<!\S)(?:" + "|".join(SPECIAL) + r")(?!\S)")
    normalizer = _normalizer(config.lowercase, normalizers.Replace(special, "<unk>"))
    split = pre_tokenizers.WhitespaceSplit()
    counts = Counter(word for text in texts for word, _ in split.pre_tokenize_str(normalizer.normalize_str(text)))
    del counts["<unk>"]
    if not counts:
        raise DataError("the text has no words to build a vocabulary from")
    # Counted here, because the library's trainer breaks ties differently in each run.
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: config.size - len(SPECIAL)]
    ids = {word: i for i, word in enumerate([*SPECIAL, *ranked])}
    inner = tokenizers.Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    inner.normalizer = normalizer
    inner.pre_tokenizer = split
    inner.decoder = decoders.WordPiece(prefix="\ufdd0", cleanup=False)  # joins by spaces; no word has that prefix
    return inner


def _train_characters(config: Characters, texts: Iterable[str]) -> tokenizers.Tokenizer:
    normalizer = _normalizer(config.lowercase)
    seen = sorted({c for text in texts for c in normalizer.normalize_str(text)})
    names = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *seen]
    inner = tokenizers.Tokenizer(models.BPE({n: i for i, n in enumerate(names)}, [], byte_fallback=True))
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"(?m:.)"), "isolated")
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return inner
