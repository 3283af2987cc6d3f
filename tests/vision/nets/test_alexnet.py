"""AlexNet against torchvision's numbers, and against those that the paper prints."""

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import build
from konspekt.core.registry import lookup
from konspekt.vision.nets.alexnet import alexnet

# torchvision 0.28's names and shapes, in order.
STATE = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}
# The figure and the sections 3.5 and 4.2 of the paper: kernels and units of the two columns together.
PRINTED = {
    "conv1": 96 * (11 * 11 * 3 + 1),
    "conv2": 256 * (5 * 5 * 48 + 1),
    "conv3": 384 * (3 * 3 * 256 + 1),
    "conv4": 384 * (3 * 3 * 192 + 1),
    "conv5": 256 * (3 * 3 * 192 + 1),
    "fc6": 4096 * (6 * 6 * 256 + 1),
    "fc7": 4096 * (4096 + 1),
    "fc8": 1000 * (4096 + 1),
}


def weighted(net):
    return [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]


def sizes(net):
    return [sum(p.numel() for p in layer.parameters()) for layer in weighted(net)]


@pytest.mark.slow
def test_outputs_are_torchvisions(published_logits):
    """torchvision 0.28's alexnet with the state of conftest.py."""
    out = published_logits(alexnet)
    first = [
        [0.0248126921295376, -1.1030874947142906, -2.939042715895013, 2.386980024282742],
        [0.7066181749402093, 0.4651105961871154, -2.8479489511092284, 1.0174068980494448],
    ]
    assert out[:, :4].flatten().tolist() == pytest.approx([*first[0], *first[1]], rel=1e-9)
    assert out.norm(dim=1).tolist() == pytest.approx([160.81155038093576, 161.7479593803037], rel=1e-9)


def test_names_and_shapes_are_torchvisions(outline):
    net, _ = outline(alexnet)
    expected = [
        (f"{n}.{part}", s if part == "weight" else s[:1]) for n, s in STATE.items() for part in ("weight", "bias")
    ]
    assert [(name, tuple(value.shape)) for name, value in net.state_dict().items()] == expected
    assert sum(sizes(net)) == 61_100_840


