from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seqloom.nn.dropout import keep_mask
from seqloom.nn.recurrent import RecurrentLayer, RecurrentStack, last, reversed_rows
from seqloom.training.optimizer import FlatWeights

B, T, X, D = 3, 5, 7, 11
LENGTHS = torch.tensor([5, 2, 3])


def loop(cell: str, weights: dict[str, Tensor], x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
    """The equations of the papers, position after position."""
    h, found = carry[:, 0], []
    c = carry[:, -1]
    for t in range(x.shape[1]):
        a = x[:, t] @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        b = h @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
        if cell == "rnn":
            h = (a + b).tanh()
        elif cell == "lstm":
            i, f, g, o = (a + b).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        else:
            (r, z, n), (hr, hz, hn) = a.chunk(3, 1), b.chunk(3, 1)
            z = (z + hz).sigmoid()
            h = (1 - z) * (n + (r + hr).sigmoid() * hn).tanh() + z * h
        found.append(h)
    return torch.stack(found, 1), torch.stack([h, c], 1) if cell == "lstm" else h[:, None]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_layer_is_its_equations(cell):
    layer = RecurrentLayer(cell, X, D).double()
    x, carry = torch.randn(B, T, X).double(), torch.randn(B, layer.parts, D).double()
    expected = loop(cell, dict(layer.cells.named_parameters()), x, carry)
    torch.testing.assert_close(layer(x, carry), expected)
    torch.testing.assert_close(layer(x), layer(x, torch.zeros_like(carry)))


def test_an_lstm_begins_with_open_forget_gates():
    bias = RecurrentLayer("lstm", X, D).cells.get_parameter("bias_hh_l0")
    assert (bias[D : 2 * D] == 1).all()
    assert (bias[:D] != 1).all()


@pytest.mark.parametrize(("cell", "kind"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_a_stack_is_torchs_own(cell, kind):
    layers = 3
    stack = RecurrentStack(cell, X, D, layers, residual=False, dropout=0.5).double().eval()
    twin = kind(X, D, layers, batch_first=True).double()
    for i, layer in enumerate(stack.layers):
        for name, parameter in layer.cells.named_parameters():
            getattr(twin, name.replace("_l0", f"_l{i}")).data = parameter.data
    x = torch.randn(B, T, X).double()
    carry = torch.zeros(B, layers, stack.layers[0].parts, D).double()
    h, end = stack(x, carry)
    theirs, their_end = twin(x)
    torch.testing.assert_close(h, theirs)
    ends = torch.stack(their_end if cell == "lstm" else (their_end,), 0)  # P L B D
    torch.testing.assert_close(end, ends.permute(2, 1, 0, 3))


def test_a_residual_is_added_where_widths_agree():
    stack = RecurrentStack("gru", X, D, 2, residual=True, dropout=0.0)
    x, carry = torch.randn(B, T, X), torch.zeros(B, 2, 1, D)
    first, _ = stack.layers[0](x)
    second, _ = stack.layers[1](first)
    torch.testing.assert_close(stack(x, carry)[0], first + second)


def test_dropout_is_between_the_layers_only():
    one, two = (RecurrentStack("rnn", X, D, n, residual=False, dropout=0.5).train() for n in (1, 2))
    x = torch.randn(B, T, X)
    torch.testing.assert_close(one(x, torch.zeros(B, 1, 1, D))[0], one.eval()(x, torch.zeros(B, 1, 1, D))[0])
    carry = torch.zeros(B, 2, 1, D)
    assert not torch.allclose(two(x, carry)[0], two.eval()(x, carry)[0])


def test_reversed_rows_and_last():
    x = torch.arange(B * T * 2.0).view(B, T, 2)
    back = reversed_rows(x, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(back[b, :length], x[b, :length].flip(0))
        assert torch.equal(back[b, length:], x[b, length:])
        assert torch.equal(last(x, LENGTHS)[b], x[b, length - 1])
    assert torch.equal(reversed_rows(back, LENGTHS), x)
    assert torch.equal(reversed_rows(x, None), x.flip(1))
    assert torch.equal(last(x, None), x[:, -1])


# Weight drop


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_weight_drop_of_zero_and_in_evaluation_changes_no_bit(cell):
    plain, dropping = RecurrentLayer(cell, X, D), RecurrentLayer(cell, X, D, 0.5)
    dropping.load_state_dict(plain.state_dict())
    x = torch.randn(B, T, X)
    whole = tuple(dropping.cells.get_parameter(f"weight_{name}_l0") for name in ("ih", "hh"))
    assert all(a is b for a, b in zip(dropping.eval().matrices(), whole, strict=True))
    h, end = plain.train().cells(x)  # torch's own way to the kernel
    for got in (dropping(x, None, dropping.matrices()), dropping(x), plain(x)):
        assert torch.equal(got[0], h)
        assert torch.equal(got[1], torch.cat(end if cell == "lstm" else (end,)).transpose(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_recurrent_matrix_has_zeros_at_the_rate_and_is_scaled(dtype):
    layer = RecurrentLayer("lstm", X, 101, 0.3).to(dtype).train()
    weight, dropped = layer.cells.get_parameter("weight_hh_l0"), layer.matrices()[1]
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(1 - 77 / 256, abs=0.01)
    torch.testing.assert_close(dropped[kept], weight[kept] * keep_mask(weight, 0.3).max())
    assert not torch.equal(layer.matrices()[1], dropped)  # another pass, another draw


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_layer_with_dropped_weights_is_its_equations(cell):
    layer = RecurrentLayer(cell, X, D, 0.5).double().train()
    x, carry, matrices = torch.randn(B, T, X).double(), torch.randn(B, layer.parts, D).double(), layer.matrices()
    weights = dict(layer.cells.named_parameters()) | {"weight_hh_l0": matrices[1]}
    got, expected = layer(x, carry, matrices), loop(cell, weights, x, carry)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(layer(x, None, matrices), loop(cell, weights, x, torch.zeros_like(carry)))
    whole = layer.cells.get_parameter("weight_hh_l0")
    theirs, ours = (torch.autograd.grad(h.square().sum(), whole, retain_graph=True)[0] for h, _ in (expected, got))
    torch.testing.assert_close(ours, theirs)
    assert (ours[matrices[1] == 0] == 0).all()


def test_weights_that_are_views_of_one_buffer_can_be_dropped():
    stack = RecurrentStack("lstm", X, D, 2, residual=False, dropout=0.0, weight_drop=0.4).train()
    flat = FlatWeights(stack, torch.bfloat16)
    h, _ = stack(torch.randn(B, T, X).bfloat16(), None, stack.matrices())
    h.float().square().sum().backward()
    assert flat.grads.isfinite().all()
    views = flat.views(flat.grads)
    assert all((views[name] != 0).any() for name in flat.names)
