"""How a published checkpoint generates texts: its generation_config.json as our decoding options."""

from __future__ import annotations

from typing import Any

from seqloom.interop.fields import Fields, Json
from seqloom.interop.weights import some

IDS = "bos_token_id eos_token_id pad_token_id decoder_start_token_id"
GENERATION = Fields(
    f"{IDS} num_beams do_sample temperature top_k top_p min_p length_penalty early_stopping no_repeat_ngram_size "
    "repetition_penalty max_new_tokens max_length min_length bad_words_ids suppress_tokens forced_eos_token_id "
    "transformers_version use_cache cache_implementation cache_config return_dict_in_generate max_time "
    "output_attentions output_hidden_states output_scores output_logits return_legacy_cache prefill_chunk_size "
    "low_memory compile_config disable_compile num_assistant_tokens num_assistant_tokens_schedule "
    "assistant_confidence_threshold assistant_lookbehind target_lookbehind prompt_lookup_num_tokens "
    "max_matching_ngram_size is_assistant",
    noted={
        **{"num_return_sequences": (1,), "num_beam_groups": (1,), "diversity_penalty": (0.0,), "typical_p": (1.0,)},
        **{"epsilon_cutoff": (0.0,), "eta_cutoff": (0.0,), "encoder_no_repeat_ngram_size": (0,)},
        **{"encoder_repetition_penalty": (1.0,), "min_new_tokens": (0,), "guidance_scale": (1,), "constraints": ([],)},
        **dict.fromkeys(("remove_invalid_values", "renormalize_logits", "token_healing"), (False,)),
    },
)
"""generation_config.json, or these fields of config.json where there is none."""
_REPEATED = (("repetition_penalty", "repetition_penalty", 1), ("no_repeat_ngram_size", "no_repeat_ngram", 0))
_STOPS: dict[Any, str] = {True: "first", False: "likely"}  # else "never": "certain"
_SAMPLED = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": 0.0}  # what they have where nothing is stated


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
