"""Images from what people have, as one uint8 or float32 tensor in memory.

A folder with one sub-folder for each class, a plain folder, paths, arrays, tensors and Pillow images are read. Whatever
cannot be read is listed with its reason; nothing is dropped in silence.

This is the face for users. `image_items` finds what is offered, `image_files` decodes files, `image_arrays` reads arrays,
`image_reading` puts all into one tensor.

Shape letters in this file: N images, C channels (1 grey, 3 red green blue), H height, W width, P = H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from konspekt.core.errors import ConfigError, DataError
from konspekt.data.image_arrays import parts
from konspekt.data.image_files import MOST_PIXELS
from konspekt.data.image_items import SUFFIXES
from konspekt.data.image_reading import BadItem, Images, OnBad, read

__all__ = ["SUFFIXES", "BadItem", "ImageSchema", "Images", "OnBad", "as_channels", "as_size", "read_images"]


def read_images(
    source: Any,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    on_bad: OnBad = "raise",
    labelled: bool = False,
) -> Images:
    """Read images into one tensor.

    source: one of
        a folder: png, jpg, jpeg, bmp, webp, tif and tiff files, in sub-folders too, in the order of their names. Where
            `labelled`, each sub-folder is a class, with all that is below it; a folder of splits, such as train and val
            with the same classes in both, is refused, and so is a class without an image, but with on_bad="skip";
        a path, a list of paths, a list of Pillow images, a list of arrays of which each is one image;
        an array or a tensor of numbers: (N, H, W) grey; (N, H, W, C) or (N, C, H, W), where the axis with 1, 3 or 4
            entries is that of the channels; (N, P) flat rows of grey images, where P is a square number.
    image_size: side, or (height, width), in pixels, to which each image is brought, bilinearly and smoothed where it
        shrinks; proportions are not kept. None: all images must have one size.
    channels: 1 or 3; colour becomes grey by the luma of ITU-R 601 (0.299 R + 0.587 G + 0.114 B), grey becomes colour by
        repetition. None: 1 where every image is stored as grey, else 3.
    on_bad: "raise" or "skip" (they are then listed in `bad`), for files that cannot be decoded and for images that hold
        NaN or infinite values.
    labelled: take the classes from the folder.

    Files and Pillow images are turned as their EXIF orientation says, their first frame counts, transparency is put on
    white. 16-bit grey becomes 8-bit (divided by 257, rounded), 16-bit colour too (its high byte, as Pillow decodes it).
    A jpg with more than twice the wanted sides is decoded at a half, a quarter or an eighth of its size, never at less
    than twice the wanted sides, and brought to the size from there: a photograph's pixels differ by 0.2 to 0.4 of 255 in
    the mean from those that are decoded in full, as a Pillow image given by itself is.
    In arrays, boolean values become 0 and 255; whole numbers that all lie in 0..255 become uint8; other numbers, those of
    16 bits too, float32 as they are; uint8 with four channels is put on white. The tensor may share memory with the array.

    Raises DataError: nothing there, sizes that differ, bad items, arrays that hold no images, a shape that can be read
    in two ways. Raises ConfigError on parameters, ResourceError where the images do not fit in memory.
    """
    return read(source, as_size(image_size), as_channels(channels), on_bad, labelled)


def as_channels(channels: Any) -> int | None:
    """The parameter channels. Raises ConfigError where it is neither 1 nor 3 nor None."""
    if channels is None or (channels in (1, 3) and not isinstance(channels, bool)):
        return None if channels is None else int(channels)
    raise ConfigError(f"channels must be 1, 3 or None, got {channels!r}")


def as_size(image_size: Any) -> tuple[int, int] | None:
    """The parameter image_size as (height, width). Raises ConfigError where it is neither that, nor one side, nor None."""
    if image_size is None:
        return None
    pair = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    whole = all(isinstance(side, (int, np.integer)) and not isinstance(side, bool) and side > 0 for side in pair)
    if len(pair) != 2 or not whole:
        raise ConfigError(
            f"image_size must be a number of pixels, (height, width) or None, each at least 1, got {image_size!r}"
        )
    if pair[0] * pair[1] > MOST_PIXELS:
        raise ConfigError(
            f"image_size={image_size!r}: images have at most {MOST_PIXELS:,} pixels here: take a smaller one"
        )
    return int(pair[0]), int(pair[1])


@dataclass(frozen=True)
class ImageSchema:
    """What a model knows of the images that it was trained on.

    channels: 1 or 3; height, width: in pixels.
    mean, std: of each channel, in the units of the pixels (0..255 for uint8); a constant channel has std 1.
    dtype: "uint8" or "float32".
    resize: whether images of another size are brought to this one, or refused.
    convert: whether arrays with another number of channels are brought to this one, or refused; files always are.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: Literal["uint8", "float32"]
    resize: bool = False
    convert: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @classmethod
    def learn(cls, images: Images, *, resize: bool = False, convert: bool = False) -> ImageSchema:
        """Measure the images; sums of 8-bit pixels are exact, those of floats are taken in float64."""
        x = images.pixels
        _, channels, height, width = x.shape
        count = x.numel() // channels
        if x.dtype is torch.uint8:
            counts = torch.stack([_levels(x[:, channel]) for channel in range(channels)])  # (C, 256)
            levels = torch.arange(256)
            return cls.of_sums(
                (counts @ levels).tolist(),
                (counts @ levels.square()).tolist(),
                count,
                (height, width),
                resize=resize,
                convert=convert,
            )
        mean = sum(part.sum((0, 2, 3), dtype=torch.float64) for part in parts(x)) / count
        centre = torch.as_tensor(mean)[:, None, None]
        spread = sum((part.double() - centre).square_().sum((0, 2, 3)) for part in parts(x))
        std = torch.as_tensor(spread / count).sqrt()
        constant = x.amax((0, 2, 3)) == x.amin((0, 2, 3))  # exact, where the std of a constant may be 1e-17
        std[constant] = 1.0
        return cls(
            channels,
            height,
            width,
            tuple(torch.as_tensor(mean).tolist()),
            tuple(std.tolist()),
            "float32",
            resize,
            convert,
        )

    @classmethod
    def of_sums(
        cls,
        sums: list[int],
        squares: list[int],
        count: int,
        size: tuple[int, int],
        *,
        resize: bool = False,
        convert: bool = False,
    ) -> ImageSchema:
        """The schema of 8-bit images. sums, squares: of each channel's pixels, and of their squares; count: how many.

        In whole numbers the result does not depend on the order in which the images came.
        """
        mean = tuple(total / count for total in sums)
        spread = [count * square - total * total for total, square in zip(sums, squares, strict=True)]
        std = tuple(math.sqrt(s / (count * count)) if s else 1.0 for s in spread)
        return cls(len(sums), *size, mean, std, "uint8", resize, convert)

    def encode(self, source: Any, on_bad: OnBad = "raise", *, labelled: bool = False) -> Images:
        """Read images for this model: `read_images`, brought to or checked against what it was trained on.

        Files and Pillow images get the model's number of channels; arrays must have it, unless `convert`. uint8 images become float32 for
        a model that was trained on floats; floats stay floats.

        Raises DataError as `read_images` does, and where size, channels or scale are not those of the training.
        """
        size = (self.height, self.width) if self.resize else None
        images = read(source, size, self.channels, on_bad, labelled, self)
        high = float(images.pixels.max())
        if images.pixels.dtype is torch.uint8 and self.dtype == "float32":
            # 20 standard deviations: no image of 0..1 reaches that, and hardly one of 0..255 with any ink on it.
            if max(self.mean) <= 1 < high and all(high > m + 20 * s for m, s in zip(self.mean, self.std, strict=True)):
                raise DataError(
                    f"the scale differs: these images run to {high:g}, the model was trained on floats with a mean of "
                    f"{max(self.mean):.3g}, such as 0..1: give floats, divided by 255"
                )
            images.pixels = images.pixels.float()
        elif images.pixels.is_floating_point() and self.dtype == "uint8" and high <= 1.0 and max(self.mean) > 2:
            raise DataError(
                f"the scale differs: these images run to {high:g}, the model was trained on 0..255 (with a mean of "
                f"{max(self.mean):.3g}): multiply them by 255"
            )
        return images

    def refusal(self, channels: int, height: int, width: int) -> str | None:
        """Why an image of this shape does not fit, as words that follow its name; None where it does."""
        if channels != self.channels and not self.convert:
            how = (
                "repeat its grey values, np.stack([x] * 3, axis=-1) of an x (N, H, W)"
                if self.channels == 3
                else "make it grey, x @ [0.299, 0.587, 0.114] of an x (N, H, W, 3)"
            )
            return (
                f"has {_channels(channels)}, the model was trained on {_channels(self.channels)}: convert the array "
                f"({how}); files are converted by themselves"
            )
        if not self.resize and (height, width) != (self.height, self.width):
            return (
                f"has {height} x {width} pixels (height x width), the model was trained on {self.height} x {self.width}: "
                "bring it to that size, or train with image_size="
            )
        return None

    def sentences(self) -> list[str]:
        """What the images were, in words for a model's card."""
        colour = "grey" if self.channels == 1 else "colour"
        size = f"{self.height} x {self.width} pixels (height x width)"
        return [f"{colour} images of {size}" + (", others are brought to this size" if self.resize else "")]

    def to_json(self) -> dict[str, Any]:
        """Only numbers, strings and lists."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> ImageSchema:
        """The schema that `to_json` wrote.

        Raises DataError where the values cannot be a schema.
        """
        try:
            schema = cls(**{**given, "mean": tuple(given["mean"]), "std": tuple(given["std"])})
            fits = (
                schema.channels in (1, 3)
                and all(isinstance(n, int) and n > 0 for n in (schema.height, schema.width))
                and len(schema.mean) == len(schema.std) == schema.channels
                and all(math.isfinite(value) for value in (*schema.mean, *schema.std))
                and min(schema.std) > 0
                and schema.dtype in ("uint8", "float32")
                and isinstance(schema.resize, bool)
                and isinstance(schema.convert, bool)
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise DataError(f"this is no description of images: {error}") from None
        if not fits:
            raise DataError(f"this is no description of images: {given!r}")
        return schema


def _channels(count: int) -> str:
    return f"{count} channel{'s' * (count > 1)}"


def _levels(x: torch.Tensor) -> torch.Tensor:
    """How often each of the 256 levels occurs in 8-bit pixels (N, H, W); counting is ten times as fast as adding squares."""
    return torch.stack([torch.bincount(part.reshape(-1), minlength=256) for part in parts(x)]).sum(0)
