"""Memory: whether what is about to be read fits in it, asked before it is allocated, and how freed memory is kept."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from konspekt.core.errors import ResourceError

__all__ = ["available_memory", "check_room", "keep_freed_memory"]

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_KEPT, _LARGEST = 2**30, 32 * 2**20  # bytes: that stay with the process; of the largest block that comes from its heap


def available_memory() -> int | None:
    """Bytes that can be had without swapping, as Linux says; elsewhere all that there are; None where nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return None


def check_room(need: int, what: str) -> None:
    """Raise ResourceError where `need` bytes are not there. what: what they are for, as the message begins."""
    there = available_memory()
    if there is not None and need > there:
        raise ResourceError(
            f"{what} needs {need / 2**30:,.1f} GiB of memory, and {there / 2**30:,.1f} GiB are free: take a part of it, "
            "or a larger machine"
        )


def keep_freed_memory() -> bool:
    """Let the process keep up to 1 GiB of what it frees; whether that could be arranged.

    A step allocates and frees tensors of megabytes, which glibc gives back to the system and takes again, page by page. What
    the environment says (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_) stands; other C libraries are left as they are.
    """
    if {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_TRIM, _KEPT) and mallopt(_MMAP, _LARGEST))
