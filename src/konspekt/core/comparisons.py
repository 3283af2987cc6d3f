"""The folder that a comparison leaves, of clusterings or of agents: comparison.json, and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from konspekt.core.errors import ConfigError
from konspekt.core.folders import refusal, write_file

__all__ = ["usable", "write_comparison"]

MARK = "comparison.json"  # a folder that holds it is a comparison's


def usable(folder: str | Path) -> Path:
    """The folder, which is empty, not there yet, or holds an earlier comparison.

    Raises ConfigError on any other.
    """
    place = Path(folder)
    if place.exists() and (not place.is_dir() or (any(place.iterdir()) and not (place / MARK).is_file())):
        raise ConfigError(f"{place}: something else is there already; give a folder that is empty or not there yet")
    return place


def write_comparison(folder: str | Path, files: Mapping[str, bytes]) -> Path:
    """Write the files, in the order given, into a folder that is `usable`, which is made; an earlier comparison is replaced.

    files: comparison.json the last, so that a folder which has it has them all.

    Raises ConfigError on another folder, ResourceError where the disk refuses.
    """
    place = usable(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(error, place) from None
    for name, data in files.items():
        write_file(place / name, data)
    return place
