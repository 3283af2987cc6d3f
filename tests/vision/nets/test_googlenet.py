"""GoogLeNet against torchvision's numbers, against table 1 of the paper, and its stages against the whole."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.core.params import build
from konspekt.core.registry import lookup
from konspekt.vision.nets.googlenet import AuxiliaryHead, Inception, googlenet

# The paper's table 1: pixels of the side and maps behind each, and the printed number of weights in thousands of 1024.
TABLE_1 = {
    "conv1": (112, 64, 2.7),
    "maxpool1": (56, 64, None),
    "conv3": (56, 192, None),
    "maxpool2": (28, 192, None),
    "inception3a": (28, 256, 159),
    "inception3b": (28, 480, 380),
    "maxpool3": (14, 480, None),
    "inception4a": (14, 512, 364),
    "inception4b": (14, 512, 437),
    "inception4c": (14, 512, 463),
    "inception4d": (14, 528, 580),
    "inception4e": (14, 832, 840),
    "maxpool4": (7, 832, None),
    "inception5a": (7, 832, 1072),
    "inception5b": (7, 1024, 1388),
    "avgpool": (1, 1024, None),
}
# What the printed maps of each row make, in the same thousands.
WEIGHTS = {
    "conv1": 9.2, "inception3a": 159.5, "inception3b": 379.0, "inception4a": 366.8, "inception4b": 438.0, "inception4c": 497.5,
    "inception4d": 590.5, "inception4e": 847.0, "inception5a": 1018.0, "inception5b": 1409.0, "fc": 1000.0,
}  # fmt: skip


def size_of(net):
    return sum(p.numel() for p in net.parameters())


def matrices(net):
    return sum(p.numel() for p in net.parameters() if p.dim() > 1) / 1024


def small(form="default", **given):
    torch.manual_seed(0)
    return googlenet(3, 5, (80, 80), width=1 / 8, form=form, **given)


def test_outputs_are_torchvisions(published_logits, outline):
    """torchvision 0.28's googlenet, in evaluation, with the state of conftest.py."""
    net, checksum = outline(googlenet)
    assert checksum == 1984476711
    assert size_of(net) == 13_004_888
    assert size_of(net) - size_of(net.aux1) - size_of(net.aux2) == 6_624_904
    out = published_logits(googlenet)
    first = [-2.094771161498893, -1.6480031854323611, -0.0748514001661982, -1.7940736599422296]
    second = [-2.034777277035724, -1.7220262537845346, -0.0590247397072792, -1.86088572806025]
    assert out[:, :4].flatten().tolist() == pytest.approx([*first, *second], rel=1e-9)
    assert out.norm(dim=1).tolist() == pytest.approx([93.45183252882929, 93.70326844281144], rel=1e-9)


def test_the_papers_counts(outline):
    net, _ = outline(googlenet, form="paper")
    assert {name: round(matrices(net.get_submodule(name)), 1) for name in WEIGHTS} == pytest.approx(WEIGHTS, abs=0.051)
    assert matrices(net.conv2) + matrices(net.conv3) == 112  # as printed
    for name, (_, _, printed) in TABLE_1.items():
        if printed and name != "conv1":  # whose printed 2.7 thousand no 7x7 convolution to 64 maps has
            assert WEIGHTS[name] == pytest.approx(printed, rel=0.08), name
    printed = sum(row[2] or 0 for row in TABLE_1.values()) + 112 + 1000
    assert printed == pytest.approx(6797.7)
    whole = size_of(net) - size_of(net.aux1) - size_of(net.aux2)
    assert whole == 6_998_552  # as the copy published with Caffe has
    assert whole / 1024 == pytest.approx(printed, rel=0.01)
    assert size_of(net) == 13_378_280


@pytest.mark.parametrize("form", ["default", "paper"])
def test_the_maps_have_the_printed_sizes(form):
    net = googlenet(3, 4, width=1 / 16, form=form).eval()
    seen = {}
    for name in TABLE_1:
        net.get_submodule(name).register_forward_hook(
            lambda module, x, out, name=name: seen.update({name: out.shape[1:]})
        )
    net(torch.zeros(1, 3, 224, 224))
    assert {name: (shape[-1], shape[-2]) for name, shape in seen.items()} == {
        n: (r[0], r[0]) for n, r in TABLE_1.items()
    }
    assert [seen[name][0] for name in TABLE_1] == [round(row[1] / 16) for row in TABLE_1.values()]


