"""The files beside the weights of a published checkpoint: each of their fields is used, harmless, or named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqloom.errors import ConfigError, RunError
from seqloom.interop.fields import Fields, Json
from seqloom.interop.generation import GENERATION, IDS
from seqloom.interop.weights import interpreting, read_json

Pooling = Literal["first", "mean", "max"]

_TOKENS = "bos_token eos_token unk_token sep_token pad_token cls_token mask_token"
NAMED = _TOKENS.split()
"""The special tokens that a tokenizer_config.json names."""
_EXTRA = "additional_special_tokens extra_special_tokens"
_CONFIG = Fields(
    f"{IDS} architectures model_type vocab_size id2label label2id num_labels problem_type sep_token_id cls_token_id "
    "mask_token_id unk_token_id max_position_embeddings n_positions tie_word_embeddings torch_dtype dtype separate "
    "is_encoder_decoder transformers_version use_cache initializer_range initializer_factor init_std "
    "output_attentions output_hidden_states output_past return_dict torchscript use_bfloat16 chunk_size_feed_forward "
    "gradient_checkpointing classifier_dropout classif_dropout qa_dropout seq_classif_dropout layerdrop "
    "encoder_layerdrop decoder_layerdrop activation_dropout summary_activation summary_first_dropout "
    "summary_proj_to_labels summary_type summary_use_proj reorder_and_upcast_attn pretraining_tp task_specific_params "
    "finetuning_task tokenizer_class prefix attn_implementation max_window_layers sliding_window use_sliding_window "
    "layer_types num_hidden_layers add_bias_logits extra_pos_embeddings dense_act_fn is_gated_act n_ctx "
    "sinusoidal_pos_embds directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers "
    "pooler_size_per_head pooler_type pooler_output_size encoder_stride decoder_vocab_size model_max_length language "
    "rope_theta rope_scaling rope_parameters",
    must={"quantization_config": (), "pruned_heads": ({},), "auto_map": ({},), "adapters": ({},)},
    noted={"is_decoder": (False,)},
)
_TOKENIZER_CONFIG = Fields(
    f"{_TOKENS} {_EXTRA} tokenizer_class model_input_names added_tokens_decoder "
    # tokenizer.json itself states what stands around a text, also in transformers.
    "add_bos_token add_eos_token model_max_length max_length padding_side pad_to_multiple_of pad_token_type_id stride "
    "truncation_strategy chat_template name_or_path special_tokens_map_file legacy sp_model_kwargs tokenizer_file "
    "use_default_system_prompt errors add_prefix_space tokenize_chinese_chars strip_accents do_basic_tokenize "
    "never_split trim_offsets backend is_local spaces_between_special_tokens source_lang target_lang extra_ids "
    "vocab_file merges_file use_fast processor_class clean_up_tokenization_spaces do_lower_case full_tokenizer_file "
    "mask_token_sent offset wordpieces_prefix local_files_only",
    noted={"truncation_side": ("right",), "split_special_tokens": (False,), "separate_vocabs": (False,)},
)
_POOLINGS: dict[str, Pooling] = {
    **{"cls": "first", "mean": "mean", "max": "max"},
    **{"cls_token": "first", "mean_tokens": "mean", "max_tokens": "max"},
}
_MODULES = ("Transformer", "Pooling", "Normalize")
POOLING = "1_Pooling/config.json"
_FILES = {
    "generation_config.json": GENERATION,
    "tokenizer_config.json": _TOKENIZER_CONFIG,
    "special_tokens_map.json": Fields(f"{_TOKENS} {_EXTRA}"),
    POOLING: Fields(
        "pooling_mode pooling_mode_cls_token pooling_mode_mean_tokens pooling_mode_max_tokens pooling_mode_lasttoken "
        "pooling_mode_mean_sqrt_len_tokens pooling_mode_weightedmean_tokens word_embedding_dimension "
        "embedding_dimension include_prompt"
    ),
    "sentence_bert_config.json": Fields(
        "max_seq_length do_lower_case transformer_task modality_config module_output_name config_args model_args "
        "tokenizer_args"
    ),
    "config_sentence_transformers.json": Fields("prompts similarity_fn_name model_type"),
}


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
    files = {name: (folder / name, read_json(folder / name)) for name in _FILES}
    if not files["generation_config.json"][1]:
        older = {key: value for key, value in config.items() if key in _GENERATED}
        files["generation_config.json"] = folder / "config.json", older
    warnings = _CONFIG.check(folder / "config.json", config, {*used, *_GENERATED})
    for name, (path, values) in files.items():
        warnings += _FILES[name].check(path, values)
    modules = _modules(folder / "modules.json")
    path, sentence = files["sentence_bert_config.json"]
    length = sentence.get("max_seq_length") or 0
    if not isinstance(length, int) or length < 0:
        raise ConfigError(f"max_seq_length = {length!r} is no length", where=str(path))
    generation_path, generation = files["generation_config.json"]
    tokens = {**files["special_tokens_map.json"][1], **files["tokenizer_config.json"][1]}
    pooling, lowercase = _pooling(*files[POOLING], named="Pooling" in modules), bool(sentence.get("do_lower_case"))
    return SideFiles(generation, generation_path, tokens, pooling, "Normalize" in modules, length, lowercase, warnings)


_GENERATED = {*GENERATION.fields.split(), *GENERATION.noted} - {*_CONFIG.fields.split()}


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
    flags = [key.removeprefix("pooling_mode_") for key, value in values.items() if value and "pooling_mode_" in key]
    modes = values.get("pooling_mode") or flags
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or str(modes[0]) not in _POOLINGS:
        problem = f"the pooling {' with '.join(map(str, modes)) or 'of no kind'} is not supported"
        raise ConfigError(problem, where=str(path), cure="cls, mean or max alone are")
    return _POOLINGS[str(modes[0])]
