"""Whatever holds images -> one tensor: the bad ones are listed or refused, the others must agree in size and scale.

Shape letters in this file: N images, C channels (1 grey, 3 red green blue), H height, W width.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.data.image_arrays import finite, many_images, resized, what_is, with_channels
from konspekt.data.image_files import Header, attempt
from konspekt.data.image_items import NOT_FINITE, Item, from_list, from_path

__all__ = [
    "BadItem",
    "Expected",
    "Images",
    "OnBad",
    "by_size",
    "common_size",
    "headers_of",
    "read",
    "report",
    "threads",
]

LISTED = 20

OnBad = Literal["raise", "skip"]


@dataclass(frozen=True)
class BadItem:
    """An image that cannot be used. item: its path or "image 17"; reason: why; row: of the table that names it, from 0."""

    item: str
    reason: str
    row: int | None = None


@dataclass
class Images:
    """Images in memory.

    pixels: (N, C, H, W) uint8 in 0..255, or float32 in the units of the float arrays that were given.
    labels: the class folder of each, or None.
    names: the path of each, relative to the folder that was given, or "image 17".
    bad: what was left out, with reasons.
    ignored: files and folders that are no images by their names, relative to the folder; folders end in "/".
    kept: (N,) int64, which of the items offered are here, so that a target can be filtered in the same way.
    sizes: (N, 2) int64, height and width of each as it was seen, before it was brought to a size.
    """

    pixels: Tensor
    labels: list[str] | None
    names: list[str]
    bad: list[BadItem]
    ignored: list[str]
    kept: np.ndarray[Any, np.dtype[np.int64]]
    sizes: np.ndarray[Any, np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.names)


class Expected(Protocol):
    """What a model was trained on, against which its images are held."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    def refusal(self, channels: int, height: int, width: int) -> str | None:
        """Why an image of this shape does not fit, as words that follow its name; None where it does."""


