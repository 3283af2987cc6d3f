"""What is offered as images, one by one: the entries of a list, a file, a folder and what is below it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from konspekt.core.errors import DataError
from konspekt.data import image_files
from konspekt.data.image_arrays import finite, one_image, resized, what_is, with_channels
from konspekt.data.image_files import Decoded, Header, attempt, too_large, why

__all__ = ["NOT_FINITE", "SUFFIXES", "Item", "Unreadable", "from_list", "from_path"]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NOT_FINITE = "it holds NaN or infinite values"
_IDX = re.compile(r"images[-.]idx\d", flags=re.IGNORECASE)
# To learn from, and then what is to be held out of it, the first first.
_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
_LAYOUT = "a labelled folder has one sub-folder for each class, with the images of that class: cats/1.png, dogs/2.png"


@dataclass(frozen=True)
class Unreadable:
    """What stands in a list of images for one that could not be had. reason: why."""

    reason: str


@dataclass
class Item:
    """One image that was offered: a path, a loaded Pillow image, or (1, C, H, W); `reason` where it is bad already.

    row: that of the table which names it, from 0.
    """

    name: str
    thing: Path | Image.Image | Tensor = Path()
    label: str | None = None
    reason: str | None = None
    row: int | None = None

    def header(self, turned: bool) -> Header:
        """What is known before decoding. turned: whether the size must be that of the turned image."""
        if not isinstance(self.thing, Tensor):
            return image_files.header(self.thing, turned)
        _, channels, height, width = self.thing.shape
        return Header((height, width), channels == 1, self.thing.is_floating_point())

    def pixels(self, channels: int, size: tuple[int, int] | None) -> Decoded:
        """Decoded, with its pixels (C, H, W)."""
        if not isinstance(self.thing, Tensor):
            return image_files.pixels(self.thing, channels, size)
        x = with_channels(self.thing, channels)
        height, width = x.shape[2:]
        return Decoded((x if size is None else resized(x, size))[0].numpy(), (height, width))


def from_list(things: list[Any] | tuple[Any, ...]) -> list[Item]:
    """The entries of a list: paths, Pillow images, arrays and tensors; an Item stays as it is."""
    return [_item(f"image {i}", thing) for i, thing in enumerate(things)]


def _item(name: str, thing: Any) -> Item:
    if isinstance(thing, Item):
        return thing
    if isinstance(thing, (str, os.PathLike)):
        return Item(str(Path(thing)), Path(thing))
    if isinstance(thing, Image.Image):
        # Loaded here: a Pillow image reads its file when it is first used, and two threads may not do that at once.
        return Item(name, thing, reason=too_large(thing.size) or attempt(thing.load)[1])
    if isinstance(thing, (np.ndarray, Tensor)):
        try:
            x = one_image(thing)
        except DataError as error:
            return Item(name, reason=str(error))
        return Item(name, x, reason=None if bool(finite(x)[0]) else NOT_FINITE)
    if isinstance(thing, Unreadable):
        return Item(name, reason=thing.reason)
    return Item(name, reason=f"it is {what_is(thing)}, neither a path nor an image")


def from_path(path: Path, labelled: bool, skip: bool = False) -> tuple[list[Item], list[str]]:
    """What a folder offers, and what is in it besides; or one file.

    labelled: whether each sub-folder is a class. skip: a class folder without an image becomes an item that is bad.

    Raises DataError where nothing is there, no images are in it, a class has none, its sub-folders are no classes but
    splits, or it cannot be listed.
    """
    try:
        is_folder, is_there = path.is_dir(), os.path.lexists(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {why(error)}") from None
    if not is_there:
        raise DataError(f"{path} does not exist (looked for in {Path.cwd()})")
    if not is_folder:
        if labelled:
            raise DataError(f"{path} is not a folder: {_LAYOUT}")
        return [Item(str(path), path)], []
    ignored: list[str] = []
    try:
        if labelled:
            return _labelled(path, ignored, skip), ignored
        items = list(_below(path, path, None, ignored, ()))
    except PermissionError:
        raise DataError(f"the folder {path} cannot be listed: no permission to read it") from None
    except OSError as error:
        raise DataError(f"the folder {path} cannot be listed: {why(error)}") from None
    if not items:
        others = f"; it holds {_some(ignored)}" if ignored else ", it is empty"
        raise DataError(f"{path} holds no images{others}. Images are files that end in {' '.join(SUFFIXES)}")
    return items, ignored


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _is_hidden(name: str) -> bool:
    # The latter holds what an archive from a Mac has beside the images.
    return name.startswith(".") or name == "__MACOSX"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or through a folder that may not be entered
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def _labelled(root: Path, ignored: list[str], skip: bool) -> list[Item]:
    items: list[Item] = []
    empty: list[str] = []
    classes: list[str] = []
    for entry in _entries(root):
        if _is_hidden(entry.name) or not _is_folder(entry):
            ignored.append(entry.name + "/" * _is_folder(entry))
        else:
            classes.append(entry.name)
    _refuse_splits(root, classes)
    for name in classes:
        here = list(_class_items(root, name, ignored))
        if not here:
            empty.append(name)
            here = [Item(name + "/", root / name, name, "the class folder holds no images, so there is no such class")]
        items += here
    if not classes:
        others = f"it holds {_some(ignored)}" if ignored else "it is empty"
        idx = next((name for name in reversed(ignored) if _IDX.search(name) and not _is_hidden(name)), None)
        hint = "" if idx is None else f". An idx file is given itself: {root / idx}"
        raise DataError(f"{root} has no sub-folders ({others}): {_LAYOUT}{hint}")
    if empty and not (skip and len(empty) < len(classes)):
        raise DataError(
            f"{len(empty)} of the {len(classes)} class folders in {root} hold no images: {', '.join(empty)}. Fill or "
            f'remove them, or go on without these classes: on_bad="skip"; images are files that end in '
            f"{' '.join(SUFFIXES)}"
        )
    return items


def _refuse_splits(root: Path, folders: list[str]) -> None:
    """Raise DataError where some of the folders are splits: named so, and with the same folders of classes in each.

    A class that is named "train" is none: its folder holds images.
    """
    inside: dict[str, list[str]] = {}
    for name in sorted((n for n in folders if n.lower() in _SPLITS), key=lambda n: _SPLITS.index(n.lower())):
        try:
            entries = [entry for entry in _entries(root / name) if not _is_hidden(entry.name)]
        except OSError:  # it is listed as bad when it is read
            continue
        if not any(Path(entry.name).suffix.lower() in SUFFIXES for entry in entries):
            inside[name] = [entry.name for entry in entries if _is_folder(entry)]
    if len(inside) < 2:
        return
    first, second = list(inside)[:2]
    both = [name for name in inside[first] if name in inside[second]]
    if both:
        raise DataError(
            f"{root} holds splits, not classes: {' and '.join(inside)} each have the folders {_some(both)}. Give one to "
            f"learn from and one to be held out: data={root / first} validation={root / second}, in Python "
            f"fit({str(root / first)!r}, validation={str(root / second)!r})"
        )


def _class_items(root: Path, name: str, ignored: list[str]) -> Iterator[Item]:
    try:
        yield from _below(root / name, root, name, ignored, (os.path.realpath(root),))
    except OSError as error:
        yield Item(name + "/", label=name, reason=f"the folder cannot be listed: {why(error)}")


def _below(folder: Path, root: Path, label: str | None, ignored: list[str], above: tuple[str, ...]) -> Iterator[Item]:
    """The images in a folder and its sub-folders. Raises OSError where the folder itself cannot be listed."""
    above = (*above, os.path.realpath(folder))
    for entry in _entries(folder):
        path = folder / entry.name
        name = path.relative_to(root).as_posix()
        is_folder = _is_folder(entry)
        if _is_hidden(entry.name):
            ignored.append(name + "/" * is_folder)
        elif path.suffix.lower() in SUFFIXES:
            yield Item(name, path, label)
        elif not is_folder:
            ignored.append(name)
        elif os.path.realpath(path) in above:
            yield Item(name + "/", label=label, reason="the folder is a link to a folder that it is in")
        else:
            try:
                yield from _below(path, root, label, ignored, above)
            except OSError as error:
                yield Item(name + "/", label=label, reason=f"the folder cannot be listed: {why(error)}")
