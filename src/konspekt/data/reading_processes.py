"""Processes that read items ahead of the training, over `concurrent.futures`.

torch's DataLoader was weighed and left: it notices a worker's death in a signal handler, which raises in whatever line
of the training is running; it hands each batch over through a file descriptor of shared memory, which a kill leaves
behind; and it binds its workers to one order, so that training and validation data would need workers each. Here a
broken pool is an exception of the very call that waits for a batch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from konspekt.core.errors import DataError, ResourceError

__all__ = ["ReadingProcesses", "end_with_parent", "starting"]

_TASK = 2**20  # bytes that a process is asked for at a time: small batches are asked for together
_AHEAD = 2  # tasks that each process may be ahead

Arrays = dict[str, NDArray[Any]]
T = TypeVar("T")


class ReadingProcesses:
    """Processes that read from one source. Several orders may be read from it at the same time.

    source: has `read(index)` and `item_bytes`; it is sent to each process once. count: how many processes.

    They are started afresh ("spawn"), not forked: threads of torch run in this process. Each has one thread, ignores
    Ctrl-C, which is this process's affair, and ends when this one does, even by a kill.
    """

    def __init__(self, source: Any, count: int) -> None:
        self.count, self._item_bytes = count, max(1, source.item_bytes)
        self._pool = ProcessPoolExecutor(
            count, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(source,)
        )
        with starting():
            for _ in range(count):  # a task each, so that all start now and side by side
                self._pool.submit(os.getpid)

    def ahead(self, wanted: Iterable[tuple[NDArray[np.int64], T]]) -> Iterator[tuple[T, Arrays]]:
        """The fields of the items of each index, in order, with what came beside the index.

        Raises DataError where an item cannot be read, ResourceError where a process has died.
        """
        waiting: deque[tuple[list[tuple[int, T]], Future[Arrays]]] = deque()
        try:
            for group in self._groups(wanted):
                index = np.concatenate([part for part, _ in group])
                future = self._call(self._pool.submit, _read, index)
                waiting.append(([(len(part), beside) for part, beside in group], future))
                if len(waiting) > self.count * _AHEAD:
                    yield from self._parts(*waiting.popleft())
            while waiting:
                yield from self._parts(*waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()

    def _groups(self, wanted: Iterable[tuple[NDArray[np.int64], T]]) -> Iterator[list[tuple[NDArray[np.int64], T]]]:
        group: list[tuple[NDArray[np.int64], T]] = []
        size = 0
        for index, beside in wanted:
            group.append((index, beside))
            size += len(index) * self._item_bytes
            if size >= _TASK:
                yield group
                group, size = [], 0
        if group:
            yield group

    def _parts(self, group: list[tuple[int, T]], future: Future[Arrays]) -> Iterator[tuple[T, Arrays]]:
        arrays = self._call(future.result)
        start = 0
        for count, beside in group:
            yield beside, {name: array[start : start + count] for name, array in arrays.items()}
            start += count

    def _call(self, work: Any, *given: Any) -> Any:
        try:
            return work(*given)
        except DataError as error:
            raise DataError(str(error)) from None  # without the other process's traceback
        except BrokenProcessPool:
            raise ResourceError(
                "a process that reads data (workers) has died: it was killed, perhaps because memory ran out, or it "
                "could not start. Go on from the last checkpoint with `konspekt resume RUN` or fit(..., resume=RUN), "
                "with fewer workers, or with workers=0, where the training process reads by itself"
            ) from None

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Within: processes that are started do not run the user's script again, and never get a Ctrl-C.

    A script without `if __name__ == "__main__"` would start its fit in each of them. They need nothing of it: a source
    is made of what this package defines.
    """
    main = sys.modules["__main__"]
    resource_tracker.ensure_running()  # it unblocks the signals, so it comes first
    own = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, own)


# -- in the processes -----------------------------------------------------------------------------------------------

_HERE: dict[str, Any] = {}  # what this process reads from; it stays empty in the training process


def _begin(source: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # Pillow's, about metadata
    _HERE["source"] = source


def end_with_parent() -> None:
    """Wait for the process that started this one, and end with it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read(index: NDArray[np.int64]) -> Arrays:
    arrays: Arrays = _HERE["source"].read(index)
    return arrays
