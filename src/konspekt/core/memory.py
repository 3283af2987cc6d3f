"""Whether what is about to be read fits in memory: asked before it is allocated, as a file may promise too much."""

from __future__ import annotations

import os
from pathlib import Path

from konspekt.core.errors import ResourceError

__all__ = ["available_memory", "check_room"]


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
