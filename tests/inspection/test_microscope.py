from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from test_report import Page

from seqloom.data.batches.pairs import make_batch
from seqloom.inspection.capture import entropies
from seqloom.inspection.microscope import examine
from seqloom.inspection.microscope_page import reach_table, render_microscope
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.encoders import BagConfig
from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig
from seqloom.nn.scored_attention import AttentionConfig
from seqloom.nn.transformer import TransformerConfig

V, WIDTH = 19, 6
PAIRS = [([3, 5, 7, 2], [9, 4, 2]), ([11, 2], [5, 17, 8, 2]), ([4, 8, 13, 6, 2], [6, 2])]
MEMBERS: dict[str, tuple[Any, Any]] = {
    "transformer": (TransformerConfig(2, WIDTH, 8, 2), TransformerConfig(1, WIDTH, 8, 2)),
    "convolutional": (ConvolutionalConfig(1, WIDTH), ConvolutionalConfig(2, WIDTH)),
    "bag": (BagConfig(WIDTH), RecurrentDecoderConfig("rnn", width=WIDTH)),
    "lstm": (RecurrentEncoderConfig("lstm", 1, 3, "both"), RecurrentDecoderConfig("lstm", width=WIDTH)),
    "gru": (
        RecurrentEncoderConfig("gru", 2, WIDTH, "backward"),
        RecurrentDecoderConfig("gru", width=WIDTH, attention=AttentionConfig("multi-head", heads=3)),
    ),
}


def examined(member: str) -> dict[str, Any]:
    torch.manual_seed(1)
    encoder, decoder = MEMBERS[member]
    model = EncoderDecoder(EncoderDecoderConfig(encoder=encoder, decoder=decoder, tie="none"), V, V)
    batches = [
        make_batch(*([np.array(row) for row in side] for side in zip(*part, strict=True)), 1)
        for part in (PAIRS[:2], PAIRS[2:])
    ]
    return examine(model, batches, (lambda ids: [f"s{i}" for i in ids], lambda ids: [f"t{i}" for i in ids]))


def test_entropy_of_uniform_attention_is_the_log_of_what_is_visible():
    mask = torch.tensor([[True, True, True], [True, True, False]])
    visible = torch.tensor([[1, 2, 3]]).expand(2, 3)
    weights = torch.tril(torch.ones(2, 5, 3, 3)) * 0.25  # a window's weights need not add up to one
    found, most = entropies(weights, mask, visible)
    torch.testing.assert_close(most, torch.tensor([2.0, 3.0, 2.0]).log())
    torch.testing.assert_close(found, most[:, None].expand(3, 5))
    peaked, _ = entropies(torch.eye(3).expand(2, 5, 3, 3), mask, visible)
    assert peaked.abs().max() == 0


@pytest.mark.parametrize("member", MEMBERS)
def test_each_member_tells_what_it_has(member: str):
    found = examined(member)
    json.dumps(found, allow_nan=False)
    recurrent = [c for c in MEMBERS[member] if c.kind == "recurrent"]
    assert (found["encoder"] is None) == (member == "bag")
    for key in ("encoder", "target"):
        if found[key] is not None:
            assert found[key]["share"][0] == 1
    assert len(found["states"]) == sum(c.layers * (1 + (getattr(c, "direction", "") == "both")) for c in recurrent)
    assert [*found["gates"]] == [name for name in found["states"] if member != "bag"]
    over = {a["over"] for a in found["attention"].values()}
    wanted = {"transformer": {"encoder", "source", "target"}, "convolutional": {"source"}, "gru": {"source"}}
    assert over == wanted.get(member, set())
    for layer in found["attention"].values():
        assert all(0 < share <= 1 for share in layer["share"])
        assert all(n < math.log(5) for n in layer["nats"])


def test_traces_are_of_the_words_in_the_order_of_reading():
    found = examined("lstm")["gates"]  # of the second batch
    assert found["encoder.layers.0.0"]["trace"]["tokens"] == ["s4", "s8", "s13", "s6", "s2"]
    assert found["encoder.layers.0.1"]["trace"]["tokens"] == ["s2", "s6", "s13", "s8", "s4"]
    assert found["decoder.stack.layers.0"]["trace"]["tokens"] == ["t1", "t6"]
    trace = found["encoder.layers.0.0"]["trace"]
    assert (trace["gate"], np.shape(trace["values"]), len(trace["units"])) == ("f", (3, 5), 3)
    assert np.mean(trace["values"]) > 0.6  # forget gates start open
    gate = found["encoder.layers.0.0"]["gates"]["f"]
    assert len(gate["by_time"]) == 5
    assert gate["low"] < gate["median"] < gate["high"] < 1
    assert abs(gate["mean"] - gate["median"]) < 0.2


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return {"sentences": 3, "runs": [{"name": f"<{member}>", **examined(member)} for member in MEMBERS]}


def test_the_page_loads_nothing_and_stays_whole(result: dict[str, Any]):
    page = Page(render_microscope(result))
    assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch\(|import\(", "".join(page.texts))
    shown = " ".join(page.texts)
    for words in ("The encoder of <bag> has no order", "Gates of encoder.0.1", "Decoder over the source", "<gru>"):
        assert words in shown
    assert sum(tag == "svg" and "data-hover" in attributes for tag, attributes in page.tags) > 3


def test_a_row_for_each_gradient(result: dict[str, Any]):
    table = reach_table(result)
    rows = table.rows
    assert {len(row) for row in rows} == {len(table.columns)}
    assert len(rows) == 3 * len(MEMBERS) + sum(len(run["states"]) for run in result["runs"])
    cells = {(row[0], row[1]): row[2:] for row in rows}
    assert cells["<bag>", "encoder"] == ("no order", "no order", None, None, None)
    assert isinstance(cells["<gru>", "decoder over the source"][-1], int)
