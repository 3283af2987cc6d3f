"""`augment` as a whole: draws that belong to the image, fields that move together, and what it refuses."""

import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.Image import Transpose

from konspekt.core.errors import ConfigError
from konspekt.core.registry import entries
from konspekt.core.seeds import item_draws, mix
from konspekt.data.fields import Ragged
from konspekt.vision.augment import augment
from konspekt.vision.augment_images import Images

ALL = tuple(e.name for e in entries() if e.kind == "augmentation")
GEOMETRY = ("flip", "vertical-flip", "crop", "shift", "rotate", "resize-crop")


def batch(count=16, channels=3, height=12, width=16, dtype=torch.uint8, **more):
    x = torch.randint(0, 256, (count, channels, height, width), generator=torch.Generator().manual_seed(0))
    x = x.to(torch.uint8) if dtype is torch.uint8 else (x / 255).to(dtype)
    return {"x": x, "index": torch.arange(count) + 1000, "y": torch.arange(count), **more}


def test_draws_belong_to_the_item_and_not_to_the_batch():
    whole = batch(50)
    names = ("shift", "flip", "crop", "rotate", "brightness", "contrast", "saturation", "noise", "cut-out", "shift")
    out = augment(whole, names=names, seed=3, epoch=4)
    for order in (torch.randperm(50), torch.tensor([7]), torch.arange(0, 50, 3)):
        part = augment({k: v[order] for k, v in whole.items()}, names=names, seed=3, epoch=4)
        assert torch.equal(part["x"], out["x"][order])
        assert torch.equal(part["y"], order)


def test_each_augmentation_has_draws_of_its_own():
    """By its place and its name: the same name twice does not do the same twice."""
    given = batch()
    for place, name in enumerate(("flip", "vertical-flip", "flip")):
        names = ("brightness(p=0)",) * place + (name,)
        drawn = item_draws(mix(5, place, zlib.crc32(name.encode())), 6, given["index"], 1)[:, 0] < 0.5
        dim = 3 if name == "flip" else 2
        expected = torch.where(drawn[:, None, None, None], given["x"].flip(dim), given["x"])
        assert torch.equal(augment(given, names=names, seed=5, epoch=6)["x"], expected)
        assert drawn.any()
        assert not drawn.all()


def test_moves_in_a_row_are_one_after_the_other():
    """The three are collected into one copy, which must be what three copies are; the fill of one is not undone by the next."""
    given = batch(60, boxes=torch.tensor([2.0, 3, 9, 10]).repeat(60, 1), masks=torch.randint(1, 9, (60, 12, 16)))
    names = ("crop(padding=5)", "shift(by=3)", "flip", "crop(padding=2, mode='reflect')", "vertical-flip")
    once = augment(given, names=names, seed=1, epoch=2)
    step = given
    for place, text in enumerate(names):
        images = Images(step, epoch=2)
        name = text.partition("(")[0]
        images.seed = mix(1, place, zlib.crc32(name.encode()))
        entry = next(e for e in entries() if (e.kind, e.name) == ("augmentation", name))
        arguments = {"crop(padding=5)": {"padding": 5}, "shift(by=3)": {"by": 3}, "flip": {}, "vertical-flip": {}}
        entry.load()(images, **arguments.get(text, {"padding": 2, "mode": "reflect"}))
        step = images.done()
    for field in ("x", "boxes", "masks"):
        assert torch.equal(once[field], step[field])
    assert (once["masks"] == 0).any()


@pytest.mark.parametrize("name", [*GEOMETRY, "cut-out", "blur"])
def test_boxes_and_masks_of_several(name):
    """(B, K, 4) and (B, K, H, W) go as each of the K alone does; what is not geometric leaves them alone."""
    boxes, masks = torch.rand(16, 3, 4).sort(2)[0] * 12, torch.randint(0, 5, (16, 3, 12, 16), dtype=torch.uint8)
    boxes = boxes[..., [0, 1, 3, 2]].sort(2)[0]
    out = augment(batch(boxes=boxes, masks=masks), names=(name,), seed=0, epoch=0)
    for k in range(3):
        one = augment(batch(boxes=boxes[:, k], masks=masks[:, k]), names=(name,), seed=0, epoch=0)
        assert torch.equal(out["boxes"][:, k], one["boxes"])
        assert torch.equal(out["masks"][:, k], one["masks"])
        assert torch.equal(out["x"], one["x"])
    assert torch.equal(out["boxes"], boxes) == (name not in GEOMETRY)
    assert out["masks"].dtype is torch.uint8


