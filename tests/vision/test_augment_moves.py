"""Shifts and crops against NumPy, for every place that they may take."""

import numpy as np
import pytest
import torch

from konspekt.vision.augment import augment


def made(x, name, seed=1, epoch=2, **fields):
    return augment({"x": x, "index": torch.arange(len(x)), **fields}, names=(name,), seed=seed, epoch=epoch)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(200, 1, 9, 12), (200, 3, 8, 8)])
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("shift(by=2)", "edge"),
        ("crop(padding=2)", "constant"),
        ("crop(padding=2, mode='edge')", "edge"),
        ("crop(padding=2, mode='reflect')", "reflect"),
    ],
)
def test_every_place_as_numpy_pads_and_cuts(dtype, shape, name, mode):
    x = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = made(x, name)["x"]
    assert out.dtype is dtype
    assert out.is_contiguous()
    found = set()
    places = [(upper, left) for upper in range(5) for left in range(5)]
    for image, result in zip(x.numpy(), out.numpy(), strict=True):
        wide = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode=mode)
        height, width = image.shape[1:]
        fits = [(u, v) for u, v in places if np.array_equal(wide[:, u : u + height, v : v + width], result)]
        assert len(fits) == 1
        found.add(fits[0])
    assert len(found) == 25  # every way occurs


@pytest.mark.parametrize("name", ["shift(by=2)", "crop(padding=2)"])
def test_each_place_is_equally_likely(name):
    x = torch.zeros(20_000, 1, 5, 5)
    x[:, :, 2, 2] = 1
    where = made(x, name, 0, 0)["x"][:, 0].sum(0)
    assert where.sum() == 20_000
    assert ((where - 800).abs() < 5 * 800**0.5).all()


def test_a_flip_happens_to_the_share_p():
    x = torch.arange(2.0).view(1, 1, 1, 2).expand(10_000, 1, 1, 2)
    for p in (0.5, 0.2):
        flipped = made(x, f"flip(p={p})")["x"][:, 0, 0, 0].sum()
        assert abs(float(flipped) - 10_000 * p) < 5 * (10_000 * p * (1 - p)) ** 0.5


def test_the_default_of_shift_is_a_sixteenth():
    for height, width, down, right in ((32, 64, 2, 4), (8, 8, 1, 1), (5, 40, 1, 2)):
        x = torch.arange(height * width).float().view(1, 1, height, width).expand(500, 1, height, width)
        centre = made(x, "shift", 0, 0)["x"][:, 0, height // 2, width // 2].long()
        assert set((centre // width - height // 2).tolist()) == set(range(-down, down + 1))
        assert set((centre % width - width // 2).tolist()) == set(range(-right, right + 1))


def test_the_default_of_crop_is_an_eighth():
    x = torch.ones(500, 1, 32, 16)
    filled = made(x, "crop", 0, 0)["x"][:, 0] == 0
    assert int(filled.all(2).sum(1).max()) == 4
    assert int(filled.all(1).sum(1).max()) == 2


def test_shift_draws_as_it_always_has():
    """A run can be resumed that an earlier version began: where the pixel at (4, 4) came from, as version 0.1 had it."""
    x = torch.arange(64.0).view(1, 1, 8, 8).expand(3, 1, 8, 8)
    assert made(x, "shift", 1, 0)["x"][:, 0, 4, 4].tolist() == [44, 45, 29]


def test_farther_than_the_image_is_wide():
    x = torch.rand(4, 2, 6, 5)
    assert torch.equal(made(x, "shift(by=0)")["x"], x)
    assert torch.equal(made(x, "crop(padding=0)")["x"], x)
    far = made(x, "shift(by=20)")["x"]
    assert all(set(f.flatten().tolist()) <= set(i.flatten().tolist()) for f, i in zip(far, x, strict=True))
    assert set(made(x, "crop(padding=20)")["x"].flatten().tolist()) <= {0.0, *x.flatten().tolist()}


def test_boxes_go_with_the_pixels_exactly():
    """A box around one pixel stays around it."""
    x = torch.zeros(300, 1, 9, 12)
    x[:, 0, 4, 3] = 1
    box = torch.tensor([3.0, 4, 4, 5]).expand(300, 4)
    for name in ("flip", "vertical-flip", "shift(by=2)", "crop(padding=2)"):
        out = made(x, name, boxes=box)
        for image, (left, upper, right, lower) in zip(out["x"][:, 0], out["boxes"].tolist(), strict=True):
            assert image.sum() == 1
            assert image[int(upper), int(left)] == 1
            assert (right - left, lower - upper) == (1, 1)
