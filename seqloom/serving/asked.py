"""What requests may ask for, as OpenAI's interface names it, and with some keys of our own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from seqloom.data.formats.lines import is_blank
from seqloom.errors import UsageError
from seqloom.text.chat import Message

_SEED = 2**63
_LONGEST = 10**6

Text = Annotated[str, Field(max_length=2**20)]
Texts = Text | Annotated[list[Text], Field(min_length=1, max_length=2048)]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
Pairs = Annotated[list[tuple[Text, Text]], Field(min_length=1, max_length=2048)]
Images = Annotated[list[Base64Bytes], Field(min_length=1, max_length=64)]
Values = Annotated[list[float | None], Field(min_length=1)]
Steps = Annotated[int, Field(ge=1, le=1000)]
StopText = Annotated[str, Field(min_length=1, max_length=1000)]

# What is not offered is a key of the value, and of no other, with which it changes nothing; null is one of them.
Zero = Literal[0] | None
Empty = Annotated[list[Any], Field(max_length=0)] | None
Labels = Annotated[dict[str, str], Field(max_length=16)] | None


def listed(texts: str | list[str]) -> list[str]:
    """Texts as a list."""
    return [texts] if isinstance(texts, str) else texts


class Asked(BaseModel):
    """A request: a model, and keys that are all known; infinity and nan are no numbers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    model: str
    user: Text | None = None


class SignalFile(BaseModel):
    """The bytes of a file of series, in Base64, what its name ends in, and which of its series is meant, from 1."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["csv", "jsonl", "npz", "ts", "tsv"]
    data: Base64Bytes
    series: Annotated[int, Field(ge=1, lt=2**31)] | None = None


Signal = SignalFile | Values | Annotated[list[Values], Field(min_length=1)]
"""A signal: a file, or numbers for each time step, where null is missing; a number alone where there is one channel."""
Signals = Annotated[list[Signal], Field(min_length=1, max_length=64)]


def sent(medium: Any, one: Any, where: str) -> str:
    """An image or a signal of a request, as its medium reads it: no path is ever read. Raises DataError."""
    more = (one.format, one.series or 0) if isinstance(one, SignalFile) else ()
    return str(medium.sent(one.data if more else one, where, *more))


def illustrated(image: str, text: str, where: str) -> str:
    """An image and the text beside it, as a model reads both. Raises UsageError for a text it cannot read there."""
    if is_blank(text) or "\t" in text:
        problem = "there is no text" if is_blank(text) else "a tab in the text"
        raise UsageError(f"{problem} beside the image", where=where)
    return f"{image}\t{text}"


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
    min_tokens: Annotated[int, Field(ge=0, le=_LONGEST)] | None = None

    def options(self, length: int | None) -> dict[str, Any]:
        """The options of decoding, for at most so many tokens."""
        names = ("top_k", "min_p", "beam", "length_penalty", "repetition_penalty", "no_repeat_ngram")
        options = {name: value for name in names if (value := getattr(self, name)) is not None}
        if length:
            options["max_length"] = length
        if self.min_tokens is not None:
            options["min_length"] = self.min_tokens
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
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Zero = None
    frequency_penalty: Zero = None
    logit_bias: dict[str, Zero] | None = None

    @property
    def stops(self) -> list[str]:
        """The strings before which a text ends."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def top(self) -> int | None:
        """The alternatives of each token to report; None = not even its log-probability."""
        raise NotImplementedError


class Completion(Generated):
    """A request to /v1/completions."""

    prompt: Text | Ids | Annotated[list[Text] | list[Ids], Field(min_length=1, max_length=2048)] = ""
    max_tokens: Annotated[int, Field(ge=0, le=_LONGEST)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: int | None = None
    suffix: Literal[""] | None = None

    @field_validator("best_of")
    @classmethod
    def _all_are_best(cls, value: int | None, others: ValidationInfo) -> int | None:
        if value not in (None, n := others.data.get("n") or 1):
            raise PydanticCustomError("literal_error", "Input should be n, {n}", {"n": n})
        return value

    @property
    def top(self) -> int | None:
        """See Generated."""
        return self.logprobs


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = None
    refusal: None = None  # this and what follows: a reply has it when it is sent back
    annotations: Empty = None
    audio: None = None
    function_call: None = None
    tool_calls: Empty = None

    @property
    def message(self) -> Message:
        """It, as models read it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class ResponseFormat(BaseModel):
    """The form of an answer: text."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]


class Chat(Generated):
    """A request to /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    max_tokens: Annotated[int, Field(ge=1, le=_LONGEST)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=_LONGEST)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Empty = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Empty = None
    function_call: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    audio: None = None
    prediction: None = None
    modalities: list[Literal["text"]] | None = None
    service_tier: Literal["auto", "default"] | None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None
    store: Literal[False] | None = None
    metadata: Labels = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None

    @property
    def turns(self) -> list[Message]:
        """The messages, as models read them."""
        return [message.message for message in self.messages]

    @property
    def length(self) -> int | None:
        """The most tokens of a reply."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def top(self) -> int | None:
        """See Generated."""
        return (self.top_logprobs or 0) if self.logprobs else None


class Embedding(Asked):
    """A request to /v1/embeddings."""

    input: Texts
    encoding_format: Literal["float", "base64"] = "float"


class Decoded(Searched):
    """How an encoder-decoder writes, each text by itself."""

    max_tokens: Annotated[int, Field(ge=1, le=_LONGEST)] | None = None
    prefix: Text = ""


class Translating(Decoded):
    """A request to /v1/translate: texts or signals, and perhaps what each translation must begin with."""

    texts: Texts | None = None
    signals: Signals | None = None


class Captioning(Decoded):
    """A request to /v1/caption: the bytes of image files, in Base64, each with a text where one is read beside it."""

    images: Images
    texts: Texts | None = None


class Classification(Asked):
    """A request to /v1/classify: texts, pairs of them, images, or signals."""

    texts: Texts | Pairs | None = None
    images: Images | None = None
    signals: Signals | None = None


class Forecasting(Asked):
    """A request to /v1/forecast: signals, and how many of their next steps; by default as many as the run predicts."""

    signals: Signals
    steps: Steps | None = None


class Answering(Asked):
    """A request to /v1/answer: questions about a passage."""

    questions: Texts
    passage: Text


class Filling(Asked):
    """A request to /v1/fill: texts with [MASK] or <mask> in place of words."""

    texts: Texts
    count: Annotated[int, Field(ge=1, le=100)] = 5