@pytest.mark.parametrize(("kernel", "normal"), [(3, True), (5, False)])
def test_an_inception_block_is_four_branches(kernel, normal):
    torch.manual_seed(0)
    block = Inception(6, (2, 3, 4, 5, 6, 7), kernel, normal=normal).eval()
    x = torch.randn(2, 6, 5, 4)

    def conv(layer, x, padding=0):
        x = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=padding)
        return (x / (1 + 0.001) ** 0.5 if normal else x).relu()  # running statistics 0 and 1, epsilon 0.001

    expected = [
        conv(block.branch1, x),
        conv(block.branch2[1], conv(block.branch2[0], x), 1),
        conv(block.branch3[1], conv(block.branch3[0], x), kernel // 2),
        conv(block.branch4[1], F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-1e9), 3, 1)),
    ]
    assert torch.allclose(block(x), torch.cat(expected, 1), atol=1e-6)
    assert block(x).shape == (2, 2 + 4 + 6 + 7, 5, 4)


def test_auxiliary_heads_see_the_printed_maps(outline):
    for form in ("default", "paper"):
        net, _ = outline(googlenet, form=form)
        for head, maps in ((net.aux1, 512), (net.aux2, 528)):
            assert tuple(head.conv.conv.weight.shape) == (128, maps, 1, 1)
            assert tuple(head.fc1.weight.shape) == (1024, 2048)
            assert head.dropout.p == 0.7
    head = AuxiliaryHead(2, 3, 2, 4, (14, 17), normal=False)
    x = torch.arange(2 * 14 * 17.0).reshape(1, 2, 14, 17)
    pooled = head.pool(x)
    assert pooled.shape == (1, 2, 4, 5)
    assert pooled[0, 1, 2, 3].item() == pytest.approx(x[0, 1, 6:11, 9:14].mean().item())
    assert head(x).shape == (1, 3)


@pytest.mark.parametrize("form", ["default", "paper"])
def test_auxiliary_logits_in_training_only(form):
    net = small(form)
    x = torch.randn(3, 3, 80, 80)
    assert [out.shape for out in net(x)] == [(3, 5)] * 3
    assert net.aux_weight == 0.3
    assert net.heads == ("fc", "aux1.fc2", "aux2.fc2")
    seen = []
    for head in (net.aux1, net.aux2):
        head.register_forward_hook(lambda *_: seen.append(1))
    assert net.eval()(x).shape == (3, 5)
    assert not seen


def test_the_order_of_the_auxiliary_logits_is_that_of_heads():
    net = small()
    for part in net.modules():  # dropout would hide it
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    for value, name in enumerate(net.heads):
        head = net.get_submodule(name)
        nn.init.zeros_(head.weight)
        nn.init.constant_(head.bias, value)
    assert [out.unique().tolist() for out in net(torch.randn(2, 3, 80, 80))] == [[0.0], [1.0], [2.0]]


def test_the_stages_are_parts_of_the_net():
    net = small()
    own = dict(net.named_parameters())
    names, parts = zip(*net.progression(), strict=True)
    assert names == ("to-aux1", "to-aux2")
    for part in parts:
        assert all(p is own[name] for name, p in part.named_parameters())
    first, second = (set(dict(part.named_parameters())) for part in parts)
    of = {name: {n for n in own if n.startswith(name)} for name in dict(net.named_children())}
    cut = set.union(*(of[n] for n in ("inception4b", "inception4c", "inception4d", "aux2")))
    rest = set.union(*(of[n] for n in ("inception4e", "inception5a", "inception5b", "fc")))
    assert second - first == cut
    assert first | cut | rest == set(own)
    assert not (second & rest)
    assert [part.heads for part in parts] == [("aux1.fc2",), ("aux2.fc2", "aux1.fc2")]
    assert {part.aux_weight for part in parts} == {0.3}
    assert set(net.state_dict()) == set(small().state_dict())


