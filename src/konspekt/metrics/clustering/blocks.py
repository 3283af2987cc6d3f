"""Distances between points, block by block, without the matrix of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIRECT", "Block", "of_unit_size", "pairs_by_cluster", "squared_distances"]

ROWS, COLUMNS = 256, 1024  # of a block: 2 MiB, which stay in a core's cache
DIRECT = 16  # up to so many columns, the differences themselves cost no more than a matrix product


class Block(NamedTuple):
    """Some pairs: the distances (any shape), and whether the pairs are of one cluster. Valid until the next block."""

    values: NDArray[np.float64]
    within: bool


def of_unit_size(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points times a power of two, so that no square overflows or vanishes as a whole: for what does not ask the scale."""
    largest = float(np.abs(points).max())
    return np.ldexp(points, -math.frexp(largest)[1]) if largest else points


def squared_distances(
    rows: NDArray[np.float64], columns: NDArray[np.float64], out: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Squared Euclidean distances of rows (R, F) and columns (C, F), in the first R * C places of the flat `out`.

    By their differences where F is small, so that equal distances come out equal. Otherwise by a matrix product, about
    the first row: rows that are near one another keep their digits however far they are from the origin, and whole
    numbers stay exact.
    """
    found = out[: len(rows) * len(columns)].reshape(len(rows), len(columns))
    if rows.shape[1] <= DIRECT:
        from scipy.spatial.distance import cdist

        cdist(rows, columns, "sqeuclidean", out=found)
        return found
    left, right = rows - rows[0], columns - rows[0]
    np.matmul(-2.0 * left, right.T, out=found)
    found += np.einsum("nf,nf->n", left, left)[:, None]
    found += np.einsum("nf,nf->n", right, right)
    return np.maximum(found, 0.0, out=found)


def pairs_by_cluster(points: NDArray[np.float64], codes: NDArray[np.int64], *, matrix: bool) -> Iterator[Block]:
    """Each pair of points once, in blocks of squared distances: all within clusters, or all between two.

    points: (N, F) and codes (N,), sorted by code; matrix: `points` is a matrix of distances (N, N), which are given as
    they are.
    """
    out = np.empty(ROWS * COLUMNS)
    count = len(codes)

    def between(start: int, stop: int, first: int, last: int) -> NDArray[np.float64]:
        if matrix:
            return points[start:stop, first:last]
        return squared_distances(points[start:stop], points[first:last], out)

    for start in range(0, count, ROWS):
        stop = min(start + ROWS, count)
        square = between(start, stop, start, stop)
        later = np.triu(np.ones(square.shape, bool), 1)
        alike = codes[start:stop, None] == codes[None, start:stop]
        own, other = square[later & alike], square[later & ~alike]
        if own.size:
            yield Block(own, True)
        if other.size:
            yield Block(other, False)
        # Behind the square lies the rest of the last row's cluster, then clusters that no row is of.
        last = int(codes[stop - 1])
        head = start + int(np.searchsorted(codes[start:stop], last))
        end = int(np.searchsorted(codes, last, side="right"))
        for first, behind in ((stop, end), (end, count)):
            for column in range(first, behind, COLUMNS):
                part = between(start, stop, column, min(column + COLUMNS, behind))
                if first == end:
                    yield Block(part, False)
                    continue
                if head > start:
                    yield Block(part[: head - start], False)
                yield Block(part[head - start :], True)
