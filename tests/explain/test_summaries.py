"""Summaries against published counts and closed forms; the size formulas against Python's own arithmetic."""

import functools
import json
import re
from math import ceil

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from konspekt import ImageClassifier, explain
from konspekt.core.errors import ConfigError, ResourceError
from konspekt.core.registry import entries
from konspekt.explain.sizes import adaptive_size, conv_size, transposed_size

# Multiply-adds of one image of 224 x 224, in units of 10^9: torchvision's tables of its weights ("GFLOPS"), which count a
# multiplication with its addition as one; parameters from the same tables.
TORCHVISION = {
    "alexnet": (0.71, 61_100_840),
    "vgg11": (7.61, 132_863_336),
    "vgg16": (15.47, 138_357_544),
    "vgg19": (19.63, 143_667_240),
    "googlenet": (1.50, None),
    "resnet18": (1.81, 11_689_512),
    "resnet34": (3.66, 21_797_672),
    "resnet50": (4.09, 25_557_032),
    "resnet101": (7.80, 44_549_160),
    "resnet152": (11.51, 60_192_808),
}
# He et al. 2016, table 1, in 10^9 multiply-adds: cut after one decimal; the form with its stride in the 1x1.
HE = {"resnet18": 1.8, "resnet34": 3.6, "resnet50(form='paper')": 3.8}


summary_of = functools.cache(explain.summary)  # of nets by name, which several tests look at


@pytest.mark.parametrize("name", TORCHVISION)
def test_multiply_adds_and_parameters_as_published(name):
    found = summary_of(name)
    billions, parameters = TORCHVISION[name]
    assert found.multiply_adds / 1e9 == pytest.approx(billions, abs=0.006)
    if parameters is not None:
        assert found.parameters == found.trainable == parameters
    assert sum(row.parameters for row in found.layers) in (found.parameters, found.parameters - 6_379_984)  # two heads


@pytest.mark.parametrize("name", HE)
def test_multiply_adds_as_the_paper_has_them(name):
    assert int(summary_of(name).multiply_adds / 1e8) / 10 == HE[name]


def test_lenet_by_hand():
    rows = {row.name: row for row in explain.summary("lenet").layers}
    assert {n: (r.kind, r.shape, r.parameters, r.multiply_adds) for n, r in rows.items()} == {
        "conv1": ("Conv2d 5x5", (6, 28, 28), 156, 28 * 28 * 6 * 25),
        "max_pool2d": ("max_pool2d 2x2/2", (6, 14, 14), 0, 0),
        "conv2": ("Conv2d 5x5", (16, 10, 10), 2416, 10 * 10 * 16 * 6 * 25),
        "max_pool2d:2": ("max_pool2d 2x2/2", (16, 5, 5), 0, 0),
        "fc1": ("Linear", (120,), 48_120, 400 * 120),
        "fc2": ("Linear", (84,), 10_164, 120 * 84),
        "fc3": ("Linear", (10,), 850, 84 * 10),
    }
    assert rows["conv1"].formula == "(32 - 5) // 1 + 1 = 28"
    assert rows["max_pool2d"].formula == "(28 - 2) // 2 + 1 = 14"
    assert rows["conv2"].field.size == (14, 14)


def test_groups_and_transposed_convolutions():
    net = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ConvTranspose2d(8, 2, 2, stride=2))
    first, second = explain.summary(net, (4, 9, 9)).layers
    assert first.multiply_adds == 7 * 7 * 8 * 2 * 9  # 2 channels a group
    assert second.multiply_adds == 7 * 7 * 8 * 2 * 4  # each unit is multiplied by the whole kernel
    assert second.formula == "(7 - 1)*2 + 1*(2 - 1) + 1 = 14"


def test_memory_is_what_autograd_keeps():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    rows = explain.summary(net, (3, 8, 8)).layers
    # a convolution keeps its input, ReLU its output, which is the full layer's input too; the weights are not counted
    assert [row.memory for row in rows] == [4 * 3 * 8 * 8, 4 * 4 * 6 * 6, 0, 0]
    for p in net.parameters():
        p.requires_grad_(False)
    assert explain.summary(net, (3, 8, 8)).memory == 0


