"""The activations against their closed forms and derivatives, in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from konspekt.core import ConfigError, entries
from konspekt.nn import Softmax, activation
from konspekt.nn import activations as module

X = torch.linspace(-6, 6, 241, dtype=torch.float64)  # holds 0


def where(condition, yes, no):
    return torch.where(condition, yes, no)


# text: value and derivative, written out
FORMS = {
    "sigmoid": (lambda x: 1 / (1 + torch.exp(-x)), lambda x: torch.exp(-x) / (1 + torch.exp(-x)) ** 2),
    "tanh": (
        lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
        lambda x: 1 - ((torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1)) ** 2,
    ),
    "relu": (lambda x: where(x > 0, x, 0 * x), lambda x: (x > 0).double()),
    "leaky-relu": (lambda x: where(x > 0, x, 0.01 * x), lambda x: where(x > 0, x / x, 0.01 + 0 * x)),
    "leaky-relu(slope=0.3)": (lambda x: where(x > 0, x, 0.3 * x), lambda x: where(x > 0, x / x, 0.3 + 0 * x)),
    "prelu": (lambda x: where(x > 0, x, 0.25 * x), lambda x: where(x > 0, x / x, 0.25 + 0 * x)),
    "softplus": (lambda x: torch.log(1 + torch.exp(x)), lambda x: 1 / (1 + torch.exp(-x))),
    "arctan": (
        lambda x: torch.tensor([math.atan(v) for v in x.tolist()], dtype=x.dtype),
        lambda x: 1 / (1 + x**2),
    ),
    "softsign": (lambda x: x / (1 + x.abs()), lambda x: 1 / (1 + x.abs()) ** 2),
    "linear-tanh": (
        lambda x: (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1) + 0.01 * x,
        lambda x: 1 - ((torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1)) ** 2 + 0.01,
    ),
    "linear-tanh(slope=0.5)": (
        lambda x: (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1) + 0.5 * x,
        lambda x: 1 - ((torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1)) ** 2 + 0.5,
    ),
}
NAMES = sorted(e.name for e in entries() if e.kind == "activation" and e.module == module.__name__)


@pytest.mark.parametrize("text", FORMS)
def test_value_and_derivative(text):
    x = X.clone().requires_grad_()
    y = activation(text).double()(x)
    torch.testing.assert_close(y, FORMS[text][0](X), rtol=1e-12, atol=1e-12)
    (slope,) = torch.autograd.grad(y.sum(), x)
    smooth = X != 0
    torch.testing.assert_close(slope[smooth], FORMS[text][1](X)[smooth], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("text", [*FORMS, "softmax", "softmax(temperature=0.5)"])
def test_gradcheck(text):
    x = (torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2).requires_grad_()
    net = activation(text).double()
    assert torch.autograd.gradcheck(lambda x, *_: net(x), (x, *net.parameters()))


def test_every_registered_activation_is_tested_here():
    assert sorted({t.split("(")[0] for t in FORMS} | {"noisy-relu", "softmax"}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_call_makes_a_module_that_can_be_copied_and_keeps_the_shape(name):
    one, two = activation(name), activation(name)
    assert one is not two
    twin = copy.deepcopy(one)
    assert type(twin) is type(one)
    assert not {id(p) for p in one.parameters()} & {id(p) for p in (*two.parameters(), *twin.parameters())}
    for shape in [(5,), (2, 3), (2, 3, 4, 4)]:
        x = torch.randn(shape)
        before = x.clone()
        y = twin.eval()(x)
        assert y.shape == x.shape
        assert y.dtype == x.dtype
        assert torch.equal(x, before), "worked in place"


def test_ranges():
    far = torch.tensor([-1e6, 1e6], dtype=torch.float64)
    assert activation("sigmoid")(far).tolist() == [0, 1]
    assert activation("arctan")(far).tolist() == pytest.approx([-math.pi / 2, math.pi / 2], abs=1e-5)
    assert activation("softplus")(far).tolist() == [0, 1e6]
    assert abs(activation("softsign")(far)).max() < 1


def test_softplus_is_the_closed_form_within_2e_9_on_both_sides_of_20():
    x = torch.tensor([19.9, 20.1], dtype=torch.float64)
    assert (activation("softplus")(x) - torch.log1p(torch.exp(x))).abs().max() < 2.1e-9


def test_noisy_relu_has_the_mean_and_variance_of_a_cut_normal():
    torch.manual_seed(0)
    net = activation("noisy-relu").train()
    for x in (-2.0, 0.0, 1.5):
        y = net(torch.full((200_000,), x, dtype=torch.float64))
        std = math.sqrt(1 / (1 + math.exp(-x)))
        a = x / std  # the moments of max(0, N(x, std^2))
        density = math.exp(-(a**2) / 2) / math.sqrt(2 * math.pi)
        mass = (1 + math.erf(a / math.sqrt(2))) / 2
        mean = x * mass + std * density
        second = (x**2 + std**2) * mass + x * std * density
        assert y.mean().item() == pytest.approx(mean, abs=0.01)
        assert y.var().item() == pytest.approx(second - mean**2, rel=0.03, abs=0.002)
        assert (y == 0).double().mean().item() == pytest.approx(1 - mass, abs=0.005)


def test_noisy_relu_repeats_with_the_seed_is_plain_in_evaluation_and_passes_the_gradient_of_the_active():
    net = activation("noisy-relu")
    x = X.clone().requires_grad_()
    torch.manual_seed(3)
    first = net(x)
    torch.manual_seed(3)
    assert torch.equal(first, net(x))
    assert not torch.equal(first, torch.relu(x))
    (slope,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(slope, (first > 0).double())
    assert torch.equal(net.eval()(x), torch.relu(x))


def test_prelu_learns_its_slope():
    net = activation("prelu(slope=0.1)").double()
    x = torch.tensor([-3.0, 2.0], dtype=torch.float64)
    net(x).sum().backward()
    (beta,) = net.parameters()
    assert beta.item() == pytest.approx(0.1)
    assert beta.grad.item() == -3.0


def test_softmax_with_temperature():
    x = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    weights = [math.exp(v / 2) for v in (1, 2, 4)]
    y = activation("softmax(temperature=2.0)")(x)
    assert y[0].tolist() == pytest.approx([w / sum(weights) for w in weights])
    assert y.sum(-1).tolist() == pytest.approx([1, 1])
    assert y[1].tolist() == pytest.approx([1 / 3] * 3)
    assert Softmax(1e-3)(x)[0].tolist() == pytest.approx([0, 0, 1])
    assert Softmax(1e6)(x)[0].tolist() == pytest.approx([1 / 3] * 3, abs=1e-5)
    torch.testing.assert_close(Softmax(1.0, dim=0)(x).sum(0), torch.ones(3, dtype=torch.float64))


def test_printed_form():
    net = nn.Sequential(activation("softmax(temperature=0.5)"), activation("linear-tanh(slope=0.2)"))
    assert "Softmax(temperature=0.5, dim=-1)" in repr(net)
    assert "LinearTanh(slope=0.2)" in repr(net)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rellu", r"'rellu' is not a registered activation; did you mean 'relu'\?"),
        ("leaky-relu(slope=2)", "activation 'leaky-relu': slope must be from 0 to 1, got 2"),
        ("softmax(temperature=0)", "activation 'softmax': temperature must be more than 0, got 0"),
        ("relu(slope=1)", "activation 'relu' has no argument 'slope'; it takes none"),
        ("relu(", "must be a name or a call such as"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(ConfigError, match=message):
        activation(text)
