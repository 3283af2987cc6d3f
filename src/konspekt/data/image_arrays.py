"""Arrays and tensors of numbers as images: which axis holds what, the number of channels, the size.

Shape letters in this file: N images, C channels (1 grey, 3 red green blue), H height, W width, P = H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from konspekt.core.errors import DataError

__all__ = ["all_equal", "finite", "many_images", "one_image", "parts", "resized", "what_is", "with_channels"]

CHUNK = 2**22  # numbers that are worked on as float at a time, 16 MB


def many_images(array: np.ndarray[Any, Any] | Tensor, trained: tuple[int, int, int] | None = None) -> Tensor:
    """Any of the layouts that `read_images` names -> (N, 1 or 3, H, W), uint8 or float32.

    trained: (C, H, W) of a model, which settles what could be read in two ways.

    Raises DataError where the array holds no images, or may be read in two ways.
    """
    return _opaque(_planes(_as_numbers(array), trained))


def one_image(array: np.ndarray[Any, Any] | Tensor) -> Tensor:
    """(H, W), (H, W, C) or (C, H, W) -> (1, 1 or 3, H, W), uint8 or float32. Raises DataError as `many_images` does."""
    x = _as_numbers(array)
    shape = tuple(x.shape)
    if x.ndim == 2:
        return x[None, None]
    if x.ndim != 3:
        raise DataError(f"its shape is {shape}; an image is (H, W), (H, W, C) or (C, H, W)")
    return _opaque((x if _channels_first(shape, f"its shape {shape}") else x.permute(2, 0, 1))[None])


def what_is(thing: Any) -> str:
    """The kind of a value, in words for a message."""
    if isinstance(thing, (np.ndarray, Tensor)):
        return f"an array of shape {tuple(thing.shape)} and dtype {thing.dtype}"
    return f"a value of type {type(thing).__name__}"


def _as_numbers(array: np.ndarray[Any, Any] | Tensor) -> Tensor:
    """A tensor of the same shape on the CPU: uint8, or float32 where the values are no whole numbers in 0..255."""
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "buif":
            first = f", such as {array.flat[0]!r:.80}" if array.size else ""
            raise DataError(f"images must be numbers, got {what_is(array)}{first}")
        if array.size == 0:
            raise DataError(f"there are no images: got {what_is(array)}")
        if array.dtype.kind == "b":
            array = array.astype(np.uint8) * 255
        elif array.dtype.kind in "ui" and array.dtype != np.uint8:
            within = array.min() >= 0 and array.max() <= 255
            array = array.astype(np.uint8 if within else np.float32)
        elif array.dtype.kind == "f":
            with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is reported
                array = array.astype(np.float32, copy=False)
        # torch shares memory with what it can write to; what is read-only or turned around is copied.
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))
    if array.is_complex() or array.layout is not torch.strided:
        raise DataError(f"images must be dense real numbers, got {what_is(array)} and layout {array.layout}")
    if array.numel() == 0:
        raise DataError(f"there are no images: got {what_is(array)}")
    array = array.detach().cpu()
    if array.dtype is torch.bool:
        return array.to(torch.uint8) * 255
    if array.is_floating_point():
        return array.float()
    if array.dtype is torch.uint8:
        return array
    array = array.long()
    return array.to(torch.uint8) if int(array.min()) >= 0 and int(array.max()) <= 255 else array.float()


def _channels_first(shape: tuple[int, ...], what: str) -> bool:
    """Whether an image of three axes is (C, H, W) rather than (H, W, C): one of both ends must be 1, 3 or 4 long."""
    first, last = shape[0] in (1, 3, 4), shape[2] in (1, 3, 4)
    if first and last:
        raise DataError(
            f"{what} can be read as (H, W, C) and as (C, H, W), as both ends have 1, 3 or 4 entries: pad or enlarge "
            "the images to 5 pixels and more on each side, or give Pillow images"
        )
    if not first and not last:
        raise DataError(f"{what} has no axis of 1, 3 or 4 channels: images are (H, W), (H, W, C) or (C, H, W)")
    return first


def _planes(x: Tensor, trained: tuple[int, int, int] | None) -> Tensor:
    """(N, H, W), (N, H, W, C), (N, C, H, W) or (N, P) -> (N, C, H, W), by the rule in `read_images`."""
    shape = tuple(x.shape)
    if x.ndim == 2:
        if trained is not None and trained[0] == 1 and shape[1] == math.prod(trained):
            return x.reshape(-1, *trained)
        side = math.isqrt(shape[1])
        if side * side != shape[1]:
            raise DataError(
                f"the images have shape {shape}: rows of {shape[1]} numbers are no square images. Give (N, H, W); one "
                "grey image is x[None]"
            )
        return x.reshape(-1, 1, side, side)
    if x.ndim == 3:
        known = trained is not None and shape[1:] == trained[1:]
        if shape[2] in (1, 3, 4) and not known:
            raise DataError(
                f"the images have shape {shape}, which can be one image (H, W, C) or {shape[0]} grey images "
                "(N, H, W): give x[None] for one image, pad or enlarge grey ones to 5 pixels and more on each side"
            )
        return x[:, None]
    if x.ndim == 4:
        if trained is not None:
            as_first, as_last = shape[1:] == trained, shape[1:] == (*trained[1:], trained[0])
            if as_first != as_last:
                return x if as_first else x.permute(0, 3, 1, 2)
        return x if _channels_first(shape[1:], f"the shape {shape} of the images") else x.permute(0, 3, 1, 2)
    raise DataError(
        f"the images have shape {shape}: they must be (N, H, W), (N, H, W, C), (N, C, H, W) or flat rows (N, P). "
        "Reshape your data: one grey image is x[None]"
    )


def parts(x: Tensor) -> tuple[Tensor, ...]:
    """(N, ...) in pieces of which a few float copies fit in memory."""
    return torch.split(x, _step(x))


def _step(x: Tensor) -> int:
    return max(1, CHUNK // x[0].numel())


def _beside(x: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The parts of x, each with the place of the same images in out."""
    return zip(parts(x), torch.split(out, _step(x)), strict=True)


