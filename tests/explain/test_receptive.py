"""Receptive fields against gradients, for every registered net, and against closed forms and published values."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from konspekt import explain
from konspekt.core.errors import ConfigError
from konspekt.core.params import build, params_of
from konspekt.core.registry import entries
from konspekt.explain.averages import averaging_copy
from konspekt.explain.capture import captured
from konspekt.explain.subject import subject_of
from konspekt.explain.trace import trace

SIZE = (79, 83)  # the largest of the smallest sizes is 79; not square, not round

NETS = [e.name for e in entries() if e.kind == "net"]
MORE = [
    "lenet(form='paper')",
    "alexnet(columns=2, width=0.0625)",
    "googlenet(form='paper', width=0.0625)",
    "nin(form='cifar', width=0.0625)",
    "resnet50(form='paper', width=0.0625)",
    "resnet18(shortcuts=False, width=0.0625)",
    "se_resnet18(squeeze='max', width=0.0625)",
    "neocognitron(planes=1, form='paper')",
]


def named(name):
    if "(" in name:
        return name
    entry = next(e for e in entries() if e.kind == "net" and e.name == name)
    return f"{name}(width=0.0625)" if "width" in params_of(entry.load()) else name


def reached(net, layer, unit, size, channels=3):
    """The pixels whose gradient is not zero."""
    with captured(net.net, [layer]) as outs:
        x = torch.rand(1, channels, *size, dtype=torch.float64, requires_grad=True)
        net(x)
    (slope,) = torch.autograd.grad(outs[layer][0, :, unit[0], unit[1]].sum(), x)
    assert (slope >= 0).all()  # as the averaging copy promises
    return (slope != 0).any(1)[0].numpy()


def agrees(net, layer, field, unit, size, channels=3):
    seen = reached(net, layer, unit, size, channels)
    rows, columns = (0 if len(field.rows) == 1 else unit[0]), (0 if len(field.columns) == 1 else unit[1])
    assert seen.any()
    assert (seen == field.pixels(rows, columns)).all(), f"{layer} {unit}: {field!r}"


def traced(net, size, channels=3):
    """The fields of modules whose output is a map of several units, and the field of the net's output."""
    found = trace(subject_of(net, (channels, *size)))
    modules = dict(net.named_modules())
    maps = {n: f for n, f in found.fields.items() if n in modules and len(found.shapes[n]) == 3 and f.units != (1, 1)}
    return maps, list(found.fields.values())[-1]


