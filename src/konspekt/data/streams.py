"""Batches of data that do not fit in memory: items lie on a disk and are read when their batch is due.

The order, the batches, the numbers of the items and what a transform draws for them are those of `Resident`, so that a
fit learns the same weights, to the bit, whether its data are resident, streamed, or streamed by any number of processes.

Files are read with `pread`, not mapped: pages of a mapped file would count as memory of the process.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from konspekt.core.errors import DataError, ResourceError
from konspekt.core.memory import available_memory
from konspekt.data.batches import Resident, mark_of_parts
from konspekt.data.fields import Batch, Field
from konspekt.data.reading_processes import ReadingProcesses

__all__ = ["Scratch", "Source", "Spill", "Streamed", "full_disk", "is_larger"]

_AT_ONCE = 2**23  # bytes of a file that are read at a time where all of it is gone through


class Source(Protocol):
    """Items on a disk, each with the same fields. It is handed to other processes, which open their own files.

    item_sums: (N,) int64, a 64-bit hash of each item, where it was had for nothing; else None.
    """

    item_sums: NDArray[np.int64] | None

    @property
    def item_bytes(self) -> int:
        """How much memory an item takes once it is read."""

    def __len__(self) -> int: ...

    def read(self, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The fields of these items: name -> (B, ...).

        Raises DataError where an item cannot be read any more.
        """

    def marks(self) -> dict[str, bytes]:
        """For each field, the SHA-256 of it over all items, as `Resident.marks` gives it."""

    def close(self) -> None:
        """Let go of what is open."""


