"""idx files, the format of MNIST, also gzipped: arrays of numbers behind a header of their type and sides.

Four bytes, of which the third says the type and the fourth how many axes there are; the length of each axis in four
bytes; the numbers, the last axis fastest, the largest byte first. LeCun, Cortes, Burges, "The MNIST database".
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError
from konspekt.core.memory import check_room

__all__ = ["images_and_labels", "is_idx", "labels_beside", "read_idx"]

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NAME = re.compile(r"[-.]idx\d(-\w+)?(\.gz)?$", flags=re.IGNORECASE)
_GZIP = b"\x1f\x8b"
_DENSEST = 1032  # deflate packs at most so many bytes into one
_DAMAGED = (OSError, EOFError, zlib.error)
_AT_ONCE = 1 << 24  # bytes


def is_idx(path: Any) -> bool:
    """Whether this is the path of an idx file: by its name, or by the first bytes of what is there."""
    if not isinstance(path, (str, Path)):
        return False
    if _NAME.search(str(path)):
        return True
    try:
        path = Path(path)
        if not path.is_file():
            return False
        with _opened(path) as file:
            start = file.read(4)
    except (*_DAMAGED, ValueError):  # who reads it as something else says what is wrong
        return False
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in _TYPES and 1 <= start[3] <= 8


def read_idx(path: str | Path) -> NDArray[Any]:
    """Read an idx file into an array of its shape; the numbers are in the machine's byte order.

    Raises DataError where it is no idx file, is cut or has bytes left over, ResourceError where it does not fit in
    memory: its header is not believed before that is known.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: {'this is a folder, not a file' if path.is_dir() else 'there is no such file'}")
    try:
        with _opened(path) as file:
            dtype, shape = _header(path, file)
            size = math.prod(shape) * dtype.itemsize
            stored = path.stat().st_size
            if size > stored * _DENSEST:  # before it is allocated
                raise DataError(f"{path}: {_cut(shape, size)}; the whole file has {stored:,}")
            check_room(size * (2 if dtype.itemsize > 1 else 1), f"{path}: an array of {_by(shape)} numbers")
            raw = np.empty(size, dtype=np.uint8)
            there = 0
            while there < size and (got := file.readinto(memoryview(raw)[there : there + _AT_ONCE])):  # type: ignore[attr-defined]
                there += got
            if there < size:
                raise DataError(f"{path}: {_cut(shape, size)}, but {there:,} follow: the file is cut; copy it again")
            if file.read(1):
                raise DataError(f"{path}: bytes follow after the {_by(shape)} numbers: the file is damaged")
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{path}: not readable as an idx file ({reason}); copy it again") from None
    return raw.view(dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def labels_beside(path: str | Path) -> Path | None:
    """The file of labels that lies beside one of images, by its name; None where there is none.

    train-images-idx3-ubyte has train-labels-idx1-ubyte; dots may stand for dashes, and each may be gzipped.
    """
    path = Path(path)
    name = re.sub(r"images([-.])idx\d", r"labels\1idx1", path.name)
    if name == path.name:
        return None
    plain = name.removesuffix(".gz")
    found = [path.with_name(n) for n in (name, plain, f"{plain}.gz")]
    return next((p for p in found if p.is_file()), None)


def images_and_labels(X: Any, y: Any, where: str, *, truth: bool, later: bool) -> tuple[Any, Any]:
    """X and y, where what is the path of an idx file has become its array; all else is as it was.

    truth: labels are wanted; where y is None, they are those beside the images. later: the data are not those of a fit
    but come after it, so that a y in words may be one that was meant for the fit.

    Raises DataError where a file cannot be read or holds what it should not, or no labels are found.
    """
    path = Path(X) if is_idx(X) and Path(X).is_file() else None
    beside = None if path is None else labels_beside(path)
    if isinstance(y, Path) or (isinstance(y, str) and is_idx(y)):
        other = beside is not None and Path(y).is_file() and not beside.samefile(y)
        if later and isinstance(y, str) and beside is not None and other:
            raise DataError(
                f"{where}: {X} has {beside.name} beside it, but y={y!r}: which of both? Give validation=(images, labels) "
                "as a pair, or y as a pathlib.Path"
            )
        labels = read_idx(y)
        if labels.ndim != 1:
            raise DataError(f"{where}: {y}: labels are one number an item, this file holds {_by(labels.shape)} numbers")
        y = labels
    if path is None:
        return X, y
    images = read_idx(path)
    if images.ndim == 1:
        raise DataError(f"{where}: {path} holds one number an item ({len(images)}), no images; labels belong into y")
    if truth and y is None:
        if beside is None:
            raise DataError(
                f"{where}: requires y to be passed, but the target y is None, and {path} has no labels beside it, such "
                "as train-labels-idx1-ubyte for train-images-idx3-ubyte: give y, an array or a file (target=FILE on the "
                "command line)"
            )
        return images, images_and_labels(None, beside, where, truth=False, later=False)[1]
    return images, y


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _header(path: Path, file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES:
        raise DataError(
            f"{path}: not an idx file: it begins with {start.hex(' ') or 'nothing'}, not with 00 00 and a type"
        )
    axes = start[3]
    sides = file.read(4 * axes)
    if not axes or len(sides) < 4 * axes:
        raise DataError(f"{path}: not an idx file: its header says {axes} axes, and {len(sides) // 4} lengths follow")
    shape = tuple(int(n) for n in np.frombuffer(sides, ">u4"))
    if 0 in shape:
        raise DataError(f"{path}: the file is empty: its shape is {_by(shape)}")
    return np.dtype(_TYPES[start[2]]), shape


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _cut(shape: tuple[int, ...], size: int) -> str:
    return f"the header promises {_by(shape)} numbers in {size:,} bytes"
