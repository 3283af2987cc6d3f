"""A disk that refuses: the n-th call that would write below a folder fails, as on a full or a read-only disk.

What Python itself writes is met at `open`, `write`, `flush` of a file, `fsync`, `mkdir` and `rename`; what safetensors writes, which
does so without Python, at its `save_file`. Below the folder only, so that caches elsewhere stay as they are.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["Refusals", "refusing"]


class Refusals:
    """What a disk was asked, and which of it it refuses.

    folder: below it. at: the number of the call that fails, counted from 1; 0: none. lasting: whether all later ones do too.
    number: the errno.

    Attributes: calls: what was asked, as "write metrics.jsonl"; refused: what was refused.
    """

    def __init__(self, folder: Path, at: int, *, lasting: bool = False, number: int = errno.ENOSPC) -> None:
        self.folder, self.at, self.lasting, self.number = os.path.abspath(folder), at, lasting, number
        self.calls: list[str] = []
        self.refused: list[str] = []

    def ask(self, what: str, path: Any) -> None:
        """Raise OSError where this call is to fail."""
        try:
            whole = os.path.abspath(os.fsdecode(path))
        except TypeError:  # a number of an open file
            return
        if not (whole + os.sep).startswith(self.folder + os.sep):
            return
        said = f"{what} {os.path.relpath(whole, self.folder)}"
        self.calls.append(said)
        if len(self.calls) == self.at or (self.lasting and 0 < self.at < len(self.calls)):
            self.refused.append(said)
            raise OSError(self.number, os.strerror(self.number), whole)


class _File:
    """A file whose writes are asked for."""

    def __init__(self, file: Any, path: Any, disk: Refusals) -> None:
        self._file, self._path, self._disk = file, path, disk

    def write(self, data: Any) -> Any:
        self._disk.ask("write", self._path)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)


@contextlib.contextmanager
def refusing(folder: Path, at: int, *, lasting: bool = False, number: int = errno.ENOSPC) -> Iterator[Refusals]:
    """Within: the disk refuses the `at`-th call. One process at a time; the parameters are those of `Refusals`."""
    from safetensors import torch as tensors

    disk = Refusals(folder, at, lasting=lasting, number=number)
    first: dict[tuple[Any, str], Any] = {}

    def opened(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        writes = any(letter in mode for letter in "wax+")
        if writes:
            disk.ask("open", path)
        file = original(path, mode, *rest, **options)
        return _File(file, path, disk) if writes else file

    def asked(what: str, call: Callable[..., Any], place: int = 0) -> Callable[..., Any]:
        def wrapped(*given: Any, **options: Any) -> Any:
            path = given[place]
            if isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}") if os.path.exists("/proc/self/fd") else path
            if what != "mkdir" or not os.path.isdir(path):
                disk.ask(what, path)
            return call(*given, **options)

        return wrapped

    original = io.open
    puts = {
        (builtins, "open"): opened,
        (io, "open"): opened,
        (os, "fsync"): asked("fsync", os.fsync),
        (os, "replace"): asked("rename", os.replace, 1),
        (os, "mkdir"): asked("mkdir", os.mkdir),
        (tensors, "save_file"): asked("save", tensors.save_file, 1),
    }
    try:
        for (owner, name), new in puts.items():
            first[owner, name] = getattr(owner, name)
            setattr(owner, name, new)
        yield disk
    finally:
        for (owner, name), was in first.items():
            setattr(owner, name, was)