@pytest.mark.parametrize("name", NETS + MORE)
def test_the_field_is_where_the_gradient_is(name):
    torch.manual_seed(0)
    net = build("net", named(name), 3, 10, SIZE)
    fields, behind = traced(net, SIZE)
    assert behind.whole or behind.units == (1, 1)  # a full layer, global pooling, or a map of one unit
    if not fields:
        assert not any(isinstance(m, nn.Conv2d) for m in net.modules())
        return
    averaging = averaging_copy(net)
    layers = list(fields)
    last, half = layers[-1], layers[len(layers) // 2]
    h, w = fields[last].units
    agrees(averaging, last, fields[last], (h // 2, w // 2), SIZE)  # before global pooling
    agrees(averaging, half, fields[half], (0, fields[half].units[1] - 1), SIZE)  # in a corner
    assert fields[last].whole == ("squeeze" in name or name.startswith("se_"))


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("lenet", (44, 40), "conv2"),
        ("alexnet(width=0.0625)", (320, 288), "features.12"),
        ("vgg11(width=0.0625)", (224, 192), "features.20"),
        ("googlenet(width=0.0625)", (192, 192), "inception4a"),
        ("resnet18(width=0.0625)", (224, 224), "layer2"),
        ("resnet20", (96, 96), "layer2.1"),
        ("resnet50(form='paper', width=0.0625)", (224, 224), "layer2"),
        ("neocognitron(width=0.125)", (64, 72), "complex.1"),
    ],
)
def test_inside_the_image_the_field_is_a_square_of_its_size_at_its_place(name, size, layer):
    net = build("net", name, 3, 10, size)
    field = explain.receptive_field(net, layer, (3, *size))
    unit = field.middle
    seen = reached(averaging_copy(net), layer, unit, size)
    top, left, bottom, right = field.box(*unit)
    assert seen[top:bottom, left:right].all()
    assert seen.sum() == (bottom - top) * (right - left)
    assert (bottom - top, right - left) == field.size
    assert (top, left) == tuple(s + j * u for s, j, u in zip(field.start, field.jump, unit, strict=True))
    middle = tuple(c + j * u for c, j, u in zip(field.centre, field.jump, unit, strict=True))
    assert middle == ((top + bottom - 1) / 2, (left + right - 1) / 2)


# Araujo, Norris and Sim 2019, table 1, with each net's own strides; VGG's and ResNet-152's last maps are larger than 224.
PUBLISHED = {
    "alexnet": ("features", 195),
    "vgg16": ("features", 212),
    "resnet50(form='paper')": ("layer4", 483),
    "resnet101(form='paper')": ("layer4", 1027),
    "resnet152(form='paper')": ("layer4", 1507),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    layer, size = PUBLISHED[name]
    assert explain.receptive_field(name, layer).size == (size, size)


@pytest.mark.parametrize("size", [(16, 16), (29, 40), (64, 50)])
@pytest.mark.parametrize(("form", "first"), [("default", 9), ("paper", 1)])
@pytest.mark.parametrize("grown", [False, True])
def test_what_the_cells_of_a_neocognitron_see(size, form, first, grown):
    """What inhibits is in the field too: the 9 x 9 around a pixel, the V-cells, the other planes. Windows are 5 x 5."""
    torch.manual_seed(0)
    net = build("net", f"neocognitron(planes=3, form={form!r})", 1, 10, size)
    if grown:  # else no plane is inhibited by V-cells
        net.grow([torch.rand(12, 1, *size)])
        assert all((s.b > 0).any() for s in net.simple)
    fields = explain.receptive_fields(net, (1, *size))
    averaging = averaging_copy(net)
    reach, jump = first // 2, 1  # to each side of the middle, which lies over a pixel as each window's sides are odd
    for i in range(len(net.simple)):
        for layer, stride in ((f"simple.{i}", 1), (f"complex.{i}", 2)):
            field = fields[layer]
            reach += 2 * jump
            jump *= stride
            if layer == f"complex.{len(net.simple) - 1}":  # the whole map
                assert field.units == (1, 1)
                assert field.pixels(0, 0).all()
                agrees(averaging, layer, field, (0, 0), size, 1)
                continue
            assert field.units == tuple(-(-n // jump) for n in size)
            assert (field.size, field.jump) == ((2 * reach + 1,) * 2, (jump, jump))
            for unit in ((0, 0), field.middle, (0, field.units[1] - 1)):
                top, left = (max(0, u * jump - reach) for u in unit)
                bottom, right = (min(n, u * jump + reach + 1) for n, u in zip(size, unit, strict=True))
                assert field.box(*unit) == (top, left, bottom, right)
                agrees(averaging, layer, field, unit, size, 1)


def sees(layers, size=(23, 19), channels=2):
    """The layers one after another agree with their gradient at every unit; the last one's field."""
    net = layers if isinstance(layers, nn.Module) else nn.Sequential(*layers)
    holder = nn.Sequential(net)
    field = explain.receptive_fields(holder, (channels, *size))["0"]
    averaging = averaging_copy(holder)
    h, w = field.units
    for unit in {(0, 0), (h // 2, w // 2), (h - 1, w - 1), (h // 3, w - 1)}:
        agrees(averaging, "0", field, unit, size, channels)
    return field


def test_windows():
    assert sees([nn.Conv2d(2, 3, 3)]).size == (3, 3)
    assert sees([nn.Conv2d(2, 3, (3, 5), (2, 1), (1, 2))]).size == (3, 5)
    field = sees([nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 2, 3, dilation=2)])
    assert (field.size, field.jump, field.start, field.padding) == ((23, 23), (4, 4), (-3, -3), (3, 3))
    # 1 + (3 - 1) + 2 * (3 - 1) + 4 * 2 * (3 - 1); the padding is 1 pixel, then 1 unit of 2 pixels
    assert field.centre == (8, 8)
    assert sees([nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, 3, 1, ceil_mode=True)]).jump == (6, 6)
    assert sees([nn.MaxPool2d(2, 1, dilation=3)]).size == (4, 4)
    assert sees([nn.Conv2d(2, 4, 3, groups=2), nn.LPPool2d(1, 2)]).size == (4, 4)


def test_dilation_leaves_gaps():
    field = sees([nn.Conv2d(2, 2, 3, dilation=3)])
    assert field.size == (7, 7)
    assert field.rows[0].nonzero()[0].tolist() == [0, 3, 6]


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes(mode):
    field = sees([nn.Conv2d(2, 2, 5, padding=2, padding_mode=mode), nn.Conv2d(2, 2, 3, padding=1, padding_mode=mode)])
    assert field.size == (7, 7)
    assert field.start == (-3, -3)
    assert bool(field.rows[0][-1]) == (mode == "circular")


def test_transposed_and_resized():
    assert sees([nn.ConvTranspose2d(2, 3, 3, padding=1)]).size == (3, 3)
    field = sees([nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1, output_padding=1), nn.ReLU()])
    assert field.size == (4, 4)  # a unit of the finer map takes one or two of the coarser one's
    assert str(field.jump) == "(nan, nan)"
    assert sees([nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3)]).size == (2, 2)
    assert sees([nn.Upsample((31, 40), mode="bilinear"), nn.Conv2d(2, 2, 3)]).size[0] in (3, 4)


def test_pooling_to_a_number_of_units():
    assert sees([nn.AdaptiveAvgPool2d((5, 7))]).units == (5, 7)
    assert sees([nn.Conv2d(2, 2, 4, padding=2), nn.AdaptiveMaxPool2d((8, 5))]).jump == (3, 4)
    assert sees([nn.Conv2d(2, 3, 3), nn.AdaptiveMaxPool2d(1)]).whole
    assert sees([nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((3, 2))]).whole


class Made(nn.Module):
    """A net out of a function, as users write them."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def conv(before, after, kernel, **more):
    return nn.Conv2d(before, after, kernel, padding=kernel // 2, **more)


def test_branches_and_skips():
    inception = Made(
        lambda s, x: torch.cat([s.a(x), s.b(x), F.max_pool2d(x, 3, 1, 1)], 1), a=conv(2, 3, 1), b=conv(2, 2, 5)
    )
    assert sees(inception).size == (5, 5)
    residual = Made(lambda s, x: F.relu(s.b(F.relu(s.a(x))) + x), a=conv(2, 2, 3), b=conv(2, 2, 3))
    assert sees(residual).size == (5, 5)

    def in_place(s, x):
        x = s.a(x)
        y = s.b(x)
        y += x
        return y.relu_()

    assert sees(Made(in_place, a=conv(2, 2, 3), b=conv(2, 2, 3))).size == (5, 5)
    option_a = Made(lambda s, x: s.a(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1)), a=conv(2, 4, 3, stride=2))
    field = sees(option_a)
    assert (field.size, field.jump) == ((3, 3), (2, 2))
    cross = Made(
        lambda s, x: s.a(x) + s.b(x),
        a=nn.Conv2d(2, 2, (1, 7), padding=(0, 3)),
        b=nn.Conv2d(2, 2, (7, 1), padding=(3, 0)),
    )
    assert explain.receptive_fields(nn.Sequential(cross), (2, 20, 20))["0"].size == (7, 7)  # the box around the cross


def test_squeeze_and_excitation_sees_all():
    def gated(s, x):
        x = s.a(x)
        return x * torch.sigmoid(s.up(F.relu(s.down(x.mean((2, 3)))))[:, :, None, None])

    layers = {"a": conv(2, 4, 3), "down": nn.Linear(4, 2), "up": nn.Linear(2, 4)}
    field = sees(Made(gated, **layers))
    assert field.whole
    assert field.rows.all()
    assert str(field) == "whole"
    assert explain.receptive_fields(Made(gated, **layers), (2, 9, 9))["a"].size == (3, 3)


def test_normalisation():
    assert sees([conv(2, 4, 3), nn.BatchNorm2d(4), nn.LocalResponseNorm(3), nn.Dropout2d(), nn.GELU()]).size == (3, 3)
    for norm in (nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm([4, 23, 19])):
        fields = explain.receptive_fields(nn.Sequential(conv(2, 4, 3), norm), (2, 23, 19))
        assert [f.whole for f in fields.values()] == [False, True], norm


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x - y,
        lambda x, y: 1 - x.subtract(y),
        lambda x, y: torch.sub(x, y, alpha=2),
        lambda x, y: x.clone().sub_(y),
        lambda x, y: F.relu(x - 1),
        lambda x, y: x / y,
        lambda x, y: 1 / (x / y),
        lambda x, y: torch.true_divide(x, other=y),
        lambda x, y: (x * 2).div_(y + y),
    ],
)
def test_differences_and_quotients_do_not_cancel(function):
    """The copy's two convolutions are alike, so that x is y, and below 1."""
    net = Made(lambda s, x: function(s.a(x), s.b(x)), a=conv(2, 4, 3), b=conv(2, 4, 3))
    assert sees(net).size == (3, 3)


def test_what_does_not_come_from_the_image_is_computed_as_it_is_written():
    def shifted(s, x):
        places = torch.arange(8)
        return s.a(x)[:, :, :, (places - 1) // 2 - places.div(2, rounding_mode="floor")]  # -1 or 0, from the end

    averaging = averaging_copy(nn.Sequential(Made(shifted, a=conv(2, 2, 1))))
    assert reached(averaging, "0", (2, 6), (9, 8), 2).nonzero() == (2, 7)
    assert reached(averaging, "0", (2, 5), (9, 8), 2).nonzero() == (2, 0)


def test_shapes():
    def last(s, x):  # channels last, with a full layer at each place
        x = s.a(x).permute(0, 2, 3, 1)
        return s.b(F.layer_norm(s.full(x), (5,)).permute(0, 3, 1, 2))

    parts = {"a": conv(2, 4, 3), "full": nn.Linear(4, 5), "b": conv(5, 2, 3)}
    assert explain.receptive_fields(Made(last, **parts), (2, 9, 8))["b"].size == (5, 5)

    def shuffled(s, x):
        x = s.a(x)
        b, c, h, w = x.shape
        first, second = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w).chunk(2, dim=1)
        return torch.cat((first, s.b(second)), 1)[:, :, 1:, :-1]

    assert sees(Made(shuffled, a=conv(2, 4, 3), b=conv(2, 2, 3))).size == (5, 5)


def test_behind_a_full_layer_a_unit_sees_the_whole_image_of_a_map_of_several():
    fields = explain.receptive_fields("lenet")
    assert [str(f) for f in fields.values()] == ["5", "6", "14", "16", "whole", "whole", "whole"]
    smallest = explain.receptive_fields("lenet", 16)  # one unit is left, and it sees what it sees
    assert smallest["fc1"].size == (16, 16)
    assert not smallest["fc1"].whole


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda s, x: x.roll(1, 2), "roll"),
        (lambda s, x: x.cumsum(2), "cumsum"),
        (lambda s, x: x @ x.transpose(2, 3), "bmm"),
        (lambda s, x: x + x.transpose(2, 3), "add"),
        (lambda s, x: F.conv2d(s.a(x), x[:, :, :3, :3]), "convolution"),
        (lambda s, x: s.a(x.flatten(1)[:, :128].view(-1, 2, 8, 8)), "slice"),
    ],
)
def test_what_no_rule_follows_is_refused_by_name(function, named):
    net = Made(function, a=conv(2, 2, 3))
    with pytest.raises(ConfigError, match=rf"cannot be followed through the operation '{named}'.*effective_field"):
        explain.receptive_fields(net, (2, 9, 9))


