"""Groups of points in the plane: their colours, where their names can be written, which of two groupings' groups are alike.

Both the figures of `cluster` and the page of a run need it, and the page is made without torch and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["alike", "colours", "middles"]

_COLOURED = 500  # groups whose colours keep away from their neighbours'
_LOOKED_AT = 500  # points of a group that its name may stand at


def colours(
    plane: NDArray[Any], codes: NDArray[np.integer[Any]], count: int, known: Mapping[int, int] | None = None
) -> dict[int, int]:
    """The number of a colour, below `count`, for each group: its own number; from there on, that of the farthest groups.

    plane: (N, 2). codes: (N,), the group of each; below 0: of none. known: colours that are given already, and stay.
    """
    found, inverse, counts = np.unique(codes[codes >= 0], return_inverse=True, return_counts=True)
    given = {c: c % count for c in found.tolist() if c < count or len(found) > _COLOURED} | dict(known or {})
    chosen = np.array([given.get(c, -1) for c in found.tolist()], dtype=np.int64)
    left = np.flatnonzero(chosen < 0)
    if len(left):
        middle = np.stack([np.bincount(inverse, plane[codes >= 0, i]) for i in (0, 1)], axis=1) / counts[:, None]
    for i in left:
        away = np.hypot(*(middle - middle[i]).T)
        chosen[i] = np.argmax([away[chosen == c].min(initial=np.inf) for c in range(count)])
    return given | {int(c): int(p) for c, p in zip(found, chosen, strict=True)}


def middles(
    plane: NDArray[Any],
    codes: NDArray[np.integer[Any]],
    most: int,
    box: Callable[[int], tuple[float, float]],
    *,
    taken: NDArray[Any] | None = None,
    drop: bool = False,
) -> dict[int, tuple[float, float]]:
    """A place for the name of each of the `most` largest groups: on that point of it which is nearest to its median.

    On a point, as the median of a ring lies outside of it; if there is one, where the name covers neither another name nor
    one of the places `taken` (M, 2). plane: (N, 2). codes: (N,), the group of each; below 0: of none. box: width and
    height of a group's name, in the units of the plane. drop: leave out a name that has no free place.
    """
    order = np.argsort(codes, kind="stable")
    order = order[np.searchsorted(codes[order], 0) :]
    groups, starts, sizes = np.unique(codes[order], return_index=True, return_counts=True)
    boxes = [(np.asarray(place, dtype=float), np.zeros(2)) for place in (() if taken is None else taken)]
    found = {}
    for i in np.argsort(-sizes, kind="stable")[:most]:
        own = plane[order[starts[i] : starts[i] + sizes[i] : -(-sizes[i] // _LOOKED_AT)]].astype(float)
        away, size = np.hypot(*(own - np.median(own, axis=0)).T), np.array(box(int(groups[i])))
        free = np.ones(len(own), dtype=bool)
        for place, other in boxes:
            free &= (np.abs(own - place) >= (size + other) / 2).any(axis=1)
        if drop and not free.any():
            continue
        best = own[np.where(free, away, np.inf).argmin() if free.any() else away.argmin()]
        boxes.append((best, size))
        found[int(groups[i])] = (float(best[0]), float(best[1]))
    return found


def alike(codes: NDArray[np.integer[Any]], other: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """`other` with its groups renumbered, so that each has the number of that group of `codes` with which it shares most.

    The pair that shares most points goes first, and a number is given once; groups that are left over get numbers that
    `codes` has not. Below 0 stays -1. codes, other: (N,).
    """
    wanted, rank = np.unique(codes, return_inverse=True)
    groups, inverse = np.unique(other, return_inverse=True)
    own = (codes >= 0) & (other >= 0)
    pairs, counts = np.unique(rank[own] * len(groups) + inverse[own], return_counts=True)
    numbers = np.full(len(groups), -1, dtype=np.int64)
    given: set[int] = set()
    for i in np.argsort(-counts, kind="stable"):
        code, group = int(wanted[pairs[i] // len(groups)]), int(pairs[i] % len(groups))
        if numbers[group] < 0 and code not in given:
            numbers[group] = code
            given.add(code)
    left = (numbers < 0) & (groups >= 0)
    numbers[left] = int(codes.max(initial=-1)) + 1 + np.arange(left.sum())
    return numbers[inverse]
