"""The files beside the weights of a published checkpoint: each of their fields is used, harmless, or named."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from seqloom.errors import ConfigError, RunError
from seqloom.files import Json
from seqloom.interop.weights import interpreting, read_json, some


@dataclass(frozen=True)
class Fields:
    """The fields of a file that is only read.

    Args:
        fields: by separate words, what is used, and what changes no result, or only training.
        must: values that are the same as none; any other one is refused.
        noted: values that are the same as none; any other one is warned of.
    """

    fields: str
    must: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    noted: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def check(self, path: Path, values: Json, more: Iterable[str] = ()) -> list[str]:
        """Warnings of fields without effect; `more` are further fields that are used. Raises ConfigError."""
        for key, allowed in self.must.items():
            if values.get(key) is not None and values[key] not in allowed:
                problem = f"{key} = {str(values[key])[:80]} is not supported"
                raise ConfigError(problem, where=str(path), cure="use a checkpoint without it")
        names = {*self.fields.split(), *self.must, *more}
        ignored = [
            f"{key} = {str(value)[:40]}"
            for key, value in values.items()
            if key not in names and not key.startswith("_") and value not in (None, *self.noted.get(key, ()))
        ]
        return [f"{path}: without effect here: {some(ignored)}"] if ignored else []


IDS = "bos_token_id eos_token_id pad_token_id decoder_start_token_id"
FIELDS = {
    name: Fields(**table)
    for name, table in tomllib.loads(files("seqloom.interop").joinpath("side_files.toml").read_text("utf-8")).items()
}
"""What is known of the fields of each file, by its name."""
_REPEATED = (("repetition_penalty", "repetition_penalty", 1), ("no_repeat_ngram_size", "no_repeat_ngram", 0))
_STOPS: dict[Any, str] = {True: "first", False: "likely"}  # else "never": "certain"
_SAMPLED = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": 0.0}  # what they have where nothing is stated


Pooling = Literal["first", "mean", "max"]

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens that a tokenizer_config.json names."""
_POOLINGS: dict[str, Pooling] = {"cls": "first", "mean": "mean", "max": "max"}
_MODULES = ("Transformer", "Pooling", "Normalize")
POOLING = "1_Pooling/config.json"
_TOKENS = ("special_tokens_map.json", "tokenizer_config.json")
_SENTENCES = (POOLING, "sentence_bert_config.json", "config_sentence_transformers.json")


@dataclass(frozen=True)
class SideFiles:
    """What the files beside the weights state.

    Args:
        generation: how texts are generated: the fields of generation_config.json, or of an older config.json.
        generation_path: the file that has them.
        tokens: the fields of tokenizer_config.json, over those of special_tokens_map.json.
        pooling: how a sentence gets its vector; None where nothing is stated.
        normalize: whether this vector is scaled to length 1.
        length: the most tokens of a sentence; 0 = as many as the model reads.
        lowercase: whether sentences are lowercased first.
        warnings: the fields without effect.
    """

    generation: Json
    generation_path: Path
    tokens: Json
    pooling: Pooling | None
    normalize: bool
    length: int
    lowercase: bool
    warnings: list[str]


def read_side_files(folder: Path, config: Json, used: Iterable[str]) -> SideFiles:
    """The side files of a checkpoint; `used` are the fields of its config.json that its family reads.

    Raises ConfigError or RunError, with the file, for a field that would make another model of it.
    """
    names = ("generation_config.json", *_TOKENS, *_SENTENCES)
    found = {name: (folder / name, read_json(folder / name)) for name in names}
    if not found["generation_config.json"][1]:
        older = {key: value for key, value in config.items() if key in _GENERATED}
        found["generation_config.json"] = folder / "config.json", older
    warnings = FIELDS["config.json"].check(folder / "config.json", config, {*used, *_GENERATED})
    for name, (path, values) in found.items():
        warnings += FIELDS[name].check(path, values)
    modules = _modules(folder / "modules.json")
    path, sentence = found["sentence_bert_config.json"]
    length = sentence.get("max_seq_length") or 0
    if not isinstance(length, int) or length < 0:
        raise ConfigError(f"max_seq_length = {length!r} is no length", where=str(path))
    generation_path, generation = found["generation_config.json"]
    tokens: Json = {key: value for name in _TOKENS for key, value in found[name][1].items()}
    pooling, lowercase = _pooling(*found[POOLING], named="Pooling" in modules), bool(sentence.get("do_lower_case"))
    return SideFiles(generation, generation_path, tokens, pooling, "Normalize" in modules, length, lowercase, warnings)


_GENERATION = FIELDS["generation_config.json"]
_GENERATED = {*_GENERATION.fields.split(), *_GENERATION.noted} - {*FIELDS["config.json"].fields.split()}


