"""Preferences: prompts with a chosen and a rejected answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

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
from seqloom.data.rows import Preference
from seqloom.data.sources.chats.conversations import turns_of
from seqloom.data.sources.labelled import ExampleFiles
from seqloom.errors import DataError, counted, nearest
from seqloom.text.chat import ROLES, Message

Form = Literal["text", "instruction", "dialogue", "messages"]
Turns = list[tuple[Any, Any]]
"""Roles and texts, unchecked."""


@dataclass(frozen=True)
class Preferences(ExampleFiles[Preference]):
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
    form: Form = "text"
    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    input: str = ""
    margin: str = ""

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

    def read(self, files: Sequence[str]) -> list[Preference]:
        """See SplitFiles."""

        def each(path: Path) -> Iterator[Preference]:
            return (self.parse(line, where) for line, where in text_of(path) if not is_blank(line))

        return read_each(files, each, "has no preferences", f"write {self._example}")

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
            prompt = self._field(record, self.prompt, where)
            more = record.get(self.input) if self.input else ""
            self._check([prompt, *([more] if more else []), *answers], where)
            text = f"{prompt}\n\n{more}" if more else prompt
            first, second = answers
            return Preference(text if self.form == "text" else (Message("user", text),), first, second, margin, where)
        before = self._turns(record[self.prompt], where) if self.prompt in record else None
        sides = [self._side(answer, before, where) for answer in answers]
        before = sides[0][:-1] if before is None else before
        if any(side[:-1] != before or side[-1][0] != "assistant" for side in sides):
            problem = "the two sides are not a prompt in common, each with one answer of the assistant"
            raise self._error("sides that are no answers", problem, where)
        chosen, rejected = (side[-1][1] for side in sides)
        self._check([text for _, text in before] + [chosen, rejected], where)
        if not before or not all(role in ROLES for role, _ in before):
            raise self._error("prompts that cannot be read", "the prompt has no message, or an unknown role", where)
        return Preference(tuple(Message(role, text) for role, text in before), chosen, rejected, margin, where)

    def _side(self, answer: Any, before: Turns | None, where: str) -> Turns:
        """The prompt with an answer, which may begin with the prompt, or be the last message alone."""
        if isinstance(answer, str):
            turns = turns_of(answer) if self.form == "dialogue" else []
            repeats = turns if before is None else len(turns) > len(before) and turns[: len(before)] == before
            return turns if repeats else [*(before or []), ("assistant", answer.strip())]
        turns = self._turns(answer, where)
        return turns if before is None or len(turns) > 1 else [*before, *turns]

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
            option = next(key for key in ("prompt", "chosen", "rejected", "margin") if getattr(self, key) == name)
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
        return f'{{"{self.prompt}": {prompt}, "{self.chosen}": "...", "{self.rejected}": "..."}}'

    def hold_out(
        self,
        train: list[Preference],
        seed: int,
        labels: Callable[[Preference], Iterable[str]] = lambda row: (),
    ) -> tuple[list[Preference], list[Preference], str]:
        """A tenth of the prompts, drawn by the seed, with all their pairs. Raises DataError for a single prompt."""
        prompts = list(dict.fromkeys(row.prompt for row in train))
        if len(prompts) < 2:
            problem, cure = "a single prompt: nothing can be held out", "name others with --data.valid"
            raise DataError(problem, where=", ".join(self.train), cure=cure)
        drawn = np.random.Generator(np.random.Philox(key=(seed, 0))).permutation(len(prompts))
        held = {prompts[i] for i in drawn[: max(1, len(prompts) // 10)].tolist()}
        kept, valid = ([row for row in train if (row.prompt in held) == chosen] for chosen in (False, True))
        pairs = counted(len(valid), "training pair")
        return kept, valid, f"{pairs} held out as validation data, all those of {counted(len(held), 'prompt')}"
