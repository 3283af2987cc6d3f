"""Distances of many points to many, never all at once: tiles of squared distances, each by one matrix product."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["farthest_pair", "nearest_pair", "norms", "reached", "tiles"]

ROWS, COLUMNS = 256, 2048  # a tile of float64: 4 MB, which stays in a processor's cache


def tiles(
    first: NDArray[np.float64], second: NDArray[np.float64], *, rows: int = ROWS, columns: int = COLUMNS
) -> Iterator[tuple[slice, slice, NDArray[np.float64]]]:
    """Squared distances between first (N, F) and second (M, F): rows, columns, and their tile, which the next one overwrites.

    All tiles of some columns come in a row. The points should lie around 0: a distance is exact to about 1e-8 of their
    distance from there, and a squared one may come out a little below 0.
    """
    width = first.shape[1]
    left = np.empty((len(first), width + 2))
    right = np.empty((width + 2, len(second)))
    # |x - y|^2 = |x|^2 - 2xy + |y|^2 as one product of longer vectors: no pass over the tile to add the norms
    left[:, :width] = -2 * first
    left[:, width] = np.einsum("nf,nf->n", first, first)
    left[:, width + 1] = 1
    right[:width] = second.T
    right[width] = 1
    right[width + 1] = np.einsum("nf,nf->n", second, second)
    store = np.empty(min(rows, len(first)) * min(columns, len(second)))
    for j in range(0, len(second), columns):
        across = slice(j, min(j + columns, len(second)))
        for i in range(0, len(first), rows):
            down = slice(i, min(i + rows, len(first)))
            shape = down.stop - down.start, across.stop - across.start
            tile = store[: shape[0] * shape[1]].reshape(shape)
            yield down, across, np.matmul(left[down], right[:, across], out=tile)


def reached(
    group: NDArray[np.float64], points: NDArray[np.float64], how: Literal["least", "greatest", "total"]
) -> NDArray[np.float64]:
    """For each of points (M, F) its least or greatest distance to a group (N, F), or the total of its distances (M,).

    Where points is the group itself, the total counts each point's distance to itself as the 0 that it is.
    """
    if how == "total":
        found = np.zeros(len(points))
        for down, across, tile in tiles(group, points):
            if points is group:
                same = np.arange(max(down.start, across.start), min(down.stop, across.stop))
                tile[same - down.start, same - across.start] = 0
            np.maximum(tile, 0, out=tile)
            found[across] += np.sqrt(tile, out=tile).sum(0)
        return found
    found = np.full(len(points), np.inf if how == "least" else 0.0)
    choose = np.minimum if how == "least" else np.maximum
    for _, across, tile in tiles(group, points):
        choose(found[across], choose.reduce(tile, axis=0), out=found[across])
    return np.sqrt(np.maximum(found, 0))


def nearest_pair(group: NDArray[np.float64], points: NDArray[np.float64], best: float = np.inf) -> float:
    """The least distance between a group (N, F) whose centre is 0 and points (M, F), or best where none is less."""
    inner, outer = norms(group), norms(points)
    best = min(best, float(norms(group - points[outer.argmin()]).min()))
    # a point of the group is at least |y| - |x| away: only what may come nearer than the best is looked at
    points = points[outer - inner.max() < best]
    group = group[inner > outer.min() - best]
    found: tuple[float, int, int] = (np.inf, 0, 0)
    for down, across, tile in tiles(group, points):
        at = int(tile.argmin())
        value = float(tile.flat[at])
        if value < found[0]:
            found = value, down.start + at // tile.shape[1], across.start + at % tile.shape[1]
    if np.isfinite(found[0]):  # measured again, without the digits that the product loses
        best = min(best, float(np.linalg.norm(group[found[1]] - points[found[2]])))
    return best


def farthest_pair(group: NDArray[np.float64], best: float = 0.0) -> float:
    """The greatest distance within a group (N, F) whose centre is 0, or best where none is greater."""
    inner = away = norms(group)
    for _ in range(2):  # from the outermost point to the one farthest from it, and once more
        away = norms(group - group[away.argmax()])
        best = max(best, float(away.max()))
    group = group[inner + inner.max() > best]  # two points are at most |x| + |y| apart
    found: tuple[float, int, int] = (0.0, 0, 0)
    for down, across, tile in tiles(group, group):
        at = int(tile.argmax())
        value = float(tile.flat[at])
        if value > found[0]:
            found = value, down.start + at // tile.shape[1], across.start + at % tile.shape[1]
    if found[0] > 0:
        best = max(best, float(np.linalg.norm(group[found[1]] - group[found[2]])))
    return best


def norms(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each of points (N, F) from 0 (N,)."""
    found: NDArray[np.float64] = np.sqrt(np.einsum("nf,nf->n", points, points))
    return found
