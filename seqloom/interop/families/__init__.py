"""The families of published checkpoints that are read and written."""

from __future__ import annotations

from seqloom.interop.families.language import GPT2, is_of_qwen, llama
from seqloom.interop.families.reading import BERT, DISTILBERT, MEGATRON_BERT, ROBERTA, VIT
from seqloom.interop.families.translation import MARIAN, PEGASUS, T5

FAMILIES = {
    family.name: family
    for family in (
        GPT2,
        llama("llama", "LlamaForCausalLM"),
        llama("mistral", "MistralForCausalLM"),
        llama("qwen2", "Qwen2ForCausalLM", is_of_qwen, qkv_bias="yes"),
        llama("qwen3", "Qwen3ForCausalLM", qk_norm=True),
        BERT,
        MEGATRON_BERT,
        ROBERTA,
        DISTILBERT,
        VIT,
        MARIAN,
        PEGASUS,
        T5,
    )
}
"""By the model_type of their config.json."""
