"""Colours against Pillow: ImageEnhance, point and convert, with the draws that were made."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from konspekt.vision.augment_colour import brightness, contrast, gamma, grey, rgb_shift, saturation
from konspekt.vision.augment_images import Images

ENHANCERS = {brightness: ImageEnhance.Brightness, contrast: ImageEnhance.Contrast, saturation: ImageEnhance.Color}


def pictures(channels, count=30):
    """Noise, dark, light, and one colour."""
    x = torch.randint(0, 256, (count, channels, 9, 14), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    x[1], x[2], x[3] = x[1] // 8, 255 - x[2] // 8, torch.arange(channels, dtype=torch.uint8).view(-1, 1, 1) * 100
    return x


def images(x, epoch=0):
    made = Images({"x": x, "index": torch.arange(len(x))}, epoch=epoch)
    made.seed = 11
    return made


def pillow(image):
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())


def apart(result, picture):
    want = np.asarray(picture)
    want = want[None] if want.ndim == 2 else want.transpose(2, 0, 1)
    return np.abs(result.numpy().astype(int) - want).max()


@pytest.mark.parametrize("change", ENHANCERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_enhancers_are_pillows(change, channels):
    x = pictures(channels)
    made = images(x)
    change(made, by=0.9)
    out = made.done()["x"]
    for image, result, draw in zip(x, out, made.draws(2)[1], strict=True):
        assert apart(result, ENHANCERS[change](pillow(image)).enhance(0.1 + 1.8 * float(draw))) <= 1
    assert torch.equal(out, x) == (change is saturation and channels == 1)


@pytest.mark.parametrize("change", ENHANCERS, ids=lambda f: f.__name__)
def test_floats_are_changed_alike_and_not_held_in_a_range(change):
    x = pictures(3).float() / 255
    made, wide = images(x), images(x * 50 - 7)
    change(made)
    change(wide)
    factor = made.draws(2)[1].double()[:, None, None, None] + 0.5
    y = x.double()
    mean_grey = (y * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    towards = {brightness: 0 * y, contrast: mean_grey.mean((2, 3), keepdim=True), saturation: mean_grey}[change]
    out = made.done()["x"]
    torch.testing.assert_close(out.double(), factor * y + (1 - factor) * towards, rtol=0, atol=1e-6)
    assert out.max() > 1
    offset = -7 * factor if change is brightness else -7
    torch.testing.assert_close(wide.done()["x"].double(), out.double() * 50 + offset, rtol=0, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_gamma_is_pillows_point(channels):
    x = pictures(channels)
    made = images(x)
    gamma(made, most=3)
    powers = []
    for image, result, draw in zip(x, made.done()["x"], made.draws(2)[1], strict=True):
        powers.append(3 ** (2 * float(draw) - 1))
        table = [round(255 * (level / 255) ** powers[-1]) for level in range(256)]
        assert apart(result, pillow(image).point(table * channels)) <= 1
    assert min(powers) < 0.5
    assert max(powers) > 2


def test_gamma_keeps_signs_and_goes_beyond_white():
    x = torch.tensor([-4.0, -0.25, 0, 0.25, 1, 4]).view(1, 1, 1, 6).repeat(8, 1, 1, 1)
    made = images(x)
    gamma(made, most=2)
    power = 2 ** (2 * made.draws(2)[1].double()[:, None, None, None] - 1)
    torch.testing.assert_close(made.done()["x"].double(), x.sign() * x.double().abs() ** power, rtol=1e-5, atol=1e-7)


def test_grey_is_pillows():
    x = pictures(3)
    made = images(x)
    grey(made, p=0.5)
    acted = made.draws(1)[0] < 0.5
    assert 5 < int(acted.sum()) < 25
    for image, result, is_grey in zip(x, made.done()["x"], acted, strict=True):
        assert apart(result, pillow(image).convert("L").convert("RGB") if is_grey else pillow(image)) <= int(is_grey)
    alone = images(pictures(1))
    grey(alone, p=1)
    assert torch.equal(alone.done()["x"], pictures(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_rgb_shift_adds_to_each_channel(channels):
    x = pictures(channels)
    made = images(x)
    rgb_shift(made, by=0.2)
    draws = torch.stack(made.draws(1 + channels)[1:], 1).double()
    want = (x + ((2 * draws - 1) * 0.2 * 255)[:, :, None, None]).clamp(0, 255)
    assert (made.done()["x"] - want).abs().max() <= 0.5001
    assert draws.std() > 0.2


@pytest.mark.parametrize("change", [brightness, contrast, saturation, gamma, rgb_shift, grey], ids=lambda f: f.__name__)
def test_images_that_are_not_chosen_stay_to_the_bit(change):
    x = torch.randn(40, 3, 6, 6)
    made = images(x)
    change(made, p=0.5)
    out, still = made.done()["x"], made.draws(1)[0] >= 0.5
    assert 5 < int(still.sum()) < 35
    assert torch.equal(out[still], x[still])
    assert (out[~still] != x[~still]).flatten(1).any(1).all()
