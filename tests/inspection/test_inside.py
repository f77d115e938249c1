"""What a model does with one input: by hand, by finite differences, and by changing weights."""

from __future__ import annotations

import copy
import json
import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqloom.data.rows import Pronoun
from seqloom.decoding.config import Greedy
from seqloom.errors import UsageError
from seqloom.inspection.capture import look
from seqloom.inspection.inside.attribution import embedded, gradient_times_input, integrated_gradients, why
from seqloom.inspection.inside.flow import align, alignment_error, rollout, word_links
from seqloom.inspection.inside.inspected import Inspected
from seqloom.inspection.inside.lens import logit_lens
from seqloom.inspection.inside.pronouns import link_pronouns, noun_weights
from seqloom.inspection.inside.switching import effect, head_effects, head_outputs, heads_set, patched
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig
from seqloom.nn.embedders import Inputs
from seqloom.nn.positions import Learned, Rotary
from seqloom.nn.scored_attention import AttentionConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.text.tokenizer import BPE, WordLevel
from seqloom.text.training import train_tokenizer

TEXT = "one two three four five six seven eight"
TOKENIZER = train_tokenizer(WordLevel(), [TEXT])
STACK = TransformerConfig(layers=2, width=12, inner=8, heads=2)
AFTER = TransformerConfig(layers=2, width=12, inner=8, heads=2, norm_position="after", kv_heads=1, positions=Rotary())
LSTM = RecurrentDecoderConfig("lstm", 1, 12)
BAHDANAU = RecurrentDecoderConfig("gru", 1, 12, attention=AttentionConfig("additive"))
DECODERS: dict[str, Any] = {"before": STACK, "after": AFTER, "lstm": LSTM, "windows": ConvolutionalConfig(2, 12)}
PAIRS: dict[str, tuple[Any, Any]] = {
    "transformer": (STACK, AFTER),
    "bahdanau": (RecurrentEncoderConfig("lstm", 2, 6), BAHDANAU),
    "luong": (STACK, RecurrentDecoderConfig("lstm", 1, 12, attention=AttentionConfig("general"), place="after")),
    "heads": (STACK, RecurrentDecoderConfig("rnn", 1, 12, attention=AttentionConfig("multi-head", heads=3))),
    "windows": (ConvolutionalConfig(2, 12), ConvolutionalConfig(2, 12)),
}


def drawn(model: Any) -> Any:
    torch.manual_seed(2)
    for parameter in model.double().parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def generator(decoder: Any = STACK, tokenizer: Any = TOKENIZER) -> Generator:
    model = drawn(LanguageModel(DecoderOnlyConfig(decoder=decoder), tokenizer.vocab_size))
    return Generator(model, tokenizer, Greedy(max_length=6), context=64)


def translator(encoder: Any = STACK, decoder: Any = AFTER) -> Translator:
    config = EncoderDecoderConfig(encoder=encoder, decoder=decoder, tie="none")
    model = drawn(EncoderDecoder(config, TOKENIZER.vocab_size, TOKENIZER.vocab_size))
    return Translator(model, TOKENIZER, TOKENIZER, Greedy(max_length=6))


def continued(decoder: Any = STACK) -> Inspected:
    return generator(decoder).look("one two three four")


def translated(pair: str = "transformer") -> Inspected:
    return translator(*PAIRS[pair]).look("one two three", "four five")


EVERY = [*((continued, (d,)) for d in DECODERS.values()), *((translated, (name,)) for name in PAIRS)]
every = pytest.mark.parametrize(("make", "how"), EVERY, ids=[*DECODERS, *PAIRS])


