"""Decoding configs: greedy, beam search or sampling, and which one is meant where no `kind` is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, Literal

from seqloom.config import Arguments, Origin, Tree, over, tree_of
from seqloom.errors import ConfigError
from seqloom.limits import Bounded, Bounds, LengthOrZero, NotNegative, Seed, Share

Stop = Literal["first", "likely", "certain"]
EngineName = Literal["auto", "torch", "ctranslate2"]
_STOP: Stop = "first"


@dataclass(frozen=True)
class Decoding(Bounded):
    """What all kinds of decoding share.

    Args:
        max_length, min_length: the most and fewest tokens of a result; max_length 0 = 2 * source length + 20.
        repetition_penalty, no_repeat_ngram: the factor against tokens already used; the size of n-grams that may not
            occur twice; 1 and 0 change nothing.
        count_prompt: whether these two count the tokens of the prompt, too, as transformers does (of a translation: the
            start token); by default they count those of the result alone, with its prefix.
    """

    kind: ClassVar[str]
    max_length: LengthOrZero = 0
    min_length: LengthOrZero = 0
    repetition_penalty: Annotated[float, Bounds(0.01, 100)] = 1.0
    no_repeat_ngram: Annotated[int, Bounds(0, 1000)] = 0
    count_prompt: bool = False
    # What the decoding loop uses for a kind without the field: without a type, these are no fields.
    beam = 1
    n_best = 1
    length_penalty = 1.0
    coverage_penalty = 0.0
    stop = _STOP
    seed = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.max_length < self.min_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")

    @property
    def rows(self) -> int:
        """The hypotheses of a text that are computed at a time."""
        return self.beam

    @property
    def shared(self) -> Decoding:
        """What searches that go together have in common: all but the limit and the seed, which each has for itself."""
        return replace(self, max_length=0)

    @classmethod
    def infer(cls, tree: Mapping[str, Any], default: Decoding) -> Tree:
        """Adds the `kind` to a tree: the one it names or whose keys it has, or else that of `default`.

        The command line takes precedence over a file. From a default of another kind only the shared keys are kept.
        Raises ConfigError for keys of several kinds.
        """
        if _is_zero(tree.get("temperature")):
            cure = "leave temperature out, and set decoding.kind = 'greedy'"
            raise ConfigError("temperature 0 means the most probable token at each step: greedy decoding", cure=cure)
        typed = {key for key, value in tree.items() if isinstance(value, Arguments)}
        fallback = "greedy" if "sample" in tree and default.kind == "sample" else default.kind
        chosen = _kind_of({key: tree[key] for key in typed})
        kind = chosen or _kind_of(tree) or fallback
        member = _KINDS.get(kind)
        if member is None:
            return dict(tree)  # an unknown kind
        foreign = ALL_KEYS - {f.name for f in fields(member)}
        result: Tree = {"kind": kind}
        if kind != default.kind:
            result |= {key: value for key, value in tree_of(default).items() if key in _SHARED}
        for key, value in tree.items():
            if key not in foreign:
                result[key] = value
            elif not (key == "sample" or (chosen and key not in typed) or _neutral(key, value)):
                owners = " or ".join(k for k, c in _KINDS.items() if key in {f.name for f in fields(c)})
                raise ConfigError(f"{key!r} is for kind {owners}, not for {kind}", cure=f"leave {key!r} out")
        return {**result, "kind": kind}


@dataclass(frozen=True)
class Greedy(Decoding):
    """The most probable token at each step."""

    kind: ClassVar[str] = "greedy"


@dataclass(frozen=True)
class BeamSearch(Decoding):
    """The best of several hypotheses that are continued side by side.

    Args:
        beam: hypotheses kept side by side; 1 = greedy.
        n_best: the number of results, at most `beam`.
        length_penalty: a in the score log p / length^a.
        coverage_penalty: b: adds b * sum over the source of log min(attention received, 1) (Wu et al. 2016, eq. 14).
        stop: when to stop searching: "first" = as soon as `beam` hypotheses have ended; "likely" = when no live one
            scores better at its current length than the `n_best` ended ones; "certain" = when none can any more.
    """

    kind: ClassVar[str] = "beam"
    beam: Annotated[int, Bounds(1, 1000)] = 5
    n_best: Annotated[int, Bounds(1, 1000)] = 1
    length_penalty: Annotated[float, Bounds(-10, 10)] = 1.0
    coverage_penalty: Annotated[float, Bounds(0, 1000)] = 0.0
    stop: Stop = _STOP

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_best > self.beam:
            raise ValueError(f"n_best {self.n_best} needs a beam of at least {self.n_best}, not {self.beam}")


@dataclass(frozen=True)
class Sampling(Decoding):
    """Each token sampled from the probabilities of the model.

    Args:
        n_best: the number of results.
        temperature, top_k, top_p, min_p: changes to the distribution before sampling; 1, 0, 1 and 0 change nothing.
        seed: the random seed.
    """

    kind: ClassVar[str] = "sample"
    n_best: Annotated[int, Bounds(1, 1000)] = 1
    temperature: Annotated[float, Bounds(1e-4, 1000)] = 1.0
    top_k: NotNegative = 0
    top_p: Annotated[float, Bounds(1e-6, 1)] = 1.0
    min_p: Share = 0.0
    seed: Seed = 1

    @property
    def rows(self) -> int:
        """See Decoding: all results."""
        return self.n_best

    @property
    def shared(self) -> Sampling:
        """See Decoding."""
        return replace(self, max_length=0, seed=1)


DecodingConfig = BeamSearch | Sampling | Greedy

_KINDS: dict[str, type[DecodingConfig]] = {c.kind: c for c in (BeamSearch, Sampling, Greedy)}
_SHARED = {f.name for f in fields(Decoding)}
_SAMPLED = {f.name for f in fields(Sampling)} - _SHARED - {"n_best"}
_SEARCHED = {f.name for f in fields(BeamSearch)} - _SHARED - {"n_best"}
_NEUTRAL: Tree = {**tree_of(Sampling()), **tree_of(BeamSearch()), "beam": 1}
ALL_KEYS = frozenset({"sample", "n_best"} | _SHARED | _SAMPLED | _SEARCHED)


def _kind_of(tree: Mapping[str, Any]) -> str | None:
    """The kind that a tree names or whose keys it has; None = it could be any."""
    if "kind" in tree:
        return _text(tree["kind"])
    sampled, searched = _SAMPLED & tree.keys(), _SEARCHED & tree.keys()
    if "sample" in tree:
        sample = _text(tree["sample"]).lower() or "true"
        if sample not in ("true", "false"):
            raise ConfigError(f"sample must be true or false, not {sample!r}", cure="or set the kind: kind = 'sample'")
        if sample == "true":
            return "sample"
        sampled = {key for key in sampled if not _neutral(key, tree[key])}
        if sampled:
            raise ConfigError(f"{min(sampled)!r} is for sampling, but sample is false", cure="leave one of them out")
    if sampled and searched:
        problem = f"{min(searched)!r} is for beam search, {min(sampled)!r} for sampling"
        raise ConfigError(problem, cure="leave one of them out")
    if searched == {"beam"} and "n_best" not in tree and _text(tree["beam"]) == "1":
        return "greedy"
    return "sample" if sampled else "beam" if searched else None


def _neutral(key: str, value: Any) -> bool:
    """Whether the value is what other kinds do anyway, and so does not contradict them."""
    neutral = {str(_NEUTRAL[key])} | ({"likely"} if key == "stop" else set())  # the default of runs from before
    return bool(value == _NEUTRAL[key]) or _text(value) in neutral


def _is_zero(value: Any) -> bool:
    try:
        return float(_text(value)) == 0
    except ValueError:
        return False


def _text(value: Any) -> str:
    return " ".join(value) if isinstance(value, Arguments) else str(value)


def texts_at_a_time(config: Decoding, most: int) -> int:
    """How many texts are decoded together, so that wide searches do not fill the memory: `most` or fewer."""
    return max(1, min(most, _HYPOTHESES // config.rows))


_HYPOTHESES = 2048


def with_options(base: DecodingConfig, options: Mapping[str, Any]) -> DecodingConfig:
    """`base` with named options laid over it: beam=5, temperature=0.7, kind="greedy", ..."""
    config: DecodingConfig = over(DecodingConfig, base, options, Origin("options")) if options else base
    return config
