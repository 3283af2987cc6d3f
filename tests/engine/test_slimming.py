"""A slimmed net computes what the whole net computes whose channels are silent."""

import pytest
import torch
from torch import nn

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import build
from konspekt.engine.slimming import check_plan, slim, slim_as, slots

NETS = {
    "lenet": ("lenet", 1, (16, 16), ["conv1", "conv2"]),
    "vgg11_bn(width=0.05)": ("vgg11_bn(width=0.05)", 3, (32, 32), [f"features.{i}" for i in (0, 4, 8, 11, 15, 18, 22, 25)]),
    "alexnet(width=0.05)": ("alexnet(width=0.05)", 3, (63, 63), [f"features.{i}" for i in (0, 3, 6, 8, 10)]),
    "resnet20(width=0.25)": (
        "resnet20(width=0.25)",
        3,
        (8, 8),
        [f"layer{i}.{j}.conv1" for i in (1, 2, 3) for j in range(3)],
    ),
}  # fmt: skip


def made(name):
    arch, channels, size, expected = NETS[name]
    torch.manual_seed(0)
    net = build("net", arch, channels, 4, size).double().eval()
    for tensor in [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]:
        tensor.data.uniform_(0.1, 0.5)  # nothing is silent by chance
    return net, torch.randn(2, channels, *size, dtype=torch.float64), expected


def silence(net, slot, gone):
    """What the net would compute without these channels: they give 0."""
    conv = net.get_submodule(slot.name)
    for tensor in (conv.weight, conv.bias):
        if tensor is not None:
            tensor.data[gone] = 0
    for name in slot.norms:
        norm = net.get_submodule(name)
        norm.weight.data[gone] = norm.bias.data[gone] = 0


@pytest.mark.parametrize("name", NETS)
def test_a_slimmed_net_computes_the_same_as_one_with_silent_channels(name):
    net, x, expected = made(name)
    found = slots(net)
    assert list(found) == expected
    kept = {n: torch.arange(0, s.channels, 2) for n, s in found.items()}
    for slot in found.values():
        silence(net, slot, torch.arange(1, slot.channels, 2))
    whole, before = net(x), sum(p.numel() for p in net.parameters())
    slim(net, kept)
    assert sum(p.numel() for p in net.parameters()) < before
    torch.testing.assert_close(net(x), whole, rtol=1e-12, atol=1e-12)
    assert {n: net.get_submodule(n).out_channels for n in kept} == {n: len(index) for n, index in kept.items()}
    fresh = build("net", NETS[name][0], NETS[name][1], 4, NETS[name][2]).double().eval()
    slim_as(fresh, {n: len(index) for n, index in kept.items()})
    fresh.load_state_dict(net.state_dict())
    torch.testing.assert_close(fresh(x), whole, rtol=1e-12, atol=1e-12)


def test_the_counts_of_a_slimmed_lenet_are_those_of_smaller_layers():
    net = build("net", "lenet", 1, 10, (28, 28))
    slim(net, {"conv1": torch.tensor([0, 2, 5]), "conv2": torch.arange(8)})
    convs = (1 * 25 + 1) * 3 + (3 * 25 + 1) * 8
    assert sum(p.numel() for p in net.parameters()) == convs + (8 * 4 * 4 + 1) * 120 + 121 * 84 + 85 * 10
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


class Odd(nn.Module):
    """Maps that are concatenated, kept in groups, read without being flattened, or that look at numbers."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.a, self.b = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1, groups=4 if how == "groups" else 1)
        self.c = nn.Conv2d(8 if how == "cat" else 4, 2, 1)

    def forward(self, x):
        x = self.a(x)
        if self.how == "numbers" and x.sum() > 0:
            x = -x
        if self.how == "twice":
            x = self.b(self.b(x))
        y = self.b(x)
        return self.c(torch.cat([x, y], 1) if self.how == "cat" else x + y if self.how == "add" else y)


@pytest.mark.parametrize(
    ("how", "found"), [("", ["a", "b"]), ("add", []), ("cat", []), ("groups", []), ("twice", []), ("numbers", [])]
)
def test_channels_that_others_count_on_cannot_go(how, found):
    net = Odd(how).eval()
    net.a.train()
    assert list(slots(net)) == found
    assert [m.training for m in net.children()] == [True, False, False]  # as they were
    if not found:
        with pytest.raises(ConfigError, match="the channels of 'a' cannot go; those of no layer can"):
            slim(net, {"a": torch.arange(2)})


def test_auxiliary_heads_read_channels_too():
    class Aux(Odd):
        def forward(self, x):
            y = self.a(x)
            z = self.c(self.b(y))
            return (z, y.sum()) if self.training else z

    assert list(slots(Aux("").eval())) == ["b"]


@pytest.mark.parametrize("plan", [None, [], {}, {"conv1": 0}, {"conv1": 2.0}, {"conv1": True}, {"conv1": "3"}, 3])
def test_a_plan_that_is_none(plan):
    with pytest.raises(DataError, match=r"'slimmed' in config\.json says no numbers of channels by layer"):
        check_plan(plan)


def test_a_plan_of_another_net():
    net = build("net", "lenet", 1, 10, (28, 28))
    with pytest.raises(DataError, match="channels of 'fc1' were taken out, which this net cannot do without"):
        slim_as(net, check_plan({"fc1": 3}))
    with pytest.raises(DataError, match="'conv1' has kept 7 of 6 channels"):
        slim_as(net, check_plan({"conv1": 7}))