def test_a_box_that_leaves_the_image_is_an_edge():
    boxes = torch.tensor([[0.0, 0, 2, 2]]).repeat(64, 1)
    out = augment(batch(64, boxes=boxes), names=("crop(padding=8)",), seed=0, epoch=0)["boxes"]
    width, height = (out[:, 2:] - out[:, :2]).unbind(1)
    assert (out >= 0).all()
    assert (out[:, 2] <= 16).all()
    assert (out[:, 3] <= 12).all()
    assert (width == 0).any()
    assert (height == 0).any()
    assert ((width >= 0) & (height >= 0) & (width <= 2) & (height <= 2)).all()


def test_certain_acts_on_every_image_but_where_p_is_0():
    given = batch()
    out = augment(given, names=("flip(p=0.01)",), seed=0, epoch=0, certain=True)["x"]
    assert torch.equal(out, given["x"].flip(3))
    assert torch.equal(augment(given, names=("flip(p=0)",), seed=0, epoch=0, certain=True)["x"], given["x"])


def test_white_is_what_added_numbers_are_measured_by():
    given = batch(dtype=torch.float32)
    names = ("rgb-shift", "noise", "gamma")
    for white, scale in ((255.0, 255), (None, 1)):
        x = given["x"] * scale
        out = augment({**given, "x": x}, names=names, seed=0, epoch=0, white=white)["x"]
        plain = augment(given, names=names, seed=0, epoch=0)["x"]
        torch.testing.assert_close(out / scale, plain, rtol=1e-4, atol=1e-5)
    for name in names:
        eight = augment({**given, "x": batch()["x"]}, names=(name,), seed=0, epoch=0)["x"]
        plain = augment(given, names=(name,), seed=0, epoch=0)["x"]
        assert (eight - plain.clamp(0, 1) * 255).abs().max() <= 0.501


def test_rounding_is_to_the_nearest_once_at_the_end():
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    out = augment(
        {"x": x, "index": torch.zeros(1, dtype=torch.long)}, names=("brightness", "brightness"), seed=2, epoch=0
    )
    factor = 1.0
    for place in (0, 1):
        factor *= 0.5 + float(item_draws(mix(2, place, zlib.crc32(b"brightness")), 0, torch.zeros(1).long(), 2)[0, 1])
    assert factor < 1  # nothing is held back at 255
    assert torch.equal(out["x"].double(), (x.double() * factor).round())


@pytest.mark.parametrize("name", ALL)
def test_nothing_asks_for_a_value_on_the_host(name):
    """Tensors of the meta device have no values, so that asking for one raises."""
    given = {k: v.to("meta") for k, v in batch(boxes=torch.rand(16, 4), masks=torch.zeros(16, 12, 16)).items()}
    given = given if name != "mixup" else {k: given[k] for k in ("x", "index", "y")}
    out = augment(given, names=(name,), seed=0, epoch=0)
    assert out["x"].shape == given["x"].shape
    assert out["x"].device.type == "meta"


@pytest.mark.parametrize("name", ALL)
def test_odd_batches(name):
    for shape in ((0, 3, 8, 8), (1, 3, 1, 1), (2, 1, 3, 40)):
        given = {"x": torch.rand(shape), "index": torch.arange(shape[0]), "y": torch.arange(shape[0])}
        assert augment(given, names=(name,), seed=0, epoch=0)["x"].shape == shape
    turned = torch.rand(4, 6, 5, 3).permute(0, 3, 1, 2)  # not contiguous
    given = {"x": turned, "index": torch.arange(4), "y": torch.arange(4)}
    out = augment(given, names=(name,), seed=0, epoch=0)["x"]
    same = augment({**given, "x": turned.contiguous()}, names=(name,), seed=0, epoch=0)["x"]
    assert torch.equal(out, same)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_floats_come_back_as_they_were(dtype):
    given = batch(dtype=dtype)
    out = augment(given, names=("rotate", "contrast"), seed=0, epoch=0)["x"]
    assert out.dtype is dtype
    near = augment({**given, "x": given["x"].float()}, names=("rotate", "contrast"), seed=0, epoch=0)["x"]
    torch.testing.assert_close(out.float(), near, rtol=0, atol=1e-3)


def test_the_callers_generator_and_deterministic_algorithms_are_left_alone():
    given, state = batch(), torch.get_rng_state()
    before = {k: v.clone() for k, v in given.items()}
    plain = augment(given, names=ALL, seed=0, epoch=0)
    assert all(torch.equal(given[k], before[k]) for k in before)
    assert set(given) == set(before)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(augment(given, names=ALL, seed=0, epoch=0)["x"], plain["x"])
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_names_it_is_the_batch():
    given = batch()
    assert augment(given, names=(), seed=0, epoch=0) is given


