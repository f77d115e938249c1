from __future__ import annotations

import contextlib
import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from seqloom.nn.linear import Linear
from seqloom.training.optimizer import AdamW, FlatWeights, Muon, Optimizer, training_bytes

BF16, FP32 = torch.bfloat16, torch.float32


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Tanh(), nn.Linear(7, 3, bias=False))


def loss_of(model: nn.Module, step: int) -> Tensor:
    x = torch.randn(11, 5, generator=torch.Generator().manual_seed(step))
    found: Tensor = (model(x.to(next(model.parameters()).dtype)).float() ** 2).mean() * 3
    return found


def torch_steps(model: nn.Module, config: AdamW, steps: int, dtype: torch.dtype = FP32) -> list[float]:
    """The same with torch.optim.AdamW over separate float32 parameters, and torch's own clipping."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    beta1, beta2 = config.betas
    adam = torch.optim.AdamW(groups, lr=config.lr, betas=(beta1, beta2), eps=config.eps, foreach=False)
    norms = []
    for step in range(steps):
        computing = copy.deepcopy(model).to(dtype)
        loss_of(computing, step).backward()
        for own, other in zip(model.parameters(), computing.parameters(), strict=True):
            assert other.grad is not None
            own.grad = other.grad.float()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), config.clip or float("inf"))))
        adam.step()
    return norms


def our_steps(model: nn.Module, optimizer: Optimizer, steps: range, lr: float) -> list[float]:
    norms = []
    for step in steps:
        loss_of(model, step).backward()
        optimizer.gather()
        norms.append(optimizer.norm())
        optimizer.step(lr, norms[-1])
    return norms


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("clip", [0.0, 0.5, 1e6])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_flat_buffer_is_torch_s_adamw_over_separate_parameters(dtype, clip, decay):
    config = AdamW(lr=0.01, betas=(0.8, 0.95), eps=1e-8, weight_decay=decay, clip=clip)
    model = make_model()
    twin = copy.deepcopy(model)
    flat = FlatWeights(model, dtype)
    norms = our_steps(model, Optimizer(flat, config), range(6), config.lr)
    expected = torch_steps(twin, config, 6, dtype)
    assert norms == pytest.approx(expected, rel=1e-5)
    if clip == 0.5:
        assert max(norms) > clip  # or the clipping was not seen
    masters = flat.views(flat.master)
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(masters[name], parameter.detach(), rtol=1e-5, atol=1e-6)
        own = dict(model.named_parameters())[name]
        assert own.dtype == dtype
        assert torch.equal(own.detach(), masters[name].to(dtype))


def test_only_matrices_are_decayed():
    model = make_model()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = Optimizer(FlatWeights(model, FP32), AdamW(weight_decay=0.5))
    optimizer.step(0.1, 0.0)  # with no gradient only the decay is left
    for name, parameter in model.named_parameters():
        share = 1 - 0.1 * 0.5 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * share)


@pytest.mark.parametrize("model", [nn.LayerNorm(5), nn.Linear(5, 3, bias=False)])
def test_a_model_of_vectors_or_of_matrices_alone(model):
    twin = copy.deepcopy(model)
    config = AdamW(lr=0.1, weight_decay=0.1)
    our_steps(model, Optimizer(FlatWeights(model, FP32), config), range(3), config.lr)
    torch_steps(twin, config, 3)
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_steps_too_small_for_bfloat16_add_up_in_the_master():
    model = nn.Linear(3, 1, bias=False)
    nn.init.ones_(model.weight)
    flat = FlatWeights(model, BF16)
    optimizer = Optimizer(flat, AdamW(clip=0.0))
    for _ in range(40):
        model(torch.ones(1, 3, dtype=BF16)).sum().backward()
        optimizer.gather()
        optimizer.step(1e-4, optimizer.norm())  # bfloat16 has nothing between 1 and 0.996
    torch.testing.assert_close(flat.views(flat.master)["weight"], torch.full((1, 3), 1 - 40e-4), rtol=1e-5, atol=0)
    assert torch.equal(model.weight.detach(), torch.full((1, 3), 1 - 40e-4).to(BF16))
    assert bool((model.weight < 1).all())


def test_gradients_of_several_batches_add_up_and_can_be_forgotten():
    model = make_model()
    flat = FlatWeights(model, FP32)
    optimizer = Optimizer(flat, AdamW())
    before = flat.master.clone()
    parts = []
    for step in range(3):
        twin = copy.deepcopy(model)
        parts.append(torch.autograd.grad(loss_of(twin, step), list(twin.parameters())))
        loss_of(model, step).backward()
        optimizer.gather()
    gathered = flat.views(optimizer.gradient)
    for i, (name, _) in enumerate(model.named_parameters()):
        torch.testing.assert_close(gathered[name], torch.stack([p[i] for p in parts]).sum(0))
    loss_of(model, 0).backward()
    optimizer.clear()
    assert optimizer.norm() == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)
    assert torch.equal(flat.master, before)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_the_moving_average_is_its_formula(dtype):
    model = make_model()
    flat = FlatWeights(model, dtype)
    optimizer = Optimizer(flat, AdamW(), ema=0.9)
    expected = flat.master.double()
    for step in range(8):
        our_steps(model, optimizer, range(step, step + 1), 0.05)
        expected = 0.9 * expected + 0.1 * flat.master.double()
    assert optimizer.ema is not None
    torch.testing.assert_close(optimizer.ema.double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(optimizer.ema, flat.master)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_weights_are_lent_and_taken_back_to_the_bit(dtype):
    model = make_model()
    flat = FlatWeights(model, dtype)
    master, own = flat.master.clone(), [p.detach().clone() for p in model.parameters()]
    other = torch.full_like(flat.master, 2.0)
    with contextlib.suppress(ZeroDivisionError), flat.lent(other):
        assert all(bool((p == 2).all()) for p in model.parameters())
        raise ZeroDivisionError
    with flat.lent(None):
        assert torch.equal(flat.master, master)
    assert torch.equal(flat.master, master)
    assert all(torch.equal(p, o) for p, o in zip(model.parameters(), own, strict=True))


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_state_taken_up_goes_on_as_if_it_had_never_stopped(dtype, ema):
    model = make_model()
    other = copy.deepcopy(model)
    straight = Optimizer(FlatWeights(model, dtype), AdamW(weight_decay=0.1), ema)
    our_steps(model, straight, range(3), 0.01)
    saved = {k: v.clone() for k, v in straight.state().items()}
    our_steps(model, straight, range(3, 6), 0.01)
    resumed = Optimizer(FlatWeights(other, dtype), AdamW(weight_decay=0.1), ema)
    resumed.load(saved)
    our_steps(other, resumed, range(3, 6), 0.01)
    assert straight.state().keys() == resumed.state().keys()
    for name, tensor in straight.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name


def test_every_parameter_begins_on_a_cache_line():
    flat = FlatWeights(make_model(), FP32)
    assert {view.data_ptr() % 64 for view in flat.views(flat.master).values()} == {0}


def test_impossible_values():
    for wrong in ({"lr": 0.0}, {"betas": (0.9,)}, {"betas": (0.9, 1.0)}, {"weight_decay": -1.0}, {"clip": -1.0}):
        with pytest.raises(ValueError, match=r"betas|must"):
            AdamW(**wrong)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_frozen_parameters_stay_and_the_others_learn_as_without_them(dtype):
    models = [make_model(), make_model()]
    models[1].load_state_dict(models[0].state_dict())
    frozen, config = models[0][0], AdamW(lr=0.1, weight_decay=0.3, clip=1.0)
    frozen.requires_grad_(False)
    before = {n: p.detach().to(dtype).clone() for n, p in frozen.named_parameters()}
    weights = FlatWeights(models[0], dtype)
    optimizer = Optimizer(weights, config, ema=0.5)
    for step in range(3):
        loss_of(models[0], step).backward()
        optimizer.gather()
        optimizer.step(0.1, optimizer.norm())
    for name, parameter in frozen.named_parameters():
        assert torch.equal(parameter, before[name])
    if dtype == FP32:
        models[1][0].requires_grad_(False)
        plain = torch.optim.AdamW(
            [
                {"params": [models[1][3].weight], "weight_decay": 0.3},
                {"params": list(models[1][1].parameters()), "weight_decay": 0.0},
            ],
            lr=0.1,
            betas=(0.9, 0.98),
            eps=1e-9,
        )
        for step in range(3):
            plain.zero_grad()
            loss_of(models[1], step).backward()
            nn.utils.clip_grad_norm_([p for g in plain.param_groups for p in g["params"]], 1.0)
            plain.step()
        for own, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert torch.allclose(own, other, atol=1e-5)


def test_muon_is_torch_s_for_each_stacked_matrix_and_adamw_for_the_rest(monkeypatch) -> None:
    monkeypatch.setattr("seqloom.training.optimizer.dtype_for", lambda *_: BF16)  # torch's has no other
    config = Muon(lr=0.01, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.1, clip=0.0)
    model = nn.ModuleDict({"table": nn.Embedding(5, 6), "layer": Linear(6, (5, 3)), "plain": Linear(8, 3, bias=False)})
    twin, flat = copy.deepcopy(model), FlatWeights(model, FP32)
    optimizer = Optimizer(flat, config)
    pieces = [nn.Parameter(p) for p in (*twin["layer"].weight.detach().split((5, 3)), twin["plain"].weight.detach())]
    muon = torch.optim.Muon(pieces, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    rest = [
        {"params": [twin["table"].weight], "weight_decay": 0.1},
        {"params": [twin["layer"].bias], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(rest, lr=0.01, betas=(0.8, 0.95), eps=1e-8)
    for step in range(4):
        ids = torch.randint(5, (7,), generator=torch.Generator().manual_seed(step))
        for made in (model, twin):
            (made["plain"](made["layer"](made["table"](ids)).tanh()) ** 2).mean().backward()
        whole = twin["layer"].weight.grad
        for piece, grad in zip(pieces, (*whole.split((5, 3)), twin["plain"].weight.grad), strict=True):
            piece.grad = grad.clone()
        optimizer.gather()
        optimizer.step(0.01, optimizer.norm())
        muon.step()
        adam.step()
        with torch.no_grad():
            twin["layer"].weight.copy_(torch.cat(pieces[:2]))
            twin["plain"].weight.copy_(pieces[2])
        twin.zero_grad()
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_muon_goes_on_from_its_state() -> None:
    config, models = Muon(lr=0.01, clip=0.5), [make_model() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    first, second = (Optimizer(FlatWeights(m, FP32), config, ema=0.9) for m in models)
    our_steps(models[0], first, range(3), 0.01)
    second.load({k: v.clone() for k, v in first.state().items()})
    our_steps(models[0], first, range(3, 6), 0.01)
    our_steps(models[1], second, range(3, 6), 0.01)
    assert torch.equal(first.weights.master, second.weights.master)


def test_muon_without_a_linear_layer_is_adamw() -> None:
    models = [nn.Embedding(5, 3) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model, config in zip(models, (AdamW(lr=0.01), Muon(lr=0.01)), strict=True):
        optimizer = Optimizer(FlatWeights(model, FP32), config)
        model(torch.tensor([1, 4])).square().sum().backward()
        optimizer.gather()
        optimizer.step(0.01, optimizer.norm())
    assert torch.equal(models[0].weight, models[1].weight)


def test_a_step_does_not_import_the_compiler_of_torch():
    code = """
