"""SentencePiece models (Kudo and Richardson 2018), as tokenizers of the `tokenizers` library."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from seqloom.errors import RunError
from seqloom.interop.weights import interpreting
from seqloom.limits import check_regular

_UNIGRAM, _NORMAL, _UNKNOWN = 1, 1, 2
_NOWHERE = "\ufdd0"  # a noncharacter of Unicode, which no text contains


def read_sentencepiece(
    path: Path, ids: Mapping[str, int] | None = None, first: Sequence[str] = ()
) -> tokenizers.Tokenizer:
    """The tokenizer of a *.spm or *.model file.

    Args:
        path: the file.
        ids: the ids of the pieces in the model, if they differ from those of the file (Marian's vocab.json). Pieces of
            the file without an id follow.
        first: special tokens that get the first ids, whether or not the file has them.

    Raises RunError or ConfigError for a file that is not a SentencePiece model of the Unigram kind.
    """
    check_regular(path)
    with interpreting(path):
        return _tokenizer(path.read_bytes(), ids, first)


def _tokenizer(model: bytes, ids: Mapping[str, int] | None, first: Sequence[str]) -> tokenizers.Tokenizer:
    fields = list(_fields(model))
    pieces = [_piece(value) for number, value in fields if number == 1 and isinstance(value, bytes)]
    spec = {number: dict(_fields(value)) for number, value in fields if number in (2, 3) and isinstance(value, bytes)}
    if not pieces or spec.get(2, {}).get(3, _UNIGRAM) != _UNIGRAM:
        problem = "is not a SentencePiece model of the Unigram kind"
        cure = "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) of transformers writes a tokenizer.json"
        raise RunError(problem, cure=cure)
    scores = {piece: score for piece, score, _ in pieces}
    unknown = next((piece for piece, _, kind in pieces if kind == _UNKNOWN), "<unk>")
    vocabulary = [*((token, 0.0) for token in first), *((p, score) for p, score, _ in pieces if p not in first)]
    codes = [p for p in ids or () if p.startswith(">>") and p.endswith("<<")]  # target languages
    if ids is not None:
        # A piece of the other side keeps its id, but no text is encoded as it.
        ordered = sorted(ids, key=ids.__getitem__)
        special = {piece for piece, _, kind in pieces if kind != _NORMAL} | {"<pad>", unknown, *codes}
        vocabulary = [(p if p in scores or p in special else f"{_NOWHERE}{p}", scores.get(p, 0.0)) for p in ordered]
        vocabulary += [(piece, score) for piece, score, _ in pieces if piece not in ids]
    inner = tokenizers.Tokenizer(models.Unigram(vocabulary, [p for p, _ in vocabulary].index(unknown), False))
    charsmap = spec.get(3, {}).get(2)
    steps = [normalizers.Precompiled(charsmap)] if isinstance(charsmap, bytes) and charsmap else []
    inner.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()])
    inner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    inner.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    inner.add_special_tokens([*first])
    inner.add_tokens([tokenizers.AddedToken(code, normalized=False, rstrip=True) for code in codes])
    return inner


def _piece(message: bytes) -> tuple[str, float, int]:
    values = dict(_fields(message))
    piece, score, kind = values[1], values.get(2, 0.0), values.get(3, _NORMAL)
    if not isinstance(piece, bytes) or isinstance(score, bytes) or not isinstance(kind, int):
        raise ValueError("not a piece")
    return piece.decode(), float(score), kind


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int | float]]:
    """The fields of a Protocol Buffers message: number and value."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"unknown wire type {wire}")
        size, at = _varint(message, at) if wire == 2 else (8 if wire == 1 else 4, at)
        content, at = message[at : at + size], at + size
        if at > len(message):
            raise ValueError("cut off")
        yield number, content if wire == 2 else struct.unpack("<d" if wire == 1 else "<f", content)[0]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at
