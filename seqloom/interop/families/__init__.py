"""The families of published checkpoints that are read and written."""

from __future__ import annotations

from seqloom.interop.families.language import GPT2, LLAMAS
from seqloom.interop.families.reading import BERT, DISTILBERT, MEGATRON_BERT, ROBERTA, VIT
from seqloom.interop.families.translation import MARIAN, PEGASUS, T5

_ALL = (GPT2, *LLAMAS, BERT, MEGATRON_BERT, ROBERTA, DISTILBERT, VIT, MARIAN, PEGASUS, T5)
FAMILIES = {family.name: family for family in _ALL}
"""By the model_type of their config.json."""
