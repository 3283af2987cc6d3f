"""One image file, or one Pillow image: its header, its pixels, and in words why it cannot be read.

A jpg much larger than what is wanted is decoded at a half, a quarter or an eighth of its size, by fewer coefficients of
its cosine transform (Pillow's draft mode), and then brought to the size like every other image.

Shape letters in this file: C channels (1 grey, 3 red green blue), H height, W width.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

__all__ = ["MOST_PIXELS", "Decoded", "Header", "attempt", "header", "pixels", "too_large", "why"]

# Pillow decides by the contents which of these a file is. The list also keeps out formats that start other programs.
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
SPARE = 2  # a draft has at least so many times the wanted sides, as in Pillow's own thumbnails: closer than 1 or 1.5
MOST_PIXELS = 178_956_970  # twice Pillow's own MAX_IMAGE_PIXELS, where Pillow refuses too

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded."""

    size: tuple[int, int]  # (height, width), as it will be seen
    grey: bool
    floating: bool = False


class Decoded(NamedTuple):
    """An image: its pixels (C, H, W) uint8, and its (height, width) as it is seen, before it was brought to a size."""

    pixels: np.ndarray[Any, Any]
    seen: tuple[int, int]


def header(source: Path | Image.Image, turned: bool) -> Header:
    """What is known before decoding. turned: whether the size must be that of the turned image.

    Raises ValueError with the reason, or what Pillow raises, where there is no image.
    """
    if isinstance(source, Image.Image):
        return _header_of(source, turned)
    reason = _no_file(source)
    if reason:
        raise ValueError(reason)
    with _open(source) as image:
        return _header_of(image, turned)


def pixels(source: Path | Image.Image, channels: int, size: tuple[int, int] | None) -> Decoded:
    """A file or a Pillow image, decoded. Raises what Pillow raises, and ValueError with the reason."""
    if isinstance(source, Image.Image):
        return _pixels_of(source, channels, size)
    with _open(source) as image:
        return _pixels_of(image, channels, size)


def why(error: BaseException) -> str:
    """The reason in words."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, UnidentifiedImageError):
        return f"not an image, or damaged; the formats that are read are {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (OSError, ValueError, SyntaxError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"


def attempt(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """What the work returns, or the reason why it failed."""
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001 - on a damaged file a decoder raises anything, struct.error and KeyError too
        return None, why(error)


def too_large(size: tuple[int, int]) -> str | None:
    """Why an image of this (width, height) is not decoded, or None."""
    width, height = size
    if width * height <= MOST_PIXELS:
        return None
    return f"{height} x {width} pixels are more than {MOST_PIXELS:,}, which Pillow too takes for an attack on memory"


def _no_file(path: Path) -> str | None:
    """Why there is nothing to decode at this path, or None."""
    try:
        info = path.stat()
    except FileNotFoundError:
        return "a link to a file that does not exist" if path.is_symlink() else "the file does not exist"
    except (OSError, ValueError) as error:
        return why(error)
    if stat.S_ISDIR(info.st_mode):
        return "it is a folder, not an image"
    if not stat.S_ISREG(info.st_mode):
        return "it is not a regular file"
    return "the file is empty" if info.st_size == 0 else None


def _open(path: Path) -> Image.Image:
    """The image, of which only the header is read."""
    try:
        image: Image.Image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(_bomb(path) or str(error)) from None
    reason = too_large(image.size)
    if reason:
        image.close()
        raise ValueError(reason)
    return image


def _bomb(path: Path) -> str | None:
    """The words about an image that Pillow refuses as too large without saying its size; its plugin does say it."""
    with path.open("rb") as file:
        start = file.read(16)
        for factory, accepts in (Image.OPEN[name] for name in FORMATS):
            if accepts is not None and accepts(start):
                file.seek(0)
                try:
                    return too_large(factory(file, str(path)).size)
                except Image.DecompressionBombError:  # WebP's refuses by itself: Pillow's own words have to do
                    return None
    return None


# What Pillow raises on an EXIF block that is not what it should be; after anything else the image is listed as bad.
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the tag is missing or the EXIF block is damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:
        # The pixels are whole without the block, and most pictures stand upright: it is taken as it stands. Where it is
        # the pixels that are damaged (a png may have to be decoded first), decoding them will fail and say so.
        return 1
    return value if value in _TURNS else 1


# As ImageOps.exif_transpose does, without its rewriting of the EXIF block, which fails on damaged ones.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _is_grey(image: Image.Image) -> bool:
    """Whether the image is stored as grey; a palette counts by its colours."""
    if image.mode in ("P", "PA"):
        palette = image.getpalette("RGB") or []
        return palette[::3] == palette[1::3] == palette[2::3]
    return image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")


def _header_of(image: Image.Image, turned: bool) -> Header:
    if image.mode == "F":
        raise ValueError("it holds floats, whose scale is not known: read it yourself and give an array")
    width, height = image.size
    # A png may hold its EXIF block after the pixels: asking for it decodes, so ask where the answer matters.
    if turned and width != height and _orientation(image) >= 5:
        if image.format == "TIFF":  # Pillow turns these by itself, and from some version on says so before it has
            image.load()
            width, height = image.size
        else:
            width, height = height, width
    return Header((height, width), _is_grey(image))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Any mode -> "L" or "RGB": 16-bit grey divided by 257, transparency put on white."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ValueError(f"its values run from {low} to {high}; grey images may have 16 bits, 0 to 65535")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    mode = "L" if _is_grey(image) else "RGB"
    if not image.has_transparency_data:
        return image.convert(mode)
    layered = image.convert("RGBA")
    white = Image.new(mode, image.size, "white")
    white.paste(layered.convert(mode), mask=layered.getchannel("A"))
    return white


def _pixels_of(image: Image.Image, channels: int, size: tuple[int, int] | None) -> Decoded:
    """A Pillow image, decoded, turned, and brought to a size."""
    box: tuple[float, float, float, float] | None = None
    stored: tuple[int, int] | None = None
    if size is not None and image.format in ("JPEG", "MPO"):
        stored = image.size
        width, height = _as_stored(size, _orientation(image))
        draft = image.draft(None, (SPARE * width, SPARE * height))  # None where it is decoded already: nothing is done
        box = None if draft is None else draft[1]
    image.load()
    orientation = _orientation(image)
    plain = _eight_bit(image).convert("L" if channels == 1 else "RGB")
    across, down = stored or plain.size
    if size is not None and plain.size != _as_stored(size, orientation):
        plain = plain.resize(_as_stored(size, orientation), Image.Resampling.BILINEAR, box)
    if orientation in _TURNS:
        plain = plain.transpose(_TURNS[orientation])
    rows = np.asarray(plain)
    return Decoded(
        rows[None] if channels == 1 else rows.transpose(2, 0, 1), (across, down) if orientation >= 5 else (down, across)
    )


def _as_stored(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """A (height, width) as it is seen -> (width, height) of what is stored, before it is turned."""
    return size if orientation >= 5 else size[::-1]