class Scratch(contextlib.ExitStack):
    """What a fit sets up for its data and takes down at its end: files, processes.

    parent: where its folder is made, such as the run folder; None: where the system keeps temporary files.
    name: of the folder. In a run folder it is replaced if it is there: a fit that was killed left it.
    """

    def __init__(self, parent: Path | None = None, name: str = "stream") -> None:
        super().__init__()
        self._parent, self._name = parent, name
        self._folder: Path | None = None

    def folder(self) -> Path:
        """The folder; it is made when it is first asked for."""
        if self._folder is None:
            with full_disk(self._parent or Path(tempfile.gettempdir())):
                if self._parent is None:
                    self._folder = Path(tempfile.mkdtemp(prefix=f"konspekt-{self._name}-"))
                else:
                    self._folder = self._parent / self._name
                    shutil.rmtree(self._folder, ignore_errors=True)
                    self._folder.mkdir(parents=True)
            self.callback(shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Within: what the disk refuses to take becomes a ResourceError."""
    try:
        yield
    except OSError as error:
        what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise ResourceError(
            f"{path}: data to be streamed are written there during the fit, but {what}: give a run_dir, or set TMPDIR, "
            "where there is room"
        ) from None


class Spill:
    """Rows of one width in one file: encoded tables. Any row is read by its number.

    path: the file. fields: name -> type and shape of a row's part. total: how many rows.
    """

    def __init__(self, path: Path, fields: Mapping[str, tuple[Any, tuple[int, ...]]], total: int) -> None:
        self.path, self.total = path, total
        self.row = np.dtype([(name, dtype, shape) for name, (dtype, shape) in fields.items()])
        self.item_sums: NDArray[np.int64] | None = None
        self._handle: int | None = None
        self._marks: dict[str, bytes] = {}

    @classmethod
    def write(cls, path: Path, blocks: Iterable[Mapping[str, Tensor]], total: int) -> Spill:
        """Write rows, block by block: name -> (n, ...).

        Raises ResourceError where the disk is full.
        """
        spill: Spill | None = None
        with full_disk(path.parent), path.open("wb") as file:
            for block in blocks:
                arrays = {name: tensor.numpy() for name, tensor in block.items()}
                spill = spill or cls(path, {n: (a.dtype, a.shape[1:]) for n, a in arrays.items()}, total)
                rows = np.empty(len(next(iter(arrays.values()))), spill.row)
                for name, array in arrays.items():
                    rows[name] = array
                file.write(rows.tobytes())
        if spill is None:
            raise DataError("there are no items")
        return spill

    @property
    def item_bytes(self) -> int:
        """How much memory a row takes."""
        return self.row.itemsize

    def __len__(self) -> int:
        return self.total

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_handle": None}

    def read(self, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The fields of these rows; rows that follow each other are read at once."""
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDONLY)
        width = self.row.itemsize
        starts = np.flatnonzero(np.diff(index, prepend=-2) != 1)
        counts = np.diff(starts, append=len(index))
        parts = [
            os.pread(self._handle, count * width, first * width)
            for first, count in zip(index[starts].tolist(), counts.tolist(), strict=True)
        ]
        data = bytearray().join(parts)  # not bytes: torch takes what can be written to
        if len(data) != len(index) * width:
            raise DataError(f"{self.path} was cut while it was read; it belongs to the fit that is running")
        rows = np.frombuffer(data, self.row)
        return {name: rows[name].copy() for name in self.row.names or ()}

    def close(self) -> None:
        """Let go of the file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def marks(self) -> dict[str, bytes]:
        """For each field, the SHA-256 of it over all rows."""
        if not self._marks:
            digests = {name: hashlib.sha256() for name in self.row.names or ()}
            step = max(1, _AT_ONCE // max(1, self.row.itemsize))
            for first in range(0, self.total, step):
                for name, part in self.read(np.arange(first, min(first + step, self.total))).items():
                    digests[name].update(part.tobytes())
            for name, digest in digests.items():
                sub, shape = self.row[name].base, self.row[name].shape
                dtype = torch.from_numpy(np.empty(0, sub)).dtype
                self._marks[name] = mark_of_parts(name, dtype, (self.total, *shape), digest)
        return self._marks


class Streamed(Resident):
    """Batches of items that a source reads, with what of them lies in memory: the targets.

    source: what reads. fields: further fields, in memory. readers: processes that read ahead; None: this one reads.
    The other options are those of Resident; ragged fields cannot be streamed.
    """

    def __init__(
        self,
        source: Source,
        fields: Mapping[str, Field],
        *,
        items: Tensor | None = None,
        readers: ReadingProcesses | None = None,
        **options: Any,
    ) -> None:
        sizes = {name: len(field) for name, field in fields.items() if len(field) != len(source)}
        if sizes:
            raise DataError(f"the fields must have as many items each, {len(source)}, got {sizes}")
        super().__init__(fields, items=torch.arange(len(source)) if items is None else items, **options)
        self.source, self.readers = source, readers

    def raw(self, index: Tensor) -> dict[str, Field]:
        """The fields of these items (B,), read by this process."""
        return self._joined(index, self.source.read(index.cpu().numpy()))

    def taken(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        """One batch after the other; with reading processes, they are ahead of what is asked for."""
        if self.readers is None:
            return super().taken(indices)
        read = self.readers.ahead((index.cpu().numpy(), index) for index in indices)
        return (self._collated(index, self._joined(index, arrays)) for index, arrays in read)

    def _joined(self, index: Tensor, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Field]:
        return super().raw(index) | {name: torch.from_numpy(a).to(self.device) for name, a in arrays.items()}

    def marks(self) -> dict[str, bytes]:
        """For each field, the SHA-256 of its values over all items, used or not."""
        return super().marks() | self.source.marks()


def _free_memory() -> int | None:
    """How many bytes of memory this process may still take, by what the system says; None where it does not say."""
    free = available_memory()
    with contextlib.suppress(OSError, ValueError):  # a container's own limit; "max" where it has none
        folder = Path("/sys/fs/cgroup")
        limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
        room = max(0, limit - used)
        free = room if free is None else min(free, room)
    return free


def is_larger(stream: str, need: Callable[[], float]) -> bool:
    """Whether data are to be streamed. stream: as in `Training`; need: gives the bytes that they would take in memory."""
    if stream != "auto":
        return stream == "always"
    free = _free_memory()
    return free is not None and need() > free / 2