def test_flips_are_pillows():
    given = batch(2)
    for name, turned in (("flip", Transpose.FLIP_LEFT_RIGHT), ("vertical-flip", Transpose.FLIP_TOP_BOTTOM)):
        out = augment(given, names=(f"{name}(p=1)",), seed=0, epoch=0)["x"]
        for image, result in zip(given["x"], out, strict=True):
            picture = Image.fromarray(image.permute(1, 2, 0).numpy()).transpose(turned)
            assert picture.tobytes() == result.permute(1, 2, 0).contiguous().numpy().tobytes()


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (("shfit",), {}, r"augment: names 'shfit' is not a registered augmentation; did you mean 'shift'\?"),
        (("crop(pad=4)",), {}, r"augment: names='crop' has no argument 'pad'"),
        (("crop(padding=-1)",), {}, "padding must be an integer at least 0, or None, got -1"),
        (("flip(p=2)",), {}, "augment: names='flip': p must be from 0 to 1, got 2"),
        (
            ("crop(padding=16, mode='reflect')",),
            {},
            "augmentation .*: a mirrored border of 16 pixels .* the image has 12",
        ),
        (("blur(least=2, most=1)",), {}, "augmentation .*: least must be at most most, got least=2 and most=1"),
        (("mixup", "mixup"), {}, "augmentation 'mixup': the batch has been mixed before"),
        (("mixup",), {"boxes": torch.zeros(16, 4)}, "augmentation 'mixup': boxes cannot be mixed"),
        (("mixup",), {"masks": torch.zeros(16, 12, 16)}, "augmentation 'mixup': masks cannot be mixed"),
        (("mixup",), {"y": None}, "augmentation 'mixup': the batch has no tensor 'y'"),
        (
            ("saturation",),
            {"x": torch.zeros(16, 4, 12, 16)},
            "'saturation': it takes images of 1 or 3 channels .* got 4",
        ),
        (
            ("grey",),
            {"x": torch.zeros(16, 2, 12, 16)},
            "augmentation 'grey': it takes images of 1 or 3 channels .* got 2",
        ),
        (("flip",), {"x": torch.zeros(16, 12, 16)}, r"a tensor 'x' of 4 dimensions, got \(16, 12, 16\)"),
        (
            ("flip",),
            {"x": torch.zeros(16, 1, 2, 2, dtype=torch.int32)},
            "pixels must be uint8 or floats, got torch.int32",
        ),
        (("flip",), {"index": None}, "a tensor 'index' of 1 dimensions, got nothing"),
        (("flip",), {"boxes": torch.zeros(16, 5)}, r"boxes must be floats of shape .*, got \(16, 5\) of torch.float32"),
        (("flip",), {"boxes": torch.zeros(16, 4).long()}, r"boxes must be floats .*, got \(16, 4\) of torch.int64"),
        (
            ("flip",),
            {"boxes": Ragged.of([torch.zeros(1, 4)] * 16)},
            "a tensor 'boxes' of 2 or 3 dimensions, got a Ragged",
        ),
        (("flip",), {"masks": torch.zeros(16, 6, 8)}, r"as large as the images, 12 x 16, got \(16, 6, 8\)"),
    ],
)
def test_errors(names, changes, message):
    given = {k: v for k, v in {**batch(), **changes}.items() if v is not None}
    with pytest.raises(ConfigError, match=message):
        augment(given, names=names, seed=0, epoch=0)


@pytest.mark.parametrize(
    ("change", "names", "said"),
    [
        ({}, "flip", r"names must be several texts, got 'flip': write \('flip',\)"),
        ({"x": np.zeros((2, 3, 4, 4))}, ("flip",), "tensor 'x' of 4 dimensions, got a ndarray"),
        ({"index": torch.arange(3)}, ("flip",), "the batch has 2 images and 3 numbers in 'index'"),
    ],
)
def test_batches_and_names_by_hand(change, names, said):
    batch = {"x": torch.zeros(2, 3, 4, 4), "index": torch.arange(2)} | change
    with pytest.raises(ConfigError, match=said):
        augment(batch, names=names, seed=0, epoch=0)


def test_names_in_a_list():
    batch = {"x": torch.rand(2, 3, 4, 4), "index": torch.arange(2)}
    one, other = (augment(batch, names=names, seed=0, epoch=0)["x"] for names in (["flip"], ("flip",)))
    assert torch.equal(one, other)
