"""What the page shows of one input: weights, layers and searches, against the models that they are of."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqloom.data.batches.pairs import make_batch
from seqloom.decoding.config import BeamSearch, Greedy
from seqloom.errors import UsageError
from seqloom.inspection.inside.flow import rollout
from seqloom.inspection.inside.inspected import Inspected
from seqloom.inspection.inside.walk import ROLLOUT, attention_bytes, cell_of, head_of, lens, packed, switched_off, walk
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig
from seqloom.nn.scored_attention import AttentionConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.text.tokenizer import WordLevel
from seqloom.text.training import train_tokenizer
from seqloom.workflows.inside import attributions, inside, without_head
from seqloom.workflows.searched import beam_tree

TOKENIZER = train_tokenizer(WordLevel(), ["one two three four five six seven eight"])
STACK = TransformerConfig(layers=2, width=12, inner=8, heads=2)
ENCODER = RecurrentEncoderConfig("lstm", 1, 6)
CELLS = {cell: RecurrentDecoderConfig(cell, 1, 12, attention=AttentionConfig("additive")) for cell in ("lstm", "gru")}
SOURCE = "one two three"


def drawn(model: Any) -> Any:
    torch.manual_seed(2)
    for parameter in model.double().parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def translator(encoder: Any = STACK, decoder: Any = STACK, length: int = 6) -> Translator:
    config = EncoderDecoderConfig(encoder=encoder, decoder=decoder, tie="none")
    model = drawn(EncoderDecoder(config, TOKENIZER.vocab_size, TOKENIZER.vocab_size))
    return Translator(model, TOKENIZER, TOKENIZER, Greedy(max_length=length))


def generator() -> Generator:
    model = drawn(LanguageModel(DecoderOnlyConfig(decoder=STACK), TOKENIZER.vocab_size))
    return Generator(model, TOKENIZER, BeamSearch(beam=2, max_length=5), context=64)


def looked(decoder: Any = STACK, encoder: Any = STACK) -> Inspected:
    return translator(encoder, decoder).look(SOURCE, "four five")


def unpacked(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<u2") / 65535


def test_packed_weights_are_those_of_the_layer() -> None:
    seen = looked()
    for title, layers in seen.seen.groups().items():
        for layer in layers:
            weights = seen.seen.weights(layer)[0]
            found = unpacked(attention_bytes(seen, title, layer)).reshape(weights.shape)
            assert found == pytest.approx(weights.numpy(), abs=1e-5)
    assert unpacked(packed(torch.tensor([0.0, 1.0, math.nan, 2.0]))).tolist() == [0, 1, 0, 1]
    title = "encoder self-attention"
    whole = rollout(seen.seen.stacked(seen.seen.groups()[title]).numpy())
    assert unpacked(attention_bytes(seen, title, ROLLOUT)) == pytest.approx(whole.flatten(), abs=1e-5)


def test_embedding_and_position_are_what_the_first_layer_reads() -> None:
    seen = looked()
    for side in ("encoder", "decoder"):
        for position in range(len(seen.sides[side].names)):
            found = walk(seen, side, position)
            total = np.add(found["vector"], found["place"])
            assert total == pytest.approx(found["streams"][0]["values"], abs=2e-4)
            assert found["id"] == seen.sides[side].ids[position]
            assert found["size"] == TOKENIZER.vocab_size
            assert len(found["streams"]) == 3
            norms = [math.hypot(*each["values"]) for each in found["streams"]]
            assert norms == pytest.approx([each["norm"] for each in found["streams"]], abs=1e-3)
    assert walk(seen, "encoder", 0)["output"] is None
    output = walk(seen, "decoder", 1)["output"]
    assert (output["asked"], output["p"]) == (
        "five",
        pytest.approx(float(seen.log_p[1, int(seen.asked[1])].exp()), abs=1e-5),
    )


def test_a_heads_numbers_follow_from_each_other() -> None:
    seen = looked()
    for layer in seen.seen.attention:
        for head in range(seen.heads(layer)):
            found = head_of(seen, layer, head)
            q, k, v, w = (np.array(found[name]) for name in ("queries", "keys", "values", "weights"))
            scores = np.array([[-np.inf if x is None else x for x in row] for row in found["scores"]])
            visible = np.isfinite(scores)
            assert scores[visible] == pytest.approx((q @ k.T / math.sqrt(q.shape[1]))[visible], abs=2e-3)
            softmax = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            assert w == pytest.approx(softmax, abs=1e-3)
            assert np.array(found["outputs"]) == pytest.approx(w @ v, abs=2e-3)
            causal = layer.startswith("decoder") and layer.endswith("attention")
            assert bool(visible.all()) is not causal


@pytest.mark.parametrize("cell", CELLS)
def test_gates_give_the_next_state(cell: str) -> None:
    seen = looked(CELLS[cell], ENCODER)
    for layer in seen.seen.passes:
        found = cell_of(seen, layer)
        traces = {name: np.array(each) for name, each in found["traces"].items()}
        order = slice(None, None, -1) if found["backward"] else slice(None)
        h = traces["h"][order]
        if found["kind"] == "LSTM":
            i, f, o, g, c = (traces[name][order] for name in "ifogc")
            assert c[1:] == pytest.approx(f[1:] * c[:-1] + i[1:] * g[1:], abs=1e-3)
            assert h == pytest.approx(o * np.tanh(c), abs=1e-3)
        else:
            z, n = traces["z"][order], traces["n"][order]
            assert h[1:] == pytest.approx((1 - z[1:]) * n[1:] + z[1:] * h[:-1], abs=1e-3)
    assert {cell_of(seen, layer)["backward"] for layer in seen.seen.passes if "encoder" in layer} == {True, False}
    assert "scores" not in head_of(seen, next(iter(seen.seen.attention)), 0)
    assert re.search("needs a Transformer", lens(seen)["reason"])


def test_the_lens_ends_with_the_predictions_of_the_model() -> None:
    seen = looked()
    last = lens(seen)["layers"][-1]["outputs"]
    for each, log_p in zip(last, seen.log_p, strict=True):
        assert each["best"][0] == [seen.output(int(log_p.argmax())), pytest.approx(float(log_p.exp().max()), abs=1e-5)]


def test_a_head_that_is_off_changes_what_is_written_by_the_model_without_it() -> None:
    use = translator()
    layer = next(iter(use.look(SOURCE).seen.attention))
    found = without_head(use, SOURCE, layer, 0)
    assert found["texts"][0] == use([SOURCE])[0]
    module = dict(use.model.named_modules())[layer]
    with torch.no_grad():
        module.output.weight[:, : module.sizes.features] = 0
    assert found["texts"][1] == use([SOURCE])[0]
    seen = looked()
    assert switched_off(seen, layer, 1)["mean"] > 0
    with pytest.raises(UsageError, match="no head 7"):
        switched_off(seen, layer, 7)


def test_all_that_is_asked_is_json_and_what_is_not_there_is_refused() -> None:
    use = translator()
    found = inside(use, SOURCE)
    assert json.loads(json.dumps(found))["written"] == use([SOURCE])[0]
    assert all(each["frame"].startswith("<svg") for each in found["attention"])
    seen = looked()
    sums = attributions(seen, 0)
    assert sum(sum(each) for each in sums["sides"].values()) == pytest.approx(sums["change"], abs=0.1)
    for wrong in (("middle", 0), ("encoder", 99)):
        with pytest.raises(UsageError):
            walk(seen, *wrong)
    for title, layer in (("no such", ROLLOUT), ("cross-attention", ROLLOUT), ("cross-attention", "no.such")):
        with pytest.raises(UsageError):
            attention_bytes(seen, title, layer)


def scored(use: Translator, tokens: list[str]) -> float:
    """The log-probability of tokens, as the model computes it for all of them at once."""
    ids = np.array([TOKENIZER.inner.token_to_id(token) for token in tokens])
    batch = make_batch(use.encode([SOURCE]), [ids], TOKENIZER.start)
    with torch.no_grad():
        scores = use.model.head(use.model(batch.inputs, batch.target_in))[0]
    scores[:, list(TOKENIZER.suppressed)] = -math.inf
    return float(scores.log_softmax(-1)[range(len(ids)), ids].sum())


@pytest.mark.parametrize("beam", [1, 2, 4])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_the_winner_of_the_tree_is_the_result_of_the_search(beam: int, penalty: float) -> None:
    use = translator()
    tree = beam_tree(use, SOURCE, beam=beam, length_penalty=penalty)
    options: Any = {"kind": "beam", "beam": beam, "length_penalty": penalty, "n_best": beam}
    results = use.translate([SOURCE], **options)[0]
    assert [each["text"] for each in tree["results"][: len(results)]] == [each.text for each in results]
    assert [each["score"] for each in tree["results"][: len(results)]] == [each.score for each in results]
    tokens = [tree["nodes"][i]["token"] for i in tree["winner"]]
    assert tokens[-1] == "</s>"
    assert scored(use, tokens) == pytest.approx(results[0].log_p, abs=1e-4)


def test_the_nodes_of_the_tree_are_what_the_model_gives() -> None:
    use = translator()
    tree = beam_tree(use, SOURCE, beam=3)
    nodes = tree["nodes"]
    for node in nodes:
        path = [node]
        while path[0]["parent"] is not None:
            path.insert(0, nodes[path[0]["parent"]])
        assert node["log_p"] == pytest.approx(sum(each["log_q"] for each in path), abs=1e-4)
        assert [each["step"] for each in path] == list(range(len(path)))
        assert all(each["status"] == "live" for each in path[:-1])
        if node["status"] == "ended":
            assert node["score"] == pytest.approx(node["log_p"] / len(path), abs=1e-6)
            assert scored(use, [each["token"] for each in path]) == pytest.approx(node["log_p"], abs=1e-4)
        assert ("reason" in node) == (node["status"] == "pruned")
    for parent in {node["parent"] for node in nodes}:
        assert sum(math.exp(node["log_q"]) for node in nodes if node["parent"] == parent) <= 1 + 1e-6
    for step in range(tree["steps"]):
        column = [node for node in nodes if node["step"] == step]
        assert len([node for node in column if node["status"] == "live"]) <= 3
        for node in column:
            if "more probable" in node.get("reason", ""):
                assert all(each["log_p"] >= node["log_p"] for each in column if each["status"] == "live")
    assert any("more probable" in node.get("reason", "") for node in nodes)


def test_continuations_are_searched_for_as_well() -> None:
    use = generator()
    tree = beam_tree(use, "one two")
    best = use.generate("one two")[0]
    assert tree["beam"] == 2
    assert tree["results"][0]["score"] == pytest.approx(best.score)
    with pytest.raises(UsageError, match="samples are drawn"):
        beam_tree(use, "one two", kind="sample")
    with pytest.raises(UsageError, match="blank"):
        beam_tree(translator(), " ")


def test_the_scripts_of_the_page_have_no_name_twice() -> None:
    folder = Path(__file__).parents[2] / "seqloom"
    texts = [path.read_text(encoding="utf-8") for path in (folder / "serving/page").glob("*.js")]
    texts.append((folder / "inspection/draw.js").read_text(encoding="utf-8"))
    declared = re.compile(r"^(?:export )?(?:async )?(?:const|let|function\*?|class) (\w+)", re.MULTILINE)
    names = [name for text in texts for name in declared.findall(text)]
    assert sorted(names) == sorted({*names})
