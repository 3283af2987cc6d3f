"""VGG against torchvision's numbers, and against table 1, table 2 and section 3.1 of the paper."""

import pytest
import torch
from torch import nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import build
from konspekt.core.registry import entries
from konspekt.vision.nets import vgg

# torchvision 0.28 in evaluation with the state of conftest.py: the CRC-32 of names and shapes, the first outputs, their norms.
TORCHVISION = {
    "vgg11": (
        4249873432,
        [-0.9963859455563676, 5.255923622256889, -5.820016029231961, -0.6445999936482921, 4.5808689580290975, -5.056165420291362],
        [188.12358795367905, 184.7723847813147],
    ),
    "vgg16": (
        3022949719,
        [1.8977499633015498, -2.0756131869340577, -3.577123667531196, 1.3927132625863061, -1.4281163615109522, -3.577704075399578],
        [142.17483593837756, 143.87632391883315],
    ),
    "vgg16_bn": (
        1616242518,
        [-0.8965806734549865, 0.6135446471121053, -2.08483009032161, -1.4197987025266536, -0.053177688233356155, -2.2438104926956597],
        [73.91568267274664, 74.16749776662985],
    ),
    "vgg19": (
        603255321,
        [-0.4620463546999196, 0.6410991944544064, -0.5380996009905824, -0.7772952229238675, 0.969038282769968, -1.311683826540636],
        [133.20097871220526, 133.3851323802534],
    ),
}  # fmt: skip
# Published: by torchvision, and, in millions, in the paper's table 2 (A, A-LRN, B, C, D, E).
COUNTS = {
    "vgg11": (132_863_336, 133),
    "vgg11_bn": (132_868_840, None),
    "vgg11_lrn": (132_863_336, 133),
    "vgg13": (133_047_848, 133),
    "vgg13_bn": (133_053_736, None),
    "vgg16": (138_357_544, 138),
    "vgg16_bn": (138_365_992, None),
    "vgg16_c": (None, 134),
    "vgg16_c_bn": (None, None),
    "vgg19": (143_667_240, 144),
    "vgg19_bn": (143_678_248, None),
}
# Table 1, read off column by column: maps of each convolution, "/" ends a block.
TABLE_1 = {
    "vgg11": "64 / 128 / 256 256 / 512 512 / 512 512 /",
    "vgg13": "64 64 / 128 128 / 256 256 / 512 512 / 512 512 /",
    "vgg16_c": "64 64 / 128 128 / 256 256 256 / 512 512 512 / 512 512 512 /",
    "vgg16": "64 64 / 128 128 / 256 256 256 / 512 512 512 / 512 512 512 /",
    "vgg19": "64 64 / 128 128 / 256 256 256 256 / 512 512 512 512 / 512 512 512 512 /",
}


