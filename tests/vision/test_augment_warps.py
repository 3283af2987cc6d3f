"""Rotation and resize-crop against Pillow and SciPy, with the draws that they make."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from konspekt.vision.augment_images import Images
from konspekt.vision.augment_warps import resize_crop, rotate

SIZES = [(17, 24), (16, 16), (5, 30)]


def pictures(count, height, width, channels=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


def images(x, **fields):
    made = Images({"x": x, "index": torch.arange(len(x)), **fields}, epoch=1)
    made.seed = 5
    return made


def angles(made, degrees):
    return [(2 * float(draw) - 1) * degrees for draw in made.draws(2)[1]]


def pillow(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("degrees", [20, 180])
def test_bilinear_rotation_is_scipys(height, width, degrees):
    """SciPy's grid-constant is zeros around the image, its nearest the edge repeated."""
    x = pictures(6, height, width).float() / 255
    for fill, mode in (("zero", "grid-constant"), ("edge", "nearest")):
        made = images(x)
        rotate(made, degrees=degrees, fill=fill)
        for image, result, angle in zip(x.double(), made.done()["x"], angles(made, degrees), strict=True):
            want = ndimage.rotate(image.numpy(), angle, axes=(2, 1), reshape=False, order=1, mode=mode)
            np.testing.assert_allclose(result.numpy(), want, atol=2e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_bilinear_rotation_is_pillows_inside(height, width):
    """At its border Pillow does not mix the image with what is around it; inside, they differ by rounding."""
    x = pictures(6, height, width)
    made = images(x)
    rotate(made, degrees=60)
    ys, xs = np.mgrid[:height, :width] + 0.5
    for image, result, angle in zip(x, made.done()["x"], angles(made, 60), strict=True):
        want = np.asarray(pillow(image).rotate(angle, Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        from_x = cos * (xs - width / 2) - sin * (ys - height / 2) + width / 2
        from_y = sin * (xs - width / 2) + cos * (ys - height / 2) + height / 2
        inside = (abs(from_x - width / 2) < width / 2 - 0.51) & (abs(from_y - height / 2) < height / 2 - 0.51)
        assert inside.mean() > 0.1
        assert np.abs(result.numpy().astype(int) - want)[:, inside].max() <= 1


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_nearest_rotation_is_pillows(height, width):
    x = pictures(6, height, width)
    masks = torch.randint(0, 9, (6, height, width))
    made = images(x, masks=masks)
    rotate(made, degrees=180, interpolation="nearest")
    out = made.done()
    ys, xs = np.mgrid[:height, :width] + 0.5
    for item, angle in enumerate(angles(made, 180)):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        from_x = cos * (xs - width / 2) - sin * (ys - height / 2) + width / 2
        from_y = sin * (xs - width / 2) + cos * (ys - height / 2) + height / 2
        apart = [np.abs(at - np.round(at)) > 1e-2 for at in (from_x, from_y)]  # from the line between two pixels
        clear = apart[0] & apart[1]
        assert clear.mean() > 0.9
        want = np.asarray(pillow(x[item]).rotate(angle)).transpose(2, 0, 1)
        assert np.array_equal(out["x"][item].numpy()[:, clear], want[:, clear])
        labels = np.asarray(Image.fromarray(masks[item].numpy().astype(np.uint8)).rotate(angle))
        assert np.array_equal(out["masks"][item].numpy()[clear], labels[clear])


def test_a_quarter_turn_takes_boxes_along_exactly(monkeypatch):
    x = pictures(1, 10, 10)
    made = images(x, boxes=torch.tensor([[1.0, 2, 4, 9]]))
    monkeypatch.setattr(made, "draws", lambda count: (torch.zeros(1), torch.ones(1)))  # the largest angle
    rotate(made, degrees=90)
    out = made.done()
    assert torch.equal(out["x"], x.rot90(1, (2, 3)))
    torch.testing.assert_close(out["boxes"], torch.tensor([[2.0, 6, 9, 9]]), rtol=0, atol=1e-4)


def test_a_turned_box_is_the_box_of_its_corners():
    boxes = torch.tensor([8.0, 9, 20, 15]).repeat(5, 1)
    made = images(pictures(5, 24, 28), boxes=boxes)
    rotate(made, degrees=30)
    for out, angle in zip(made.done()["boxes"], angles(made, 30), strict=True):
        turn = np.exp(-1j * math.radians(angle))  # the y axis points down
        corners = [(complex(x, y) - (14 + 12j)) * turn + (14 + 12j) for x in (8, 20) for y in (9, 15)]
        want = [min(c.real for c in corners), min(c.imag for c in corners)]
        want += [max(c.real for c in corners), max(c.imag for c in corners)]
        np.testing.assert_allclose(out.numpy(), want, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_resize_crop_is_pillows(height, width):
    """Pillow's `resize` of the box that was drawn; boxes move as its pixels do."""
    x = pictures(20, height, width)
    x[:10, :, 0], x[:10, :, :, 0] = 255, 0  # at the edge of the image too
    box = torch.tensor([width * 0.3, height * 0.3, width * 0.7, height * 0.6]).repeat(20, 1)
    made = images(x, boxes=box)
    resize_crop(made, area=0.2, ratio=1.5)
    out = made.done()
    shares = []
    for item, (_, share, stretch, across, down) in enumerate(torch.stack(made.draws(5), 1).double().tolist()):
        root, stretched = math.sqrt(0.2 + 0.8 * share), math.exp((2 * stretch - 1) * math.log(1.5) / 2)
        wide, high = min(1, root * stretched) * width, min(1, root / stretched) * height
        left, upper = across * (width - wide), down * (height - high)
        shares.append(wide * high / width / height)
        part = (left, upper, min(left + wide, width), min(upper + high, height))
        want = pillow(x[item]).resize((width, height), Image.Resampling.BILINEAR, part)
        apart = np.abs(out["x"][item].numpy().astype(int) - np.asarray(want).transpose(2, 0, 1))
        assert apart.max() <= 1
        moved = (box[0].double().numpy() - [left, upper] * 2) * ([width / wide, height / high] * 2)
        np.testing.assert_allclose(out["boxes"][item], moved.clip(0, [width, height] * 2), atol=1e-4)
    assert min(shares) > 0.19
    assert max(shares) > 0.7


def test_images_that_are_not_chosen_stay_to_the_bit():
    x = torch.randn(40, 1, 9, 9)
    boxes = torch.rand(40, 1, 4).sort(2)[0]
    for change in (rotate, resize_crop):
        made = images(x, boxes=boxes)
        change(made, p=0.5)
        out = made.done()
        still = made.draws(2)[0] >= 0.5
        assert 5 < int(still.sum()) < 35
        assert torch.equal(out["x"][still], x[still])
        assert torch.equal(out["boxes"][still], boxes[still])
        assert (out["x"][~still] != x[~still]).flatten(1).any(1).all()
