"""Augmentations of colour: brightness, contrast, saturation, gamma, RGB shift, grey. Boxes and masks stay as they are.

A factor is drawn evenly around 1 for each image, as in Howard 2013, "Some improvements on deep convolutional neural network
based image classification", https://arxiv.org/abs/1312.5402. Brightness, contrast and saturation blend the image with
black, with its mean grey and with its grey self, as Pillow's ImageEnhance does. White is 255 for uint8, which is held in
0..255, and 1 for floats, which are not held in any range. Row D2.

Shape letters in this file: B images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, Within
from konspekt.core.registry import system
from konspekt.vision.augment_images import Chance, Images

__all__ = ["LUMA", "brightness", "contrast", "gamma", "grey", "image_means", "rgb_shift", "saturation"]

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as in Pillow
Share = Annotated[float, Within(0, 1)]


def image_means(x: Tensor) -> Tensor:
    """(B, C, H, W) float32 -> (B, C): summed so that an image's mean does not depend on its batch."""
    return (x.sum(3).sum(2, dtype=torch.float64) / (x.shape[2] * x.shape[3])).float()


def _grey(x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = x.split(1, 1)
    return red.mul(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])  # type: ignore[no-any-return]


def _factor(images: Images, by: float, p: float) -> Tensor:
    """(B, 1, 1, 1): from 1 - by to 1 + by, and 1 where nothing happens."""
    draw, value = images.draws(2)
    return images.between(1 - by, 1 + by, value, images.chosen(p, draw), 1)[:, None, None, None]


def _coloured(images: Images) -> bool:
    if images.channels not in (1, 3):
        raise ConfigError(f"it takes images of 1 or 3 channels (grey; red, green, blue), got {images.channels}")
    return images.channels == 3


@system(name="brightness", kind="augmentation", rows=("D2",), paper="Howard 2013")
def brightness(images: Images, *, by: Share = 0.5, p: Chance = 1.0) -> None:
    """Multiply all pixels by a factor.

    by: how far the factor may be from 1.
    p: the share of images that it happens to.
    """
    images.set(images.floats().mul_(_factor(images, by, p)))


@system(name="contrast", kind="augmentation", rows=("D2",), paper="Howard 2013")
def contrast(images: Images, *, by: Share = 0.5, p: Chance = 1.0) -> None:
    """Bring all pixels nearer to the image's mean grey, or farther from it, by a factor.

    by: how far the factor may be from 1.
    p: the share of images that it happens to.
    """
    x, factor = images.floats(), _factor(images, by, p)
    means = image_means(x)
    if images.channels == 3:
        means = means[:, 0] * LUMA[0] + means[:, 1] * LUMA[1] + means[:, 2] * LUMA[2]
    else:
        means = means.mean(1)
    images.set(x.mul_(factor).add_((1 - factor) * means[:, None, None, None]))


@system(name="saturation", kind="augmentation", rows=("D2",), paper="Howard 2013")
def saturation(images: Images, *, by: Share = 0.5, p: Chance = 1.0) -> None:
    """Bring each pixel nearer to its own grey, or farther from it, by a factor. Grey images stay as they are.

    by: how far the factor may be from 1.
    p: the share of images that it happens to.

    Raises ConfigError on images that are neither grey nor red, green and blue.
    """
    if _coloured(images):
        x, factor = images.floats(), _factor(images, by, p)
        images.set(torch.lerp(_grey(x), x, factor, out=x))


@system(name="grey", kind="augmentation", rows=("D2",), paper="Chen, Kornblith, Norouzi and Hinton 2020")
def grey(images: Images, *, p: Chance = 0.2) -> None:
    """Take the colour out: all three channels become the pixel's grey. Grey images stay as they are.

    Chen et al. 2020, https://arxiv.org/abs/2002.05709, appendix A.

    p: the share of images that it happens to.

    Raises ConfigError on images that are neither grey nor red, green and blue.
    """
    if _coloured(images):
        (draw,) = images.draws(1)
        chosen = images.chosen(p, draw)
        kept = torch.zeros_like(draw) if chosen is None else (~chosen).float()
        x = images.floats()
        images.set(torch.lerp(_grey(x), x, kept[:, None, None, None], out=x))


@system(name="gamma", kind="augmentation", rows=("D2",))
def gamma(images: Images, *, most: Annotated[float, AtLeast(1)] = 1.5, p: Chance = 1.0) -> None:
    """Raise all pixels, as shares of white, to a power: above 1 makes the middle darker, below 1 lighter.

    The logarithm of the power is drawn evenly. A float below zero keeps its sign.

    most: the largest power; the smallest is its inverse.
    p: the share of images that it happens to.
    """
    draw, value = images.draws(2)
    chosen = images.chosen(p, draw)
    power = (images.between(-1, 1, value, chosen, 0) * math.log(most)).exp()[:, None, None, None]
    x = images.floats()
    new = (x.abs() / images.white).pow_(power).mul_(images.white).copysign_(x)
    images.set(new if chosen is None else torch.where(chosen[:, None, None, None], new, x))


@system(name="rgb-shift", kind="augmentation", rows=("D2",))
def rgb_shift(images: Images, *, by: Share = 0.1, p: Chance = 1.0) -> None:
    """Add a number to each channel, another one to each.

    by: the largest number either way, as a share of white.
    p: the share of images that it happens to.
    """
    draw, *values = images.draws(1 + images.channels)
    chosen = images.chosen(p, draw)
    most = by * images.white
    added = torch.stack([images.between(-most, most, value, chosen, 0) for value in values], 1)
    images.set(images.floats().add_(added[:, :, None, None]))