def read(
    source: Any,
    size: tuple[int, int] | None,
    channels: int | None,
    on_bad: OnBad,
    labelled: bool,
    expect: Expected | None = None,
) -> Images:
    """As `read_images`. size: (height, width); expect: what the images must fit.

    Raises DataError, ConfigError and ResourceError.
    """
    if on_bad not in ("raise", "skip"):
        raise ConfigError(f"on_bad must be 'raise' or 'skip', got {on_bad!r}")
    if isinstance(source, (str, os.PathLike)):
        items, ignored = from_path(Path(source), labelled, on_bad == "skip")
        return _read_items(items, size, channels, on_bad, ignored, expect)
    if labelled:
        raise DataError(
            f"classes can be taken from a folder with one sub-folder for each class, not from {what_is(source)}: "
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
        return _read_items(from_list(source), size, channels, on_bad, [], expect)
    if isinstance(source, (np.ndarray, Tensor)):
        return _read_array(source, size, channels, on_bad, expect)
    raise DataError(
        f"images are read from a folder, paths, an array, a tensor or a list of Pillow images, got {what_is(source)}"
    )


def _read_array(
    array: np.ndarray[Any, Any] | Tensor,
    size: tuple[int, int] | None,
    channels: int | None,
    on_bad: OnBad,
    expect: Expected | None,
) -> Images:
    x = many_images(array, None if expect is None else expect.shape)
    if expect is not None:
        wrong = expect.refusal(x.shape[1], x.shape[2], x.shape[3])
        if wrong:
            raise DataError(f"each image {wrong}")
    fine = finite(x)
    reasons = {int(i): NOT_FINITE for i in (~fine).nonzero()[:, 0]}
    bad = report([f"image {i}" for i in range(len(x))] if reasons else [], len(x), reasons, on_bad)
    kept = fine.nonzero()[:, 0]
    if reasons:
        x = x[kept]
    if channels is not None:
        x = with_channels(x, channels)
    sizes = np.tile(np.array(x.shape[2:], dtype=np.int64), (len(x), 1))
    if size is not None:
        x = resized(x, size)
    return Images(x.contiguous(), None, [f"image {i}" for i in kept.tolist()], bad, [], kept.numpy(), sizes)


def report(
    names: list[str], total: int, reasons: dict[int, str], on_bad: OnBad, rows: Sequence[int | None] = ()
) -> list[BadItem]:
    """The bad items, in order; or the error about them, where they may not be skipped or nothing else is left.

    rows: those of the table that names the items, if one does.
    """
    bad = [BadItem(names[i], reasons[i], rows[i] if rows else None) for i in sorted(reasons)]
    if bad and (on_bad == "raise" or len(bad) == total):
        lines = [
            f"  {'' if item.row is None else f'row {item.row}, '}{item.item}: {item.reason}" for item in bad[:LISTED]
        ]
        if len(bad) > LISTED:
            lines.append(f"  and {len(bad) - LISTED} more")
        head, advice = (
            f"{len(bad)} of {total} images cannot be used",
            '\nRepair or remove them; a fit can also skip them: on_bad="skip"',
        )
        if len(bad) == total:
            head, advice = "the image cannot be used" if total == 1 else f"none of the {total} images can be used", ""
        raise DataError(f"{head}:\n" + "\n".join(lines) + advice)
    return bad


def threads() -> int:
    """How many threads decode: one for each processor that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _read_items(
    items: list[Item],
    size: tuple[int, int] | None,
    channels: int | None,
    on_bad: OnBad,
    ignored: list[str],
    expect: Expected | None,
) -> Images:
    if not items:
        raise DataError("there are no images: the list is empty")
    # Set here and not in the threads, since the filters are the whole process's: Pillow warns of large images, whose
    # size `image_files` checks, and of odd metadata, which do not concern the pixels.
    with warnings.catch_warnings(), ThreadPoolExecutor(threads(), "images") as pool:
        warnings.simplefilter("ignore")
        return _read_in(pool, items, size, channels, on_bad, ignored, expect)


def _read_in(
    pool: ThreadPoolExecutor,
    items: list[Item],
    size: tuple[int, int] | None,
    channels: int | None,
    on_bad: OnBad,
    ignored: list[str],
    expect: Expected | None,
) -> Images:
    names, table_rows = [item.name for item in items], [item.row for item in items]
    # Pillow lets go of the interpreter's lock while it decodes; torch has its own threads, and is not put into others.
    spread: Callable[..., Iterator[Any]] = map if all(isinstance(item.thing, Tensor) for item in items) else pool.map
    headers, reasons = headers_of(items, spread, size, on_bad, expect)
    floating = _one_scale(names, headers)
    wanted = size or common_size(items, headers)
    planes = channels or (1 if all(header.grey for header in headers.values()) else 3)
    good = sorted(headers)
    pixels = _room(len(good), planes, wanted, torch.float32 if floating else torch.uint8)
    rows, sizes = pixels.numpy(), np.zeros((len(good), 2), dtype=np.int64)

    def fill(place: int) -> None:
        decoded, sizes[place] = items[good[place]].pixels(planes, size)
        if decoded.shape[1:] != wanted:
            raise ValueError(f"decoded, it has {decoded.shape[1]} x {decoded.shape[2]} pixels, not {by_size(wanted)}")
        rows[place] = decoded

    kept: list[int] = []
    for place, (_, reason) in enumerate(spread(lambda place: attempt(partial(fill, place)), range(len(good)))):
        if reason is not None:
            reasons[good[place]] = reason
            continue
        if place != len(kept):  # close the gap that a skipped image left; the threads write further on
            rows[len(kept)], sizes[len(kept)] = rows[place], sizes[place]
        kept.append(good[place])
    bad = report(names, len(items), reasons, on_bad, table_rows)
    pixels = pixels[: len(kept)]
    if channels is None and planes == 3 and all(headers[i].grey for i in kept):
        pixels = pixels[:, :1].contiguous()  # the only coloured ones were bad
    labels = [items[i].label or "" for i in kept] if items[0].label is not None else None
    places, sizes = np.array(kept, dtype=np.int64), sizes[: len(kept)]
    return Images(pixels, labels, [names[i] for i in kept], bad, ignored, places, sizes)


def headers_of(
    items: list[Item],
    spread: Callable[..., Iterator[Any]],
    size: tuple[int, int] | None,
    on_bad: OnBad,
    expect: Expected | None = None,
) -> tuple[dict[int, Header], dict[int, str]]:
    """What is known of the items before they are decoded, and why some cannot be, by their places.

    spread: `map`, or that of a pool.

    Raises DataError where none is left.
    """
    reasons: dict[int, str] = {i: item.reason for i, item in enumerate(items) if item.reason is not None}
    headers: dict[int, Header] = {}
    open_items = [i for i in range(len(items)) if i not in reasons]
    found = spread(lambda i: attempt(partial(items[i].header, size is None)), open_items)
    for i, (header, reason) in zip(open_items, found, strict=True):
        if header is not None and expect is not None:
            given = (1 if header.grey else 3) if isinstance(items[i].thing, Tensor) else expect.shape[0]
            reason = expect.refusal(given, *header.size)
        if header is None or reason is not None:
            reasons[i] = reason or ""
        else:
            headers[i] = header
    if not headers:
        report([item.name for item in items], len(items), reasons, on_bad, [item.row for item in items])
    return headers, reasons


def _room(count: int, channels: int, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    try:
        return torch.empty(count, channels, *size, dtype=dtype)
    except RuntimeError:
        need = count * channels * size[0] * size[1] * dtype.itemsize / 2**30
        raise ResourceError(
            f"{count} images of {by_size(size)} pixels and {channels} channels need {need:,.1f} GiB of memory, which are "
            "not there: bring them to a smaller size with image_size="
        ) from None


def _one_scale(names: list[str], headers: dict[int, Header]) -> bool:
    """Whether the images are floats: all of them or none."""
    kinds: dict[bool, str] = {}
    for i, header in headers.items():
        kinds.setdefault(header.floating, names[i])
    if len(kinds) == 2:
        raise DataError(
            f"the images have two scales: {kinds[False]} is 8-bit, {kinds[True]} is float. Give all as one of both"
        )
    return True in kinds


def by_size(size: tuple[int, int]) -> str:
    """A size (height, width) in words."""
    return f"{size[0]} x {size[1]}"


def common_size(items: list[Item], headers: dict[int, Header]) -> tuple[int, int]:
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
        if any(attempt(partial(items[i].pixels, 1, None))[1] is None for i in found[size]):
            proven.append(size)
        if len(proven) == 2:
            break
    if len(proven) < 2:
        return (proven or by_count)[0]
    lines = [
        f"  {by_size(size)}: {len(found[size])} image{'s' * (len(found[size]) > 1)}, such as {items[found[size][0]].name}"
        for size in by_count[:10]
    ]
    if len(by_count) > 10:
        lines.append(f"  and {len(by_count) - 10} more sizes")
    raise DataError(
        f"the images have {len(by_count)} sizes (height x width):\n"
        + "\n".join(lines)
        + "\nSay to what size they shall be brought: image_size=64, or image_size=(height, width)"
    )
