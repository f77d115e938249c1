"""How a sequence is chosen: greedily, by beam search, or drawn; and which of them is meant where no `kind` is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from seqloom.config import Arguments, Origin, Tree, over, tree_of
from seqloom.errors import ConfigError

Stop = Literal["first", "likely", "certain"]


@dataclass(frozen=True)
class Decoding:
    """What all kinds share.

    Args:
        max_length, min_length: words of the result; max_length 0 = twice the source and 20.
        repetition_penalty, no_repeat_ngram: 1 and 0 change nothing.
    """

    kind: ClassVar[str]
    max_length: int = 0
    min_length: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0

    def __post_init__(self) -> None:
        if self.repetition_penalty <= 0:
            raise ValueError("repetition_penalty must be above 0")
        if min(self.max_length, self.min_length, self.no_repeat_ngram) < 0:
            raise ValueError("max_length, min_length and no_repeat_ngram must not be negative")

    # What the decoding loop does for a kind without such a field.

    @property
    def beam(self) -> int:
        """Hypotheses kept side by side."""
        return 1

    @property
    def n_best(self) -> int:
        """How many results are given back."""
        return 1

    @property
    def length_penalty(self) -> float:
        """The a of log p / length^a."""
        return 1.0

    @property
    def coverage_penalty(self) -> float:
        """The weight of what was not attended to."""
        return 0.0

    @property
    def stop(self) -> Stop:
        """When a sentence is done."""
        return "likely"

    @property
    def seed(self) -> int:
        """Of the drawing."""
        return 1

    @classmethod
    def infer(cls, tree: Mapping[str, Any], default: Decoding) -> Tree:
        """The tree of one kind: the one it names or whose keys it has, or else that of `default`.

        What was typed goes before what stands in a file. Of another kind's default only what all kinds share is kept.
        Raises ConfigError for keys of several kinds.
        """
        typed = {key for key, value in tree.items() if isinstance(value, Arguments)}
        usual = "greedy" if "sample" in tree and default.kind == "sample" else default.kind
        chosen = _asked({key: tree[key] for key in typed})
        kind = chosen or _asked(tree) or usual
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
    """The most probable word at each step."""

    kind: ClassVar[str] = "greedy"


@dataclass(frozen=True)
class BeamSearch(Decoding):
    """The best of several hypotheses that are continued side by side.

    Args:
        beam: hypotheses kept side by side; 1 = greedy.
        n_best: how many are given back, at most `beam`.
        length_penalty: a: scores are log p / length^a.
        coverage_penalty: b: plus b * sum over the source of log min(attention received, 1) (Wu et al. 2016, eq. 14).
        stop: when a sentence is done: "first" = as soon as `beam` hypotheses have ended; "likely" = when no live one,
            judged at its present length, beats the `n_best` ended ones; "certain" = when none can any more.
    """

    kind: ClassVar[str] = "beam"
    beam: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    coverage_penalty: float = 0.0
    stop: Stop = "likely"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beam < 1 or self.n_best < 1:
            raise ValueError("beam and n_best must be at least 1")
        if self.n_best > self.beam:
            raise ValueError(f"n_best {self.n_best} needs a beam of at least as many, not {self.beam}")
        if self.coverage_penalty < 0:
            raise ValueError("coverage_penalty must not be negative")


@dataclass(frozen=True)
class Sampling(Decoding):
    """Each word drawn from the probabilities of the model.

    Args:
        n_best: how many results are drawn.
        temperature, top_k, top_p, min_p: what is drawn from; 1, 0, 1 and 0 change nothing.
        seed: of the drawing.
    """

    kind: ClassVar[str] = "sample"
    n_best: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_best < 1:
            raise ValueError("n_best must be at least 1")
        if self.temperature <= 0 or not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1 or self.top_k < 0:
            raise ValueError("temperature must be above 0, top_p in (0, 1], min_p in [0, 1], top_k not negative")


DecodingConfig = BeamSearch | Sampling | Greedy

_KINDS: dict[str, type[DecodingConfig]] = {c.kind: c for c in (BeamSearch, Sampling, Greedy)}
_SHARED = {f.name for f in fields(Decoding)}
_SAMPLED = {f.name for f in fields(Sampling)} - _SHARED - {"n_best"}
_SEARCHED = {f.name for f in fields(BeamSearch)} - _SHARED - {"n_best"}
_NEUTRAL: Tree = {**tree_of(Sampling()), **tree_of(BeamSearch()), "beam": 1}
ALL_KEYS = frozenset({"sample", "n_best"} | _SHARED | _SAMPLED | _SEARCHED)


def _asked(tree: Mapping[str, Any]) -> str | None:
    """The kind that a tree names or has keys of; None = it could be any."""
    if "kind" in tree:
        return _word(tree["kind"])
    sampled, searched = _SAMPLED & tree.keys(), _SEARCHED & tree.keys()
    if "sample" in tree:
        sample = _word(tree["sample"]).lower() or "true"
        if sample not in ("true", "false"):
            raise ConfigError(f"sample must be true or false, not {sample!r}", cure="or give a kind: kind = 'sample'")
        if sample == "true":
            return "sample"
        sampled = {key for key in sampled if not _neutral(key, tree[key])}
        if sampled:
            raise ConfigError(f"{min(sampled)!r} is for sampling, and sample is false", cure="leave one of them out")
    if sampled and searched:
        problem = f"{min(searched)!r} is for beam search, {min(sampled)!r} for sampling"
        raise ConfigError(problem, cure="leave one of them out")
    if searched == {"beam"} and "n_best" not in tree and _word(tree["beam"]) == "1":
        return "greedy"
    return "sample" if sampled else "beam" if searched else None


def _neutral(key: str, value: Any) -> bool:
    """Whether it is what other kinds do anyway, and so no contradiction to them."""
    return bool(value == _NEUTRAL[key]) or _word(value) == str(_NEUTRAL[key])


def _word(value: Any) -> str:
    return " ".join(value) if isinstance(value, Arguments) else str(value)


def with_options(base: DecodingConfig, options: Mapping[str, Any]) -> DecodingConfig:
    """`base` with options by their names laid over it: beam=5, temperature=0.7, kind="greedy", ..."""
    chosen: DecodingConfig = over(DecodingConfig, base, options, Origin("options"))
    return chosen
