"""Indices of distances to centres: cohesion, separation, Calinski-Harabasz, Davies-Bouldin and its * form.

All take O(N F + K^2 F) time, in blocks of rows. They assume clusters that are balls around their centres. Noise, -1, is
left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError
from konspekt.core.registry import system
from konspekt.metrics.clustering.checking import check_scale, points_and_codes

__all__ = ["calinski_harabasz", "cohesion", "davies_bouldin", "davies_bouldin_star", "separation"]

HELD = 2**16  # numbers of a block of rows: half a MiB, which stay in a core's cache


@dataclass(frozen=True)
class _Spread:
    """Of each cluster: points (K,), centre (K, F), sums of the squared distances to the centre and of them (K,)."""

    sizes: NDArray[np.int64]
    centres: NDArray[np.float64]
    squares: NDArray[np.float64]
    distances: NDArray[np.float64]

    @property
    def within(self) -> float:
        """Sum of squared distances to the own centre."""
        return float(self.squares.sum())

    @property
    def between(self) -> float:
        """Sum over all points of the squared distance of their centre to that of all points."""
        apart = self.centres - np.average(self.centres, axis=0, weights=self.sizes)
        return float(self.sizes @ np.einsum("kf,kf->k", apart, apart))


def _spread(X: Any, labels: Any, name: str, *, least: int = 2, root: bool = False) -> _Spread:
    """root: whether the sums of distances are wanted; they are 0 otherwise."""
    from scipy.sparse import csr_array

    points, codes, count = points_and_codes(X, labels, name, least=least)
    check_scale(points, name)
    sizes = np.bincount(codes)
    first = np.empty(count, np.intp)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    start = points[first]  # the means are taken from a point on: that of equal points is then exactly that point
    rows = max(64, HELD // points.shape[1])
    blocks = [slice(i, i + rows) for i in range(0, len(points), rows)]
    ones, steps = np.ones(rows), np.arange(rows + 1)
    sums = np.zeros_like(start)
    for block in blocks:
        own = codes[block]
        member = csr_array((ones[: len(own)], own, steps[: len(own) + 1]), shape=(len(own), count))
        sums += member.T @ (points[block] - start.take(own, axis=0))
    centres = start + sums / sizes[:, None]
    squares, distances = np.zeros(count), np.zeros(count)
    for block in blocks:
        own = codes[block]
        apart = points[block] - centres.take(own, axis=0)
        lengths = np.einsum("nf,nf->n", apart, apart)
        squares += np.bincount(own, weights=lengths, minlength=count)
        if root:
            distances += np.bincount(own, weights=np.sqrt(lengths), minlength=count)
    return _Spread(sizes, centres, squares, distances)


@system(
    name="cohesion",
    kind="metric",
    rows=("J5",),
    paper="Tan, Steinbach & Kumar 2005, Introduction to data mining, section 8.5",
)
def cohesion(X: Any, labels: Any) -> float:
    """Cohesion: the sum of squared distances of the points to their cluster's centre. Lower is better, in [0, infinity).

    sum_k sum_(x in C_k) |x - c_k|^2, the within-cluster sum of squares, which k-means lessens. It is in the square of
    the data's units and falls to 0 as clusters become single points, so that it compares clusterings of as many
    clusters only. With one cluster, the total sum of squares; cohesion + separation is always that.
    """
    return _spread(X, labels, "the cohesion", least=1).within


@system(
    name="separation",
    kind="metric",
    rows=("J5",),
    paper="Tan, Steinbach & Kumar 2005, Introduction to data mining, section 8.5",
)
def separation(X: Any, labels: Any) -> float:
    """Separation: how far the clusters' centres lie from the mean of all points. Higher is better, in [0, infinity).

    sum_k n_k |c_k - c|^2, the between-cluster sum of squares: the
    total sum of squares less the `cohesion`, with the same limits. One cluster: 0.
    """
    return _spread(X, labels, "the separation", least=1).between


@system(
    name="calinski-harabasz",
    kind="metric",
    rows=("J5",),
    paper="Calinski & Harabasz 1974, A dendrite method for cluster analysis",
)
def calinski_harabasz(X: Any, labels: Any) -> float:
    """Calinski-Harabasz index: separation / (K - 1) over cohesion / (N - K). Higher is better, in [0, infinity].

    The ratio of variances, as in an analysis of variance. Where each
    cluster is one place it is infinite (scikit-learn gives 1 there), and 0 where these are all the same place too.

    Raises DataError where there is one cluster only, or where each point is one by itself (N - K is 0).
    """
    name = "the Calinski-Harabasz index"
    spread = _spread(X, labels, name)
    count, every = len(spread.sizes), int(spread.sizes.sum())
    if count == every:
        raise DataError(f"{name} is not defined where each of the {count} points is a cluster by itself")
    within, between = spread.within, spread.between
    if within == 0:
        return float("inf") if between > 0 else 0.0
    return between * (every - count) / (within * (count - 1))


@system(name="davies-bouldin", kind="metric", rows=("J5",), paper="Davies & Bouldin 1979, A cluster separation measure")
def davies_bouldin(X: Any, labels: Any) -> float:
    """Davies-Bouldin index: how wide clusters are for their distance. Lower is better, in [0, infinity].

    (1 / K) sum_i max_(j != i) (S_i + S_j) / d_ij, with S_i the mean distance of a cluster's points to its centre, d_ij
    that of two centres (the paper's p = 2 and q = 1). 0 where each cluster is one place, unless two are the same.
    Infinite where two centres are the same (scikit-learn leaves such pairs out).

    Raises DataError where there is one cluster only.
    """
    wide, apart = _widths_and_gaps(X, labels, "the Davies-Bouldin index")
    ratios = np.full_like(apart, np.inf)
    np.divide(wide[:, None] + wide, apart, out=ratios, where=apart > 0)
    return float(ratios.max(1).mean())


@system(
    name="davies-bouldin-star",
    kind="metric",
    rows=("J5",),
    paper="Kim & Ramakrishna 2005, New indices for cluster validity assessment",
)
def davies_bouldin_star(X: Any, labels: Any) -> float:
    """Davies-Bouldin* index: the widest neighbour and the nearest one, each by itself. Lower is better, in [0, infinity].

    (1 / K) sum_i max_(j != i) (S_i + S_j) / min_(j != i) d_ij, as in `davies_bouldin`; never below it, and equal with
    two clusters. Infinite where two centres are the same.

    Raises DataError where there is one cluster only.
    """
    wide, apart = _widths_and_gaps(X, labels, "the Davies-Bouldin* index")
    both = wide[:, None] + wide
    np.fill_diagonal(both, -np.inf)
    nearest, widest = apart.min(1), both.max(1)
    ratios = np.full_like(nearest, np.inf)
    np.divide(widest, nearest, out=ratios, where=nearest > 0)
    return float(ratios.mean())


def _widths_and_gaps(X: Any, labels: Any, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean distances to the own centre (K,), distances of the centres (K, K), infinite on the diagonal."""
    from scipy.spatial.distance import cdist

    spread = _spread(X, labels, name, root=True)
    apart = cdist(spread.centres, spread.centres)
    np.fill_diagonal(apart, np.inf)
    return spread.distances / spread.sizes, apart
