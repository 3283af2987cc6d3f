"""Points sorted by cluster, with their centres: what the internal indices start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError
from konspekt.metrics.clustering.checking import check_scale, points_and_codes
from konspekt.metrics.clustering.tiles import norms

__all__ = ["Groups", "grouped", "ratio"]


@dataclass(frozen=True)
class Groups:
    """A clustering: points (N, F) sorted by cluster, where each of the K clusters starts (K + 1), their centres (K, F).

    offsets: each point less its centre (N, F), exactly 0 where a cluster is one place.
    """

    points: NDArray[np.float64]
    starts: NDArray[np.int64]
    centres: NDArray[np.float64]
    offsets: NDArray[np.float64]

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Points of each cluster (K,)."""
        return np.diff(self.starts)

    @cached_property
    def radii(self) -> NDArray[np.float64]:
        """Distance of each point to its centre (N,)."""
        return norms(self.offsets)

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return len(self.centres)

    def part(self, values: NDArray[np.float64], k: int) -> NDArray[np.float64]:
        """The rows of values (N, ...) that belong to cluster k."""
        return values[self.starts[k] : self.starts[k + 1]]

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of values (N,) over each cluster (K,)."""
        means: NDArray[np.float64] = np.add.reduceat(values, self.starts[:-1]) / self.sizes
        return means

    def outermost(self) -> NDArray[np.float64]:
        """Mean distance to the centre of the tenth of each cluster's points farthest from it, rounded up to whole ones (K,)."""
        found = np.empty(self.count)
        for k, size in enumerate(self.sizes):
            many = -(-int(size) // 10)
            found[k] = np.partition(self.part(self.radii, k), size - many)[size - many :].mean()
        return found

    def centre_distances(self) -> NDArray[np.float64]:
        """Distances between the centres (K, K), infinite on the diagonal."""
        from scipy.spatial.distance import cdist

        found: NDArray[np.float64] = cdist(self.centres, self.centres)
        np.fill_diagonal(found, np.inf)
        return found


def grouped(X: Any, labels: Any, name: str, *, least: int = 2) -> Groups:
    """The clustering of X (N, F) by labels (N,), without noise (label -1). least: how many clusters the index needs.

    Raises DataError on arguments that are no such clustering, or of fewer clusters.
    """
    points, codes, _ = points_and_codes(X, labels, name, least=least)
    check_scale(points, name)
    order = np.argsort(codes, kind="stable")
    points, codes = points[order], codes[order]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1], True])
    first = points[starts[:-1]]
    # from the first point on: the mean of equal numbers is then exactly that number
    steps = np.add.reduceat(points - first[codes], starts[:-1], axis=0) / np.diff(starts)[:, None]
    centres = first + steps
    return Groups(points, starts, centres, points - centres[codes])


def ratio(above: float, below: float, name: str) -> float:
    """above / below, both 0 or more; infinite where only below is 0.

    Raises DataError where both are 0: then nothing is to be told from these points.
    """
    if below > 0:
        return float(above / below)
    if above > 0:
        return float("inf")
    raise DataError(
        f"{name} is not defined here: it would be 0 divided by 0, as where all points or all centres lie in one place"
    )
