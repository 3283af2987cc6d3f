"""Residual nets against torchvision's numbers, the counts of the paper, and blocks written out by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.core.params import build
from konspekt.core.registry import lookup
from konspekt.vision.nets import resnet
from konspekt.vision.nets.residual import BasicBlock, Bottleneck, PaddedShortcut

# What torchvision 0.28 gives in evaluation, in float64, for a net whose state is filled as `fill` does and for the images
# default_rng(0).standard_normal((2, 3, 224, 224)): the first outputs for the first image, and the norm of all its outputs.
TORCHVISION = {
    "resnet18": (
        [-8.458555767478678, 17.411237415773254, -51.86309565601974, 8.685090958238536, -9.017209532808572],
        1036.3732072776736,
    ),
    "resnet34": (
        [275.63610431825236, 992.834888206968, -1271.179133441942, -40.67445305404176, 214.0660733022235],
        18960.869940537712,
    ),
    "resnet50": (
        [-199.1692401649168, -355.47804390079364, 1512.2963386934334, 478.8977609136071, -607.5372475401064],
        18868.071343250573,
    ),
    "resnet101": (
        [-16286.926445649551, -153786.85218719693, 849673.2789364095, 22700.628837282697, -536207.0951902418],
        12604920.396272747,
    ),
}
COUNTS = {  # published by torchvision; "0.27M" and so on in the paper's table 6
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet20": 0.27e6,
    "resnet32": 0.46e6,
    "resnet44": 0.66e6,
    "resnet56": 0.85e6,
    "resnet110": 1.7e6,
}
LARGE = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def on_meta(name, **arguments):
    with torch.device("meta"):
        return getattr(resnet, name)(**arguments)


def size_of(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    "name", ["resnet18", *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet34", "resnet50", "resnet101"))]
)
def test_outputs_are_torchvisions(name, fill):
    with torch.device("meta"):
        net = getattr(resnet, name)().double()
    net = fill(net.to_empty(device="cpu")).eval()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 224, 224)))[:1]
    with torch.no_grad():
        out = net(x)
    first, norm = TORCHVISION[name]
    assert out.norm().item() == pytest.approx(norm, rel=1e-9)
    assert out[0, :5].tolist() == pytest.approx(first, rel=1e-9)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_published_ones(name):
    net = on_meta(name)
    count, classes = size_of(net), 1000 if name in LARGE else 10
    assert count == (COUNTS[name] if name in LARGE else pytest.approx(COUNTS[name], rel=0.02))
    assert net.fc.out_features == classes
    assert round(count / 1e6, 1 if name == "resnet110" else 2) * 1e6 == pytest.approx(COUNTS[name], rel=1e-3)


@pytest.mark.parametrize("name", COUNTS)
def test_shapes_on_meta(name):
    side = 224 if name in LARGE else 32
    net = on_meta(name)
    seen = {}
    for stage in ("conv1", "layer1", "layer2", "layer3", "layer4"):
        if hasattr(net, stage):
            getattr(net, stage).register_forward_hook(lambda m, i, out, s=stage: seen.update({s: tuple(out.shape[1:])}))
    out = net(torch.empty(2, 3, side, side, device="meta"))
    wide = 4 if name in ("resnet50", "resnet101", "resnet152") else 1
    if name in LARGE:
        channels, sides = (64, 64 * wide, 128 * wide, 256 * wide, 512 * wide), (112, 56, 28, 14, 7)
    else:
        channels, sides = (16, 16, 32, 64), (32, 32, 16, 8)
    assert list(seen.values()) == [(c, s, s) for c, s in zip(channels, sides, strict=True)]
    assert out.shape == (2, 1000 if name in LARGE else 10)
    depth = int(name.removeprefix("resnet"))
    main = [n for n, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "downsample" not in n]
    assert len(main) == depth  # the layers that give the net its name


def test_the_state_of_a_bottleneck_is_in_torchvisions_order():
    names = [n for n in on_meta("resnet50").state_dict() if n.startswith("layer1.0.") and "num_batches" not in n]
    norm = ("weight", "bias", "running_mean", "running_var")
    parts = [("conv1", ("weight",)), ("bn1", norm), ("conv2", ("weight",)), ("bn2", norm), ("conv3", ("weight",))]
    parts += [("bn3", norm), ("downsample.0", ("weight",)), ("downsample.1", norm)]
    assert names == [f"layer1.0.{part}.{what}" for part, whats in parts for what in whats]
    assert not [n for n in on_meta("resnet18").state_dict() if n.startswith("layer1.0.downsample")]


def by_hand(block, x, strides):
    """The branch of a block in evaluation mode, from its numbers."""
    for i, stride in enumerate(strides, 1):
        conv, norm = getattr(block, f"conv{i}"), getattr(block, f"bn{i}")
        x = F.conv2d(x, conv.weight, stride=stride, padding=conv.weight.shape[-1] // 2)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        x = (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
        x = x.clamp(min=0) if i < len(strides) else x
    return x


@pytest.mark.parametrize(
    ("kind", "form", "strides"),
    [
        (BasicBlock, "default", (2, 1)),
        (BasicBlock, "paper", (2, 1)),
        (Bottleneck, "default", (1, 2, 1)),
        (Bottleneck, "paper", (2, 1, 1)),
    ],
)
def test_a_block_is_relu_of_branch_plus_shortcut(kind, form, strides, fill):
    after = 6 * kind.EXPANSION
    down = nn.Sequential(nn.Conv2d(4, after, 1, 2, bias=False), nn.BatchNorm2d(after))
    block = fill(kind(4, 6, 2, form, down, True).double()).eval()
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    assert torch.allclose(block.branch(x), by_hand(block, x, strides), rtol=1e-12, atol=1e-12)
    assert torch.equal(block.shortcut(x), down(x))
    assert torch.allclose(block(x), (by_hand(block, x, strides) + down(x)).clamp(min=0), rtol=1e-12, atol=1e-12)
    plain = fill(kind(4, 6, 2, form, None, False).double()).eval()
    assert torch.allclose(plain(x), by_hand(plain, x, strides).clamp(min=0), rtol=1e-12, atol=1e-12)


def test_the_padded_shortcut_takes_every_second_pixel_and_adds_zeros():
    x = torch.arange(2 * 3 * 5 * 4.0).reshape(2, 3, 5, 4)
    expected = np.zeros((2, 5, 3, 2), dtype=np.float32)
    expected[:, :3] = x.numpy()[:, :, ::2, ::2]
    assert np.array_equal(PaddedShortcut(2, 2)(x).numpy(), expected)
    net = on_meta("resnet20")
    padded = {n for n, m in net.named_modules() if isinstance(m, PaddedShortcut)}
    assert padded == {"layer2.0.downsample", "layer3.0.downsample"}


def test_the_paper_form_has_the_same_weights_and_another_stride():
    ours, paper = on_meta("resnet50"), on_meta("resnet50", form="paper")
    assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in paper.named_parameters()}
    assert [c.stride[0] for c in (ours.layer2[0].conv1, ours.layer2[0].conv2)] == [1, 2]
    assert [c.stride[0] for c in (paper.layer2[0].conv1, paper.layer2[0].conv2)] == [2, 1]
    assert paper.layer2[1].conv1.stride == (1, 1)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20"])
def test_the_plain_net_has_no_shortcut(name):
    torch.manual_seed(0)
    net = getattr(resnet, name)(num_classes=5, image_size=(16, 16), width=0.125, shortcuts=False)
    assert not [n for n, _ in net.named_modules() if n.endswith("downsample")]
    assert net.residual_blocks()
    with torch.no_grad():  # nothing passes a block whose branch is silent
        net.layer1[0].get_submodule("bn3" if name == "resnet50" else "bn2").weight.zero_()
    net.eval()
    out = net(torch.rand(2, 3, 16, 16))
    assert torch.equal(out[0], out[1])


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20"])
def test_a_dropped_block_is_its_shortcut(name, fill):
    drop = ("layer1.0", "layer2.0", "layer3.1")
    whole = fill(getattr(resnet, name)(num_classes=5, width=0.125).double()).eval()
    small = getattr(resnet, name)(num_classes=5, width=0.125, drop=drop).double().eval()
    left = {n for n in whole.state_dict() if not n.startswith(drop) or "downsample" in n}
    assert set(small.state_dict()) == left
    small.load_state_dict({n: v for n, v in whole.state_dict().items() if n in left})
    last = "bn3" if name == "resnet50" else "bn2"
    for block in drop:  # a branch that gives nothing
        norm = whole.get_submodule(f"{block}.{last}")
        norm.weight.data.zero_()
        norm.bias.data.zero_()
    x = torch.randn(2, 3, 20, 20, dtype=torch.float64)
    assert torch.allclose(small(x), whole(x), rtol=1e-12, atol=1e-12)
    later = fill(getattr(resnet, name)(num_classes=5, width=0.125).double()).eval()
    for block in drop:
        later.residual_blocks()[block].drop()
    assert torch.equal(later(x), small(x))
    assert size_of(later) == size_of(small) < size_of(whole)


def test_a_dropped_identity_costs_nothing():
    net = resnet.resnet18(num_classes=5, width=0.125, drop=("layer1.1",))
    x = torch.rand(1, 8, 4, 4)
    assert net.layer1[1](x) is x
    assert size_of(net.layer1[1]) == 0


def test_the_initialisation_is_torchvisions():
    torch.manual_seed(0)
    net = resnet.resnet50(width=0.5)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    for m in convolutions:  # normal of variance 2 / fan-out
        fan_out = m.weight[:, 0].numel()
        assert m.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert bool((m.weight == 1).all())
            assert not m.bias.any()
    torch.manual_seed(0)
    again = resnet.resnet50(width=0.5)
    assert torch.equal(again.fc.weight, net.fc.weight)
    assert torch.equal(again.conv1.weight, net.conv1.weight)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (33, 18)])
def test_any_image_passes_in_training_and_in_evaluation(name, size):
    torch.manual_seed(0)
    net = getattr(resnet, name)(in_channels=2, num_classes=5, image_size=size, width=0.1)
    out = net(torch.randn(4, 2, *size))
    assert out.shape == (4, 5)
    gradients = torch.autograd.grad(out.square().sum(), list(net.parameters()))
    still = [n for (n, _), g in zip(net.named_parameters(), gradients, strict=True) if not bool(g.any())]
    assert not still, f"no gradient reaches {still}"
    assert net.eval()(torch.randn(1, 2, *size)).isfinite().all()


@pytest.mark.parametrize(("name", "side"), [("resnet18", 32), ("resnet20", 4)])
def test_one_image_to_train_on_must_leave_two_pixels(name, side):
    """The figures of the docstring: up to this side the last stage has one pixel."""
    net = getattr(resnet, name)(image_size=(side, side), width=0.1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        net(torch.rand(1, 3, side, side))
    assert net(torch.rand(1, 3, side + 1, side)).shape[0] == 1


def test_width_thins_all_but_the_classes():
    net = on_meta("resnet50", width=0.25, num_classes=7)
    assert (net.conv1.out_channels, net.layer4[2].conv3.out_channels, net.fc.out_features) == (16, 512, 7)
    assert on_meta("resnet20", width=0.01).fc.in_features == 1
    assert on_meta("resnet20", width=2.0).fc.in_features == 128
    assert net.heads == ("fc",)


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match=r"net 'resnet18': image_size must be .* at least 1 x 1 .* got \(32,\)"):
        resnet.resnet18(image_size=(32,))
    with pytest.raises(ConfigError, match=r"net 'resnet20': image_size must be .* at least 1, got"):
        resnet.resnet20(image_size=(0, 32))
    with pytest.raises(ConfigError, match="net 'resnet34': width must be more than 0, got 0"):
        on_meta("resnet34", width=0)
    with pytest.raises(
        ConfigError, match=r"net 'resnet20': drop must name blocks, got 'layer3.3'; did you mean 'layer3"
    ):
        resnet.resnet20(drop=("layer3.3",))
    with pytest.raises(ConfigError, match=r"net 'resnet20': drop=\('layer3.1',\) needs shortcuts=True"):
        resnet.resnet20(drop=("layer3.1",), shortcuts=False)
    with pytest.raises(ConfigError, match="a block without a shortcut cannot be dropped"):
        resnet.resnet20(shortcuts=False).layer1[0].drop()
    with pytest.raises(ConfigError, match="net 'resnet50': form must be one of 'default', 'paper', got 'v1'"):
        build("net", "resnet50(form='v1')", 3, 10, (32, 32))


def test_the_registry_knows_them():
    for name in COUNTS:
        assert lookup("net", name).rows == ("D8",)
    assert build("net", "resnet20(width=0.5, drop=('layer1.2',))", 1, 4, (8, 8))(torch.rand(2, 1, 8, 8)).shape == (2, 4)