def _opaque(x: Tensor) -> Tensor:
    """(N, 4, H, W) uint8 -> (N, 3, H, W): red, green and blue over white, as opaque as the fourth channel says."""
    if x.shape[1] != 4:
        return x
    if x.dtype is not torch.uint8:
        raise DataError(
            "the images are floats with 4 channels: the scale of their transparency is not known. Drop it (x[..., :3]) "
            "or give uint8"
        )
    out = torch.empty(len(x), 3, *x.shape[2:], dtype=torch.uint8)
    for part, done in _beside(x, out):
        alpha = part[:, 3:].int()
        done.copy_((part[:, :3].int() * alpha + 255 * (255 - alpha) + 127) // 255)
    return out


def with_channels(x: Tensor, channels: int) -> Tensor:
    """(N, 1 or 3, H, W) -> (N, channels, H, W): luma of ITU-R 601, or repetition."""
    if x.shape[1] == channels:
        return x
    if channels == 3:
        return x.expand(-1, 3, -1, -1)
    out = torch.empty(len(x), 1, *x.shape[2:], dtype=x.dtype)
    for part, done in _beside(x, out):
        if x.dtype is torch.uint8:  # Pillow's fixed-point weights, to the bit
            red, green, blue = part.int().unbind(1)
            done.copy_(((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16)[:, None])
        else:
            red, green, blue = part.unbind(1)
            done.copy_((0.299 * red + 0.587 * green + 0.114 * blue)[:, None])
    return out


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, any, any) -> (N, C, *size), bilinear with antialiasing; uint8 is rounded."""
    if tuple(x.shape[2:]) == size:
        return x
    out = torch.empty(*x.shape[:2], *size, dtype=x.dtype)
    for part, done in _beside(x, out):
        fine = F.interpolate(part.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
        done.copy_(fine.round_().clamp_(0, 255) if x.dtype is torch.uint8 else fine)
    return out


def finite(x: Tensor) -> Tensor:
    """(N, ...) -> (N,) bool: images without NaN and infinite values."""
    if not x.is_floating_point():
        return torch.ones(len(x), dtype=torch.bool)
    # A sum is finite only where all that it adds up is, and is quicker; where it is not, the values may only be large.
    return torch.cat(
        [
            summed if bool((summed := part.flatten(1).sum(1).isfinite()).all()) else part.isfinite().flatten(1).all(1)
            for part in parts(x)
        ]
    )


def all_equal(x: Tensor) -> bool:
    """(N, ...) -> whether each image has the same pixels."""
    return all(bool((part == x[:1]).all()) for part in parts(x))
