"""Squeeze-and-excitation nets against the published counts and against the paper's formula written out."""

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import build
from konspekt.core.registry import lookup
from konspekt.vision.nets import resnet, senet
from konspekt.vision.nets.senet import SqueezeExcitation

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def on_meta(name, **arguments):
    with torch.device("meta"):
        return getattr(senet, name)(**arguments)


def size_of(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("depth", BLOCKS)
def test_parameter_counts_follow_from_the_paper(depth):
    """A block of C channels adds 2 C^2 / r weights (the paper's equation 5) and the biases of its two layers."""
    added = 0
    for stage, count in enumerate(BLOCKS[depth]):
        c = 64 * 2**stage * (4 if depth >= 50 else 1)
        added += count * (2 * c * c // 16 + c + c // 16)
    with torch.device("meta"):
        plain = size_of(getattr(resnet, f"resnet{depth}")())
    assert size_of(on_meta(f"se_resnet{depth}")) == plain + added


def test_se_resnet50_has_the_published_count():
    assert round(size_of(on_meta("se_resnet50")) / 1e6, 1) == 28.1
    assert size_of(on_meta("se_resnet50")) == 28_088_024


@pytest.mark.parametrize("squeeze", ["average", "max"])
def test_the_formula(squeeze):
    torch.manual_seed(0)
    layer = SqueezeExcitation(8, 4, squeeze).double()
    x = torch.randn(3, 8, 5, 4, dtype=torch.float64)
    values = x.numpy()
    z = values.mean((2, 3)) if squeeze == "average" else values.max((2, 3))
    (w1, b1, w2, b2) = (p.detach().numpy().squeeze() for p in layer.parameters())
    assert w1.shape == (2, 8)
    s = 1 / (1 + np.exp(-(np.maximum(z @ w1.T + b1, 0) @ w2.T + b2)))
    assert np.allclose(layer(x).detach().numpy(), values * s[:, :, None, None], rtol=1e-12)


@pytest.mark.parametrize("name", ["18", "50"])
def test_with_open_gates_it_is_the_resnet(name):
    torch.manual_seed(0)
    ours = getattr(senet, f"se_resnet{name}")(num_classes=5, width=0.125).double().eval()
    plain = getattr(resnet, f"resnet{name}")(num_classes=5, width=0.125).double().eval()
    left = {n: v for n, v in ours.state_dict().items() if ".se." not in n}
    assert list(left) == list(plain.state_dict())
    plain.load_state_dict(left)
    for module in ours.modules():
        if isinstance(module, SqueezeExcitation):
            nn.init.zeros_(module.fc2.weight)
            nn.init.constant_(module.fc2.bias, 40.0)  # a sigmoid of 1
    x = torch.randn(2, 3, 40, 40, dtype=torch.float64)
    assert torch.allclose(ours(x), plain(x), rtol=1e-12, atol=1e-12)


def test_a_gate_weighs_the_branch_and_not_the_shortcut():
    torch.manual_seed(0)
    block = senet.se_resnet18(num_classes=5, width=0.125).layer1[0].double().eval()
    nn.init.zeros_(block.se.fc2.weight)
    nn.init.constant_(block.se.fc2.bias, -800.0)  # a sigmoid of 0
    x = torch.rand(2, 8, 6, 6, dtype=torch.float64)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("name", ["se_resnet18", "se_resnet50"])
@pytest.mark.parametrize("size", [(1, 1), (17, 32)])
@pytest.mark.parametrize("squeeze", ["average", "max"])
def test_any_image_passes_and_the_gradient_reaches_all(name, size, squeeze):
    torch.manual_seed(0)
    net = getattr(senet, name)(2, 5, size, width=0.25, squeeze=squeeze)
    out = net(torch.randn(8, 2, *size))
    assert out.shape == (8, 5)
    gradients = torch.autograd.grad(out.square().sum(), list(net.parameters()))
    still = [n for (n, _), g in zip(net.named_parameters(), gradients, strict=True) if not bool(g.any())]
    assert not still
    assert net.eval()(torch.randn(1, 2, *size)).isfinite().all()


def test_names_forms_and_reduction():
    net = on_meta("se_resnet50", form="paper", reduction=8, width=0.5)
    assert net.layer2[0].conv1.stride == (2, 2)
    assert net.layer2[0].se.fc1.weight.shape == (32, 256, 1, 1)
    assert net.layer2[0].se.fc2.weight.shape == (256, 32, 1, 1)
    assert on_meta("se_resnet18", width=0.01).layer1[0].se.fc1.out_channels == 1
    assert net.heads == ("fc",)


def test_a_dropped_block_loses_its_gate_too():
    net = on_meta("se_resnet18", drop=("layer3.1",))
    assert not list(net.layer3[1].state_dict())


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="net 'se_resnet50': squeeze must be one of 'average', 'max', got 'mean'"):
        build("net", "se_resnet50(squeeze='mean')", 3, 10, (32, 32))
    with pytest.raises(ConfigError, match="net 'se_resnet18': reduction must be an integer at least 1, got 0"):
        on_meta("se_resnet18", reduction=0)
    with pytest.raises(ConfigError, match=r"net 'se_resnet18': drop must name blocks, got 'layer9'"):
        on_meta("se_resnet18", drop=("layer9",))


def test_the_registry_knows_them():
    for depth in BLOCKS:
        assert lookup("net", f"se_resnet{depth}").rows == ("D9",)
