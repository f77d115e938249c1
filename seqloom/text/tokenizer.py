"""From text to ids and back: a thin layer over the `tokenizers` library, with one tokenizer.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import tokenizers

from seqloom.config import build
from seqloom.errors import RunError, UsageError
from seqloom.limits import Bounded, Bounds, ShareBelowOne, check_regular
from seqloom.text.dna import UPPER, Kmers, kmers, of_nucleotides

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
MESSAGE_END = "<|end|>"
"""The name of the token after a message of a conversation."""
LINE = "\n"
"""The name of the token that ends a line in what other programs read."""


@dataclass(frozen=True)
class BPE(Bounded):
    """Byte-level byte-pair encoding (Sennrich et al. 2016): decoding restores any text exactly.

    Args:
        size: the size of the vocabulary, including 256 bytes and 4 special tokens, but not those of masks and of
            conversations.
        joint: one vocabulary for both sides, or one for each.
        lowercase: whether text is lowercased first.
        digits: whether each digit is a token of its own.
        dropout: the probability that a merge is skipped in training (Provilkov et al. 2020).
    """

    kind: ClassVar[str] = "bpe"
    size: Annotated[int, Bounds(260, 10**7)] = 8192
    joint: bool = True
    lowercase: bool = False
    digits: bool = True
    dropout: ShareBelowOne = 0.0


@dataclass(frozen=True)
class WordLevel(Bounded):
    """Words between white space; those beyond the `size` most frequent become <unk>.

    Args:
        size: the largest size of the vocabulary, including 4 special tokens.
        joint: one vocabulary for both sides, or one for each.
        lowercase: whether text is lowercased first.
    """

    kind: ClassVar[str] = "words"
    size: Annotated[int, Bounds(5, 10**7)] = 50_000
    joint: bool = False
    lowercase: bool = False


@dataclass(frozen=True)
class Characters:
    """Single characters; those not seen in training fall back to bytes.

    Args:
        joint: one vocabulary for both sides, or one for each.
        lowercase: whether text is lowercased first.
    """

    kind: ClassVar[str] = "characters"
    joint: bool = True
    lowercase: bool = False


@dataclass(frozen=True)
class TokenizerFile:
    """An existing tokenizer.json.

    Args:
        path: the file, for both sides unless `target` is given.
        target: the file for the target side.
    """

    kind: ClassVar[str] = "file"
    path: str = ""
    target: str = ""

    @property
    def joint(self) -> bool:
        """Whether one file serves both sides."""
        return not self.target


TokenizerConfig = BPE | WordLevel | Characters | Kmers | TokenizerFile


@dataclass(frozen=True)
class Template:
    """The special tokens around a text, and between the two texts of a pair.

    Args:
        before, between, after: their ids.
        segments: whether the second text of a pair is of another segment than the first.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    segments: bool = True


@dataclass(frozen=True)
class Special:
    """What is defined about tokens beyond tokenizer.json: by a published model, or of words of k letters.

    Args:
        vocab_size: V of the model; ids of the tokenizer beyond it are read as unknown.
        pad, unknown, start, end: the ids of these tokens.
        opens: whether a text begins with `start`.
        template: the special tokens around its texts; None = `start` and `end`.
        ends: further ids that end a generated text.
        suppressed: ids that are never generated; None = `pad` where a text begins with it.
        lowercase: whether text is lowercased before it reaches the tokenizer.
        kmers: the size and the stride of the words that text is cut into before; see Kmers. () = it is not.
    """

    vocab_size: int
    pad: int
    unknown: int
    start: int
    end: int
    opens: bool = True
    template: Template | None = None
    ends: tuple[int, ...] = ()
    suppressed: tuple[int, ...] | None = None
    lowercase: bool = False
    kmers: tuple[int, ...] = ()


_OWN = "seqloom"