@every
def test_its_data_are_json_and_name_every_row_and_column(make: Any, how: Any) -> None:
    seen = make(*how)
    data = json.loads(json.dumps(seen.data(best=3)))
    assert len(data["predictions"]) == len(seen.asked) == len(seen.sides["decoder"].names)
    for row, log_p in zip(data["predictions"], seen.log_p, strict=True):
        assert [each["p"] for each in row["best"]] == pytest.approx(log_p.exp().topk(3).values.tolist())
    for group in data["attention"]:
        for layer in group["layers"]:
            shape = seen.seen.weights(layer).shape
            assert shape == (1, group["heads"], len(group["rows"]), len(group["columns"]))
    titles = [group["title"] for group in data["attention"]]
    assert [each.title for each in seen.maps()] == titles
    assert ("cross-attention" in titles) == (make is translated)


def test_what_is_asked_is_the_token_that_is_read_next() -> None:
    seen = continued()
    assert [seen.output(int(i)) for i in seen.asked[:-1]] == [*seen.sides["decoder"].names[1:]]
    assert int(seen.asked[-1]) == int(seen.scores[-1].argmax())
    forced = translated()
    assert [forced.output(int(i)) for i in forced.asked] == ["four", "five", "</s>"]
    found = translator()
    best = found(["one two three"])[0]
    own = found.look("one two three")
    assert TOKENIZER.decode([own.asked.tolist()]) == [best]
    log_p = own.log_p.gather(1, own.asked[:, None]).sum().item()
    assert log_p == pytest.approx(found.score(["one two three"], [best])[0], abs=1e-4)


@pytest.mark.parametrize("tokenizer", [TOKENIZER, train_tokenizer(BPE(size=280), [TEXT])], ids=["words", "bpe"])
def test_tokens_know_their_characters(tokenizer: Any) -> None:
    text = "one  three\nfour"
    side = generator(tokenizer=tokenizer).look(text).sides["decoder"]
    assert side.places[0] == (-1, 0, 0)
    words = side.words()
    assert [word for word, _ in words] == ["one", "three", "four"]
    for word, positions in words:
        covered = "".join(text[side.places[i][1] : side.places[i][2]] for i in positions)
        assert covered.strip() == word
        begin = text.index(word)
        assert side.within(begin, begin + len(word)) == positions


@every
def test_a_head_that_is_off_is_a_slice_of_its_projection_that_is_zero(make: Any, how: Any) -> None:
    seen = make(*how)
    for layer in seen.seen.attention:
        for head in range(seen.heads(layer)):
            other = copy.deepcopy(seen.model)
            module = dict(other.named_modules())[layer]
            change = effect(seen, heads_set(seen.model, layer, {head: 0.0}))
            if not hasattr(module, "output"):
                continue  # one head alone, whose values go where the decoder wants them
            C = module.sizes.features
            with torch.no_grad():
                module.output.weight[:, head * C : (head + 1) * C] = 0
            log_q = run_with(seen, other).log_softmax(-1)
            kl = (seen.log_p.exp() * (seen.log_p - log_q)).sum(-1)
            torch.testing.assert_close(change.divergence, kl.float(), rtol=1e-4, atol=1e-5)
            gained = (log_q - seen.log_p).gather(1, seen.asked[:, None])[:, 0]
            torch.testing.assert_close(change.asked, gained.float(), rtol=1e-4, atol=1e-4)
    again = seen.run(1)[0].float()
    assert torch.equal(again, seen.scores)  # all is as it was


@torch.no_grad()
def run_with(seen: Inspected, other: Any) -> Tensor:
    """The scores of a changed copy of the model, for the same input."""
    sides, asked = seen.sides, seen.asked
    if isinstance(other, LanguageModel):
        return other.head(other(Inputs.text(torch.tensor([sides["decoder"].ids])))[0])[0].float()
    source, target = (torch.tensor([sides[side].ids]) for side in ("encoder", "decoder"))
    assert len(asked) == target.shape[1]
    return other.head(other(Inputs.text(source), target))[0].float()


