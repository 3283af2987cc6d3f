"""Augmentation: a batch of images is changed a little, in other ways in each epoch, so that a net cannot learn it by heart.

Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural networks applied to visual document
analysis", https://doi.org/10.1109/ICDAR.2003.1227801. Course: row D2.

What happens to an image depends on (seed, epoch, index of the image), never on the batch that it is in. All is computed
on the device of the images, without a round trip to the CPU.

Shape letters in this file: B images, C channels, H height, W width.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from konspekt.core.errors import ConfigError, nearest
from konspekt.core.seeds import item_draws, mix

__all__ = ["AUGMENTATIONS", "augment", "shift"]


def shift(pixels: Tensor, index: Tensor, *, seed: int, epoch: int, by: int | None = None) -> Tensor:
    """Move each image by whole pixels, up to `by` up or down and up to `by` left or right, each way equally likely.

    What moves in from outside repeats the image's edge: it brings in no value that the image does not have, whatever
    the scale and the background.

    pixels (B, C, H, W) of any dtype, index (B,) int64 -> (B, C, H, W), a new tensor of the same dtype.
    by: pixels; None is a sixteenth of the height and of the width, rounded, and at least 1.

    Raises ConfigError where `by` is negative.
    """
    if by is not None and by < 0:
        raise ConfigError(f"shift: by must be at least 0, got {by}")
    count, channels, height, width = pixels.shape
    if count == 0:
        return pixels.clone()
    device = pixels.device
    down, right = (max(1, round(side / 16)) if by is None else by for side in (height, width))
    draws = item_draws(seed, epoch, index.to(device), 2)
    rows = (draws[:, :1] * (2 * down + 1)).long() - down  # (B, 1), the first row that is seen
    columns = (draws[:, 1:] * (2 * right + 1)).long()  # (B, 1), the same in the wide image

    # Each row of the result is a run of W numbers in the rows widened by their edges, so it is copied as a whole, which
    # is several times as fast as gathering pixel by pixel.
    edges = (count, channels, height, right)
    wide = torch.cat([pixels[..., :1].expand(edges), pixels, pixels[..., -1:].expand(edges)], 3)
    span = width + 2 * right
    runs = wide.reshape(-1).as_strided((wide.numel() - width + 1, width), (1, 1))
    starts = (torch.arange(height, device=device) + rows).clamp_(0, height - 1) * span + columns  # (B, H)
    images = torch.arange(count * channels, device=device).view(count, channels, 1) * (height * span)
    return runs.index_select(0, (starts[:, None] + images).view(-1)).view(pixels.shape)


AUGMENTATIONS: dict[str, Callable[..., Tensor]] = {"shift": shift}


def augment(pixels: Tensor, index: Tensor, *, names: tuple[str, ...], seed: int, epoch: int) -> Tensor:
    """Apply augmentations one after the other, each with draws of its own.

    pixels (B, C, H, W), index (B,) int64: which items these are -> (B, C, H, W) of the same dtype.
    names: keys of AUGMENTATIONS, in the order in which they are applied; () returns the pixels as they are.
    seed, epoch: the same of both give the same images.

    Raises ConfigError on an unknown name.
    """
    for place, name in enumerate(names):
        if name not in AUGMENTATIONS:
            raise ConfigError(f"augment: {name!r} is not an augmentation; {nearest(name, AUGMENTATIONS)}")
        own = mix(seed, place, zlib.crc32(name.encode()))
        pixels = AUGMENTATIONS[name](pixels, index, seed=own, epoch=epoch)
    return pixels
