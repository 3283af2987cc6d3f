"""Network in Network against the authors' published Caffe models, and against perceptrons written out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import build
from konspekt.core.registry import lookup
from konspekt.vision.nets.nin import mlpconv, nin

# Maps and kernels of the convolutions in the authors' models: conv1, cccp1, cccp2, conv2, ...
IMAGENET = [
    (96, 11),
    (96, 1),
    (96, 1),
    (256, 5),
    (256, 1),
    (256, 1),
    (384, 3),
    (384, 1),
    (384, 1),
    (1024, 3),
    (1024, 1),
]
CIFAR = [(192, 5), (160, 1), (96, 1), (192, 5), (192, 1), (192, 1), (192, 3), (192, 1)]


def convolutions(net):
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize(
    ("form", "classes", "models", "blocks"),
    [
        ("default", 1000, IMAGENET, [53_568, 746_240, 1_180_800, 5_614_568]),
        ("cifar", 10, CIFAR, [60_928, 535_104, 370_954]),
    ],
)
def test_layers_and_counts_are_those_of_the_published_models(form, classes, models, blocks, outline):
    net, _ = outline(nin, num_classes=classes, form=form)
    layers = convolutions(net)
    assert [(c.out_channels, c.kernel_size[0]) for c in layers] == [*models, (classes, 1)]
    sizes = [c.weight.numel() + c.bias.numel() for c in layers]
    assert [sum(sizes[i : i + 3]) for i in range(0, len(sizes), 3)] == blocks
    assert sum(p.numel() for p in net.parameters()) == sum(blocks) == {10: 966_986, 1000: 7_595_176}[classes]
    assert not any(isinstance(layer, nn.Linear) for layer in net.modules())
    assert sum(isinstance(layer, nn.ReLU) for layer in net.modules()) == len(layers) - 1
    published, _ = outline(nin, num_classes=classes, form=form, last_relu=True)
    assert sum(isinstance(layer, nn.ReLU) for layer in published.modules()) == len(layers)
    assert published.heads == net.heads
    assert list(published.state_dict()) == list(net.state_dict())


@pytest.mark.parametrize(
    ("form", "side", "sizes"),
    [("default", 224, [54, 27, 27, 13, 13, 6, 6]), ("cifar", 32, [32, 16, 16, 8, 8])],
)
def test_the_maps_have_the_published_sizes(form, side, sizes):
    """The models end in a mean of 6x6 and of 8x8."""
    net = nin(3, 4, (side, side), width=0.05, form=form)
    seen = []
    for layer in net.features:
        if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)) or (
            isinstance(layer, nn.Conv2d) and layer.kernel_size[0] > 1
        ):
            layer.register_forward_hook(lambda module, x, out: seen.append(out.shape[-1]))
    net(torch.zeros(1, 3, side, side))
    assert seen == sizes


def test_pooling_and_dropout():
    def kinds(form):
        wanted = (nn.MaxPool2d, nn.AvgPool2d, nn.Dropout)
        return [type(layer).__name__ for layer in nin(width=0.05, form=form).features if isinstance(layer, wanted)]

    assert kinds("default") == ["MaxPool2d", "MaxPool2d", "MaxPool2d", "Dropout"]
    assert kinds("cifar") == ["MaxPool2d", "Dropout", "AvgPool2d", "Dropout"]
    net = nin(3, 4, (8, 8), width=0.1, form="cifar")
    x = torch.randn(4, 3, 8, 8)
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


def test_mlpconv_is_a_perceptron_that_slides():
    """The paper's equation 2, at each place over its patch of the image."""
    torch.manual_seed(0)
    layers = mlpconv(2, (5, 4, 3), 3, stride=2, padding=1)
    x = torch.randn(1, 2, 5, 7)
    got = nn.Sequential(*layers)(x)[0].detach().numpy()
    padded = np.pad(x[0].numpy(), ((0, 0), (1, 1), (1, 1)))
    matrices = [
        (c.weight.detach().flatten(1).numpy(), c.bias.detach().numpy()) for c in layers if isinstance(c, nn.Conv2d)
    ]
    assert got.shape == (3, 3, 4)
    for i in range(3):
        for j in range(4):
            values = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].ravel()
            for weight, bias in matrices:
                values = np.maximum(weight @ values + bias, 0)
            assert np.allclose(got[:, i, j], values, atol=1e-6)


@pytest.mark.parametrize("last_relu", [False, True])
def test_logits_are_the_means_of_the_last_maps(last_relu):
    torch.manual_seed(0)
    net = nin(3, 6, (12, 9), width=0.1, form="cifar", last_relu=last_relu).eval()
    x = torch.randn(2, 3, 12, 9)
    maps = net.features(x)
    assert maps.shape == (2, 6, 3, 2)
    assert torch.allclose(net(x), maps.mean((2, 3)))
    assert bool(maps.min() >= 0) is last_relu


def test_weights_start_as_he_et_al_have_it():
    torch.manual_seed(0)
    for layer in convolutions(nin(3, 100, width=0.5)):
        assert not layer.bias.any()
        assert layer.weight.std().item() == pytest.approx((2 / layer.weight[0].numel()) ** 0.5, rel=0.1)


def test_width_and_the_smallest_size():
    net = nin(1, 3, (39, 44), width=1 / 32)
    assert [len(c.weight) for c in convolutions(net)] == [3, 3, 3, 8, 8, 8, 12, 12, 12, 32, 32, 3]
    assert net(torch.randn(2, 1, 39, 44)).shape == (2, 3)
    assert nin(1, 3, (4, 5), width=0.02, form="cifar")(torch.randn(2, 1, 4, 5)).shape == (2, 3)
    with pytest.raises(ConfigError, match=r"net 'nin': .* at least 39 x 39 pixels, .* got \(39, 38\)"):
        nin(image_size=(39, 38))
    with pytest.raises(ConfigError, match=r"net 'nin': .* at least 4 x 4 pixels, .* got \(3, 4\)"):
        nin(image_size=(3, 4), form="cifar")
    with pytest.raises(ConfigError, match="net 'nin': form must be one of 'default', 'cifar', got 'paper'"):
        nin(form="paper")


def test_one_pixel_less_could_not_pass():
    for side, form in ((38, "default"), (3, "cifar")):
        net = nin(3, 2, (64, 64), width=0.02, form=form)
        with pytest.raises(RuntimeError, match="too small"):
            net(torch.zeros(1, 3, side, side))


def test_the_registry_knows_it():
    assert lookup("net", "nin").rows == ("D6",)
    for text in ("nin(width=0.02)", "nin(width=0.02, form='cifar')"):
        net = build("net", text, 1, 5, (40, 40))
        assert [net.get_submodule(name).out_channels for name in net.heads] == [5]
