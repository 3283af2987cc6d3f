"""Augmentations that hide detail: blur, cut-out, noise. Boxes and masks stay as they are.

Chen et al. 2020, appendix A, https://arxiv.org/abs/2002.05709 (blur); DeVries and Taylor 2017,
https://arxiv.org/abs/1708.04552 (cut-out); Bishop 1995, "Training with noise is equivalent to Tikhonov regularization"
(noise). Row D2.

Shape letters in this file: B images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, MoreThan, Within
from konspekt.core.registry import system
from konspekt.vision.augment_colour import image_means
from konspekt.vision.augment_images import Chance, Images

__all__ = ["blur", "cut_out", "noise"]


def _blurring(sigma: Tensor, most: float, side: int) -> Tensor:
    """(B, side, side): matrices that blur a line of pixels by a Gaussian and take the line's ends to go on for ever.

    sigma (B,), none above `most`. As in SciPy, the kernel is cut off at 4 sigma and has sum 1.
    """
    place = torch.arange(side, device=sigma.device)
    apart = torch.arange(max(int(4 * most + 0.5), side) + 1, device=sigma.device)
    half = torch.exp(-0.5 * (apart / sigma[:, None]) ** 2) * (apart <= (4 * sigma[:, None] + 0.5).floor())
    half = half / (2 * half.sum(1, keepdim=True) - 1)  # the middle is 1
    matrix = half[:, (place - place[:, None]).abs()]
    beyond = half.flip(1).cumsum(1).flip(1)[:, 1 : side + 1]  # what each pixel sees past one end
    matrix[:, :, 0] += beyond
    matrix[:, :, -1] += beyond.flip(1)
    return matrix


@system(name="blur", kind="augmentation", rows=("D2",), paper="Chen, Kornblith, Norouzi and Hinton 2020")
def blur(
    images: Images,
    *,
    least: Annotated[float, MoreThan(0)] = 0.1,
    most: Annotated[float, MoreThan(0)] = 2.0,
    p: Chance = 0.5,
) -> None:
    """Blur with a Gaussian; beyond the image its edge is repeated.

    least, most: bounds of the standard deviation in pixels, which is drawn evenly between them.
    p: the share of images that it happens to.

    Raises ConfigError where `least` is above `most`.
    """
    if least > most:
        raise ConfigError(f"least must be at most most, got least={least:g} and most={most:g}")
    draw, value = images.draws(2)
    chosen = images.chosen(p, draw)
    sigma = images.between(least, most, value, None, 0)
    x = images.floats()
    for side in (images.width, images.height):  # along rows, then turned over along columns, then turned back
        matrix = _blurring(sigma, most, side)
        if chosen is not None:
            matrix = torch.where(chosen[:, None, None], matrix, torch.eye(side, device=x.device))
        x = torch.bmm(x.flatten(1, 2), matrix.transpose(1, 2)).view(x.shape).transpose(2, 3)
    images.set(x.contiguous())


@system(name="cut-out", kind="augmentation", rows=("D2",), paper="DeVries and Taylor 2017")
def cut_out(
    images: Images,
    *,
    size: Annotated[float, MoreThan(0), Within(0, 1)] = 0.5,
    fill: Literal["mean", "zero"] = "mean",
    p: Chance = 1.0,
) -> None:
    """Hide a square, whose middle is any pixel of the image, each equally likely; part of it may lie outside.

    size: the square's side as a share of the image's shorter side, rounded to whole pixels; 0.5 at 32 x 32 as published.
    fill: what is seen in its place: the image's mean colour, or zeros.
    p: the share of images that it happens to.
    """
    draw, down, across = images.draws(3)
    chosen = images.chosen(p, draw)
    side = max(1, round(size * min(images.height, images.width)))
    rows, columns = (
        _covered((place * length).long() - side // 2, side, length)
        for place, length in ((down, images.height), (across, images.width))
    )
    hidden = rows[:, :, None] & columns[:, None]
    if chosen is not None:
        hidden &= chosen[:, None, None]
    x = images.floats()
    if fill == "zero":
        images.set(x.masked_fill_(hidden[:, None], 0))
    else:
        images.set(torch.where(hidden[:, None], image_means(x)[:, :, None, None], x))


def _covered(start: Tensor, side: int, length: int) -> Tensor:
    """(B, length) bool: the places from `start` (B,) on, `side` of them."""
    place = torch.arange(length, device=start.device) - start[:, None]
    return (place >= 0) & (place < side)


@system(name="noise", kind="augmentation", rows=("D2",), paper="Bishop 1995")
def noise(images: Images, *, std: Annotated[float, AtLeast(0)] = 0.05, p: Chance = 1.0) -> None:
    """Add normal noise, drawn for each pixel and channel.

    std: its standard deviation, as a share of white.
    p: the share of images that it happens to.
    """
    (draw,) = images.draws(1)
    chosen = images.chosen(p, draw)
    normal = images.noise().erfinv_().mul_(math.sqrt(2) * std * images.white)
    if chosen is not None:
        normal.mul_(chosen[:, None, None, None])
    images.set(images.floats().add_(normal))