def test_one_scored_head_that_is_off_gives_no_context() -> None:
    seen = translated("bahdanau")
    ((change,),) = head_effects(seen).values()
    other = copy.deepcopy(seen.model)
    other.decoder.cross.register_forward_hook(lambda _, __, done: (0 * done[0], done[1]))
    log_q = run_with(seen, other).log_softmax(-1)
    kl = (seen.log_p.exp() * (seen.log_p - log_q)).sum(-1)
    torch.testing.assert_close(change.divergence, kl, rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="can only be switched off"), heads_set(seen.model, "decoder.cross", {0: 1.0}):
        pass


def test_heads_and_blocks_take_the_values_of_another_input() -> None:
    found = generator(AFTER)
    one, other = found.look("one two three four"), found.look("eight seven six five")
    for layer in one.seen.attention:
        own = head_outputs(one, layer)
        same = effect(one, heads_set(one.model, layer, {h: own[:, :, h] for h in range(2)}))
        assert same.divergence.abs().max() < 1e-6
        theirs = head_outputs(other, layer)
        assert effect(one, heads_set(one.model, layer, {0: theirs[:, :, 0]})).divergence.max() > 1e-6
    last = "decoder.stack.blocks.1"
    with torch.no_grad(), patched(one.model, {last: other.seen.stream(last)}):
        torch.testing.assert_close(one.run(1)[0].float(), other.scores)
    with torch.no_grad(), patched(one.model, {last: other.seen.stream(last)}, positions=[2]):
        scores = one.run(1)[0].float()
    torch.testing.assert_close(scores[2], other.scores[2])
    torch.testing.assert_close(scores[[0, 1, 3, 4]], one.scores[[0, 1, 3, 4]])


@pytest.mark.parametrize("make", [continued, lambda: continued(AFTER), translated], ids=["before", "after", "pair"])
def test_the_last_layer_of_the_lens_is_the_output(make: Any) -> None:
    seen = make()
    lens = logit_lens(seen)
    assert lens.shape == (3, *seen.scores.shape)
    torch.testing.assert_close(lens[-1], seen.scores)
    stack = seen.model.decoder.stack
    first = seen.model.head(stack.norm(seen.seen.residual("decoder.stack")[0]))[0]
    torch.testing.assert_close(lens[0], first.float().detach())
    assert (lens[0] - lens[1]).abs().max() > 1e-3


def test_a_lens_needs_a_transformer() -> None:
    for seen in (continued(LSTM), translated("luong"), translated("windows")):
        with pytest.raises(UsageError, match="needs a Transformer before the head"):
            logit_lens(seen)


def test_rollout_of_two_layers_by_hand() -> None:
    one = np.array([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.1, 0.9]]])  # two heads: mean [[1, 0], [0.3, 0.7]]
    two = np.array([[[1.0, 0.0], [0.8, 0.2]]] * 2)
    # Half stays: [[1, 0], [0.15, 0.85]], then [[1, 0], [0.4, 0.6]].
    expected = np.array([[1.0, 0.0], [0.4 + 0.6 * 0.15, 0.6 * 0.85]])
    np.testing.assert_allclose(rollout(np.stack((one, two))), expected)


def test_words_are_aligned_to_what_their_tokens_attend_to_most() -> None:
    weights = np.array([[0.5, 0.3, 0.2], [0.1, 0.5, 0.4], [0.0, 0.4, 0.6]])
    # The tokens 1 and 2 of the source are one word: 0.5 against 0.5, 0.1 against 0.9, and so on.
    assert word_links(weights, [[0], [1, 2], []], [[0], [1, 2]]) == {(0, 0), (1, 1)}
    assert word_links(weights, [[1, 2]], [[], [1], [2]]) == {(2, 0)}  # 0.45 and 0.5


def test_alignment_error_by_hand() -> None:
    links, sure, possible = {(0, 0), (1, 1), (2, 2)}, {(0, 0), (1, 2)}, {(1, 1)}
    assert alignment_error(links, sure, possible) == pytest.approx(1 - (1 + 2) / (3 + 2))
    assert alignment_error(sure, sure) == alignment_error(set(), set()) == 0
    assert alignment_error({(0, 1)}, {(1, 0)}) == 1


