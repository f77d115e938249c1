"""How well a language model predicts a text, also by measures that do not depend on its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from seqloom.data.batches.packs import Packs
from seqloom.data.batches.stream import Stream
from seqloom.models.decoder import LanguageModel
from seqloom.objectives.next_token import NextToken
from seqloom.shapes import Tensor


@torch.inference_mode()
def text_nll(model: LanguageModel, stream: Stream | Packs) -> float:
    """The negative log-likelihood of the whole text, in nats.

    A model that carries a state reads each lane of the stream from start to end; any other model reads windows.
    """
    device = next(model.parameters()).device
    plain, carry, total = NextToken(), dict[str, Tensor](), 0.0
    model.eval()
    for batch in stream.once() if model.carries else stream.windows():
        loss = plain(model, batch.to(device), carry)
        carry, total = dict(loss.carry), total + loss.nll
    return total


def perplexities(nll: float, tokens: int, sizes: Mapping[str, int]) -> dict[str, float]:
    """The measures of a text, from its number of tokens and the sizes that `Text.sizes` returns.

    "perplexity" is per token, "word_perplexity" per word between blanks (the end of a line counts as one).
    """
    bits = nll / math.log(2)
    return {
        "loss": nll / tokens,
        "perplexity": math.exp(min(nll / tokens, 50.0)),
        "word_perplexity": math.exp(min(nll / sizes["words"], 50.0)),
        "bits_per_character": bits / sizes["characters"],
        "bits_per_byte": bits / sizes["bytes"],
    }