def size_of(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_outputs_are_torchvisions(name, published_logits):
    out = published_logits(getattr(vgg, name))
    _, first, norms = TORCHVISION[name]
    assert out[:, :3].flatten().tolist() == pytest.approx(first, rel=1e-9)
    assert out.norm(dim=1).tolist() == pytest.approx(norms, rel=1e-9)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(name, outline):
    net, checksum = outline(getattr(vgg, name))
    count, millions = COUNTS[name]
    assert count in (None, size_of(net))
    assert millions in (None, round(size_of(net) / 1e6))
    if name in TORCHVISION:
        assert checksum == TORCHVISION[name][0]


def test_c_has_the_count_of_the_docstring(outline):
    assert size_of(outline(vgg.vgg16_c)[0]) == 133_638_952
    assert all(f"{count:,}" in vgg.__doc__ for count, millions in COUNTS.values() if count and millions)


@pytest.mark.parametrize("name", TABLE_1)
def test_the_columns_are_those_of_table_1(name, outline):
    for net in (outline(getattr(vgg, n))[0] for n in (name, f"{name}_bn")):
        words = []
        for layer in net.features:
            words += [str(layer.out_channels)] if isinstance(layer, nn.Conv2d) else []
            words += ["/"] if isinstance(layer, nn.MaxPool2d) else []
        assert " ".join(words) == TABLE_1[name]
        assert {c.stride for c in net.features if isinstance(c, nn.Conv2d)} == {(1, 1)}
    kernels = [c.kernel_size[0] for c in net.features if isinstance(c, nn.Conv2d)]
    third = [3, 3, 1] if name == "vgg16_c" else [3, 3, 3]
    assert kernels == ([3, 3, 3, 3] + 3 * third if name in ("vgg16", "vgg16_c") else [3] * len(kernels))


@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn", "vgg16_c"])
def test_a_net_is_its_layers_one_after_the_other(name):
    torch.manual_seed(0)
    net = getattr(vgg, name)(2, 5, (70, 40), width=0.05).double().eval()
    x = images = torch.randn(2, 2, 70, 40, dtype=torch.float64)
    state, f = net.state_dict(), nn.functional
    place = 0
    for word in TABLE_1[name.removesuffix("_bn")].split():
        if word == "/":
            x, place = f.max_pool2d(x, 2), place + 1
            continue
        weight = state[f"features.{place}.weight"]
        x = f.conv2d(x, weight, state[f"features.{place}.bias"], padding=weight.shape[-1] // 2)
        if name.endswith("_bn"):
            place += 1
            of = {part: state[f"features.{place}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")}
            x = f.batch_norm(x, *of.values())
        x, place = x.relu(), place + 2
    assert x.shape == (2, 26, 2, 1)
    x = x.repeat_interleave(7, 2).repeat_interleave(7, 3).unfold(2, 2, 2).mean(-1)  # 2 x 1 -> 14 x 7 -> 7 x 7
    x = x.flatten(1)
    for place in (0, 3, 6):
        x = f.linear(x, state[f"classifier.{place}.weight"], state[f"classifier.{place}.bias"])
        x = x.relu() if place < 6 else x
    assert torch.allclose(net(images), x, rtol=1e-10, atol=1e-14)


def test_weights_start_as_in_torchvision():
    torch.manual_seed(0)
    net = vgg.vgg16(width=0.25)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert not layer.bias.any()
            fan_out = layer.weight[:, 0].numel()
            std = 0.01 if isinstance(layer, nn.Linear) else (2 / fan_out) ** 0.5
            assert layer.weight.std().item() == pytest.approx(std, rel=0.1)


def test_a_lrn_normalises_behind_the_first_relu_only():
    net = vgg.vgg11_lrn(width=0.1)
    at = [i for i, layer in enumerate(net.features) if isinstance(layer, nn.LocalResponseNorm)]
    assert at == [2]
    a = 50 * torch.rand(1, 7, 2, 2, dtype=torch.float64)
    squares = nn.functional.pad(a.square(), (0, 0, 0, 0, 2, 2))
    expected = a / (2 + 1e-4 * sum(squares[:, i : i + 7] for i in range(5))) ** 0.75
    assert torch.allclose(net.features[2](a), expected, rtol=1e-12)


def number(net, value):
    """Fill a net's state with one number, as if that were what it has learned."""
    for entry in net.state_dict().values():
        entry.fill_(value)


def numbers(net):
    """place in `features`, or layer of the classifier -> the number that its weight consists of, or None."""
    found = {}
    for name, p in net.named_parameters():
        if name.endswith("weight"):
            found[name.removesuffix(".weight")] = p.flatten()[0].item() if bool((p == p.flatten()[0]).all()) else None
    return {int(k.split(".")[1]): v for k, v in found.items() if k.startswith("features")}, [
        v for k, v in found.items() if k.startswith("classifier")
    ]


def test_e_is_grown_from_a_b_and_d():
    """Which layers are new in B, D and E follows from table 1; all others hold what was learned before."""
    net = vgg.vgg19(1, 3, (32, 32), width=1 / 16)
    names, new = [], []
    for value, (name, part) in enumerate(net.progression(), 1):
        assert part(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
        names.append(name)
        places, full = numbers(part)
        new.append([place for place, known in places.items() if known is None])
        assert {known for known in places.values() if known is not None} <= {value - 1.0}
        assert full == [None if value == 1 else value - 1.0] * 3
        number(part, value)
    places, full = numbers(net)
    new.append([place for place, known in places.items() if known is None])
    assert names == ["vgg11", "vgg13", "vgg16"]
    assert new == [[0, 3, 6, 8, 11, 13, 16, 18], [2, 7], [14, 21, 28], [16, 25, 34]]
    assert {known for known in places.values() if known is not None} == {3.0}
    assert full == [3.0] * 3


def test_normalisation_grows_with_its_convolution():
    net = vgg.vgg13_bn(1, 3, width=1 / 16).double()
    (name, part), *more = list(net.progression())
    assert (name, more) == ("vgg11_bn", [])
    assert next(part.parameters()).dtype == torch.float64
    number(part, 5)
    net.take_over(part)
    new = ("3", "4", "10", "11")  # the second convolutions of blocks 1 and 2, and the normalisation behind them
    for name, value in net.state_dict().items():
        random = name.startswith("features") and name.split(".")[1] in new
        assert bool((value == 5).all()) is not random, name


def test_what_comes_before_each():
    def names(name):
        return [n for n, _ in getattr(vgg, name)(1, 2, (32, 32), width=0.02).progression()]

    assert names("vgg11") == names("vgg11_lrn") == names("vgg11_bn") == []
    assert names("vgg13") == ["vgg11"]
    assert names("vgg16_c") == names("vgg16") == ["vgg11", "vgg13"]
    assert names("vgg19_bn") == ["vgg11_bn", "vgg13_bn", "vgg16_bn"]


def test_width_and_the_smallest_size():
    net = vgg.vgg16(1, 3, (32, 40), width=1 / 32)
    widths = [len(layer.weight) for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert widths == [2, 2, 4, 4, 8, 8, 8, 16, 16, 16, 16, 16, 16, 128, 128, 3]
    assert net(torch.randn(2, 1, 32, 40)).shape == (2, 3)
    with pytest.raises(ConfigError, match=r"net 'vgg16_c_bn': .* at least 32 x 32 pixels, .* got \(31, 32\)"):
        vgg.vgg16_c_bn(image_size=(31, 32))


def test_the_registry_knows_them():
    found = {e.name: e for e in entries() if e.kind == "net" and "D5" in e.rows}
    assert set(found) == set(COUNTS)
    for name, entry in found.items():
        assert entry.load() is getattr(vgg, name)
    net = build("net", "vgg11(width=0.02)", 1, 5, (32, 32))
    assert [net.get_submodule(name).out_features for name in net.heads] == [5]