def test_a_model_in_which_nothing_attends_to_the_source_aligns_nothing() -> None:
    with pytest.raises(UsageError, match="nothing in this model attends from the target to the source"):
        align(continued())


def test_a_translation_is_aligned_by_what_predicts_each_word() -> None:
    seen = translated()
    weights = seen.seen.stacked(seen.seen.groups()["cross-attention"]).mean((0, 1))
    best = [int(weights[row, :3].argmax()) for row in (0, 1)]  # the rows that predict "four" and "five"
    assert [*seen.sides["encoder"].names] == ["one", "two", "three", "</s>"]
    assert align(seen) == {(best[0], 0), (best[1], 1)}
    last = seen.seen.stacked(seen.seen.groups()["cross-attention"])[1, 0]
    assert align(seen, layers=[1], heads=[0]) == {(int(last[row, :3].argmax()), row) for row in (0, 1)}


@every
def test_integrated_gradients_sum_to_the_change(make: Any, how: Any) -> None:
    seen = make(*how)
    question = why(seen, 1)
    found = integrated_gradients(seen, question, tolerance=0.005)
    hooks = [m.register_forward_hook(lambda _, __, x: torch.zeros_like(x)) for m in seen.embedders.values()]
    with torch.no_grad():
        nothing = question(seen.run(1)).item()
    for hook in hooks:
        hook.remove()
    assert found.change == pytest.approx(seen.log_p[1, seen.asked[1]].item() - nothing, abs=1e-4)
    assert abs(found.change) > 1e-3
    assert abs(found.error) <= 0.005 * max(1, abs(found.change))
    assert {side: len(v) for side, v in found.values.items()} == {s: len(seen.sides[s].names) for s in seen.embedders}
    later = found.values["decoder"][2:]  # what is read later cannot count
    assert later.abs().max() == 0


@every
def test_gradient_times_input_is_the_slope_as_each_embedding_grows(make: Any, how: Any) -> None:
    seen = make(*how)
    question = why(seen, 2, 3, instead=4)
    found = gradient_times_input(seen, question)
    assert found.change == 0
    x = embedded(seen)
    for side, values in found.values.items():
        for t in range(len(values)):
            slopes = []
            for sign in (1, -1):
                grown = x[side].clone()
                grown[:, t] *= 1 + sign * 1e-5
                hook = seen.embedders[side].register_forward_hook(lambda *_, grown=grown: grown)
                with torch.no_grad():
                    scores = seen.run(1)[0, 2]
                hook.remove()
                slopes.append((scores[3] - scores[4]).item())
            # F is in float32 and the slope 2e-5 of it.
            assert values[t].item() == pytest.approx((slopes[0] - slopes[1]) / 2e-5, abs=2e-4, rel=1e-3)


def test_why_this_and_not_that_is_the_opposite_of_why_that_and_not_this() -> None:
    seen = translated()
    one, other = (integrated_gradients(seen, why(seen, 0, a, b), ["encoder"]) for a, b in ((3, 5), (5, 3)))
    torch.testing.assert_close(one.values["encoder"], -other.values["encoder"])
    assert [*one.values] == ["encoder"]
    assert math.isfinite(one.change)


