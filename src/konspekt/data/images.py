"""Images from what people have, as one uint8 or float32 tensor in memory.

A folder with one sub-folder for each class, a plain folder, paths, arrays, tensors and Pillow images are read. Whatever
cannot be read is listed with its reason; nothing is dropped in silence.

Shape letters in this file: N images, C channels (1 grey, 3 red green blue), H height, W width, P = H x W pixels.
"""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from konspekt.core.errors import ConfigError, DataError, ResourceError

__all__ = ["SUFFIXES", "BadItem", "ImageSchema", "Images", "read_images"]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Pillow decides by the contents which of these a file is. The list also keeps out formats that start other programs.
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
MOST_PIXELS = 178_956_970  # twice Pillow's own MAX_IMAGE_PIXELS, where Pillow refuses too
LISTED = 20
CHUNK = 2**22  # numbers that are worked on as float at a time, 16 MB

T = TypeVar("T")
OnBad = Literal["raise", "skip"]


@dataclass(frozen=True)
class BadItem:
    """An image that cannot be used. item: its path or "image 17"; reason: why."""

    item: str
    reason: str


@dataclass
class Images:
    """Images in memory.

    pixels: (N, C, H, W) uint8 in 0..255, or float32 in the units of the float arrays that were given.
    labels: the class folder of each, or None.
    names: the path of each, relative to the folder that was given, or "image 17".
    bad: what was left out, with reasons.
    ignored: files and folders that are no images by their names, relative to the folder; folders end in "/".
    kept: (N,) int64, which of the items offered are here, so that a target can be filtered in the same way.
    """

    pixels: Tensor
    labels: list[str] | None
    names: list[str]
    bad: list[BadItem]
    ignored: list[str]
    kept: np.ndarray[Any, np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.names)


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
            `labelled`, each sub-folder is a class, with all that is below it;
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
    white, 16-bit grey becomes 8-bit (divided by 257). In arrays, boolean values become 0 and 255; whole numbers that
    all lie in 0..255 become uint8, other numbers float32 as they are; uint8 with four channels is put on white. The
    tensor may share memory with the array.

    Raises DataError: nothing there, sizes that differ, bad items, arrays that hold no images, a shape that can be read
    in two ways. Raises ConfigError on parameters, ResourceError where the images do not fit in memory.
    """
    if channels not in (None, 1, 3):
        raise ConfigError(f"channels must be 1, 3 or None, got {channels!r}")
    return _read(source, _as_size(image_size), channels, on_bad, labelled, None)


def _as_size(image_size: Any) -> tuple[int, int] | None:
    if image_size is None:
        return None
    pair = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    whole = all(isinstance(side, (int, np.integer)) and not isinstance(side, bool) and side > 0 for side in pair)
    if len(pair) != 2 or not whole:
        raise ConfigError(
            f"image_size must be a number of pixels, (height, width) or None, each at least 1, got {image_size!r}"
        )
    return int(pair[0]), int(pair[1])


def _read(
    source: Any,
    size: tuple[int, int] | None,
    channels: int | None,
    on_bad: OnBad,
    labelled: bool,
    expect: ImageSchema | None,
) -> Images:
    if on_bad not in ("raise", "skip"):
        raise ConfigError(f"on_bad must be 'raise' or 'skip', got {on_bad!r}")
    if isinstance(source, (str, os.PathLike)):
        items, ignored = _from_path(Path(source), labelled)
        return _read_items(items, size, channels, on_bad, ignored, expect)
    if labelled:
        raise DataError(
            f"classes can be taken from a folder with one sub-folder for each class, not from {_what(source)}: "
            "give the classes as y"
        )
    if isinstance(source, Image.Image):
        source = [source]
    elif hasattr(source, "to_numpy"):  # pandas
        source = source.to_numpy()
    if isinstance(source, np.ndarray) and source.ndim == 1 and source.dtype.kind in "OUT":
        source = list(source)
    if isinstance(source, (list, tuple)) and source and all(isinstance(item, (list, tuple)) for item in source):
        try:
            source = np.asarray(source)
        except ValueError:
            raise DataError("the images are nested lists of unequal lengths: give arrays") from None
    if isinstance(source, (list, tuple)):
        items = [_item(f"image {i}", thing) for i, thing in enumerate(source)]
        return _read_items(items, size, channels, on_bad, [], expect)
    if isinstance(source, (np.ndarray, Tensor)):
        return _read_array(source, size, channels, on_bad, expect)
    raise DataError(
        f"images are read from a folder, paths, an array, a tensor or a list of Pillow images, got {_what(source)}"
    )


def _what(thing: Any) -> str:
    if isinstance(thing, (np.ndarray, Tensor)):
        return f"an array of shape {tuple(thing.shape)} and dtype {thing.dtype}"
    return f"a value of type {type(thing).__name__}"


# ---------------------------------------------------------------------------------------------------------- arrays


def _as_numbers(array: np.ndarray[Any, Any] | Tensor) -> Tensor:
    """A tensor of the same shape on the CPU: uint8, or float32 where the values are no whole numbers in 0..255."""
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "buif":
            first = f", such as {array.flat[0]!r:.80}" if array.size else ""
            raise DataError(f"images must be numbers, got {_what(array)}{first}")
        if array.size == 0:
            raise DataError(f"there are no images: got {_what(array)}")
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
        raise DataError(f"images must be dense real numbers, got {_what(array)} and layout {array.layout}")
    if array.numel() == 0:
        raise DataError(f"there are no images: got {_what(array)}")
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


def _planes(x: Tensor, expect: ImageSchema | None) -> Tensor:
    """(N, H, W), (N, H, W, C), (N, C, H, W) or (N, P) -> (N, C, H, W), by the rule in `read_images`."""
    shape = tuple(x.shape)
    if x.ndim == 2:
        side = math.isqrt(shape[1])
        if expect is not None and expect.channels == 1 and shape[1] == expect.height * expect.width:
            return x.reshape(-1, 1, expect.height, expect.width)
        if side * side != shape[1]:
            raise DataError(
                f"the images have shape {shape}: rows of {shape[1]} numbers are no square images. Give (N, H, W); one "
                "grey image is x[None]"
            )
        return x.reshape(-1, 1, side, side)
    if x.ndim == 3:
        known = expect is not None and shape[1:] == (expect.height, expect.width)
        if shape[2] in (1, 3, 4) and not known:
            raise DataError(
                f"the images have shape {shape}, which can be one image (H, W, C) or {shape[0]} grey images "
                "(N, H, W): give x[None] for one image, pad or enlarge grey ones to 5 pixels and more on each side"
            )
        return x[:, None]
    if x.ndim == 4:
        if expect is not None:  # what the model was trained on settles what could be read in two ways
            trained = (expect.height, expect.width)
            as_first = shape[1:] == (expect.channels, *trained)
            as_last = shape[1:] == (*trained, expect.channels)
            if as_first != as_last:
                return x if as_first else x.permute(0, 3, 1, 2)
        return x if _channels_first(shape[1:], f"the shape {shape} of the images") else x.permute(0, 3, 1, 2)
    raise DataError(
        f"the images have shape {shape}: they must be (N, H, W), (N, H, W, C), (N, C, H, W) or flat rows (N, P). "
        "Reshape your data: one grey image is x[None]"
    )


def _step(x: Tensor) -> int:
    return max(1, CHUNK // x[0].numel())


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    """(N, ...) in pieces of which a few float copies fit in memory."""
    return torch.split(x, _step(x))


def _on_white(x: Tensor) -> Tensor:
    """(N, 4, H, W) uint8 -> (N, 3, H, W): red, green and blue over white, as opaque as the fourth channel says."""
    if x.dtype is not torch.uint8:
        raise DataError(
            "the images are floats with 4 channels: the scale of their transparency is not known. Drop it (x[..., :3]) "
            "or give uint8"
        )
    out = torch.empty(len(x), 3, *x.shape[2:], dtype=torch.uint8)
    for part, done in zip(_parts(x), out.split(_step(x)), strict=True):
        alpha = part[:, 3:].int()
        done.copy_((part[:, :3].int() * alpha + 255 * (255 - alpha) + 127) // 255)
    return out


def _with_channels(x: Tensor, channels: int) -> Tensor:
    """(N, 1 or 3, H, W) -> (N, channels, H, W): luma of ITU-R 601, or repetition."""
    if x.shape[1] == channels:
        return x
    if channels == 3:
        return x.expand(-1, 3, -1, -1)
    out = torch.empty(len(x), 1, *x.shape[2:], dtype=x.dtype)
    for part, done in zip(_parts(x), out.split(_step(x)), strict=True):
        if x.dtype is torch.uint8:  # Pillow's fixed-point weights, to the bit
            red, green, blue = part.int().unbind(1)
            done.copy_(((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16)[:, None])
        else:
            red, green, blue = part.unbind(1)
            done.copy_((0.299 * red + 0.587 * green + 0.114 * blue)[:, None])
    return out


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, any, any) -> (N, C, *size), bilinear with antialiasing; uint8 is rounded."""
    if tuple(x.shape[2:]) == size:
        return x
    out = torch.empty(*x.shape[:2], *size, dtype=x.dtype)
    for part, done in zip(_parts(x), out.split(_step(x)), strict=True):
        fine = F.interpolate(part.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
        done.copy_(fine.round_().clamp_(0, 255) if x.dtype is torch.uint8 else fine)
    return out


def _finite(x: Tensor) -> Tensor:
    """(N, ...) -> (N,) bool: images without NaN and infinite values."""
    if not x.is_floating_point():
        return torch.ones(len(x), dtype=torch.bool)
    return torch.cat([part.isfinite().flatten(1).all(1) for part in _parts(x)])


def _read_array(
    array: np.ndarray[Any, Any] | Tensor,
    size: tuple[int, int] | None,
    channels: int | None,
    on_bad: OnBad,
    expect: ImageSchema | None,
) -> Images:
    x = _planes(_as_numbers(array), expect)
    if x.shape[1] == 4:
        x = _on_white(x)
    if expect is not None:
        wrong = expect.refusal(x.shape[1], x.shape[2], x.shape[3])
        if wrong:
            raise DataError(f"each image {wrong}")
    fine = _finite(x)
    reasons = {int(i): _NOT_FINITE for i in (~fine).nonzero()[:, 0]}
    bad = _report([f"image {i}" for i in range(len(x))] if reasons else [], len(x), reasons, on_bad)
    kept = fine.nonzero()[:, 0]
    if reasons:
        x = x[kept]
    if channels is not None:
        x = _with_channels(x, channels)
    if size is not None:
        x = _resized(x, size)
    return Images(x.contiguous(), None, [f"image {i}" for i in kept.tolist()], bad, [], kept.numpy())


_NOT_FINITE = "it holds NaN or infinite values"


def _report(names: list[str], total: int, reasons: dict[int, str], on_bad: OnBad) -> list[BadItem]:
    """The bad items, in order; or the error about them, where they may not be skipped or nothing else is left."""
    bad = [BadItem(names[i], reasons[i]) for i in sorted(reasons)]
    if bad and (on_bad == "raise" or len(bad) == total):
        lines = [f"  {item.item}: {item.reason}" for item in bad[:LISTED]]
        if len(bad) > LISTED:
            lines.append(f"  and {len(bad) - LISTED} more")
        head, advice = (
            f"{len(bad)} of {total} images cannot be used",
            '\nRepair or remove them, or skip them: on_bad="skip"',
        )
        if len(bad) == total:
            head, advice = "the image cannot be used" if total == 1 else f"none of the {total} images can be used", ""
        raise DataError(f"{head}:\n" + "\n".join(lines) + advice)
    return bad


# ------------------------------------------------------------------------------------------------- folders and lists


@dataclass
class _Item:
    """One image that was offered: a path, a loaded Pillow image, or (1, C, H, W); `reason` where it is bad already."""

    name: str
    thing: Path | Image.Image | Tensor | None
    label: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Header:
    """What is known of an image before it is decoded."""

    size: tuple[int, int]  # (height, width), as it will be seen
    grey: bool
    floating: bool = False


def _item(name: str, thing: Any) -> _Item:
    """An entry of a list."""
    if isinstance(thing, (str, os.PathLike)):
        return _Item(str(Path(thing)), Path(thing))
    if isinstance(thing, Image.Image):
        # Loaded here: a Pillow image reads its file when it is first used, and two threads may not do that at once.
        reason = _too_large(thing.size) or _attempt(thing.load)[1]
        return _Item(name, thing, reason=reason)
    if isinstance(thing, (np.ndarray, Tensor)):
        try:
            x = _as_numbers(thing)
            if x.ndim == 2:
                x = x[None, None]
            elif x.ndim == 3:
                first = _channels_first(tuple(x.shape), f"its shape {tuple(x.shape)}")
                x = (x if first else x.permute(2, 0, 1))[None]
            else:
                raise DataError(f"its shape is {tuple(x.shape)}; an image is (H, W), (H, W, C) or (C, H, W)")
            x = _on_white(x) if x.shape[1] == 4 else x
        except DataError as error:
            return _Item(name, None, reason=str(error))
        return _Item(name, x, reason=None if bool(_finite(x)[0]) else _NOT_FINITE)
    return _Item(name, None, reason=f"it is {_what(thing)}, neither a path nor an image")


def _from_path(path: Path, labelled: bool) -> tuple[list[_Item], list[str]]:
    """What a folder offers, and what is in it besides; or one file."""
    try:
        is_folder, is_there = path.is_dir(), os.path.lexists(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {_why(error)}") from None
    if not is_there:
        raise DataError(f"{path} does not exist (looked for in {Path.cwd()})")
    if not is_folder:
        if labelled:
            raise DataError(f"{path} is not a folder: {_LAYOUT}")
        return [_Item(str(path), path)], []
    ignored: list[str] = []
    try:
        if labelled:
            return _labelled(path, ignored), ignored
        items = list(_below(path, path, None, ignored, ()))
    except PermissionError:
        raise DataError(f"the folder {path} cannot be listed: no permission to read it") from None
    except OSError as error:
        raise DataError(f"the folder {path} cannot be listed: {_why(error)}") from None
    if not items:
        others = f"; it holds {_some(ignored)}" if ignored else ", it is empty"
        raise DataError(f"{path} holds no images{others}. Images are files that end in {' '.join(SUFFIXES)}")
    return items, ignored


_LAYOUT = "a labelled folder has one sub-folder for each class, with the images of that class: cats/1.png, dogs/2.png"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _is_hidden(name: str) -> bool:
    return (
        name.startswith(".") or name == "__MACOSX"
    )  # the latter holds what an archive from a Mac has beside the images


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or through a folder that may not be entered
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def _labelled(root: Path, ignored: list[str]) -> list[_Item]:
    items: list[_Item] = []
    empty: list[str] = []
    classes = 0
    for entry in _entries(root):
        if _is_hidden(entry.name) or not _is_folder(entry):
            ignored.append(entry.name + "/" * _is_folder(entry))
            continue
        classes += 1
        here = list(_class_items(root, entry.name, ignored))
        if not here:
            empty.append(entry.name)
        items += here
    if not classes:
        others = f"it holds {_some(ignored)}" if ignored else "it is empty"
        raise DataError(f"{root} has no sub-folders ({others}): {_LAYOUT}")
    if empty:
        raise DataError(
            f"{len(empty)} of the {classes} class folders in {root} hold no images: {', '.join(empty)}. Fill or remove "
            f"them; images are files that end in {' '.join(SUFFIXES)}"
        )
    return items


def _class_items(root: Path, name: str, ignored: list[str]) -> Iterator[_Item]:
    try:
        yield from _below(root / name, root, name, ignored, (os.path.realpath(root),))
    except OSError as error:
        yield _Item(name + "/", None, name, f"the folder cannot be listed: {_why(error)}")


def _below(folder: Path, root: Path, label: str | None, ignored: list[str], above: tuple[str, ...]) -> Iterator[_Item]:
    """The images in a folder and its sub-folders. Raises OSError where the folder itself cannot be listed."""
    above = (*above, os.path.realpath(folder))
    for entry in _entries(folder):
        path = folder / entry.name
        name = path.relative_to(root).as_posix()
        is_folder = _is_folder(entry)
        if _is_hidden(entry.name):
            ignored.append(name + "/" * is_folder)
        elif path.suffix.lower() in SUFFIXES:
            yield _Item(name, path, label)
        elif not is_folder:
            ignored.append(name)
        elif os.path.realpath(path) in above:
            yield _Item(name + "/", None, label, "the folder is a link to a folder that it is in")
        else:
            try:
                yield from _below(path, root, label, ignored, above)
            except OSError as error:
                yield _Item(name + "/", None, label, f"the folder cannot be listed: {_why(error)}")


def _why(error: BaseException) -> str:
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


def _attempt(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """What the work returns, or the reason why it failed."""
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001 - on a damaged file a decoder raises anything, struct.error and KeyError too
        return None, _why(error)


def _too_large(size: tuple[int, int]) -> str | None:
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
        return _why(error)
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
    reason = _too_large(image.size)
    if reason:
        image.close()
        raise ValueError(reason)
    return image


def _bomb(path: Path) -> str | None:
    # Pillow refuses without saying the size. Its plugins, asked one by one, read the header only and do tell.
    for name in FORMATS:
        try:
            with path.open("rb") as file:
                return _too_large(Image.OPEN[name][0](file, str(path)).size)
        except Exception:  # noqa: BLE001, S112 - a file of another format; each plugin has its own way to say so
            continue
    return None


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the tag is missing or the EXIF block is damaged."""
    value, _ = _attempt(lambda: image.getexif().get(ExifTags.Base.Orientation, 1))
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


def _header(item: _Item, turned: bool) -> _Header:
    """What is known before decoding. turned: whether the size must be that of the turned image."""
    if isinstance(item.thing, Tensor):
        _, channels, height, width = item.thing.shape
        return _Header((height, width), channels == 1, item.thing.is_floating_point())
    if isinstance(item.thing, Image.Image):
        return _header_of(item.thing, turned)
    path = Path(item.thing or "")
    reason = _no_file(path)
    if reason:
        raise ValueError(reason)
    with _open(path) as image:
        return _header_of(image, turned)


def _header_of(image: Image.Image, turned: bool) -> _Header:
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
    return _Header((height, width), _is_grey(image))


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


def _pixels(image: Image.Image, channels: int, size: tuple[int, int] | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A Pillow image -> (C, H, W) uint8."""
    image.load()
    turn = _TURNS.get(_orientation(image))
    plain = _eight_bit(image).convert("L" if channels == 1 else "RGB")
    if turn is not None:
        plain = plain.transpose(turn)
    if size is not None and plain.size != size[::-1]:
        plain = plain.resize(size[::-1], Image.Resampling.BILINEAR)
    rows = np.asarray(plain)
    return rows[None] if channels == 1 else rows.transpose(2, 0, 1)


def _decode(item: _Item, channels: int, size: tuple[int, int] | None) -> np.ndarray[Any, Any]:
    """An item -> (C, H, W)."""
    if isinstance(item.thing, Tensor):
        x = _with_channels(item.thing, channels)
        return (x if size is None else _resized(x, size))[0].numpy()
    if isinstance(item.thing, Image.Image):
        return _pixels(item.thing, channels, size)
    with _open(Path(item.thing or "")) as image:
        return _pixels(image, channels, size)


def _threads() -> int:
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _read_items(
    items: list[_Item],
    size: tuple[int, int] | None,
    channels: int | None,
    on_bad: OnBad,
    ignored: list[str],
    expect: ImageSchema | None,
) -> Images:
    if not items:
        raise DataError("there are no images: the list is empty")
    # Set here and not in the threads, since the filters are the whole process's: Pillow warns of large images, which
    # are checked above, and of odd metadata, which do not concern the pixels.
    with warnings.catch_warnings(), ThreadPoolExecutor(_threads(), "images") as pool:
        warnings.simplefilter("ignore")
        return _read_in(pool, items, size, channels, on_bad, ignored, expect)


def _read_in(
    pool: ThreadPoolExecutor,
    items: list[_Item],
    size: tuple[int, int] | None,
    channels: int | None,
    on_bad: OnBad,
    ignored: list[str],
    expect: ImageSchema | None,
) -> Images:
    reasons: dict[int, str] = {i: item.reason for i, item in enumerate(items) if item.reason is not None}
    names = [item.name for item in items]
    headers: dict[int, _Header] = {}

    # Pillow lets go of the interpreter's lock while it decodes; torch has its own threads, and is not put into others.
    spread: Callable[..., Iterator[Any]] = map if all(isinstance(item.thing, Tensor) for item in items) else pool.map
    open_items = [i for i in range(len(items)) if i not in reasons]
    found = spread(lambda i: _attempt(partial(_header, items[i], size is None)), open_items)
    for i, (header, reason) in zip(open_items, found, strict=True):
        if header is not None and expect is not None:
            given = (1 if header.grey else 3) if isinstance(items[i].thing, Tensor) else expect.channels
            reason = expect.refusal(given, *header.size)
        if header is None or reason is not None:
            reasons[i] = reason or ""
        else:
            headers[i] = header
    if not headers:
        _report(names, len(items), reasons, on_bad)

    floating = _one_scale(names, headers)
    wanted = size or _common_size(items, headers)
    planes = channels or (1 if all(header.grey for header in headers.values()) else 3)
    good = sorted(headers)
    pixels = _room(len(good), planes, wanted, torch.float32 if floating else torch.uint8)
    rows = pixels.numpy()

    def fill(place: int) -> None:
        decoded = _decode(items[good[place]], planes, size)
        if decoded.shape[1:] != wanted:
            raise ValueError(f"decoded, it has {decoded.shape[1]} x {decoded.shape[2]} pixels, not {_by(wanted)}")
        rows[place] = decoded

    kept: list[int] = []
    for place, (_, reason) in enumerate(spread(lambda place: _attempt(partial(fill, place)), range(len(good)))):
        if reason is not None:
            reasons[good[place]] = reason
            continue
        if place != len(kept):  # close the gap that a skipped image left; the threads write further on
            rows[len(kept)] = rows[place]
        kept.append(good[place])
    bad = _report(names, len(items), reasons, on_bad)
    pixels = pixels[: len(kept)]
    if channels is None and planes == 3 and all(headers[i].grey for i in kept):
        pixels = pixels[:, :1].contiguous()  # the only coloured ones were bad
    labels = [items[i].label or "" for i in kept] if items[0].label is not None else None
    return Images(pixels, labels, [names[i] for i in kept], bad, ignored, np.array(kept, dtype=np.int64))


def _room(count: int, channels: int, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    try:
        return torch.empty(count, channels, *size, dtype=dtype)
    except RuntimeError:
        need = count * channels * size[0] * size[1] * dtype.itemsize / 2**30
        raise ResourceError(
            f"{count} images of {_by(size)} pixels and {channels} channels need {need:,.1f} GiB of memory, which are "
            "not there: bring them to a smaller size with image_size="
        ) from None


def _one_scale(names: list[str], headers: dict[int, _Header]) -> bool:
    """Whether the images are floats: all of them or none."""
    kinds: dict[bool, str] = {}
    for i, header in headers.items():
        kinds.setdefault(header.floating, names[i])
    if len(kinds) == 2:
        raise DataError(
            f"the images have two scales: {kinds[False]} is 8-bit, {kinds[True]} is float. Give all as one of both"
        )
    return True in kinds


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _common_size(items: list[_Item], headers: dict[int, _Header]) -> tuple[int, int]:
    """The one size (height, width) of all images that can be decoded.

    Raises DataError with the sizes found.
    """
    found: dict[tuple[int, int], list[int]] = {}
    for i, header in headers.items():
        found.setdefault(header.size, []).append(i)
    by_count = sorted(found, key=lambda size: -len(found[size]))
    if len(found) == 1:
        return by_count[0]
    # A damaged file does not count where it is alone in having its size: each size needs one image that decodes.
    proven: list[tuple[int, int]] = []
    for size in by_count:
        if any(_attempt(partial(_decode, items[i], 1, None))[1] is None for i in found[size]):
            proven.append(size)
        if len(proven) == 2:
            break
    if len(proven) < 2:
        return (proven or by_count)[0]
    lines = [
        f"  {_by(size)}: {len(found[size])} image{'s' * (len(found[size]) > 1)}, such as {items[found[size][0]].name}"
        for size in by_count[:10]
    ]
    if len(by_count) > 10:
        lines.append(f"  and {len(by_count) - 10} more sizes")
    raise DataError(
        f"the images have {len(by_count)} sizes (height x width):\n"
        + "\n".join(lines)
        + "\nSay to what size they shall be brought: image_size=64, or image_size=(height, width)"
    )


# -------------------------------------------------------------------------------------------------- what was learned


@dataclass(frozen=True)
class ImageSchema:
    """What a model knows of the images that it was trained on.

    channels: 1 or 3; height, width: in pixels.
    mean, std: of each channel, in the units of the pixels (0..255 for uint8); a constant channel has std 1.
    dtype: "uint8" or "float32".
    resize: whether images of another size are brought to this one, or refused.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: Literal["uint8", "float32"]
    resize: bool = False

    @classmethod
    def learn(cls, images: Images, *, resize: bool = False) -> ImageSchema:
        """Measure the images; sums are taken in float64."""
        x = images.pixels
        _, channels, height, width = x.shape
        count = x.numel() // channels
        mean = sum(part.double().sum((0, 2, 3)) for part in _parts(x)) / count
        centre = torch.as_tensor(mean)[:, None, None]
        squares = sum((part.double() - centre).square().sum((0, 2, 3)) for part in _parts(x))
        std = torch.as_tensor(squares / count).sqrt()
        constant = x.amax((0, 2, 3)) == x.amin((0, 2, 3))  # exact, where the std of a constant may be 1e-17
        std[constant] = 1.0
        return cls(
            channels,
            height,
            width,
            tuple(torch.as_tensor(mean).tolist()),
            tuple(std.tolist()),
            "uint8" if x.dtype is torch.uint8 else "float32",
            resize,
        )

    def encode(self, source: Any, on_bad: OnBad = "raise", *, labelled: bool = False) -> Images:
        """Read images for this model: `read_images`, brought to or checked against what it was trained on.

        Files and Pillow images get the model's number of channels; arrays must have it. uint8 images become float32 for
        a model that was trained on floats; floats stay floats.

        Raises DataError as `read_images` does, and where size, channels or scale are not those of the training.
        """
        size = (self.height, self.width) if self.resize else None
        images = _read(source, size, self.channels, on_bad, labelled, self)
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
        if channels != self.channels:
            plural = "s" * (channels > 1)
            return (
                f"has {channels} channel{plural}, the model was trained on {self.channels} "
                f"channel{'s' * (self.channels > 1)}: convert the array"
            )
        if not self.resize and (height, width) != (self.height, self.width):
            return (
                f"has {height} x {width} pixels (height x width), the model was trained on {self.height} x {self.width}: "
                "bring it to that size, or train with image_size="
            )
        return None

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
            values: Iterable[float] = (*schema.mean, *schema.std)
            fits = (
                schema.channels in (1, 3)
                and all(isinstance(n, int) and n > 0 for n in (schema.height, schema.width))
                and len(schema.mean) == len(schema.std) == schema.channels
                and all(math.isfinite(value) for value in values)
                and min(schema.std) > 0
                and schema.dtype in ("uint8", "float32")
                and isinstance(schema.resize, bool)
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise DataError(f"this is no description of images: {error}") from None
        if not fits:
            raise DataError(f"this is no description of images: {given!r}")
        return schema
