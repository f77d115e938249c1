"""Preferences as token ids: for each pair a prompt and two answers, of which only the answers are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seqloom.data.batches.batch import Movable, pad
from seqloom.data.batches.order import BatchConfig, Order
from seqloom.data.batches.stream import encode_beginnings
from seqloom.data.rows import Preference, continued
from seqloom.errors import counted
from seqloom.nn.embedders import Inputs
from seqloom.shapes import Float, Int, Tensor
from seqloom.text.chat import END, Message, chat_prompt, chat_token
from seqloom.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class EncodedPreference:
    """The ids of a prompt and of its two answers, the chosen one first, each up to its end; and where it comes from."""

    prompt: np.ndarray
    answers: tuple[np.ndarray, np.ndarray]
    margin: float
    row: int

    @property
    def rows(self) -> list[np.ndarray]:
        """The prompt with each of the answers."""
        return [np.concatenate((self.prompt, answer)) for answer in self.answers]

    @property
    def size(self) -> int:
        """The tokens of both rows, if they are of equal length."""
        return 2 * (len(self.prompt) + max(map(len, self.answers)))

    @property
    def differs(self) -> bool:
        """Whether something distinguishes the answers."""
        return not np.array_equal(*self.answers)


class EncodedPreferences:
    """Pairs cut to the most tokens that are read, and what that loses.

    Args:
        answer: the most tokens of an answer; of a prompt with an answer where they are joined.
        cut: a message about what was cut before; "" = nothing.
    """

    def __init__(self, answer: int, cut: str = "") -> None:
        self.answer, self.cut = answer, cut
        self.pairs: list[EncodedPreference] = []
        self.long_prompts = self.long_answers = 0

    def add(
        self, row: int, prompt: np.ndarray, answers: tuple[np.ndarray, np.ndarray], margin: float, *, joined: bool
    ) -> None:
        """Adds the pair of a row."""
        most = self.answer
        if joined:
            room = max(1, most - max(map(len, answers)))
            if len(prompt) > room:
                self.long_prompts += 1
                prompt = np.concatenate((prompt[:1], prompt[len(prompt) - room + 1 :]))
            most -= len(prompt)
        self.long_answers += sum(len(answer) > most for answer in answers)
        self.pairs.append(EncodedPreference(prompt, (answers[0][:most], answers[1][:most]), margin, row))

    @property
    def lost(self) -> str:
        """A message about what was cut; "" = nothing."""
        same = sum(not pair.differs for pair in self.pairs)
        counts = [(self.long_answers, "answer", "cut off"), (same, "pair", "without a difference in what is read")]
        lost = [self.cut, _cut(self.long_prompts), *(f"{counted(n, what)} {how}" for n, what, how in counts if n)]
        return "; ".join(filter(None, lost))


@dataclass(frozen=True)
class PreferenceBatch(Movable):
    """P pairs: the rows of the chosen answers, and then those of the rejected ones (R = 2 P).

    Args:
        inputs: prompts with their answers; for an encoder-decoder, the prompts alone.
        targets: the answers up to their end, where they are predicted; -1 everywhere else.
        target_in: what the decoder of an encoder-decoder is fed.
        reference: the log-probability of each answer by the reference.
        tokens: P; the objective sums over pairs.
        rows: the indices of the pairs in the corpus, for messages.
    """

    inputs: Inputs
    targets: Int[Tensor, "R T"]
    target_in: Int[Tensor, "R T"] | None
    reference: Float[Tensor, " R"]
    tokens: int
    rows: tuple[int, ...] = ()


def encode_continuations(rows: Sequence[Preference], tokenizer: Tokenizer, length: int) -> EncodedPreferences:
    """Preferences for a model that continues prompts, plain or in the format of conversations.

    An answer ends with what ends a text, or a message, when the model generates it. Of both together at most `length`
    + 1 tokens are kept: the prompt loses its beginning, but for its first token, and then the answer its end.
    """
    chats = [row.prompt for row in rows if not isinstance(row.prompt, str)]
    if chats:
        prompts = [np.array(chat_prompt(messages, tokenizer)) for messages in chats]
        ids = tokenizer.encode_lines([answer for row in rows for answer in (row.chosen, row.rejected)])
        end = [chat_token(tokenizer, END)]
    else:
        prompts, ids = _continuations(rows, tokenizer)
        end = [i for i in (tokenizer.line_end, tokenizer.stop) if i is not None]
    answers = [np.append(row, end).astype(np.int64) for row in ids]
    encoded = EncodedPreferences(length + 1)
    for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        encoded.add(i, prompt, (answers[2 * i], answers[2 * i + 1]), row.margin, joined=True)
    return encoded


def _continuations(rows: Sequence[Preference], tokenizer: Tokenizer) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The ids of the prompts, and of the two answers of each: what a prompt's are followed by, if both are joined.

    Where a token would belong to both, the answer is encoded by itself.
    """
    written = [str(row.prompt) for row in rows]
    prompts = encode_beginnings(written, tokenizer)
    answers = [answer for row in rows for answer in (row.chosen, row.rejected)]
    joined = [written[i // 2] + continued(written[i // 2], answer) for i, answer in enumerate(answers)]
    rest = []
    for i, (whole, alone) in enumerate(
        zip(encode_beginnings(joined, tokenizer), tokenizer.encode_lines(answers), strict=True)
    ):
        size = len(prompts[i // 2])
        rest.append(whole[size:] if np.array_equal(whole[:size], prompts[i // 2]) else alone)
    return prompts, rest


def encode_translations(
    rows: Sequence[Preference], source: Tokenizer, target: Tokenizer, longest: tuple[int, int]
) -> EncodedPreferences:
    """Preferences for an encoder-decoder; `longest` = the most tokens of a prompt and of an answer."""
    prompts, lost = encode_sources([str(row.prompt) for row in rows], source, longest[0])
    answers = target.encode([text for row in rows for text in (row.chosen, row.rejected)])
    encoded = EncodedPreferences(longest[1], lost)
    for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        ended = [np.append(answer, target.end).astype(np.int64) for answer in answers[2 * i : 2 * i + 2]]
        encoded.add(i, prompt, (ended[0], ended[1]), row.margin, joined=False)
    return encoded


def encode_sources(texts: Sequence[str], source: Tokenizer, most: int) -> tuple[list[np.ndarray], str]:
    """What an encoder reads of each text, at most so many tokens, and a message about what is cut; "" = nothing."""
    template = source.special.template if source.special is not None else None
    before, after = (template.before, template.after) if template else ((), (source.end,))
    room, rows = most - len(before) - len(after), source.encode(texts)
    framed = [np.concatenate((before, ids[:room], after)).astype(np.int64) for ids in rows]
    return framed, _cut(sum(len(ids) > room for ids in rows))


def encode_prompts(
    prompts: Sequence[str | tuple[Message, ...]], tokenizer: Tokenizer, most: int
) -> tuple[list[np.ndarray], str]:
    """The ids of what a language model continues; of a longer prompt the first and the last, `most` in all."""
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    begun = iter(encode_beginnings(texts, tokenizer) if texts else [])
    rows = [next(begun) if isinstance(p, str) else np.array(chat_prompt(p, tokenizer)) for p in prompts]
    fitted = [ids if len(ids) <= most else np.concatenate((ids[:1], ids[len(ids) - most + 1 :])) for ids in rows]
    return fitted, _cut(sum(len(ids) > most for ids in rows))


def _cut(prompts: int) -> str:
    return f"{counted(prompts, 'prompt')} cut to what is read" if prompts else ""


def preference_batch(
    pairs: Sequence[EncodedPreference], reference: np.ndarray, start: int | None, number: int = 0
) -> PreferenceBatch:
    """A batch of pairs, in the layout of an encoder-decoder where a `start` token for its decoder is given.

    `reference`: the log-probabilities of the chosen and the rejected answer of each pair (P 2).
    """
    prompts = [pair.prompt for pair in pairs] * 2
    read, targets, fed = laid_out(prompts, [pair.answers[side] for side in (0, 1) for pair in pairs], start)
    kept = torch.from_numpy(np.ascontiguousarray(reference.T).reshape(-1)).float()
    return PreferenceBatch(read, targets, fed, kept, len(pairs), tuple(pair.row for pair in pairs))


def laid_out(
    prompts: Sequence[np.ndarray], answers: Sequence[np.ndarray], start: int | None
) -> tuple[Inputs, Int[Tensor, "R T"], Int[Tensor, "R T"] | None]:
    """Prompts, each with an answer, as a model reads them; the answers where they are predicted; the decoder's inputs.

    See `PreferenceBatch`; `start` is as for `preference_batch`.
    """
    if start is None:
        wholes = [np.concatenate(both) for both in zip(prompts, answers, strict=True)]
        inputs, _ = pad([whole[:-1] for whole in wholes])
        targets = np.full(inputs.shape, -1)
        for row, (whole, answer) in enumerate(zip(wholes, answers, strict=True)):
            targets[row, len(whole) - 1 - len(answer) : len(whole) - 1] = answer
        return Inputs.text(inputs), torch.from_numpy(targets), None
    targets = np.full((len(answers), max(map(len, answers))), -1)
    for row, answer in enumerate(answers):
        targets[row, : len(answer)] = answer
    fed, _ = pad([np.concatenate(([start], answer[:-1])) for answer in answers])
    return Inputs.text(*pad(prompts)), torch.from_numpy(targets), fed


class PreferenceBatches:
    """The endless sequence of batches of pairs, by number; see Order. `start`: see `preference_batch`."""

    def __init__(self, pairs: Sequence[EncodedPreference], config: BatchConfig, seed: int, start: int | None) -> None:
        self.pairs, self.start = pairs, start
        self.reference = np.zeros((len(pairs), 2))
        sizes = np.array([pair.size for pair in pairs])
        self.order = Order(lambda epoch: (sizes,), config, seed)
        self.per_epoch = self.order.per_epoch

    def __call__(self, number: int) -> PreferenceBatch:
        """Batch `number` of the endless sequence."""
        part = self.order.part(number)
        return preference_batch([self.pairs[i] for i in part], self.reference[part], self.start)
