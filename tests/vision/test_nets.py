"""LeNet-5 and the multilayer perceptron against the numbers that the paper prints, and against plain arithmetic."""

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import build
from konspekt.core.registry import lookup
from konspekt.vision.nets.lenet import C3_INPUTS, PartialConv2d, Subsample, _thinned, lenet, squash
from konspekt.vision.nets.mlp import mlp

# LeCun et al. 1998, table I: rows are the maps of S2, columns those of C3.
TABLE_I = """
X . . . X X X . . X X X X . X X
X X . . . X X X . . X X X X . X
X X X . . . X X X . . X . X X X
. X X X . . X X X X . . X . X X
. . X X X . . X X X X . X X . X
. . . X X X . . X X X X . X X X
"""


def counts(net: nn.Module) -> dict[str, int]:
    return {name: sum(p.numel() for p in layer.parameters()) for name, layer in net.named_children()}


def test_the_papers_parameter_counts():
    net = lenet(form="paper")
    published = {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164}
    assert counts(net) == {**published, "output": 850}
    assert sum(published.values()) == 60_000  # "about 60,000 trainable free parameters"


def test_the_default_forms_parameter_counts():
    net = lenet()
    assert counts(net) == {"conv1": 156, "conv2": 2416, "fc1": 48120, "fc2": 10164, "fc3": 850}
    assert sum(p.numel() for p in net.parameters()) == 61_706


def test_c3_follows_table_i():
    table = [line.split() for line in TABLE_I.split("\n") if line]
    assert [[c for c in range(16) if table[s][c] == "X"] for s in range(6)] == [
        [c for c in range(16) if s in C3_INPUTS[c]] for s in range(6)
    ]
    layer = PartialConv2d(6, C3_INPUTS)
    for seen in range(6):  # what one map of S2 changes
        x = torch.zeros(1, 6, 5, 5)
        x[0, seen] = 1
        change = layer(x) - layer(torch.zeros_like(x))
        assert [c for c in range(16) if change[0, c].abs() > 1e-9] == [c for c in range(16) if table[seen][c] == "X"]


def test_width_thins_all_but_the_classes_and_scales_table_i():
    assert _thinned(6, 16) == C3_INPUTS
    assert _thinned(12, 16)[5] == (0, 1, 2, 3, 10, 11)  # each of (0, 1, 5) twice
    assert _thinned(3, 8) == ((0, 1), (1, 2), (0, 2), (0, 1), (1, 2), (0, 2), (0, 1, 2), (0, 1, 2))
    assert _thinned(1, 2) == ((0,), (0,))
    for form, layers in (("default", "conv1 conv2 fc1 fc2 fc3"), ("paper", "c1 s4 c5 f6 output")):
        net = lenet(width=0.5, form=form)
        assert [len(net.get_submodule(name).bias) for name in layers.split()] == [3, 8, 60, 42, 10]
        assert net(torch.randn(2, 1, 32, 32)).shape == (2, 10)
        assert [net.get_submodule(name).out_features for name in net.heads] == [10]
    assert (
        counts(lenet(form="paper", width=2))["c3"] == 4 * (1516 - 16) + 32
    )  # a weight for each pair of maps, 32 biases


def test_partial_convolution_is_one_convolution_for_each_map():
    layer = PartialConv2d(6, C3_INPUTS).double()
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    weights = layer.weight.split([len(maps) for maps in C3_INPUTS])
    for out, (maps, weight) in enumerate(zip(C3_INPUTS, weights, strict=True)):
        expected = nn.functional.conv2d(x[:, list(maps)], weight[None], layer.bias[out : out + 1])
        assert torch.allclose(layer(x)[:, out : out + 1], expected, rtol=1e-12, atol=1e-12)


def test_subsampling_is_a_scaled_sum_and_a_bias():
    layer = Subsample(3)
    x = torch.randn(2, 3, 6, 7)
    with torch.no_grad():
        layer.coefficient.copy_(torch.tensor([0.5, 2.0, -1.0])[:, None, None])
        layer.bias.copy_(torch.tensor([0.0, 1.0, 2.0])[:, None, None])
    got = layer(x)
    assert got.shape == (2, 3, 3, 3)
    assert got[1, 1, 2, 0].item() == pytest.approx(2 * x[1, 1, 4:6, 0:2].sum().item() + 1, rel=1e-5)


def test_the_squashing_function_is_1_at_1():
    assert squash(torch.tensor([-1.0, 0.0, 1.0])).tolist() == pytest.approx([-1, 0, 1], abs=1e-4)
    assert squash(torch.tensor(1e9)).item() == pytest.approx(1.7159)


