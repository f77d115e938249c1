"""The files beside the weights of a published checkpoint: each of their fields is used, harmless, or named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seqloom.errors import ConfigError, RunError
from seqloom.interop.fields import Json
from seqloom.interop.weights import read_json, read_value, some

Pooling = Literal["first", "mean", "max"]


@dataclass(frozen=True)
class Known:
    """The fields of a file.

    Args:
        used: by separate words, what is read here.
        harmless: what changes no result, or only training.
        must: values that are the same as none; any other one is refused.
        noted: values that are the same as none; any other one is warned of.
    """

    used: str = ""
    harmless: str = ""
    must: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    noted: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def check(self, name: str, values: Json, more: Iterable[str] = ()) -> list[str]:
        """Warnings of fields without effect; `more` are further fields that are used. Raises ConfigError."""
        for key, allowed in self.must.items():
            if values.get(key) is not None and values[key] not in allowed:
                problem = f"{key} = {str(values[key])[:80]} is not supported"
                raise ConfigError(problem, where=name, cure="without it, another model would be imported")
        known = {*self.used.split(), *self.harmless.split(), *self.must, *more}
        ignored = [
            f"{key} = {str(value)[:40]}"
            for key, value in values.items()
            if key not in known
            and value is not None
            and value not in self.noted.get(key, ())
            and not key.startswith("_")
        ]
        return [f"{name}: without effect here: {some(ignored)}"] if ignored else []


_IDS = "bos_token_id eos_token_id pad_token_id decoder_start_token_id"
_TOKENS = "bos_token eos_token unk_token sep_token pad_token cls_token mask_token"
NAMED = _TOKENS.split()
"""The special tokens that a tokenizer_config.json names."""
_EXTRA = "additional_special_tokens extra_special_tokens"
GENERATION = Known(
    used=f"{_IDS} num_beams do_sample temperature top_k top_p min_p length_penalty early_stopping no_repeat_ngram_size "
    "repetition_penalty max_new_tokens max_length min_length bad_words_ids suppress_tokens forced_eos_token_id",
    harmless="transformers_version use_cache cache_implementation cache_config return_dict_in_generate max_time "
    "output_attentions output_hidden_states output_scores output_logits return_legacy_cache prefill_chunk_size "
    "low_memory compile_config disable_compile num_assistant_tokens num_assistant_tokens_schedule "
    "assistant_confidence_threshold assistant_lookbehind target_lookbehind prompt_lookup_num_tokens "
    "max_matching_ngram_size is_assistant",
    noted={
        "num_return_sequences": (1,),
        "num_beam_groups": (1,),
        "diversity_penalty": (0.0,),
        "typical_p": (1.0,),
        "epsilon_cutoff": (0.0,),
        "eta_cutoff": (0.0,),
        "encoder_no_repeat_ngram_size": (0,),
        "encoder_repetition_penalty": (1.0,),
        "min_new_tokens": (0,),
        "remove_invalid_values": (False,),
        "renormalize_logits": (False,),
        "token_healing": (False,),
        "guidance_scale": (1, 1.0),
        "constraints": ([],),
    },
)
"""generation_config.json, or these fields of config.json where there is none."""
_CONFIG = Known(
    used=f"{_IDS} architectures model_type vocab_size id2label label2id num_labels problem_type sep_token_id "
    "cls_token_id mask_token_id unk_token_id max_position_embeddings n_positions tie_word_embeddings torch_dtype dtype "
    "separate is_encoder_decoder",
    harmless="transformers_version use_cache initializer_range initializer_factor init_std output_attentions "
    "output_hidden_states output_past return_dict torchscript use_bfloat16 chunk_size_feed_forward "
    "gradient_checkpointing classifier_dropout classif_dropout qa_dropout seq_classif_dropout layerdrop "
    "encoder_layerdrop decoder_layerdrop activation_dropout summary_activation summary_first_dropout "
    "summary_proj_to_labels summary_type summary_use_proj reorder_and_upcast_attn pretraining_tp "
    "task_specific_params finetuning_task tokenizer_class prefix attn_implementation max_window_layers sliding_window "
    "use_sliding_window layer_types num_hidden_layers add_bias_logits extra_pos_embeddings dense_act_fn is_gated_act "
    "n_ctx sinusoidal_pos_embds directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers "
    "pooler_size_per_head pooler_type pooler_output_size encoder_stride decoder_vocab_size "
    "model_max_length language rope_theta rope_scaling rope_parameters",
    must={"quantization_config": (), "pruned_heads": ({},), "auto_map": ({},), "adapters": ({},)},
    noted={
        "is_decoder": (False,),
        "cross_attention_hidden_size": (),
        "sentence_transformers": (),
        "sbert_ce_default_activation_function": (),
    },
)
_TOKENIZER_CONFIG = Known(
    used=f"{_TOKENS} {_EXTRA} tokenizer_class model_input_names added_tokens_decoder",
    # tokenizer.json itself states what stands around a text, also in transformers.
    harmless="add_bos_token add_eos_token model_max_length max_length padding_side pad_to_multiple_of "
    "pad_token_type_id stride truncation_strategy chat_template name_or_path special_tokens_map_file legacy "
    "sp_model_kwargs tokenizer_file "
    "use_default_system_prompt errors add_prefix_space tokenize_chinese_chars strip_accents do_basic_tokenize "
    "never_split trim_offsets backend is_local spaces_between_special_tokens source_lang target_lang extra_ids "
    "vocab_file merges_file use_fast processor_class clean_up_tokenization_spaces do_lower_case "
    "full_tokenizer_file mask_token_sent offset wordpieces_prefix local_files_only",
    noted={"truncation_side": ("right",), "split_special_tokens": (False,), "separate_vocabs": (False,)},
)
_SPECIAL_TOKENS = Known(used=f"{_TOKENS} {_EXTRA}")
_POOLING = Known(
    used="pooling_mode_cls_token pooling_mode_mean_tokens pooling_mode_max_tokens pooling_mode",
    harmless="word_embedding_dimension embedding_dimension include_prompt",
    must=dict.fromkeys(
        ("pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"), (False,)
    ),
)
_SENTENCE = Known(
    used="max_seq_length do_lower_case",
    harmless="transformer_task modality_config module_output_name config_args model_args tokenizer_args",
)
_SENTENCES = Known(
    harmless="prompts similarity_fn_name model_type",
    noted={"default_prompt_name": (), "truncate_dim": ()},
)
_MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True)
class SideFiles:
    """What the files beside the weights state.

    Args:
        generation: how texts are generated: the fields of generation_config.json.
        tokens: the fields of tokenizer_config.json, over those of special_tokens_map.json.
        pooling: how a sentence gets its vector; None where nothing is stated.
        normalize: whether this vector is scaled to length 1.
        length: the most tokens of a sentence; 0 = as many as the model reads.
        lowercase: whether sentences are lowercased first.
        warnings: the fields without effect.
    """

    generation: Json
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
    generation = read_json(folder / "generation_config.json")
    older = {} if generation else {key: value for key, value in config.items() if key in _GENERATED}
    tokenizer, special = read_json(folder / "tokenizer_config.json"), read_json(folder / "special_tokens_map.json")
    modules = _modules(folder)
    pooling_name = f"{modules.get('Pooling', '1_Pooling')}/config.json"
    pooling, sentence = read_json(folder / pooling_name), read_json(folder / "sentence_bert_config.json")
    files = (
        ("config.json", config, _CONFIG, {*used, *_GENERATED}),
        ("generation_config.json", generation, GENERATION, ()),
        ("config.json", older, GENERATION, ()),
        ("tokenizer_config.json", tokenizer, _TOKENIZER_CONFIG, ()),
        ("special_tokens_map.json", special, _SPECIAL_TOKENS, ()),
        (pooling_name, pooling, _POOLING, ()),
        ("sentence_bert_config.json", sentence, _SENTENCE, ()),
        ("config_sentence_transformers.json", read_json(folder / "config_sentence_transformers.json"), _SENTENCES, ()),
    )
    warnings = [
        warning for name, values, known, more in files for warning in known.check(str(folder / name), values, more)
    ]
    length = sentence.get("max_seq_length") or 0
    if not isinstance(length, int) or length < 0:
        raise ConfigError(f"max_seq_length = {length!r} is no length", where=str(folder / "sentence_bert_config.json"))
    return SideFiles(
        generation or older,
        {**special, **tokenizer},
        _pooling(pooling, str(folder / pooling_name)),
        "Normalize" in modules,
        length,
        bool(sentence.get("do_lower_case")),
        warnings,
    )


_GENERATED = {*GENERATION.used.split(), *GENERATION.noted} - {*_CONFIG.used.split()}


def _modules(folder: Path) -> dict[str, str]:
    """The directories of the modules of a model of sentence-transformers, by their type."""
    path = folder / "modules.json"
    listed = read_value(path)
    if listed is None:
        return {}
    try:
        modules = {str(m["type"]).rpartition(".")[2]: str(m["path"]) for m in listed}
    except (TypeError, KeyError):
        raise RunError("is not a list of modules", where=str(path)) from None
    for kind, name in modules.items():
        if kind not in _MODULES:
            cure = "remove modules.json to import the model without what follows it"
            raise ConfigError(f"the module {name!r} of the type {kind!r} is not supported", where=str(path), cure=cure)
        if not all(part not in ("", "..") for part in name.split("/")) and name:
            raise RunError(f"names {name!r}, which is not a directory beside it", where=str(path))
    return modules


def _pooling(values: Json, where: str) -> Pooling | None:
    kinds: dict[str, Pooling] = {"cls": "first", "mean": "mean", "max": "max"}
    flags = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}
    chosen = [name for name, flag in flags.items() if values.get(flag)]
    if named := values.get("pooling_mode"):
        chosen = list(named) if isinstance(named, (list, tuple)) else [str(named)]
    if not chosen:
        if values:
            raise ConfigError("states no kind of pooling that is supported", where=where, cure="cls, mean or max are")
        return None
    if len(chosen) > 1 or chosen[0] not in kinds:
        problem = f"the pooling {' with '.join(map(str, chosen))} is not supported"
        raise ConfigError(problem, where=where, cure="cls, mean or max alone are")
    return kinds[chosen[0]]


def decoding(generation: Json, kind: str) -> tuple[Json, list[str]]:
    """The decoding options of a generation_config.json, and warnings of those that do not go together here.

    `kind`: of the model.
    """
    own: Json = {}
    for theirs, ours in (("repetition_penalty", "repetition_penalty"), ("no_repeat_ngram_size", "no_repeat_ngram")):
        if generation.get(theirs) not in (None, 0, 1, 1.0):
            own[ours] = generation[theirs]
    if own:
        own["count_prompt"] = True
    warnings = []
    length = generation.get("max_new_tokens")
    if kind == "encoder-decoder":
        forced = generation.get("forced_eos_token_id") is not None
        if length is None and (whole := generation.get("max_length")) is not None:
            length = max(1, whole - 1 - forced)  # theirs counts the start, and the end that is forced
        if (least := generation.get("min_length")) not in (None, 0):
            own["min_length"] = max(0, least - 1)
    elif generation.get("max_length") not in (None, 20):  # which is what they have where nothing is stated
        warnings.append("max_length is not used, as it counts the prompt")
    if length is not None:
        own["max_length"] = length
    beams, sampled = generation.get("num_beams") or 1, bool(generation.get("do_sample"))
    if sampled and beams > 1:
        warnings.append("do_sample is not used together with num_beams")
    elif sampled:
        own |= {"kind": "sample", "top_k": generation.get("top_k", 50) or 0}
        own |= {key: generation[key] for key in ("temperature", "top_p", "min_p") if generation.get(key) is not None}
    if beams > 1:
        own |= {"kind": "beam", "beam": beams}
        if (penalty := generation.get("length_penalty")) is not None:
            own["length_penalty"] = float(penalty)
        if (early := generation.get("early_stopping")) is not None:
            own["stop"] = {True: "first", False: "likely"}.get(early, "certain")
    elif kind == "encoder-decoder" or generation.get("do_sample") is False:
        own.setdefault("kind", "greedy")
    return own, warnings


def ids_of(value: Any) -> tuple[int, ...]:
    """The ids of a field that has one or a list of them."""
    values = value if isinstance(value, list) else [value]
    return tuple(i for i in values if isinstance(i, int) and not isinstance(i, bool))


def suppressed(generation: Json) -> tuple[tuple[int, ...], list[str]]:
    """The ids that are never generated, and warnings of forbidden sequences of several ids."""
    sequences = generation.get("bad_words_ids") or []
    longer = [s for s in sequences if not isinstance(s, list) or len(ids_of(s)) != 1]
    single = [i for s in sequences if s not in longer for i in ids_of(s)]
    warnings = [f"bad_words_ids of several ids are not used: {some(map(str, longer), 2)}"] if longer else []
    return (*single, *ids_of(generation.get("suppress_tokens"))), warnings