import sys
import torch
from seqloom.training.optimizer import FlatWeights, Muon, Optimizer

model = torch.nn.Linear(2, 3)
optimizer = Optimizer(FlatWeights(model, torch.float32), Muon())
optimizer.step(0.1, optimizer.norm())
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.parametrize("ema", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("config", [AdamW(), Muon()], ids=["adamw", "muon"])
def test_the_bytes_of_a_training_are_those_of_its_buffers(config: AdamW, dtype: torch.dtype, ema: float) -> None:
    model = nn.Sequential(Linear(64, 64), Linear(64, 128), Linear(128, 64))  # nothing is rounded up
    model[1].requires_grad_(False)
    expected = training_bytes(model, config, ema)
    optimizer = Optimizer(FlatWeights(model, dtype), config, ema)
    for parameter in optimizer.weights.model.parameters():
        if parameter.grad is not None:
            parameter.grad.fill_(1)
    optimizer.gather()
    optimizer.step(0.1, optimizer.norm())
    flat = optimizer.weights
    tensors = [flat.weights, flat.grads, optimizer.gradient, *optimizer.state().values()]
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.ndim}
    frozen = 4 * sum(p.numel() for p in model.parameters() if not p.requires_grad)  # in bfloat16 at the start
    assert sum(sizes.values()) + frozen == expected
