"""What requests may ask for, as OpenAI's interface names it, and with some keys of our own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_SEED = 2**63
_LONGEST = 10**6

Text = Annotated[str, Field(max_length=2**20)]
Texts = Text | Annotated[list[Text], Field(min_length=1, max_length=2048)]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
StopText = Annotated[str, Field(min_length=1, max_length=1000)]


class Asked(BaseModel):
    """A request: a model, and keys that are all known; infinity and nan are no numbers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    model: str
    user: str | None = None


class StreamOptions(BaseModel):
    """What is streamed beside the text."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class Searched(Asked):
    """How texts are decoded; what is left out is as the run's config has it."""

    seed: Annotated[int, Field(ge=-_SEED, lt=_SEED)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=10**9)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    beam: Annotated[int, Field(ge=1, le=16)] | None = None
    length_penalty: Annotated[float, Field(ge=-10, le=10)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    no_repeat_ngram: Annotated[int, Field(ge=0, le=1000)] | None = None

    def options(self, length: int | None) -> dict[str, Any]:
        """The options of decoding, for at most so many tokens."""
        names = ("top_k", "min_p", "beam", "length_penalty", "repetition_penalty", "no_repeat_ngram")
        options = {name: value for name in names if (value := getattr(self, name)) is not None}
        if length:
            options["max_length"] = length
        if self.seed is not None:
            options["seed"] = self.seed % _SEED
        if self.top_p is not None:
            options["top_p"] = max(self.top_p, 1e-6)
        if self.n is not None and (self.n > 1 or self.beam is not None):
            options["n_best"] = self.n
        if self.temperature == 0:  # the most probable token, whatever else is said about sampling
            sampled = ("seed", "top_p", "top_k", "min_p", "n_best")
            return {key: value for key, value in options.items() if key not in sampled} | {"kind": "greedy"}
        return options if self.temperature is None else options | {"temperature": max(self.temperature, 1e-4)}


class Generated(Searched):
    """How a language model generates; other keys of OpenAI's are accepted where they change nothing."""

    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @property
    def stops(self) -> list[str]:
        """The strings before which a text ends."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class Completion(Generated):
    """A request to /v1/completions."""

    prompt: Text | Ids | Annotated[list[Text] | list[Ids], Field(min_length=1, max_length=2048)] = ""
    max_tokens: Annotated[int, Field(ge=0, le=_LONGEST)] | None = None
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Literal[1] | None = None
    suffix: Literal[""] | None = None


class Translation(Searched):
    """A request to /v1/translate: texts, and perhaps what each translation must begin with."""

    texts: Texts
    prefix: Text = ""
    max_tokens: Annotated[int, Field(ge=1, le=_LONGEST)] | None = None
