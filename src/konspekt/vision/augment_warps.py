"""Augmentations that draw the image anew through a linear map of the plane: rotation, resize-crop.

Simard, Steinkraus and Platt 2003 (affine maps); Szegedy et al. 2015, section 6, https://arxiv.org/abs/1409.4842
(resize-crop). Row D2.

Shape letters in this file: B images, H height, W width.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch

from konspekt.core.params import AtLeast, MoreThan, Within
from konspekt.core.registry import system
from konspekt.vision.augment_images import Chance, Fill, Images

__all__ = ["resize_crop", "rotate"]


@system(name="rotate", kind="augmentation", rows=("D2",), paper="Simard, Steinkraus and Platt 2003")
def rotate(
    images: Images,
    *,
    degrees: Annotated[float, Within(0, 180)] = 15.0,
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
    fill: Fill = "zero",
    p: Chance = 1.0,
) -> None:
    """Turn the image around its middle by an angle up to `degrees` either way, each equally likely.

    degrees: the largest angle; a positive one turns against the clock.
    interpolation: of pixels; masks take the nearest pixel in any case.
    fill: what moves in from outside: zeros, or the edge repeated.
    p: the share of images that it happens to.
    """
    draw, angle = images.draws(2)
    angle = images.between(-degrees, degrees, angle, None, 0) * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    x, y = images.width / 2, images.height / 2
    source = torch.stack([cos, -sin, x - x * cos + y * sin, sin, cos, y - x * sin - y * cos], 1).view(-1, 2, 3)
    images.warp(source, nearest=interpolation == "nearest", fill=fill, chosen=images.chosen(p, draw))


@system(name="resize-crop", kind="augmentation", rows=("D2",), paper="Szegedy et al. 2015")
def resize_crop(
    images: Images,
    *,
    area: Annotated[float, MoreThan(0), Within(0, 1)] = 0.08,
    ratio: Annotated[float, AtLeast(1)] = 4 / 3,
    p: Chance = 1.0,
) -> None:
    """Cut out a piece, each place equally likely, and resize it to the size of the image, bilinearly.

    The share of the area is drawn evenly, the logarithm of the ratio of width to height too; a piece that would be wider
    or higher than the image is made as wide or high as the image. The piece may begin between two pixels.

    area: the smallest share of the image's area; the largest is all.
    ratio: how much the piece's width to height may differ from the image's, either way.
    p: the share of images that it happens to.
    """
    draw, share, stretch, across, down = images.draws(5)
    root = images.between(area, 1, share, None, 1).sqrt()
    stretched = (images.between(-1, 1, stretch, None, 0) * (math.log(ratio) / 2)).exp()
    wide, high = (root * stretched).clamp_max(1), (root / stretched).clamp_max(1)  # shares of width and height
    left, upper = across * (1 - wide) * images.width, down * (1 - high) * images.height
    zero = torch.zeros_like(wide)
    source = torch.stack([wide, zero, left, zero, high, upper], 1).view(-1, 2, 3)
    images.warp(source, nearest=False, fill="edge", chosen=images.chosen(p, draw))
