"""Images that are streamed: files, each decoded when its batch is due.

Before the fit each file is decoded once, to find those that cannot be read and to take the sums that the statistics of
the channels are made of. What holds for images in memory holds here: one size, one number of channels, the same list of
bad items; `image_reading` has the rules.

Shape letters in this file: N images, C channels (1 grey, 3 red green blue), H height, W width.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from konspekt.core.errors import DataError
from konspekt.data import image_files
from konspekt.data.batches import mark_of_parts
from konspekt.data.image_files import Header, attempt
from konspekt.data.image_items import Item, from_list, from_path
from konspekt.data.image_reading import Images, OnBad, by_size, common_size, headers_of, report, threads
from konspekt.data.images import ImageSchema, as_channels, as_size

__all__ = ["ImageFiles", "StreamedImages", "stream_images"]

_AT_ONCE = 256  # images that are looked at together: decoded, they wait in memory


class ImageFiles:
    """Image files as a source of batches: x (B, C, H, W) uint8.

    paths: of the files. shape: (C, H, W). size: what they are brought to, (height, width), or None.
    sums (N, 2, C): of each image's pixels, and of their squares. hashes (N,) int64: one of each image.
    digest: the SHA-256 of all pixels.
    """

    def __init__(
        self,
        paths: list[str],
        shape: tuple[int, int, int],
        size: tuple[int, int] | None,
        sums: NDArray[np.int64],
        hashes: NDArray[np.int64],
        digest: Any,
    ) -> None:
        self.paths, self.shape, self.size = paths, shape, size
        self._sums = sums
        self.item_sums: NDArray[np.int64] | None = hashes
        self._marks = {"x": mark_of_parts("x", torch.uint8, (len(paths), *shape), digest)}

    @property
    def item_bytes(self) -> int:
        """How much memory an image takes."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.paths)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_sums": None, "item_sums": None}  # what reads needs no statistics

    def read(self, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Decode these images.

        Raises DataError where one can no longer be decoded, or has another size.
        """
        x = np.empty((len(index), *self.shape), np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about metadata
            for place, item in enumerate(index.tolist()):
                path = self.paths[item]
                decoded, reason = attempt(partial(image_files.pixels, Path(path), self.shape[0], self.size))
                if decoded is not None and decoded.pixels.shape != self.shape:
                    reason = f"it has {by_size(decoded.pixels.shape[1:])} pixels, not {by_size(self.shape[1:])}"
                if decoded is None or reason is not None:
                    raise DataError(
                        f"{path}: {reason}. It could be read when the fit began: bring it back as it was, and resume"
                    )
                x[place] = decoded.pixels
        return {"x": x}

    def marks(self) -> dict[str, bytes]:
        """The SHA-256 of the pixels, as they were when the fit began."""
        return self._marks

    def close(self) -> None:
        """Nothing stays open."""

    def all_equal(self) -> bool:
        """Whether each image has the same pixels, by their hashes."""
        return self.item_sums is not None and bool((self.item_sums == self.item_sums[0]).all())

    def learn(self, train: NDArray[np.int64], *, resize: bool, convert: bool = False) -> ImageSchema:
        """What `ImageSchema.learn` learns of these images."""
        sums, squares = self._sums[train].sum(0).tolist()
        _, height, width = self.shape
        count = len(train) * height * width
        return ImageSchema.of_sums(sums, squares, count, (height, width), resize=resize, convert=convert)


@dataclass
class StreamedImages(Images):
    """Images that are not in memory: `pixels` is empty."""

    files: ImageFiles


def stream_images(
    source: Any,
    wanted: Callable[[Callable[[], float]], bool],
    *,
    image_size: Any = None,
    channels: int | None = None,
    on_bad: OnBad = "raise",
    labelled: bool = False,
) -> StreamedImages | None:
    """Image files as a stream, or None where the source is none of files, or is not to be streamed.

    wanted: told how many bytes the images would take in memory, it says whether they are to be streamed. The other
    parameters are those of `read_images`, and so is what is raised.
    """
    size, channels = as_size(image_size), as_channels(channels)
    if isinstance(source, (str, os.PathLike)):
        items, ignored = from_path(Path(source), labelled, on_bad == "skip")
    elif isinstance(source, (list, tuple)) and source and all(isinstance(s, (str, os.PathLike, Item)) for s in source):
        if labelled:
            return None
        items, ignored = from_list(source), []
    else:
        return None
    if not wanted(lambda: _in_memory(items, size, channels)):
        return None
    with warnings.catch_warnings(), ThreadPoolExecutor(threads(), "images") as pool:
        warnings.simplefilter("ignore")  # as in image_reading
        return _survey(pool, items, size, channels, on_bad, ignored)


def _in_memory(items: list[Item], size: tuple[int, int] | None, channels: int | None) -> float:
    """About how many bytes the images would take: those of the first that can be opened, so many times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for item in items:
            header = attempt(partial(item.header, size is None))[0] if item.reason is None else None
            if header is not None:
                height, width = size or header.size
                return float(len(items) * height * width * (channels or (1 if header.grey else 3)))
    return 0.0


def _survey(
    pool: ThreadPoolExecutor,
    items: list[Item],
    size: tuple[int, int] | None,
    channels: int | None,
    on_bad: OnBad,
    ignored: list[str],
) -> StreamedImages:
    headers, reasons = headers_of(items, partial(_in_turns, pool), size, on_bad)
    wanted = size or common_size(items, headers)
    planes = channels or (1 if all(header.grey for header in headers.values()) else 3)
    kept, sizes, *measured = _decoded(pool, items, headers, reasons, (planes, *wanted), size)
    bad = report([item.name for item in items], len(items), reasons, on_bad, [item.row for item in items])
    if channels is None and planes == 3 and all(headers[i].grey for i in kept):  # the only coloured ones were bad
        planes = 1
        kept, sizes, *measured = _decoded(pool, items, headers, reasons, (planes, *wanted), size)
    files = ImageFiles([str(items[i].thing) for i in kept], (planes, *wanted), size, *measured)
    labels = [items[i].label or "" for i in kept] if items[0].label is not None else None
    names, empty = [items[i].name for i in kept], torch.empty(0, planes, *wanted, dtype=torch.uint8)
    return StreamedImages(empty, labels, names, bad, ignored, np.array(kept, dtype=np.int64), sizes, files)


def _in_turns(pool: ThreadPoolExecutor, work: Callable[[int], Any], things: list[int]) -> Iterator[Any]:
    """The pool's `map`, of so many things at a time that their results do not fill the memory."""
    for first in range(0, len(things), _AT_ONCE):
        yield from pool.map(work, things[first : first + _AT_ONCE])


def _decoded(
    pool: ThreadPoolExecutor,
    items: list[Item],
    headers: dict[int, Header],
    reasons: dict[int, str],
    shape: tuple[int, int, int],
    size: tuple[int, int] | None,
) -> tuple[list[int], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Any]:
    """Decode every image once: which are good, their sizes (N, 2), what `ImageFiles` takes of them; adds to `reasons`."""

    def measure(i: int) -> tuple[NDArray[Any], NDArray[np.int64], int, tuple[int, int]]:
        pixels, seen = items[i].pixels(shape[0], size)
        if pixels.shape[1:] != shape[1:]:
            raise ValueError(f"decoded, it has {by_size(pixels.shape[1:])} pixels, not {by_size(shape[1:])}")
        flat = pixels.reshape(shape[0], -1)
        counts = np.stack([np.bincount(channel, minlength=256) for channel in flat])
        levels = np.arange(256)
        pixels = np.ascontiguousarray(pixels)
        short = int.from_bytes(hashlib.blake2b(pixels, digest_size=8).digest(), "little", signed=True)
        return pixels, np.stack([counts @ levels, counts @ levels**2]), short, seen

    good = [i for i in sorted(headers) if i not in reasons]
    kept: list[int] = []
    sums: list[NDArray[np.int64]] = []
    hashes: list[int] = []
    sizes: list[tuple[int, int]] = []
    digest = hashlib.sha256()
    found = _in_turns(pool, lambda i: attempt(partial(measure, i)), good)
    for i, (measured, reason) in zip(good, found, strict=True):
        if measured is None:
            reasons[i] = reason or ""
            continue
        kept.append(i)
        digest.update(measured[0])
        sums.append(measured[1])
        hashes.append(measured[2])
        sizes.append(measured[3])
    table = np.array(sums, dtype=np.int64).reshape(len(kept), 2, shape[0])
    seen = np.array(sizes, dtype=np.int64).reshape(len(kept), 2)
    return kept, seen, table, np.array(hashes, dtype=np.int64), digest
