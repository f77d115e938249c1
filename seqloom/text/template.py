"""The chat format of a published model: a Jinja template that makes one text of a conversation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import Any, NoReturn

from seqloom.errors import ConfigError
from seqloom.text.chat import Message
from seqloom.text.tokenizer import Tokenizer

# transformers marks the answers to learn with a tag of its own, which says nothing about the text.
_MARK = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


@dataclass(frozen=True)
class ChatTemplate:
    """A template as transformers renders it, in Jinja's sandbox.

    Args:
        source: its text.
        names: the special tokens that it may ask for, like bos_token.
        tokenizer: the tokenizer of the model.
        where: the file it is from, for errors.
    """

    source: str
    names: Mapping[str, str]
    tokenizer: Tokenizer
    where: str

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation up to where the model answers.

        The name of a special token in a message gets a space after its first character, so that it is none.

        Raises:
            ConfigError: the template cannot be rendered, or refuses the conversation.
        """
        listed = [{"role": message.role, "content": self._plain(message.text)} for message in messages]
        more = {"tools": None, "documents": None, "add_generation_prompt": True}
        try:
            text = self._template.render(messages=listed, **more, **self.names)
        except Exception as error:  # a template is a program
            problem = f"its chat template fails: {type(error).__name__}: {error}"
            cure = "write the prompt yourself: seqloom generate RUN PROMPT --special-tokens"
            raise ConfigError(problem, where=self.where, cure=cure) from None
        ids: list[int] = self._parsing.encode([text])[0].tolist()
        return ids

    def _plain(self, text: str) -> str:
        return self._special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text) if self._special else text

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        added = self.tokenizer.inner.get_added_tokens_decoder().values()
        names = sorted({token.content for token in added if token.special}, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names))) if names else None

    @cached_property
    def _parsing(self) -> Tokenizer:
        return self.tokenizer.parsing()

    @cached_property
    def _template(self) -> Any:
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> NoReturn:
            raise ValueError(message)

        made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        made.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
        made.globals |= {"raise_exception": refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
        return made.from_string(_MARK.sub(lambda m: f"{m[1]}{'endif' if m[2] else 'if true'}{m[3]}", self.source))
