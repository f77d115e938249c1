"""Prompts, alone or with a chosen and a rejected answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from seqloom.data.checks.pairs import Finding, scan_texts
from seqloom.data.formats.lines import (
    LineError,
    expand,
    file_format,
    is_blank,
    is_text,
    json_object,
    read_each,
    text_of,
)
from seqloom.data.rows import Preference, Prompt
from seqloom.data.sources.chats.conversations import turns_of
from seqloom.data.sources.labelled import ExampleFiles
from seqloom.errors import DataError, counted, nearest
from seqloom.limits import LengthOrZero
from seqloom.text.chat import ROLES, Message

Form = Literal["text", "instruction", "dialogue", "messages"]
Turns = list[tuple[Any, Any]]
"""Roles and texts, unchecked."""


R = TypeVar("R", Preference, Prompt)


@dataclass(frozen=True)
class _PromptFiles(ExampleFiles[R]):
    """Files of JSON lines, each with a prompt.

    Args:
        train, valid, test: the files.
        form: how prompts are written.
        prompt: the name of the field.
        input: the field with a text that follows the prompt after a blank line, where there is one; "" = none.
    """

    kind: ClassVar[str]
    form: Form = "text"
    prompt: str = "prompt"
    input: str = ""

    @property
    def chats(self) -> bool:
        """Whether they are conversations, for which a tokenizer needs special tokens."""
        return self.form != "text"

    @property
    def title(self) -> str:
        """The name of the split that is tested on without files."""
        return "test"

    def scan(self) -> list[Finding]:
        """The faults of its files, line by line."""
        files = (self.train, self.valid, self.test)
        return [finding for paths in files for finding in scan_texts(paths, {"": self.parse})]

    @property
    def _fields(self) -> tuple[str, ...]:
        """The names of the fields that a record has beside its prompt."""
        raise NotImplementedError

    def parse(self, line: str, where: str) -> R:
        """The example of a line. Raises LineError."""
        raise NotImplementedError

    def read(self, files: Sequence[str]) -> list[R]:
        """See SplitFiles."""

        def each(path: Path) -> Iterator[R]:
            return (self.parse(line, where) for line, where in text_of(path) if not is_blank(line))

        return read_each(files, each, f"has no {self.kind}", f"write {self._example}")

    def _text(self, record: dict[str, Any], where: str) -> str | tuple[Message, ...]:
        """The prompt of a record in the forms "text" and "instruction"."""
        prompt = self._field(record, self.prompt, where)
        more: Any = record.get(self.input) if self.input else ""
        self._check([prompt, *([more] if more else [])], where)
        text = f"{prompt}\n\n{more}" if more else prompt
        return text if self.form == "text" else (Message("user", text),)

    def _messages(self, turns: Turns, where: str) -> tuple[Message, ...]:
        """The prompt of a record in the other forms."""
        self._check([text for _, text in turns], where)
        if not turns or not all(role in ROLES for role, _ in turns):
            raise self._error("prompts that cannot be read", "the prompt has no message, or an unknown role", where)
        return tuple(Message(role, text) for role, text in turns)

    def _turns(self, value: Any, where: str) -> Turns:
        try:
            turns: Turns = turns_of(value) if self.form == "dialogue" else [(m["role"], m["content"]) for m in value]
        except (KeyError, TypeError):
            turns = []
        if not turns:
            problem = f"{str(value)[:60]!r} is not of the form {self.form!r}"
            raise self._error("prompts that cannot be read", problem, where)
        return turns

    def _field(self, record: dict[str, Any], name: str, where: str) -> Any:
        if name not in record:
            option = next(f.name for f in fields(self) if getattr(self, f.name) == name)
            cure = f"{nearest(name, record)}; choose it with --data.{option} NAME"
            raise LineError("missing fields", f"no field {name!r}", where=where, cure=cure)
        return record[name]

    def _check(self, texts: Sequence[Any], where: str) -> None:
        if not all(isinstance(text, str) for text in texts):
            problem = f"prompt and answers are not texts; data.form is {self.form!r}"
            raise self._error("texts of another form", problem, where)
        if not all(map(is_text, texts)):
            raise self._error("empty sides", "the prompt or an answer is empty", where)

    def _error(self, kind: str, problem: str, where: str) -> LineError:
        return LineError(kind, problem, where=where, cure=f"write {self._example}, or choose another --data.form")

    @property
    def _example(self) -> str:
        prompt = {
            "text": '"..."',
            "instruction": '"..."',
            "dialogue": '"Human: ...\\n\\nAssistant:"',
            "messages": '[{"role": "user", "content": "..."}]',
        }[self.form]
        return "{" + ", ".join([f'"{self.prompt}": {prompt}', *(f'"{name}": "..."' for name in self._fields)]) + "}"

    def hold_out(
        self,
        train: list[R],
        seed: int,
        labels: Callable[[R], Iterable[str]] = lambda row: (),
    ) -> tuple[list[R], list[R], str]:
        """A tenth of the prompts, drawn by the seed, with all their rows. Raises DataError for a single prompt."""
        prompts = list(dict.fromkeys(row.prompt for row in train))
        if len(prompts) < 2:
            problem, cure = "a single prompt: nothing can be held out", "name others with --data.valid"
            raise DataError(problem, where=", ".join(self.train), cure=cure)
        drawn = np.random.Generator(np.random.Philox(key=(seed, 0))).permutation(len(prompts))
        held = {prompts[i] for i in drawn[: max(1, len(prompts) // 10)].tolist()}
        kept, valid = ([row for row in train if (row.prompt in held) == chosen] for chosen in (False, True))
        rows = counted(len(valid), "training example")
        return kept, valid, f"{rows} held out as validation data, all those of {counted(len(held), 'prompt')}"


@dataclass(frozen=True)
class Preferences(_PromptFiles[Preference]):
    """Files of JSON lines, each with a prompt, the answer that was chosen and the one that was rejected.

    Args:
        train, valid, test: the files; plain, .gz or .xz; ${VARIABLES} of the environment are expanded. Without
            `valid`, a tenth of the prompts of `train`, drawn by the seed, is held out with all their pairs.
        form: how prompts are written: "text", which the answers continue; "instruction" = a message of the user;
            "dialogue" = "Human: ... Assistant: ..." in one text (Bai et al. 2022); "messages" = lists of
            {"role": "user", "content": "..."}. In all but "text", the answers are messages of the assistant. A dialogue
            or list of messages may also stand in both answers, whose common part is the prompt.
        prompt, chosen, rejected: the names of the fields.
        input: the field with a text that follows the prompt after a blank line, where there is one; "" = none.
        margin: the field with a number, by how much one answer is better than the other; "" = none.
    """

    kind: ClassVar[str] = "preferences"
    chosen: str = "chosen"
    rejected: str = "rejected"
    margin: str = ""

    @property
    def _fields(self) -> tuple[str, ...]:
        return self.chosen, self.rejected

    def holds(self, files: Sequence[str]) -> bool:
        """Whether files are of preferences: .jsonl whose first line has both answers."""
        for path in map(expand, files):
            line = next((line for line, _ in text_of(path) if not is_blank(line)), "")
            if file_format(path) != ".jsonl" or not {self.chosen, self.rejected} <= json_object(line, str(path)).keys():
                return False
        return True

    def parse(self, line: str, where: str) -> Preference:
        """The preference of a line. Raises LineError."""
        record = json_object(line, where, self._example)
        answers = [self._field(record, name, where) for name in (self.chosen, self.rejected)]
        margin = self._field(record, self.margin, where) if self.margin else 0.0
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin):
            raise self._error("margins that are no numbers", f"{self.margin!r} is not a number", where)
        if self.form in ("text", "instruction"):
            prompt = self._text(record, where)
            self._check(answers, where)
            return Preference(prompt, answers[0], answers[1], margin, where)
        before = self._turns(record[self.prompt], where) if self.prompt in record else None
        sides = [self._side(answer, before, where) for answer in answers]
        before = sides[0][:-1] if before is None else before
        if any(side[:-1] != before or side[-1][0] != "assistant" for side in sides):
            problem = "the two sides are not a prompt in common, each with one answer of the assistant"
            raise self._error("sides that are no answers", problem, where)
        chosen, rejected = (side[-1][1] for side in sides)
        self._check([chosen, rejected], where)
        return Preference(self._messages(before, where), chosen, rejected, margin, where)

    def _side(self, answer: Any, before: Turns | None, where: str) -> Turns:
        """The prompt with an answer, which may begin with the prompt, or be the last message alone."""
        if isinstance(answer, str):
            turns = turns_of(answer) if self.form == "dialogue" else []
            repeats = turns if before is None else len(turns) > len(before) and turns[: len(before)] == before
            return turns if repeats else [*(before or []), ("assistant", answer.strip())]
        turns = self._turns(answer, where)
        return turns if before is None or len(turns) > 1 else [*before, *turns]


@dataclass(frozen=True)
class Prompts(_PromptFiles[Prompt]):
    """Files of prompts: JSON lines, or texts with a prompt in each line that is not blank.

    Args:
        train, valid, test: the files; plain, .gz or .xz; ${VARIABLES} of the environment are expanded. Without
            `valid`, a tenth of the prompts of `train`, drawn by the seed, is held out.
        form: how prompts are written, as for preferences; a last message of the assistant is left out.
        prompt: the name of the field.
        input: the field with a text that follows the prompt after a blank line, where there is one; "" = none.
        answer: the field with a right answer, which some rewards compare with; "" = none.
        words: only the first words of a text are the prompt; 0 = all.
    """

    kind: ClassVar[str] = "prompts"
    answer: str = ""
    words: LengthOrZero = 0

    @property
    def _fields(self) -> tuple[str, ...]:
        return (self.answer,) if self.answer else ()

    def read(self, files: Sequence[str]) -> list[Prompt]:
        """See SplitFiles; of prompts that are there more than once, the first."""
        return [*{row.prompt: row for row in reversed(super().read(files))}.values()][::-1]

    def holds(self, files: Sequence[str]) -> bool:
        """Whether files are of prompts: .jsonl whose first line has one."""
        lines = (next((line for line, _ in text_of(path) if not is_blank(line)), "") for path in map(expand, files))
        formats = [file_format(expand(path)) == ".jsonl" for path in files]
        return all(formats) and all(self.prompt in json_object(line, "") for line in lines)

    def parse(self, line: str, where: str) -> Prompt:
        """The prompt of a line. Raises LineError."""
        written = file_format(Path(where.rpartition(":")[0])) == ".jsonl"
        record = json_object(line, where, self._example) if written else {self.prompt: line}
        reference = self._field(record, self.answer, where) if self.answer else ""
        self._check([reference] if self.answer else [], where)
        if self.form in ("text", "instruction"):
            if self.words and isinstance(text := record.get(self.prompt), str):
                record = record | {self.prompt: " ".join(text.split()[: self.words])}
            return Prompt(self._text(record, where), reference, where)
        turns = self._turns(self._field(record, self.prompt, where), where)
        if turns[-1][0] == "assistant":
            turns.pop()
        return Prompt(self._messages(turns, where), reference, where)