def test_writing_into_a_part_is_refused():
    def partly(s, x):
        x = x.clone()
        x[:, :, 1:] += s.a(x)[:, :, 1:]
        return x

    with pytest.raises(ConfigError, match="cannot be followed through the operation"):
        explain.receptive_fields(Made(partly, a=conv(2, 2, 3)), (2, 9, 9))


def test_a_net_that_looks_at_numbers_is_run_in_earnest():
    net = Made(lambda s, x: s.a(x) if float(x.sum()) < 1 else x, a=conv(2, 2, 3))
    assert explain.receptive_field(net, "a", (2, 9, 9)).size == (3, 3)


def test_messages():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    with pytest.raises(ConfigError, match=r"Sequential: give input_size=\(channels, height, width\)"):
        explain.receptive_field(net)
    with pytest.raises(ConfigError, match=r"Sequential cannot be run on an image of 3 x 9 x 9.*RuntimeError"):
        explain.receptive_field(net, None, 9)
    with pytest.raises(ConfigError, match=r"input_size must be a side in pixels.*got 'big'"):
        explain.receptive_field(net, None, "big")
    with pytest.raises(ConfigError, match="LeNet has no layer 'conv3'; did you mean 'conv2'"):
        explain.receptive_field("lenet", "conv3")
    with pytest.raises(ConfigError, match="mlp has no convolution, nor any other layer that gives a map"):
        explain.receptive_field("mlp")
    with pytest.raises(ConfigError, match="'lenett' is not a registered net; did you mean 'lenet'"):
        explain.receptive_field("lenett")
    with pytest.raises(ConfigError, match=r"a net, a fitted estimator of images or the name .* got int"):
        explain.receptive_field(5)
    with pytest.raises(ConfigError, match="get their shape from their first batch"):
        explain.receptive_field(nn.Sequential(nn.LazyConv2d(2, 3)), None, (3, 9, 9))


