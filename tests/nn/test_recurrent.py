from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seqloom.nn.recurrent import RecurrentLayer, RecurrentStack, last, reversed_rows

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