class Tokenizer:
    """Encodes and decodes text. Special tokens in a text ("</s>") are treated as text; see `parsing`."""

    def __init__(self, inner: tokenizers.Tokenizer, special: Special | None = None) -> None:
        inner.encode_special_tokens = True
        inner.no_padding()
        inner.no_truncation()
        self.inner, self.special = inner, special
        if special is None:
            self.pad, self.unknown, self.start, self.end = (self._id(inner, *names) for names in _SPECIAL_NAMES)
        else:
            self.pad, self.unknown, self.start, self.end = special.pad, special.unknown, special.start, special.end
        added = {i for i, token in inner.get_added_tokens_decoder().items() if token.special}
        self._special = added - {self.unknown} | {self.pad, self.start, self.end, *self.stops}
        self._bytes = frozenset[int]()
        if "ByteFallback" in repr(inner.decoder):
            names = (inner.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
            self._bytes = frozenset(i for i in names if i is not None)

    @staticmethod
    def _id(inner: tokenizers.Tokenizer, *names: str) -> int:
        for name in names:
            if (token := inner.token_to_id(name)) is not None:
                return int(token)
        cure = "add one of them to tokenizer.json, or train a tokenizer with kind = 'bpe'"
        raise UsageError(f"the tokenizer has none of the tokens {', '.join(names)}", cure=cure)

    @property
    def vocab_size(self) -> int:
        """V, the size of the vocabulary."""
        return int(self.inner.get_vocab_size()) if self.special is None else self.special.vocab_size

    @property
    def stop(self) -> int:
        """The id after a document."""
        return self.start if self.special is None else self.end

    @property
    def line_end(self) -> int | None:
        """The id that ends a line; None = that of the line break in the text, which published tokenizers have."""
        return None if self.special is not None or self.end in (self.start, self.pad, self.unknown) else self.end

    @property
    def stops(self) -> tuple[int, ...]:
        """The ids that end a generated text besides `stop`."""
        end = self.inner.token_to_id(MESSAGE_END)
        return self.special.ends if self.special is not None else () if end is None else (int(end),)

    @property
    def suppressed(self) -> tuple[int, ...]:
        """The ids that are never generated."""
        listed = None if self.special is None else self.special.suppressed
        return listed if listed is not None else (self.pad,) if self.start == self.pad else ()

    @property
    def template(self) -> Template:
        """The special tokens around a text that is read whole."""
        template = None if self.special is None else self.special.template
        return template or Template((self.start,), (self.end,), (self.end,))

    def parsing(self, *names: str) -> Tokenizer:
        """A tokenizer for trusted text, which reads special tokens in it as such: those with these names, or all."""
        tree = json.loads(self.inner.to_str())
        for token in tree["added_tokens"]:
            if token["special"] and (not names or token["content"] in names):
                token["special"] = False
                if self.special is None:  # ours put a space before every word: one beside a special token is extra
                    token |= {"lstrip": True, "rstrip": True}
        made = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(tree)), self.special)
        made._special = self._special
        return made

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, without special tokens."""
        return [self._ids(e) for e in self.inner.encode_batch_fast(self._given(texts), add_special_tokens=False)]

    def encode_places(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The ids of each text, and the characters at which each begins and ends (T 2); UsageError for k-mers."""
        if self.special is not None and self.special.kmers:
            raise UsageError("words of k letters have no places in a text", cure="use tokenizer.kind = 'characters'")
        encodings = self.inner.encode_batch(self._given(texts), add_special_tokens=False)
        return [(self._ids(e), np.asarray(e.offsets, np.int64).reshape(-1, 2)) for e in encodings]

    def encode_words(self, sentences: Sequence[Sequence[str]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The ids of each sentence, read whole, and the position of the first token of each of its words (W).

        Words are joined by spaces. The position is -1 for a word without a token.
        """
        results = []
        encoded = self.encode_places([" ".join(words) for words in sentences])
        for words, (ids, places) in zip(sentences, encoded, strict=True):
            sizes = np.array([len(word) for word in words], dtype=np.int64)
            ends = np.cumsum(sizes + 1) - 1
            firsts = np.full(len(words), -1, dtype=np.int64)
            low = np.searchsorted(ends, places[:, 0], side="right")  # the first word that ends after a token begins
            high = np.searchsorted(ends - sizes, places[:, 1], side="left")  # the first word that begins after its end
            for token in range(len(ids) - 1, -1, -1):
                firsts[low[token] : high[token]] = token
            results.append((ids, firsts))
        return results

    @cached_property
    def _of_dna(self) -> bool:
        return of_nucleotides(self.inner.id_to_token(i) or "" for i in range(self.vocab_size))

    def _given(self, texts: Sequence[str]) -> list[str]:
        texts = [text.translate(UPPER) for text in texts] if self._of_dna else texts
        if self.special is not None and self.special.kmers:
            return [kmers(text, *self.special.kmers) for text in texts]
        return [text.lower() for text in texts] if self.special is not None and self.special.lowercase else list(texts)

    def _ids(self, encoding: tokenizers.Encoding) -> np.ndarray:
        ids = np.asarray(encoding.ids, dtype=np.int32)
        return ids if self.special is None else np.where(ids < self.vocab_size, ids, self.unknown).astype(np.int32)

    def encode_lines(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, with `line_end` between lines."""
        if (end := self.line_end) is None:
            return self.encode(texts)
        split = [text.split("\n") for text in texts]
        rows = iter(self.encode([line for lines in split for line in lines]))
        parts = [[part for _ in lines for part in ([end], next(rows))] for lines in split]
        return [np.concatenate(text[1:]).astype(np.int32) for text in parts]

    def grown(self, names: Sequence[str]) -> Tokenizer:
        """A tokenizer with these special tokens added; itself if it has them."""
        if all(self.inner.token_to_id(name) is not None for name in names):
            return self
        inner = tokenizers.Tokenizer.from_str(self.inner.to_str())
        inner.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in names])
        size = max(self.vocab_size, inner.get_vocab_size())
        return Tokenizer(inner, self.special and replace(self.special, vocab_size=size))

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """The text of each row of ids, without special tokens."""
        kept = [[int(i) for i in row if int(i) not in self._special] for row in rows]
        return [str(text) for text in self.inner.decode_batch(kept, skip_special_tokens=False)]

    def settled(self, ids: Sequence[int]) -> int:
        """How many of the ids have a text that further ids cannot change, but for an incomplete character at its end.

        A sequence of byte tokens is one text, which becomes unreadable as a whole if it ends inside a character.
        """
        count = len(ids)
        while count and (int(ids[count - 1]) in self._bytes or int(ids[count - 1]) in self._special):
            count -= 1
        return count if any(int(i) in self._bytes for i in ids[count:]) else len(ids)

    def tokens(self, ids: Iterable[int] | np.ndarray) -> list[str]:
        r"""The readable text of each id: a space before a word is "_", a byte that is no whole character "\xe4"."""
        of_bytes = "ByteLevel" in repr(self.inner.decoder)
        return [_readable(str(self.inner.id_to_token(int(i))), of_bytes) for i in ids]

    def whole_words(self) -> dict[str, int]:
        """The ids of the tokens that begin a word: not special and, in BPE, with a space before them; by their text."""
        vocabulary = self.inner.get_vocab()
        special = self._special | {self.unknown}
        names = sorted((i, name) for name, i in vocabulary.items() if i not in special)
        if "ByteLevel" not in repr(self.inner.decoder):
            return {name: i for i, name in names}
        texts = {_readable(name, True): i for i, name in names}
        return {text[1:]: i for text, i in texts.items() if text.startswith("_") and len(text) > 1}

    def to_json(self) -> str:
        """The text of tokenizer.json."""
        text = str(self.inner.to_str(pretty=True)) + "\n"
        return text if self.special is None else json.dumps({**json.loads(text), _OWN: asdict(self.special)}) + "\n"

    def digest(self) -> str:
        """SHA-256 of tokenizer.json."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Reads a tokenizer.json of any kind. Raises RunError if there is none."""
        try:
            check_regular(Path(path))
            text = Path(path).read_text(encoding="utf-8")
            if f'"{_OWN}": {{' not in text:
                inner = tokenizers.Tokenizer.from_str(text)
                check_numbers(inner)
                return cls(inner)
            tree = json.loads(text)
            special = build(Special, tree.pop(_OWN))
            return cls(tokenizers.Tokenizer.from_str(json.dumps(tree)), special)
        except OSError as error:
            raise RunError(f"no tokenizer: {error.strerror}", where=str(path)) from None
        except UsageError as error:
            raise UsageError(error.problem, where=str(path), cure=error.cure) from None
        except Exception as error:  # the library raises bare Exception
            raise RunError(f"not a tokenizer.json: {error}", where=str(path)) from None