def test_the_single_tower_is_its_layers_one_after_the_other():
    torch.manual_seed(0)
    net = alexnet(3, 5, (70, 64), width=0.1).double().eval()
    x = torch.randn(2, 3, 70, 64, dtype=torch.float64)
    state, f = net.state_dict(), nn.functional
    conv = {n: (state[f"features.{n}.weight"], state[f"features.{n}.bias"]) for n in (0, 3, 6, 8, 10)}
    full = {n: (state[f"classifier.{n}.weight"], state[f"classifier.{n}.bias"]) for n in (1, 4, 6)}
    maps = f.max_pool2d(f.conv2d(x, *conv[0], stride=4, padding=2).relu(), 3, 2)
    maps = f.max_pool2d(f.conv2d(maps, *conv[3], padding=2).relu(), 3, 2)
    maps = f.conv2d(maps, *conv[6], padding=1).relu()
    maps = f.conv2d(f.conv2d(maps, *conv[8], padding=1).relu(), *conv[10], padding=1).relu()
    maps = f.max_pool2d(maps, 3, 2)
    assert maps.shape == (2, 26, 1, 1)
    hidden = f.linear(maps.expand(-1, -1, 6, 6).flatten(1), *full[1]).relu()
    expected = f.linear(f.linear(hidden, *full[4]).relu(), *full[6])
    assert torch.allclose(net(x), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("side", [224, 227])
def test_two_columns_have_the_printed_counts(outline, side):
    net, _ = outline(alexnet, image_size=(side, side), columns=2)
    assert sizes(net) == list(PRINTED.values())
    assert sum(sizes(net)) == 60_965_224  # "60 million parameters"
    assert [getattr(layer, "groups", 1) for layer in weighted(net)] == [1, 2, 1, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("columns", [1, 2])
def test_the_maps_have_the_printed_sizes(columns):
    """The paper counts 55 * 55 * 96 = 290,400 neurons behind conv1, then 186,624, 64,896, 64,896 and 43,264."""
    net = alexnet(3, 4, width=1 / 16, columns=columns)
    seen = []
    for layer in net.features:
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            layer.register_forward_hook(lambda module, x, out: seen.append(out.shape[-1]))
    net(torch.zeros(1, 3, 224, 224))
    assert seen == [55, 27, 27, 13, 13, 13, 13, 6]
    assert [96 * 55**2, 256 * 27**2, 384 * 13**2, 256 * 13**2] == [290_400, 186_624, 64_896, 43_264]


def test_response_normalisation_is_the_papers_formula():
    """Section 3.3: b_i = a_i / (k + alpha * sum of a_j^2 over n = 5 adjacent maps)^beta."""
    net = alexnet(columns=2, width=0.1)
    norms = [i for i, layer in enumerate(net.features) if isinstance(layer, nn.LocalResponseNorm)]
    assert norms == [2, 6]  # behind the ReLU of conv1 and conv2
    assert all(isinstance(net.features[i - 1], nn.ReLU) for i in norms)
    a = 30 * np.random.default_rng(0).random((9, 2, 3))
    expected = np.empty_like(a)
    for i in range(9):
        expected[i] = a[i] / (2 + 1e-4 * (a[max(0, i - 2) : i + 3] ** 2).sum(0)) ** 0.75
    assert np.allclose(net.features[2](torch.from_numpy(a)[None])[0].numpy(), expected, rtol=1e-12)


def test_two_columns_start_as_printed():
    torch.manual_seed(0)
    net = alexnet(columns=2, width=0.25)
    assert [set(layer.bias.tolist()) for layer in weighted(net)] == [{b} for b in (0, 1, 0, 1, 1, 1, 1, 0)]
    assert all(layer.weight.std().item() == pytest.approx(0.01, rel=0.05) for layer in weighted(net))


def test_a_column_sees_its_own_half_but_in_conv3():
    net = alexnet(columns=2, width=0.1).double()
    for i, own in ((4, True), (8, False), (10, True), (12, True)):
        layer = net.features[i]
        x = torch.zeros(1, layer.in_channels, 5, 5, dtype=torch.float64)
        change = layer(x.index_fill(1, torch.arange(layer.in_channels // 2), 1.0)) - layer(x)
        touched = change.abs().amax((0, 2, 3)) > 0
        half = layer.out_channels // 2
        assert bool(touched[:half].all())
        assert bool(touched[half:].any()) is not own


@pytest.mark.parametrize("columns", [1, 2])
def test_dropout_acts_in_training_on_both_hidden_layers(columns):
    torch.manual_seed(0)
    net = alexnet(3, 4, (63, 63), width=0.1, columns=columns)
    assert [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    x = torch.randn(2, 3, 63, 63)
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


def test_width_thins_all_but_the_classes():
    net = alexnet(3, 7, width=0.5)
    assert [len(layer.weight) for layer in weighted(net)] == [32, 96, 192, 128, 128, 2048, 2048, 7]
    net = alexnet(3, 7, width=0.01, columns=2)
    assert [len(layer.weight) for layer in weighted(net)] == [2, 2, 4, 4, 2, 41, 41, 7]


def test_the_smallest_size():
    for columns in (1, 2):
        out = alexnet(1, 3, (63, 70), width=0.05, columns=columns)(torch.randn(2, 1, 63, 70))
        assert out.shape == (2, 3)
    with pytest.raises(ConfigError, match=r"net 'alexnet': .* at least 63 x 63 pixels, .* got \(63, 62\)"):
        alexnet(image_size=(63, 62))
    net = alexnet(width=0.05)
    net.load_state_dict(alexnet(image_size=(63, 63), width=0.05).state_dict())  # weights do not depend on the size
    with pytest.raises(ConfigError, match="net 'alexnet': columns must be one of 1, 2, got 3"):
        alexnet(columns=3)


def test_the_registry_knows_it():
    assert lookup("net", "alexnet").rows == ("D4",)
    net = build("net", "alexnet(width=0.05, columns=2)", 1, 5, (64, 63))
    assert net.get_submodule(net.heads[0]).out_features == 5