def test_shared_layers_are_counted_once():
    same = nn.Conv2d(2, 2, 3, padding=1)
    rows = explain.summary(nn.Sequential(same, same), (2, 5, 5)).layers
    assert [(r.name, r.parameters, r.multiply_adds) for r in rows] == [("0", 38, 900), ("0:2", 0, 900)]


def value_of(formula):
    """What Python makes of a formula's left side."""
    left, _, right = formula.partition(" = ")
    return eval(left, {"ceil": ceil}), int(re.match(r"\d+", right)[0])  # noqa: S307 - a formula of our own


@pytest.mark.parametrize(
    "name", [e.name for e in entries() if e.kind == "net" and e.name[:3] in ("res", "ale", "vgg", "nin")]
)
def test_the_formulas_give_the_sizes(name):
    found = summary_of(name)
    layers = [row for row in found.layers if "Conv2d" in row.kind or "MaxPool2d" in row.kind]
    assert layers
    for row in layers:
        worked, said = value_of(row.formula)
        assert worked == said == row.shape[-1] == row.shape[-2]


def test_the_formula_has_floor_dilation_and_ceil():
    assert conv_size(224, 7, 2, 3) == (112, "(224 + 2*3 - 7) // 2 + 1 = 112")
    assert conv_size(28, 3, 1, 2, 2) == (28, "(28 + 2*2 - 2*(3 - 1) - 1) // 1 + 1 = 28")
    assert conv_size(6, 3, 2, ceil_mode=True) == (3, "ceil((6 - 3) / 2) + 1 = 3")
    assert adaptive_size(7, 7)[1] == "7 windows of 7 // 7 = 1"
    assert adaptive_size(13, 6)[1] == "6 windows from i*13 // 6 to ceil((i + 1)*13 / 6)"


