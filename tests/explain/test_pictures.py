"""Pictures of filters and maps, effective fields, saliency and class activation maps."""

import numpy as np
import pytest
import torch
from torch import nn

from konspekt import ImageClassifier, explain
from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.core.params import build
from konspekt.explain.sheets import Panel, Sheet, as_picture


class Where(nn.Module):
    """Class 1 is what is bright: a map of blurred pixels, its mean, and a full layer."""

    def __init__(self, side=16):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def fitted():
    """Two classes, which a bright square tells: left above, or right below."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 60, (40, 16, 16), dtype=np.uint8)
    y = np.array(["left", "right"])[np.arange(40) % 2]
    X[::2, 2:7, 2:7] += 180
    X[1::2, 9:14, 9:14] += 180
    return ImageClassifier(epochs=15, batch_size=8, lr=0.01, random_state=0).fit(X, y), X


def touched(model):
    return (
        [m.training for m in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [p.grad for p in model.parameters()],
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()),
    )


# ------------------------------------------------------------------------------------------------------ effective fields


def test_the_effective_field_of_averages_is_a_binomial():
    """n means over 3 pixels, one after another: along an axis the n-fold convolution of (1, 1, 1) / 3 with itself."""
    layers = [nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(4)]
    net = nn.Sequential(*layers)
    for p in net.parameters():
        nn.init.constant_(p, 1 / 9)
    found = explain.effective_field(net, torch.rand(3, 1, 21, 21))
    line = np.ones(1)
    for _ in range(4):
        line = np.convolve(line, np.ones(3) / 3)
    expected = np.zeros((21, 21))
    expected[6:15, 6:15] = np.outer(line, line)
    assert np.allclose(found.share, expected, atol=1e-7)
    assert (found.layer, found.unit, found.box) == ("3", (10, 10), (6, 6, 15, 15))
    assert found.size == pytest.approx(np.sqrt((expected > 0.0455 * expected.max()).sum()))
    inside = {
        side: expected[10 - side // 2 : 11 + side // 2, 10 - side // 2 : 11 + side // 2].sum() for side in (5, 7, 9)
    }
    assert inside[5] < 0.95 < inside[7]
    assert found.side_of(0.95) == 7
    assert found.side_of(1.0) == 9


def test_the_effective_field_is_smaller_than_the_arithmetic_says():
    torch.manual_seed(0)
    net = build("net", "resnet20", 3, 10, (48, 48))
    found = explain.effective_field(net, None, "layer2", input_size=(3, 48, 48))
    top, left, bottom, right = found.box
    assert found.share.sum() == pytest.approx(1)
    assert found.share[top:bottom, left:right].sum() == pytest.approx(1)
    assert 3 < found.size < bottom - top


def test_the_effective_field_of_an_estimator_and_of_a_net_that_no_rule_follows(fitted):
    estimator, X = fitted
    before = touched(estimator.model_)
    found = explain.effective_field(estimator, X, "conv2", (0, 1))
    assert found.box == (0, 2, 14, 16)
    outside = found.share.copy()
    outside[0:14, 2:16] = 0
    assert outside.sum() == 0
    assert touched(estimator.model_) == before

    class Rolled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.conv(x.roll(2, 2))

    found = explain.effective_field(Rolled(), None, input_size=(1, 9, 9))
    assert found.box is None
    assert (found.share > 0).sum() == 9
    with pytest.raises(ConfigError, match=r"layer 'conv2' has 2 x 2 units, so there is none at .2, 0."):
        explain.effective_field(estimator, X, "conv2", (2, 0))
    with pytest.raises(ConfigError, match="LeNet has no layer 'conv9'; did you mean"):
        explain.effective_field(estimator, X, "conv9")
    with pytest.raises(ConfigError, match="a net with its weights is needed, got the name 'lenet'"):
        explain.effective_field("lenet")
    with pytest.raises(DataError, match=r"Rolled: images must be \(images, 1, 9, 9\), got \(9, 9\)"):
        explain.effective_field(Rolled(), torch.zeros(9, 9), input_size=(1, 9, 9))


# ------------------------------------------------------------------------------------------------ filters, activations


def test_filters_of_one_channel_are_the_weights():
    net = build("net", "lenet", 1, 10, (28, 28))
    sheet = explain.filters(net)
    assert len(sheet.images) == 6
    for image, kernel in zip(sheet.images, net.conv1.weight[:, 0], strict=True):
        assert np.array_equal(image, kernel.detach().double().numpy())
    assert "6 filters of 1 x 5 x 5" in sheet.note
    assert sheet.top["signed"] == pytest.approx(float(net.conv1.weight.detach().abs().max()))  # one scale for all


def test_filters_in_colour_and_of_deeper_layers():
    net = build("net", "resnet18(width=0.25)", 3, 10, (32, 32))
    sheet = explain.filters(net)
    assert sheet.title == "Filters of conv1"
    weight = net.conv1.weight.detach().double()
    assert np.allclose(sheet.images[3], 0.5 + weight[3].permute(1, 2, 0) / (2 * weight.abs().max()))
    deep = explain.filters(net, "layer2.0.conv1")
    assert len(deep.images) == 64
    assert np.array_equal(deep.images[9], net.layer2[0].conv1.weight[1, 1].detach().double().numpy())
    assert "8 of 32, 8 of 16" in deep.note


def test_filters_that_are_not_there():
    with pytest.raises(ConfigError, match="PixelMLP has no convolution"):
        explain.filters(build("net", "mlp", 1, 10, (8, 8)))
    with pytest.raises(ConfigError, match="layer 'fc1' is a Linear, no convolution; convolutions: conv1, conv2"):
        explain.filters(build("net", "lenet", 1, 10, (28, 28)), "fc1")
    with pytest.raises(ConfigError, match="LeNet has no layer 'cnv1'; did you mean 'conv1'"):
        explain.filters(build("net", "lenet", 1, 10, (28, 28)), "cnv1")
    with pytest.raises(ConfigError, match="layer 'conv1' has no weights yet"):
        explain.filters("lenet")


def test_activations_are_what_the_layer_gives(fitted):
    estimator, X = fitted
    before = touched(estimator.model_)
    sheet = explain.activations(estimator, X[0], "conv1")
    model = estimator.model_
    with torch.no_grad():
        maps = model.net.conv1(model.scale(torch.as_tensor(X[:1])[:, None]))[0].double().numpy()
    assert np.allclose(sheet.images[0], X[0] / 255)
    assert np.allclose(np.stack(sheet.images[1:]), maps)
    assert touched(estimator.model_) == before
    with pytest.raises(ConfigError, match="layer 'fc1' gives 120 numbers and no maps"):
        explain.activations(estimator, X[0], "fc1")
    with pytest.raises(DataError, match="15 x 16 pixels"):
        explain.activations(estimator, X[0][1:], "conv1")


def test_of_many_maps_the_strongest_are_shown():
    net = nn.Sequential(nn.Conv2d(1, 70, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.arange(70.0).reshape(70, 1, 1, 1))
    sheet = explain.activations(net, torch.ones(1, 4, 4), "0")
    assert [p.title for p in sheet.panels[1:]] == [f"map {i}" for i in range(7, 70)]
    assert "63 with the most activation" in sheet.note


# -------------------------------------------------------------------------------------------- saliency, class activation


def test_saliency_of_a_linear_net_is_its_weights():
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 4, 3))
    weight = net[1].weight.detach().reshape(3, 2, 3, 4).double().numpy()
    image = torch.rand(2, 3, 4)
    for method in ("gradient", "smooth"):
        found = explain.saliency(net, image, 1, method)
        assert np.allclose(found.values, np.abs(weight[1]).max(0), atol=1e-6)
    times = explain.saliency(net, image, 2, "gradient-input").values
    assert np.allclose(times, (weight[2] * image.double().numpy()).sum(0), atol=1e-6)
    assert times.sum() + float(net[1].bias[2].detach()) == pytest.approx(
        float(net(image[None]).detach()[0, 2]), abs=1e-5
    )
    best = explain.saliency(net, image)
    assert best.target == f"output {int(net(image[None]).argmax())}"


def test_saliency_of_an_estimator(fitted):
    estimator, X = fitted
    before = touched(estimator.model_)
    found = explain.saliency(estimator, X[1])
    assert found.target == "right"
    assert np.array_equal(found.picture, X[1] / 255)
    # the same by differences: the score of raw pixels, one of them a little brighter
    model = estimator.model_.double()
    x = torch.as_tensor(X[1:2], dtype=torch.float64)[:, None]
    for row, column in ((11, 11), (3, 3), (0, 15)):
        more = x.clone()
        more[0, 0, row, column] += 1e-4
        with torch.no_grad():
            slope = float((model(more) - model(x))[0, 1]) / 1e-4
        assert found.values[row, column] == pytest.approx(abs(slope), abs=1e-5)
    model.float()
    assert touched(estimator.model_) == before
    smooth = explain.saliency(estimator, X[1], "left", "smooth")
    assert smooth.target == "left"
    assert np.array_equal(smooth.values, explain.saliency(estimator, X[1], "left", "smooth").values)
    with pytest.raises(ConfigError, match="ImageClassifier: there is no class 'up'; known: left, right"):
        explain.saliency(estimator, X[0], "up")
    with pytest.raises(ConfigError, match=r"method must be one of 'gradient'.*got 'grad'"):
        explain.saliency(estimator, X[0], method="grad")
    with pytest.raises(DataError, match=r"image 0: its shape \(2, 16, 16\) has no axis"):
        explain.saliency(estimator, X[:2])
    assert explain.saliency(estimator, X[:1]).picture.shape == (16, 16)


@pytest.mark.parametrize(
    "name", ["resnet18(width=0.125)", "googlenet(width=0.125)", "nin(width=0.125)", "se_resnet18(width=0.125)"]
)
def test_class_activation_and_its_gradient_agree_up_to_scale(name):
    torch.manual_seed(0)
    net = build("net", name, 3, 5, (96, 96)).double()
    image = torch.rand(3, 96, 96, dtype=torch.float64)
    cam = explain.class_activation_map(net, image, 3)
    grad = explain.class_activation_map(net, image, 3, method="grad-cam", layer=cam.layer)
    assert cam.method == "cam"
    h, w = cam.units.shape
    assert min(h, w) > 1
    assert np.allclose(cam.units / (h * w), grad.units, rtol=1e-6, atol=1e-12)
    assert cam.values.shape == (96, 96)
    net.eval()
    bias = 0.0 if name.startswith("nin") else float(net.fc.bias[3].detach())
    assert cam.units.mean() + bias == pytest.approx(
        float(net(image[None]).detach()[0, 3]), rel=1e-5
    )  # the score is their mean


def test_class_activation_by_hand():
    torch.manual_seed(0)
    net = Where()
    image = torch.rand(1, 12, 10)
    found = explain.class_activation_map(net, image, 1)
    maps = torch.relu(net.conv(image[None]))[0]
    expected = (net.fc.weight[1][:, None, None] * maps).sum(0).detach().numpy()
    assert np.allclose(found.units, expected, atol=1e-6)
    assert np.allclose(found.values, expected, atol=1e-6)  # of the size of the image already


def test_class_activation_of_an_estimator_points_at_the_square(fitted):
    estimator, X = fitted
    found = explain.class_activation_map(estimator, X[1], layer="conv1")
    assert (found.method, found.target) == ("grad-cam", "right")
    heat = found.values.clip(0)
    assert heat[8:15, 8:15].sum() > 2 * heat[1:8, 1:8].sum()
    with pytest.raises(ConfigError, match=r"no weighted sums of the means of the maps of 'conv1'.*grad-cam"):
        explain.class_activation_map(estimator, X[1], layer="conv1", method="cam")
    with pytest.raises(ConfigError, match="layer 'fc1' gives no maps"):
        explain.class_activation_map(estimator, X[1], layer="fc1")
    with pytest.raises(ConfigError, match="PixelMLP has no convolution"):
        explain.class_activation_map(build("net", "mlp", 1, 3, (8, 8)), torch.rand(1, 8, 8))
    with pytest.raises(ConfigError, match="method must be one of 'auto', 'cam', 'grad-cam', got 'gradcam'"):
        explain.class_activation_map(estimator, X[1], method="gradcam")


# -------------------------------------------------------------------------------------------------------------- sheets


def test_pictures_are_written(tmp_path, fitted):
    from PIL import Image

    estimator, X = fitted
    sheets = [
        explain.filters(estimator),
        explain.activations(estimator, X[0], "conv1"),
        explain.saliency(estimator, X[0]),
        explain.saliency(estimator, X[0], method="gradient-input"),
        explain.class_activation_map(estimator, X[0], layer="conv2"),
        explain.effective_field(estimator, X),
    ]
    for i, sheet in enumerate(sheets):
        path = sheet.save(tmp_path / f"{i}.png")
        with Image.open(path) as picture:
            assert min(picture.size) > 150
            assert len(picture.convert("L").getcolors()) > 10
    with pytest.raises(ConfigError, match=r"a picture is written as png, svg, pdf, jpg"):
        sheets[0].save(tmp_path / "x.txt")
    with pytest.raises(ResourceError, match=r"none.x\.png: the picture cannot be written"):
        sheets[0].save(tmp_path / "none" / "x.png")


def test_pyplot_is_left_alone(fitted):
    import sys

    loaded = "matplotlib.pyplot" in sys.modules
    explain.filters(fitted[0]).figure()
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_pictures_of_a_kind_have_one_scale():
    sheet = Sheet("Two", [Panel("a", np.ones((2, 2)), "signed"), Panel("b", -3 * np.ones((2, 2)), "signed")])
    assert sheet.top == {"signed": 3.0}
    figure = sheet.figure()
    limits = [image.get_clim() for axes in figure.axes for image in axes.images][:2]
    assert limits == [(-3.0, 3.0), (-3.0, 3.0)]


def test_images_as_pictures():
    assert np.array_equal(as_picture(np.full((1, 2, 2), 255.0)), np.ones((2, 2)))
    assert as_picture(np.zeros((3, 4, 5))).shape == (4, 5, 3)
    assert as_picture(np.zeros((2, 4, 5))).shape == (4, 5)
    stretched = as_picture(np.array([[[-1.0, 3.0]]]))
    assert stretched.tolist() == [[0.0, 1.0]]


def test_a_narrow_strip_makes_no_huge_picture():
    figure = Sheet("Strip", [Panel("a", np.zeros((4000, 1))), Panel("b", np.zeros((4000, 1)), "magnitude")]).figure()
    assert max(figure.get_size_inches()) < 12
    first, second = (axes.get_position() for axes in figure.axes[:2])
    assert (second.x0 - first.x0) * figure.get_size_inches()[0] > 0.5  # room for the titles


def test_a_sheet_is_shown_in_a_line():
    assert repr(Sheet("Filters", [Panel("", np.zeros((2, 2)))] * 3)) == "Sheet('Filters', 3 pictures)"


# ----------------------------------------------------------------------------------------------- what users hand over


LOOKS = {
    "saliency": explain.saliency,
    "map": lambda net, image: explain.class_activation_map(net, image, method="grad-cam"),
    "activations": lambda net, image: explain.activations(net, image, "conv"),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    ("image", "said"),
    [
        (torch.zeros(3, 8, 8), "Where cannot be run on images of 3 x 8 x 8 .* RuntimeError: "),
        (torch.zeros(8, 8), "Where takes images of channels x height x width, got 8 x 8"),
        (torch.zeros(2, 1, 8, 8), "Where takes one image of 1 x 8 x 8 .*, got 2 x 1 x 8 x 8"),
        (torch.full((1, 8, 8), torch.inf), "Where: the pixels hold a number that is not finite"),
        ("cat.png", "a bare net takes images as an array or tensor .*, got str; a fitted estimator takes files"),
        (None, "a bare net takes images as an array or tensor .*, got NoneType"),
    ],
)
def test_images_that_a_bare_net_cannot_take(look, image, said):
    with pytest.raises(DataError, match=said):
        LOOKS[look](Where(), image)


@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode])
def test_gradients_are_taken_where_the_caller_has_switched_them_off(switched_off):
    net, image = Where(), torch.rand(1, 8, 8)
    memory = explain.summary("lenet").memory
    expected = [
        explain.saliency(net, image).values,
        explain.class_activation_map(net, image, method="grad-cam").values,
        explain.effective_field(net, image[None], "conv").share,
    ]
    with switched_off():
        found = [
            explain.saliency(net, image.clone()).values,
            explain.class_activation_map(net, image.clone(), method="grad-cam").values,
            explain.effective_field(net, image[None].clone(), "conv").share,
        ]
        assert not torch.is_grad_enabled()
        assert explain.receptive_field(net, "conv", (1, 8, 8)).size == (3, 3)
        assert explain.summary("lenet").memory == memory
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_scores_without_a_gradient():
    class Deaf(nn.Module):
        def forward(self, x):
            return torch.ones(1, 2)

    for look in (explain.saliency, lambda net, x: explain.saliency(net, x, method="smooth")):
        with pytest.raises(ConfigError, match="Deaf: its scores have no gradient by the image"):
            look(Deaf(), torch.rand(1, 4, 4))


def test_a_target_is_one_class(fitted):
    with pytest.raises(ConfigError, match=r"ImageClassifier: target must be one class, got array"):
        explain.saliency(fitted[0], fitted[1][0], np.array(["left", "right"]))


def test_the_frame_is_that_of_the_last_call():
    relu = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(1, 2, 3), relu, nn.Conv2d(2, 2, 3), relu)
    with torch.no_grad():
        for conv in (net[0], net[2]):
            conv.weight.fill_(1.0)
    found = explain.effective_field(net, torch.ones(1, 1, 9, 9), "1", (0, 0))
    assert found.box == (0, 0, 5, 5)
    assert np.array_equal(found.share > 0, np.pad(np.ones((5, 5), bool), (0, 4)))