@pytest.mark.parametrize("form", ["default", "paper"])
def test_a_stage_gives_the_logits_of_its_last_head(form):
    net = small(form)
    first, second = (part for _, part in net.progression())
    x = torch.randn(3, 3, 80, 80)
    maps = {}
    for name in ("inception4a", "inception4d"):
        net.get_submodule(name).register_forward_hook(lambda module, x, out, name=name: maps.update({name: out}))
    net.eval()(x)
    assert torch.equal(first.eval()(x), net.aux1(maps["inception4a"]))
    assert torch.equal(second.eval()(x), net.aux2(maps["inception4d"]))
    for part in (first, second):
        part.train()
        for layer in part.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        out = part(x)
        every = out if isinstance(out, tuple) else (out,)
        assert len(every) == len(part.heads)
        gradients = torch.autograd.grad(
            sum(o.square().sum() for o in every), list(part.parameters()), allow_unused=True
        )
        assert all(g is not None and bool(g.any()) for g in gradients)
        # the last head's logits come first
        expected = net.aux1(maps["inception4a"]) if part is first else net.aux2(maps["inception4d"])
        assert torch.equal(every[0], expected)


def test_the_papers_form_has_no_batch_norm_but_response_norm():
    net = small("paper")
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())
    order = [name for name, _ in net.named_children()][:7]
    assert order == ["conv1", "maxpool1", "norm1", "conv2", "conv3", "norm2", "maxpool2"]
    a = 100 * torch.rand(1, 8, 2, 2, dtype=torch.float64)
    squares = F.pad(a.square(), (0, 0, 0, 0, 2, 2))
    mean = sum(squares[:, i : i + 8] for i in range(5)) / 5
    for norm in (net.norm1, net.norm2):
        assert torch.allclose(norm(a), a / (1 + 1e-4 * mean) ** 0.75, rtol=1e-12)
    kernels = [net.get_submodule(f"inception{n}").branch3[1].conv.kernel_size for n in ("3a", "5b")]
    assert kernels == [(5, 5), (5, 5)]
    assert {layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)} == {0.2, 0.7}


def test_weights_start_as_in_torchvision_or_as_the_docstring_says():
    torch.manual_seed(0)
    for layer in googlenet(width=0.25).modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.15)
    net = googlenet(width=0.25, form="paper")
    for name, layer in net.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            std = 0.01 if name in net.heads else (2 / layer.weight[0].numel()) ** 0.5
            assert layer.weight.std().item() == pytest.approx(std, rel=0.2), name
            assert not layer.bias.any()


def test_the_smallest_sizes():
    assert googlenet(1, 3, (15, 20), width=0.05)(torch.randn(2, 1, 15, 20))[0].shape == (2, 3)
    assert googlenet(1, 3, (79, 100), width=0.05, form="paper")(torch.randn(2, 1, 79, 100))[2].shape == (2, 3)
    with pytest.raises(ConfigError, match=r"net 'googlenet': .* at least 15 x 15 pixels, .* got \(14, 15\)"):
        googlenet(image_size=(14, 15))
    with pytest.raises(ConfigError, match=r"net 'googlenet': .* at least 79 x 79 pixels, .* got \(79, 78\)"):
        googlenet(image_size=(79, 78), form="paper")
    with pytest.raises(RuntimeError, match="too small"):
        googlenet(3, 2, (15, 15), width=0.02)(torch.zeros(2, 3, 14, 14))
    with pytest.raises(RuntimeError, match="too small"):
        googlenet(3, 2, (79, 79), width=0.02, form="paper")(torch.zeros(2, 3, 78, 78))
    with pytest.raises(ConfigError, match="net 'googlenet': form must be one of 'default', 'paper', got 'cifar'"):
        googlenet(form="cifar")


def test_the_registry_knows_it():
    assert lookup("net", "googlenet").rows == ("D7",)
    net = build("net", "googlenet(width=0.02, form='paper')", 1, 5, (80, 79))
    assert [net.get_submodule(name).out_features for name in net.heads] == [5, 5, 5]