def test_the_net_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    net[1].eval()
    net[0].weight.requires_grad_(False)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    explain.receptive_fields(net, (1, 8, 8))
    averaging_copy(net)
    assert (net.training, net[1].training, net[2].training) == (True, False, True)
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_of_the_image_as_channels():
    net = nn.Sequential(nn.Flatten(1, 2), nn.Conv1d(9, 4, 3))
    field = explain.receptive_fields(net, (1, 9, 12))["1"]
    assert field.whole
    assert field.columns[0].tolist() == [True] * 3 + [False] * 9
    assert field.rows.all()
    with pytest.raises(ConfigError, match="it keeps groups of the image's rows apart"):
        explain.receptive_fields(nn.Sequential(nn.Flatten(1, 2), nn.Conv1d(9, 9, 3, groups=9)), (1, 9, 12))


@pytest.mark.parametrize(
    "layer", [nn.PReLU(2), nn.Hardswish(), nn.LogSigmoid(), nn.ChannelShuffle(2), nn.ReLU(), nn.GELU(), nn.Softmax2d()]
)
def test_what_works_number_by_number_changes_no_field(layer):
    fields = explain.receptive_fields(nn.Sequential(nn.Conv2d(1, 2, 3), layer), (1, 7, 8))
    assert (fields["1"].size, fields["1"].start) == ((3, 3), (0, 0))
