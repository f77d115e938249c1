"""Inside imported models: attention weights and residual stream are those that transformers returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from published import MODELS, Publish, V, publish, transformers

from seqloom.inspection.capture import look
from seqloom.nn.embedders import Inputs
from seqloom.tasks.building import load_run
from seqloom.tasks.task import RunConfig
from seqloom.training.log import Reporter
from seqloom.workflows.import_ import import_run

__all__ = ["publish", "transformers"]
NAMES = ("gpt2", "llama", "mistral", "qwen3", "bert-label", "roberta", "distilbert", "vit-label", "marian", "t5")


@pytest.mark.parametrize("name", NAMES)
def test_the_inside_is_that_of_transformers(name: str, publish: Publish, transformers: Any, tmp_path: Path) -> None:
    folder = publish(name)
    run = import_run(str(folder), str(tmp_path / "run"), Reporter(0))
    model = load_run(run, RunConfig, precision="fp32", device="cpu").model
    theirs = getattr(transformers, MODELS[name][0]).from_pretrained(folder, attn_implementation="eager").eval()
    more = {"output_attentions": True, "output_hidden_states": True}
    torch.manual_seed(4)
    ids, target = torch.randint(4, V, (2, 9)), torch.randint(4, V, (2, 6))
    with torch.inference_mode(), look(model) as seen:
        if name.startswith("vit"):
            pixels = torch.randn(2, 3, 8, 8)
            model(Inputs.image(pixels))
            found = theirs(pixels, **more)
        elif hasattr(model, "target"):
            model(Inputs.text(ids), target)
            found = theirs(ids, decoder_input_ids=target, **more)
        else:
            model(Inputs.text(ids))
            found = theirs(ids, **more)
    expected = {
        "cross-attention": getattr(found, "cross_attentions", None),
        "encoder self-attention": getattr(found, "encoder_attentions", None),
        "decoder self-attention": getattr(found, "decoder_attentions", None),
    }
    own = [title for title, value in expected.items() if value] or [next(iter(seen.groups()))]
    assert [*seen.groups()] == own
    for title, layers in seen.groups().items():
        theirs_too = expected[title] or found.attentions
        assert len(layers) == len(theirs_too)
        for layer, weights in zip(layers, theirs_too, strict=True):
            torch.testing.assert_close(seen.weights(layer), weights, rtol=0, atol=5e-5)
    stack = "decoder.stack" if name in ("gpt2", "llama", "mistral", "qwen3") else "encoder.stack"
    states = getattr(found, "encoder_hidden_states", None) or found.hidden_states
    # The last of theirs is behind a final norm.
    torch.testing.assert_close(seen.residual(stack)[:-1], torch.stack(states[:-1]), rtol=1e-4, atol=1e-4)
