"""Augmentations that move whole pixels: flips, crop and pad, shift. No value is computed, so they suit any dtype.

Several of them in a row cost one copy. Krizhevsky, Sutskever and Hinton 2012, section 4.1 (flip); He et al. 2015, section
4.2, https://arxiv.org/abs/1512.03385 (pad by 4, crop at random); Simard, Steinkraus and Platt 2003 (shift). Row D2.

Shape letters in this file: B images, H height, W width.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast
from konspekt.core.registry import system
from konspekt.vision.augment_images import Chance, Images

__all__ = ["crop", "flip", "shift", "vertical_flip"]


def _mirrored(images: Images, side: int, p: float) -> tuple[Tensor, Tensor]:
    """Which images are turned over, (B,) 0 or 1, and the places (B, side) that their pixels come from."""
    (draw,) = images.draws(1)
    chosen = images.chosen(p, draw)
    over = torch.ones_like(draw, dtype=torch.long) if chosen is None else chosen.long()
    places = torch.arange(side, device=images.device)
    return over, places + over[:, None] * (side - 1 - 2 * places)


def _source(images: Images, right: Tensor, down: Tensor, over_x: Tensor | int = 0, over_y: Tensor | int = 0) -> Tensor:
    """(B, 2, 3): where a point of the new image comes from, moved by (right, down) and turned over where `over` is 1."""
    one, zero = torch.ones_like(right, dtype=torch.float32), torch.zeros_like(right, dtype=torch.float32)
    rows = [one - 2 * over_x, zero, right.float(), zero, one - 2 * over_y, down.float()]
    return torch.stack(rows, 1).view(images.count, 2, 3)


@system(name="flip", kind="augmentation", rows=("D2",), paper="Krizhevsky, Sutskever and Hinton 2012")
def flip(images: Images, *, p: Chance = 0.5) -> None:
    """Turn left and right over.

    p: the share of images that it happens to.
    """
    over, columns = _mirrored(images, images.width, p)
    images.move(None, columns)
    images.carry(_source(images, over * images.width, over * 0, over_x=over))


@system(name="vertical-flip", kind="augmentation", rows=("D2",))
def vertical_flip(images: Images, *, p: Chance = 0.5) -> None:
    """Turn top and bottom over, as suits images without an up, from above or of cells.

    p: the share of images that it happens to.
    """
    over, rows = _mirrored(images, images.height, p)
    images.move(rows, None)
    images.carry(_source(images, over * 0, over * images.height, over_y=over))


@system(name="crop", kind="augmentation", rows=("D2",), paper="He, Zhang, Ren and Sun 2015")
def crop(
    images: Images,
    *,
    padding: Annotated[int, AtLeast(0)] | None = None,
    mode: Literal["zero", "edge", "reflect"] = "zero",
) -> None:
    """Put a border around the image and cut a piece of the old size out of it, each place equally likely.

    padding: pixels on each side; None is an eighth of the height and of the width, rounded: 4 at 32 x 32, as published.
    mode: the border is zeros, repeats the edge, or mirrors the image at its edge (without repeating the edge itself).

    Raises ConfigError where a mirrored border is as wide as the image.
    """
    places, starts = [], []
    for side, draw in zip((images.height, images.width), images.draws(2), strict=True):
        border = round(side / 8) if padding is None else padding
        if mode == "reflect" and border >= side:
            raise ConfigError(
                f"a mirrored border of {border} pixels needs more than {border} pixels, the image has {side}"
            )
        start = (draw * (2 * border + 1)).long() - border
        place = torch.arange(side, device=images.device) + start[:, None]
        if mode == "zero":
            place = torch.where((place < 0) | (place >= side), -1, place)
        elif mode == "edge":
            place = place.clamp(0, side - 1)
        else:
            place = side - 1 - (side - 1 - place.abs()).abs()
        places.append(place)
        starts.append(start)
    images.move(*places, holes=mode == "zero")
    images.carry(_source(images, starts[1], starts[0]))


@system(name="shift", kind="augmentation", rows=("D2",), paper="Simard, Steinkraus and Platt 2003")
def shift(images: Images, *, by: Annotated[int, AtLeast(0)] | None = None) -> None:
    """Move each image by whole pixels, up to `by` up or down and up to `by` left or right, each way equally likely.

    What moves in from outside repeats the image's edge: it brings in no value that the image does not have, whatever
    the scale and the background.

    by: pixels; None is a sixteenth of the height and of the width, rounded, and at least 1.
    """
    places, starts = [], []
    for side, draw in zip((images.height, images.width), images.draws(2), strict=True):
        most = max(1, round(side / 16)) if by is None else by
        start = (draw * (2 * most + 1)).long() - most
        places.append((torch.arange(side, device=images.device) + start[:, None]).clamp_(0, side - 1))
        starts.append(start)
    images.move(*places)
    images.carry(_source(images, starts[1], starts[0]))