def test_what_there_is_not_is_an_error() -> None:
    seen = continued()
    calls: list[tuple[str, Any]] = [
        (r"nothing was seen of 'decoder.stack.blocks.7", lambda: seen.seen.weights("decoder.stack.blocks.7.attention")),
        ("has no head 2", lambda: seen.seen.weights("decoder.stack.blocks.0.attention", 2)),
        ("has no head -1", lambda: seen.seen.weights("decoder.stack.blocks.0.attention", -1)),
        ("has no head 5", lambda: effect(seen, heads_set(seen.model, "decoder.stack.blocks.0.attention", {5: 0.0}))),
        ("has no heads", lambda: effect(seen, heads_set(seen.model, "decoder.stack", {0: 0.0}))),
        ("there is no layer 'x'", lambda: effect(seen, heads_set(seen.model, "x", {0: 0.0}))),
        ("is no block of a Transformer", lambda: effect(seen, patched(seen.model, {"decoder": torch.zeros(1, 1, 1)}))),
        ("nothing is embedded for 'encoder'", lambda: gradient_times_input(seen, why(seen), ["encoder"])),
        ("no output None.* at position 99", lambda: why(seen, 99)),
        ("no output 99", lambda: why(seen, 0, 99)),
        ("nothing was seen of 'encoder.layers.0.0'", lambda: seen.seen.recurrent("encoder.layers.0.0")),
        ("blank text", lambda: translator().look(" ")),
    ]
    for message, call in calls:
        with pytest.raises(UsageError, match=message):
            call()


def test_passes_with_other_numbers_of_rows_are_not_joined() -> None:
    model = drawn(LanguageModel(DecoderOnlyConfig(decoder=STACK), 9))
    with look(model) as seen:
        model(Inputs.text(torch.zeros(2, 3, dtype=torch.long)))
        model(Inputs.text(torch.zeros(1, 3, dtype=torch.long)))
    name = "decoder.stack.blocks.0.attention"
    with pytest.raises(UsageError, match="several numbers of rows"):
        seen.weights(name)
    assert seen.attention[name][1].weights().shape == (1, 2, 3, 3)


def test_a_page_of_weights_is_there_in_time() -> None:
    stack = TransformerConfig(layers=6, width=128, inner=8, heads=8, positions=Learned(128))
    model = LanguageModel(DecoderOnlyConfig(decoder=stack), 9).eval()
    with torch.inference_mode(), look(model) as seen:
        model(Inputs.text(torch.zeros(1, 128, dtype=torch.long)))
    began = time.perf_counter()
    (weights,) = (seen.stacked(names) for names in seen.groups().values())
    assert weights.shape == (6, 8, 128, 128)
    assert time.perf_counter() - began < 1.5


def test_a_pronoun_and_the_nouns_it_attends_to() -> None:
    found = generator()
    text = "one two three four five"
    spans = [(text.index(word), text.index(word) + len(word)) for word in text.split()]
    row = Pronoun(text, (spans[3][0], spans[4][1]), ((spans[0][0], spans[1][1]), spans[2]), 1)
    seen = found.look(text)
    weights = noun_weights(seen, row)
    assert weights.shape == (2, 2, 2)
    for layer, name in enumerate(seen.seen.attention):
        for head in range(2):
            w = seen.seen.weights(name)[0, head]  # the tokens 1 to 5; a special one stands before
            mean = (w[4] + w[5]) / 2
            assert weights[layer, head].tolist() == pytest.approx([mean[1:3].max().item(), mean[3].item()])
    other = Pronoun(text, spans[4], (spans[0], spans[3]), 1)
    linked = link_pronouns(found.look, [row, other])
    both = torch.stack([weights.argmax(-1) == 1, noun_weights(seen, other).argmax(-1) == 1]).double().mean(0)
    assert linked.share.tolist() == both.tolist()
    assert (linked.pronouns, linked.nearest) == (2, 1.0)
    assert linked.share[linked.best] == linked.share.max()
    beyond = Pronoun(text + " six", (24, 27), (spans[0], spans[1]), 0)
    short = lambda text: found.look(text, tokens=6)  # noqa: E731
    assert link_pronouns(short, [row, beyond]).pronouns == 1
    with pytest.raises(UsageError, match="none of the texts could be read"):
        link_pronouns(short, [beyond])
    with pytest.raises(UsageError, match="nothing attends within the text"):
        noun_weights(continued(LSTM), row)
