"""The initialisations by their statistics, on weights large enough that a per cent shows."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

from konspekt.core import ConfigError
from konspekt.core.params import build
from konspekt.nn import initialise
from konspekt.nn.init import fans

SHAPES = [(300, 400), (64, 48, 5, 5), (96, 32, 9)]


def draw(text, shape, seed=0):
    torch.manual_seed(seed)
    weight = torch.empty(shape, dtype=torch.float64)
    assert build("init", text, weight) is None
    return weight


def by_hand(shape):
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize(
    ("text", "variance"),
    [
        ("lecun({})", lambda i, o: 1 / i),
        ("xavier({})", lambda i, o: 2 / (i + o)),
        ("xavier(gain=3.0, {})", lambda i, o: 9 * 2 / (i + o)),
        ("he({})", lambda i, o: 2 / i),
        ("he(mode='out', {})", lambda i, o: 2 / o),
        ("he(gain=1.0, {})", lambda i, o: 1 / i),
    ],
)
def test_variance_and_distribution(text, variance, distribution, shape):
    weight = draw(text.format(f"distribution={distribution!r}"), shape)
    v = variance(*by_hand(shape))
    values = weight.flatten().numpy()
    assert values.var() == pytest.approx(v, rel=0.03)
    assert abs(values.mean()) < 5 * math.sqrt(v / values.size)
    bound = math.sqrt(3 * v)
    law = stats.norm(0, math.sqrt(v)) if distribution == "normal" else stats.uniform(-bound, 2 * bound)
    assert stats.kstest(values[:20_000], law.cdf).pvalue > 1e-3


def test_fixed_spreads():
    assert draw("zeros", (4, 5)).count_nonzero() == 0
    weight = draw("normal(mean=1.0, std=0.2)", (300, 400))
    assert weight.mean().item() == pytest.approx(1, abs=0.005)
    assert weight.std().item() == pytest.approx(0.2, rel=0.02)
    assert draw("normal", (300, 400)).std().item() == pytest.approx(0.01, rel=0.02)
    weight = draw("uniform(bound=0.3)", (300, 400))
    assert -0.3 <= weight.min() < -0.299
    assert 0.299 < weight.max() <= 0.3
    assert draw("uniform", (30, 40)).abs().max() <= 0.05


@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        ("xavier", nn.init.xavier_uniform_),
        ("xavier(distribution='normal')", nn.init.xavier_normal_),
        ("he", lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
        (
            "he(mode='out', distribution='uniform')",
            lambda w: nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"),
        ),
        ("lecun", lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear")),
    ],
)
def test_same_numbers_as_torch_from_the_same_seed(text, theirs):
    expected = torch.empty(7, 6, 3, 3, dtype=torch.float64)
    torch.manual_seed(5)
    theirs(expected)
    torch.testing.assert_close(draw(text, (7, 6, 3, 3), seed=5), expected, rtol=1e-14, atol=0)


def test_fans():
    assert fans(torch.empty(3, 5)) == (5, 3)
    assert fans(torch.empty(8, 4, 3, 3)) == (36, 72)
    with pytest.raises(ConfigError, match=r"a weight of shape \(5,\) has no fans"):
        fans(torch.empty(5))
    with pytest.raises(ConfigError, match="has no fans"):
        build("init", "he", torch.empty(5))


def test_a_parameter_is_filled_outside_autograd():
    weight = nn.Parameter(torch.empty(3, 4))
    build("init", "he", weight)
    assert weight.grad_fn is None
    assert weight.requires_grad


def everything():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Embedding(10, 6),
        nn.Linear(400, 300),
        nn.BatchNorm1d(300),
        nn.Conv2d(40, 80, 5),
        nn.ConvTranspose2d(80, 40, 5),
        nn.Conv1d(60, 60, 100, groups=60, bias=False),
        nn.ConvTranspose1d(20, 40, 100, groups=10),
        nn.LayerNorm(7),
        nn.PReLU(),
        nn.GRU(3, 4),
    )


def test_initialise_fills_matrices_zeroes_their_biases_and_leaves_the_rest():
    net = everything()
    before = {name: p.clone() for name, p in net.named_parameters()}
    initialise(net, "he")
    # n_in of each layer, counted by hand; groups and transposition change what feeds an output
    for index, n_in in {1: 400, 3: 40 * 25, 4: 80 * 25, 5: 100, 6: 2 * 100}.items():
        assert net[index].weight.var().item() == pytest.approx(2 / n_in, rel=0.05), net[index]
        assert net[index].bias is None or net[index].bias.count_nonzero() == 0
    for name, p in net.named_parameters():
        if name.split(".")[0] in {"0", "2", "7", "8", "9"}:
            assert torch.equal(p, before[name]), name
    initialise(net, "he(mode='out')")
    for index, n_out in {1: 300, 3: 80 * 25, 4: 40 * 25, 5: 100, 6: 4 * 100}.items():
        assert net[index].weight.var().item() == pytest.approx(2 / n_out, rel=0.05), net[index]


def test_initialise_takes_a_single_layer_and_repeats_with_the_seed():
    layer, twin = nn.Linear(3, 4), nn.Linear(3, 4)
    torch.manual_seed(2)
    initialise(layer, "xavier")
    torch.manual_seed(2)
    initialise(twin, "xavier")
    assert torch.equal(layer.weight, twin.weight)
    assert layer.weight.requires_grad


@pytest.mark.parametrize("module", [nn.Linear(2, 2), nn.ReLU()])
def test_initialise_refuses_what_it_does_not_know_even_with_nothing_to_fill(module):
    with pytest.raises(ConfigError, match=r"initialise: init 'hee' is not a registered init; did you mean 'he'\?"):
        initialise(module, "hee")
    with pytest.raises(ConfigError, match="mode must be one of 'in', 'out', got 'up'"):
        initialise(module, "he(mode='up')")


def deep(activation):
    return nn.Sequential(*(m for _ in range(30) for m in (nn.Linear(256, 256), activation())))


@pytest.mark.parametrize(("init", "activation"), [("he", nn.ReLU), ("xavier", nn.Identity), ("lecun", nn.Identity)])
def test_the_signal_keeps_its_size_through_thirty_layers(init, activation):
    torch.manual_seed(0)
    net, x = deep(activation), torch.randn(64, 256)
    initialise(net, init)
    assert 0.2 < (net(x).pow(2).mean() / x.pow(2).mean()).item() < 5
    initialise(net, "normal")
    assert net(x).pow(2).mean().item() < 1e-20


def test_zero_matrices_do_not_learn_and_equal_ones_stay_equal():
    x, y = torch.randn(20, 3), torch.randn(20, 1)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    initialise(net, "zeros")
    (net(x) - y).pow(2).mean().backward()
    assert net[0].weight.grad.count_nonzero() == 0
    assert net[2].weight.grad.count_nonzero() == 0
    initialise(net, "normal(mean=0.5, std=0)")
    net.zero_grad()
    (net(x) - y).pow(2).mean().backward()
    assert net[0].weight.grad.count_nonzero() > 0
    assert torch.equal(net[0].weight.grad, net[0].weight.grad[:1].expand(5, 3))