def _modules(path: Path) -> set[str]:
    """The types of the modules of a model of sentence-transformers."""
    with interpreting(path):
        modules = {str(m["type"]).rpartition(".")[2]: str(m["path"]) for m in read_json(path, list)}
    for kind, name in modules.items():
        if kind not in _MODULES:
            cure = "remove modules.json to import the model without what follows it"
            raise ConfigError(f"the module {name!r} of the type {kind!r} is not supported", where=str(path), cure=cure)
        if kind == "Pooling" and f"{name}/config.json" != POOLING:
            cure = f"rename it to {Path(POOLING).parent}, there too"
            raise RunError(f"the directory {name!r} of the pooling is not supported", where=str(path), cure=cure)
    return {*modules}


def _pooling(path: Path, values: Json, *, named: bool) -> Pooling | None:
    if not values:
        if named:
            raise RunError("is missing or empty, but modules.json names it", where=str(path))
        return None
    flags = [re.fullmatch(r"pooling_mode_(.+?)(_tokens?)?", key) for key, value in values.items() if value]
    modes = values.get("pooling_mode") or [flag[1] for flag in flags if flag]
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or str(modes[0]) not in _POOLINGS:
        problem = f"the pooling {' with '.join(map(str, modes)) or 'of no kind'} is not supported"
        raise ConfigError(problem, where=str(path), cure="cls, mean or max alone are")
    return _POOLINGS[str(modes[0])]


def decoding(generation: Json, kind: str) -> tuple[Json, list[str]]:
    """The decoding options of a generation_config.json, and warnings of what is not used; `kind` is the model's."""
    options = {ours: generation[theirs] for theirs, ours, no in _REPEATED if generation.get(theirs) not in (None, no)}
    if options:
        options["count_prompt"] = True
    warnings = []
    length = generation.get("max_new_tokens")
    if kind == "encoder-decoder":
        if length is None and (max_length := generation.get("max_length")) is not None:
            length = max_length - 1  # theirs counts the start
        if (min_length := generation.get("min_length")) not in (None, 0):
            options["min_length"] = max(0, min_length - 1)
    else:  # 20 is what they have where nothing is stated
        for key, default in (("max_length", 20), ("min_length", 0)):
            if generation.get(key) not in (None, default):
                warnings.append(f"{key} is not used, as it counts the prompt")
    if length is not None:  # theirs counts the end that is forced
        options["max_length"] = max(1, length - (generation.get("forced_eos_token_id") is not None))
    beams, sampled = generation.get("num_beams") or 1, bool(generation.get("do_sample"))
    if sampled and beams > 1:
        warnings.append("do_sample is not used together with num_beams")
    elif sampled:
        stated = {key: generation[key] for key in _SAMPLED if generation.get(key) is not None}
        options |= {"kind": "sample", **_SAMPLED, **stated}
    if beams > 1:
        options |= {"kind": "beam", "beam": beams}
        if (penalty := generation.get("length_penalty")) is not None:
            options["length_penalty"] = float(penalty)
        if (early := generation.get("early_stopping")) is not None:
            options["stop"] = _STOPS.get(early, "certain")
    elif kind == "encoder-decoder" or generation.get("do_sample") is False:
        options.setdefault("kind", "greedy")
    return options, warnings


def generation_of(options: Json, kind: str) -> tuple[Json, list[str]]:
    """The fields of generation_config.json for all decoding options, and those that have none; see `decoding`."""
    fields: Json = {"do_sample": options["kind"] == "sample"}
    repeated = [(theirs, ours) for theirs, ours, no in _REPEATED if options[ours] != no]
    missing = [] if options["count_prompt"] else [ours for _, ours in repeated]
    fields |= {theirs: options[ours] for theirs, ours in repeated if options["count_prompt"]}
    translates = kind == "encoder-decoder"
    if options["max_length"]:
        fields["max_new_tokens"] = options["max_length"] + translates  # with the end
    if options["min_length"] and translates:
        fields["min_length"] = options["min_length"] + 1  # with the start
    if options["kind"] == "sample":
        fields |= {key: options[key] for key in _SAMPLED}
    elif options["kind"] == "beam":
        early = {stop: value for value, stop in _STOPS.items()}.get(options["stop"], "never")
        fields |= {"num_beams": options["beam"], "length_penalty": options["length_penalty"], "early_stopping": early}
        missing += ["coverage_penalty"] * bool(options["coverage_penalty"])
    return fields, missing


def ids_of(value: Any) -> tuple[int, ...]:
    """The ids of a field that has one or a list of them."""
    values = value if isinstance(value, list) else [value]
    return tuple(i for i in values if isinstance(i, int) and not isinstance(i, bool))


def suppressed(generation: Json, kind: str) -> tuple[tuple[int, ...], list[str]]:
    """The ids that a model of this kind never generates, and warnings of what is not used."""
    if kind != "encoder-decoder":
        return (), [f"{key} is not used" for key in ("bad_words_ids", "suppress_tokens") if generation.get(key)]
    sequences = generation.get("bad_words_ids") or []
    longer = [str(sequence) for sequence in sequences if len(sequence) != 1]
    single = [i for sequence in sequences if len(sequence) == 1 for i in ids_of(sequence)]
    warnings = [f"bad_words_ids of several ids are not used: {some(longer, 2)}"] if longer else []
    return (*single, *ids_of(generation.get("suppress_tokens"))), warnings