def test_the_papers_initialisation():
    torch.manual_seed(0)
    net = lenet(form="paper")
    for layer, fan_in in ((net.c1, 25), (net.c5, 400), (net.f6, 120), (net.output, 84)):
        top = layer.weight.abs().max().item()
        assert 0.9 * 2.4 / fan_in < top <= 2.4 / fan_in
    parts = net.c3.weight.split([len(maps) for maps in C3_INPUTS])
    for part, maps in zip(parts, C3_INPUTS, strict=True):
        assert 0.8 * 2.4 / (25 * len(maps)) < part.abs().max().item() <= 2.4 / (25 * len(maps))


@pytest.mark.parametrize("form", ["default", "paper"])
@pytest.mark.parametrize(("channels", "size", "classes"), [(1, (32, 32), 10), (3, (16, 16), 2), (1, (28, 41), 7)])
def test_shapes_and_gradients(form, channels, size, classes):
    torch.manual_seed(0)
    net = lenet(in_channels=channels, num_classes=classes, image_size=size, form=form)
    logits = net(torch.randn(4, channels, *size))
    assert logits.shape == (4, classes)
    logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, f"no gradient for {name}"
        assert parameter.grad.abs().sum() > 0, f"zero gradient for {name}"


def test_the_paper_forms_gradient():
    torch.manual_seed(0)
    layer = PartialConv2d(2, ((0,), (0, 1))).double()
    halve = Subsample(2).double()
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    names = [(layer, "weight"), (layer, "bias"), (halve, "coefficient"), (halve, "bias")]

    def run(x, *values):
        given = [{n: v for (m, n), v in zip(names, values, strict=True) if m is owner} for owner in (layer, halve)]
        maps = torch.func.functional_call(layer, given[0], x)
        return squash(torch.func.functional_call(halve, given[1], maps))

    values = [getattr(owner, name).detach().requires_grad_() for owner, name in names]
    assert torch.autograd.gradcheck(run, (x, *values))


@pytest.mark.parametrize("size", [(8, 8), (15, 32), (32, 15), (32,), (32, 32, 1)])
def test_lenet_names_the_smallest_size(size):
    with pytest.raises(ConfigError, match=r"net 'lenet': image_size must be .* at least 16 x 16 pixels.* got \("):
        lenet(image_size=size)


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="net 'lenet': form must be one of 'default', 'paper', got 'Paper'"):
        lenet(form="Paper")
    with pytest.raises(ConfigError, match="net 'lenet': num_classes must be an integer at least 1, got 0"):
        lenet(num_classes=0)
    with pytest.raises(ConfigError, match="net 'mlp': hidden must be a tuple"):
        mlp(hidden=(0,))
    with pytest.raises(ConfigError, match=r"net 'mlp': dropout must be .*less than 1, got 1"):
        mlp(dropout=1.0)
    with pytest.raises(ConfigError, match=r"net 'mlp': image_size must be .height, width., got .8,."):
        mlp(image_size=(8,))


def test_the_registry_knows_them():
    assert lookup("net", "lenet").rows == ("D3",)
    assert lookup("net", "mlp").rows == ("B2",)
    assert counts(build("net", "lenet(form='paper')", 1, 10, (32, 32)))["c3"] == 1516
    assert build("net", "mlp(hidden=(5, 4))", 1, 10, (8, 8))(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_the_state_holds_parameters_only():
    for net in (lenet(), lenet(form="paper"), mlp()):
        assert set(net.state_dict()) == {name for name, _ in net.named_parameters()}


def test_mlp_is_matrices_and_relu():
    torch.manual_seed(0)
    net = mlp(in_channels=3, num_classes=4, image_size=(5, 6), hidden=(8, 7)).double()
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    values = x.reshape(2, -1).numpy()
    full = [layer for layer in net.layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in full] == [8, 7, 4]
    for i, layer in enumerate(full):
        values = values @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        values = np.maximum(values, 0) if i < 2 else values
    assert np.allclose(net(x).detach().numpy(), values, rtol=1e-12)


def test_mlp_without_hidden_layers_and_with_dropout():
    net = mlp(hidden=(), image_size=(8, 8))
    assert sum(p.numel() for p in net.parameters()) == 650
    net = mlp(hidden=(64,), dropout=0.5, image_size=(8, 8))
    x = torch.ones(1, 1, 8, 8)
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), net(x))