def check_numbers(inner: tokenizers.Tokenizer) -> None:
    """Raises UsageError unless the tokens of a vocabulary have numbers of their own, without gaps."""
    numbers = sorted(inner.get_vocab().values())
    if wrong := next((i for i, number in enumerate(numbers) if i != number), None):
        problem = f"its {len(numbers):,} tokens are not numbered from 0 to {len(numbers) - 1:,}: see {numbers[wrong]:,}"
        raise UsageError(problem, cure="number them in the file, or train a tokenizer with kind = 'bpe'")


_SPECIAL_NAMES = (
    ("<pad>", "[PAD]", "<|endoftext|>", "</s>"),
    ("<unk>", "[UNK]", "<|endoftext|>", "</s>"),
    ("<s>", "[CLS]", "<bos>", "<|endoftext|>", "<pad>"),
    ("</s>", "[SEP]", "<eos>", "<|endoftext|>", LINE),
)


def _byte_characters() -> dict[str, int]:
    # GPT-2's alphabet: printable bytes represent themselves; characters from U+0100 on represent the others.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


_BYTES = _byte_characters()


def _readable(token: str, of_bytes: bool) -> str:
    if of_bytes and all(c in _BYTES for c in token):
        token = bytes(_BYTES[c] for c in token).decode("utf-8", errors="backslashreplace")
    return token.replace(" ", "_")
