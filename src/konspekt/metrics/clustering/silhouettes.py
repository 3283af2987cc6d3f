"""The silhouette: how much nearer a point lies to its own cluster than to the nearest other one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.registry import system
from konspekt.metrics.clustering.blocks import DIRECT, of_unit_size, squared_distances
from konspekt.metrics.clustering.checking import kept, matrix_and_codes, points_and_codes

__all__ = ["silhouette", "silhouette_samples"]

HELD = 2**18  # distances that are held at a time: 2 MiB, which stay in a core's cache


@system(
    name="silhouette",
    kind="metric",
    rows=("J5",),
    paper="Rousseeuw 1987, Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
)
def silhouette(X: Any, labels: Any, *, metric: str | Callable[..., float] = "euclidean") -> float:
    """Silhouette: the mean of `silhouette_samples` over all points that are no noise. Higher is better, in [-1, 1].

    It takes the time of all
    N^2 distances and the memory of some rows of them. 0 where each point is a cluster by itself.

    metric: "euclidean", "precomputed" (X is then the matrix of distances, (N, N)), or what scikit-learn's
    `pairwise_distances` takes.

    Raises DataError where there is one cluster only; ConfigError on an unknown metric.
    """
    return float(_widths(X, labels, metric, "the silhouette").mean())


def silhouette_samples(X: Any, labels: Any, *, metric: str | Callable[..., float] = "euclidean") -> NDArray[np.float64]:
    """Silhouette of each point (N,): (b - a) / max(a, b), in [-1, 1]; NaN for noise (label -1).

    a: its mean distance to the other points of its cluster; b: the least, over the other clusters, of its mean distance
    to a cluster's points. 0 for a point that is a cluster by itself, and where a = b = 0.

    Raises DataError where there is one cluster only; ConfigError on an unknown metric.
    """
    found = _widths(X, labels, metric, "the silhouette")
    own = kept(labels)
    every = np.full(len(own), np.nan)
    every[own] = found
    return every


def _widths(X: Any, labels: Any, metric: str | Callable[..., float], name: str) -> NDArray[np.float64]:
    matrix = metric == "precomputed"
    points, codes, count = (matrix_and_codes if matrix else points_and_codes)(X, labels, name)
    if matrix:
        return _of_matrix(points, codes, count)
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    points, codes = points[order], codes[order]
    if metric == "euclidean":
        points = of_unit_size(points)
    rows = max(1, (HELD if points.shape[1] <= DIRECT else 8 * HELD) // len(points))
    between = _distances(points, metric, rows)
    found = np.empty(len(points))
    for start in range(0, len(points), rows):
        stop = min(start + rows, len(points))
        # the points are sorted by cluster, so that the distances to one lie side by side
        sums = np.add.reduceat(between(start, stop), starts, axis=1)
        found[order[start:stop]] = _of_sums(sums, codes[start:stop], sizes)
    return found


def _of_matrix(matrix: NDArray[np.float64], codes: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """As the matrix is symmetric, whole rows are summed by the cluster that they are of."""
    order = np.argsort(codes, kind="stable")
    sums = np.zeros((count, len(matrix)))
    rows = max(1, HELD // len(matrix))
    for start in range(0, len(matrix), rows):
        chosen = order[start : start + rows]
        own = codes[chosen]
        starts = np.flatnonzero(np.diff(own, prepend=-1))
        sums[own[starts]] += np.add.reduceat(matrix[chosen], starts, axis=0)
    return _of_sums(np.ascontiguousarray(sums.T), codes, np.bincount(codes))


def _of_sums(sums: NDArray[np.float64], codes: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Silhouettes (R,) of points of the clusters `codes` (R,), by the sums of their distances to each cluster (R, K)."""
    own = (np.arange(len(codes)), codes)
    others = sizes[codes] - 1
    a = sums[own] / np.maximum(others, 1)
    sums /= sizes
    sums[own] = np.inf
    b = sums.min(1)
    largest = np.maximum(a, b)
    return np.where((others > 0) & (largest > 0), (b - a) / np.where(largest > 0, largest, 1.0), 0.0)


def _distances(
    points: NDArray[np.float64], metric: str | Callable[..., float], rows: int
) -> Callable[[int, int], NDArray[np.float64]]:
    """What gives the distances of the points from start on, below stop, to all."""
    if metric == "euclidean":
        out = np.empty(rows * len(points))

        def euclidean(start: int, stop: int) -> NDArray[np.float64]:
            found = squared_distances(points[start:stop], points, out)
            found[np.arange(stop - start), np.arange(start, stop)] = 0.0  # a matrix product leaves a rounding there
            return np.sqrt(found, out=found)

        return euclidean
    from sklearn.exceptions import DataConversionWarning
    from sklearn.metrics import pairwise_distances

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataConversionWarning)
            pairwise_distances(points[:1], metric=metric)
    except ValueError as error:
        raise ConfigError(f"the silhouette: metric {metric!r}: {error}") from None

    def others(start: int, stop: int) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataConversionWarning)  # metrics of truth values take what is not 0 as true
            found: NDArray[np.float64] = pairwise_distances(points[start:stop], points, metric=metric)
        if not np.isfinite(found).all():
            raise DataError(f"the silhouette: metric {metric!r} gives distances that are NaN or infinite")
        found[np.arange(stop - start), np.arange(start, stop)] = 0.0  # cosine leaves a rounding there
        return found

    return others