def test_the_formulas_agree_with_torch():
    rng = np.random.default_rng(0)
    for _ in range(60):
        kernel, stride, dilation = (int(rng.integers(1, top)) for top in (6, 5, 4))
        padding = int(rng.integers(0, kernel // 2 + 1))
        size = int(rng.integers(dilation * (kernel - 1) + 1, 40))
        x = torch.zeros(1, 1, size, size, device="meta")
        for ceil_mode in (False, True):
            out = F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)
            assert conv_size(size, kernel, stride, padding, dilation, ceil_mode=ceil_mode)[0] == out.shape[-1]
        extra = int(rng.integers(0, max(stride, dilation)))
        weight = torch.zeros(1, 1, kernel, kernel, device="meta")
        out = F.conv_transpose2d(x, weight, None, stride, padding, extra, 1, dilation)
        assert transposed_size(size, kernel, stride, padding, dilation, extra)[0] == out.shape[-1]


@pytest.mark.parametrize("name", [e.name for e in entries() if e.kind == "net"])
def test_the_table_fits_80_columns(name):
    found = summary_of(name)
    for text in (str(found), found.text(verbose=True)):
        assert max(map(len, text.splitlines())) <= 80
        assert f"{found.parameters:,}" in text
    assert len(found.blocks) <= 64


def test_the_table():
    text = str(explain.summary("resnet18"))
    assert re.search(r"^conv1 +Conv 7x7/2 +64x112x112 +9,408 +118 M +\S+ kB +7$", text, re.M)
    assert re.search(r"^layer4\.1 +BasicBlock +512x7x7 +4,720,640 +231 M +\S+ kB +435$", text, re.M)
    assert re.search(r"^total +11,689,512 +1\.81 G +\S+ MB$", text, re.M)
    assert "68 layers, taken together by blocks" in " ".join(text.split())
    verbose = str(explain.summary("resnet18", verbose=True))
    assert "(224 + 2*3 - 7) // 2 + 1 = 112" in verbose
    assert "layer4.1.bn2" in verbose
    assert "taken together" not in verbose


def test_height_and_width_apart():
    net = nn.Sequential(nn.Conv2d(1, 2, (3, 5), stride=(2, 1)))
    found = explain.summary(net, (1, 9, 9))
    assert found.layers[0].formula == "height (9 - 3) // 2 + 1 = 4, width (9 - 5) // 1 + 1 = 5"
    assert re.search(r"2x4x5 .* 3x5$", str(found), re.M)


def test_as_data():
    found = explain.summary("lenet(form='paper')", (20, 30))
    given = json.loads(json.dumps(found.to_json()))
    assert given["image"] == [1, 20, 30]
    assert given["layers"][0]["field"] == {
        "units": [16, 26], "size": [5, 5], "jump": [1, 1], "start": [0, 0], "centre": [2, 2], "whole": False
    }  # fmt: skip
    assert len(given["layers"]) == len(found.layers)


def test_of_an_estimator_and_of_a_frozen_net():
    X = np.random.default_rng(0).integers(0, 255, (12, 16, 18), dtype=np.uint8)
    estimator = ImageClassifier(epochs=1, random_state=0).fit(X, np.arange(12) % 2)
    found = explain.summary(estimator)
    assert found.image == (1, 16, 18)
    assert found.layers[0].name == "conv1"
    assert found.layers[-1].shape == (2,)
    with pytest.raises(
        ConfigError, match="was fitted on images of 16 x 18 pixels, not of 32 x 32: leave input_size out"
    ):
        explain.summary(estimator, 32)
    estimator.model_.net.conv1.weight.requires_grad_(False)
    assert "of 150 parameters that are frozen" in " ".join(str(explain.summary(estimator)).split())


def test_estimators_that_cannot_be_looked_into():
    from sklearn.exceptions import NotFittedError

    from konspekt import MLPClassifier

    with pytest.raises(NotFittedError):
        explain.summary(ImageClassifier())
    table = MLPClassifier(epochs=1, random_state=0).fit(np.eye(6), np.arange(6) % 2)
    with pytest.raises(ConfigError, match="MLPClassifier does not learn from images"):
        explain.summary(table)


def test_what_no_rule_follows_has_all_but_its_field():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(1, 8, 4, 4)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.recur = nn.LSTM(8, 5, batch_first=True)
            self.head = nn.Linear(5, 3)

        def forward(self, x):
            z = self.patches(x).flatten(2).transpose(1, 2)
            return self.head(self.recur(self.attend(z, z, z)[0])[0][:, -1])

    found = explain.summary(Attending(), (1, 8, 12))
    rows = {row.name: row for row in found.layers}
    n = 2 * 3  # patches
    attention = n * 8 * 24 + n * 8 * 8 + 2 * n * n * 8  # into queries, keys and values, out again, and two products
    assert rows["attend.multi_head_attention_forward"].multiply_adds == attention
    assert rows["recur"].multiply_adds == n * 4 * 5 * (8 + 5)
    assert rows["recur"].shape == (n, 5)
    assert found.multiply_adds == n * 16 * 8 + attention + rows["recur"].multiply_adds + 15
    assert found.parameters == sum(p.numel() for p in Attending().parameters())
    assert rows["patches"].field.size == (4, 4)
    assert rows["recur"].field is rows["head"].field is None
    assert "operation 'transpose': the map was flattened" in found.unfollowed
    assert "Fields are not known to the end: receptive fields cannot" in " ".join(str(found).split())
    with pytest.raises(ConfigError, match="operation 'transpose'"):
        explain.receptive_fields(Attending(), (1, 8, 12))
    assert explain.receptive_field(Attending(), "patches", (1, 8, 12)).size == (4, 4)


def test_sizes_that_are_none():
    net = nn.Conv2d(1, 2, 3)
    assert explain.summary(net, (np.int64(8), np.int64(9))).image == (1, 8, 9)
    for size in (True, (8.0, 8.0), (0, 8), [8, 8], (1, 1, 8, 8)):
        with pytest.raises(ConfigError, match="input_size must be a side in pixels"):
            explain.summary(net, size)


def test_memory_for_huge_images_is_foreseen():
    with pytest.raises(
        ResourceError, match=r"lenet: following receptive fields over 9000000 x 9000000 pixels needs .* GiB"
    ):
        explain.summary("lenet", 9_000_000)
