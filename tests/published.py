from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

V = 31  # words of every model
SIZES = {"vocab_size": V, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
TEXT = {**SIZES, "max_position_embeddings": 23}
LLAMA = {**TEXT, "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA3 = {
    **{"rope_type": "llama3", "rope_theta": 50.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "original_max_position_embeddings": 8,
}
BERT = {**TEXT, "pad_token_id": 0}
ROBERTA = {**TEXT, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
DISTIL = {"vocab_size": V, "dim": 12, "n_layers": 2, "n_heads": 2, "hidden_dim": 20, "max_position_embeddings": 23}
VIT = {**{k: v for k, v in SIZES.items() if k != "vocab_size"}, "image_size": 8, "patch_size": 4}
T5 = {
    **{"vocab_size": V, "d_model": 12, "d_kv": 5, "d_ff": 20, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 3},
    **{"relative_attention_num_buckets": 8, "relative_attention_max_distance": 9, "decoder_start_token_id": 0},
}
MARIAN = {
    **{"vocab_size": V, "d_model": 12, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 20},
    **{"decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 3, "pad_token_id": V - 1},
    **{"decoder_start_token_id": V - 1, "eos_token_id": 0, "forced_eos_token_id": 0, "activation_function": "swish"},
    **{"scale_embedding": True, "max_position_embeddings": 64},
}
PEGASUS = {
    **{key: value for key, value in MARIAN.items() if key not in ("pad_token_id", "decoder_start_token_id")},
    **{"eos_token_id": 1, "forced_eos_token_id": 1, "activation_function": "relu"},
}
GPT2 = {
    "vocab_size": V,
    "n_embd": 12,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 40,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Name -> the class of transformers, its config class, and the arguments of that.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA),
    "llama-3": ("LlamaForCausalLM", "LlamaConfig", {**LLAMA, "tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "llama-linear": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {**LLAMA, "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 99.0}},
    ),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**LLAMA, "sliding_window": 3}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**LLAMA, "vocab_size": 263}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**LLAMA, "head_dim": 4}),
    "bert": ("BertModel", "BertConfig", BERT),
    "bert-words": ("BertForMaskedLM", "BertConfig", BERT),
    "bert-next": ("BertForPreTraining", "BertConfig", BERT),
    "bert-label": ("BertForSequenceClassification", "BertConfig", {**BERT, "num_labels": 3}),
    "bert-tags": ("BertForTokenClassification", "BertConfig", {**BERT, "num_labels": 5}),
    "bert-span": ("BertForQuestionAnswering", "BertConfig", BERT),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", ROBERTA),
    "roberta-label": ("RobertaForSequenceClassification", "RobertaConfig", ROBERTA),
    "megatron-words": ("MegatronBertForPreTraining", "MegatronBertConfig", BERT),
    "megatron-label": ("MegatronBertForSequenceClassification", "MegatronBertConfig", {**BERT, "num_labels": 3}),
    "megatron-span": ("MegatronBertForQuestionAnswering", "MegatronBertConfig", BERT),
    "distilbert": ("DistilBertForMaskedLM", "DistilBertConfig", DISTIL),
    "distilbert-label": ("DistilBertForSequenceClassification", "DistilBertConfig", DISTIL),
    "vit": ("ViTModel", "ViTConfig", VIT),
    "vit-label": ("ViTForImageClassification", "ViTConfig", {**VIT, "qkv_bias": False, "num_labels": 3}),
    "marian": ("MarianMTModel", "MarianConfig", MARIAN),
    "pegasus": ("PegasusForConditionalGeneration", "PegasusConfig", PEGASUS),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "t5-gated": (
        "T5ForConditionalGeneration",
        "T5Config",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
}
Publish = Callable[..., Path]


@pytest.fixture(scope="session")
def transformers() -> Any:
    module = pytest.importorskip("transformers", reason="transformers is not installed: nothing is compared")
    module.logging.set_verbosity_error()
    module.logging.disable_progress_bar()
    return module


@pytest.fixture
def publish(transformers: Any, tmp_path: Path) -> Publish:
    """Writes a random model, and a tokenizer of as many words, as Hugging Face's libraries do."""

    def write(name: str, *, dtype: torch.dtype = torch.float32, shard: str = "50GB") -> Path:
        architecture, config, arguments = MODELS[name]
        model = getattr(transformers, architecture)(getattr(transformers, config)(**arguments))
        for parameter in model.parameters():
            if parameter.requires_grad:  # all but tables of sines
                nn.init.normal_(parameter, std=0.3)
        if name == "t5-gated":  # its output layer has a table of its own
            model.lm_head.weight = nn.Parameter(torch.randn(V, 12))
        folder = tmp_path / "published" / name
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        if "vocab_size" in arguments:
            (write_qwen_tokenizer if name == "qwen2" else write_tokenizer)(folder)
        return folder

    return write


def write_qwen_tokenizer(folder: Path) -> None:
    """Qwen's tokenizer, with three special tokens, all bytes, and four merges."""
    import transformers
    from tokenizers import pre_tokenizers

    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    merges = [("a", "t"), ("\u0120", "c"), ("\u0120c", "at"), ("h", "e")]
    names = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)]
    inner: Any = transformers.Qwen2Tokenizer(vocab={name: i for i, name in enumerate(names)}, merges=merges)
    inner.add_special_tokens({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    inner.save_pretrained(folder)


def write_tokenizer(folder: Path, words: int = V) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({"<unk>" if i == 3 else f"w{i}": i for i in range(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.save(str(folder / "tokenizer.json"))
    special = {"unk_token": "<unk>", "pad_token": "w0", "cls_token": "w1", "sep_token": "w2", "bos_token": "w1"}
    more = {"eos_token": "w2", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**special, **more}), encoding="utf-8")
