"""Dunn's index and its generalisations: the least distance between clusters over the greatest diameter of one."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError
from konspekt.core.registry import system
from konspekt.metrics.clustering.groups import Groups, grouped, ratio
from konspekt.metrics.clustering.tiles import farthest_pair, nearest_pair, norms, reached

__all__ = ["average_linkage", "dunn", "generalized_dunn", "least_separation"]


@system(
    name="dunn", kind="metric", rows=("J5",), paper="Dunn 1974, Well-separated clusters and optimal fuzzy partitions"
)
def dunn(X: Any, labels: Any) -> float:
    """Dunn's index of clusters C_1..C_K of the points X (N, F): from 0 to infinity, the higher the better.

        min over k != l of min |x - y|, x in C_k, y in C_l
        --------------------------------------------------
             max over k of max |x - y|, x, y in C_k

    Exact over all pairs; those that bounds on the distances to the centres rule out are not computed. It is infinite where each
    cluster is one place, and one far point spoils it: see generalized_dunn.

    Raises DataError on one cluster, on all noise, and where all points lie in one place.
    """
    groups = grouped(X, labels, "the Dunn index")
    return ratio(least_separation(groups), _greatest_diameter(groups), "the Dunn index")


@system(
    name="generalized-dunn",
    kind="metric",
    rows=("J5",),
    paper="Bezdek & Pal 1998, Some new indexes of cluster validity",
)
def generalized_dunn(
    X: Any, labels: Any, set_distance: Literal[1, 2, 3, 4, 5, 6] = 3, diameter: Literal[1, 2, 3] = 3
) -> float:
    """A generalised Dunn index: min over k != l of delta(C_k, C_l), over max over k of Delta(C_k); 0 to infinity, higher is better.

    set_distance: which delta stands between two clusters S and T with the means s and t. 1: the least |x - y| (Dunn's),
    2: the greatest, 3: the mean over all pairs, 4: |s - t|, 5: the mean over both of the distance to the OTHER one's mean,
    (sum of |x - t| + sum of |y - s|) / (|S| + |T|), 6: Hausdorff's, the greatest distance from a point of one to the nearest
    of the other. In 5 the survey by Arbelaitz et al. (2013) and several packages measure to the OWN mean, which is no distance
    between sets; the authors' is taken.

    diameter: which Delta is the size of a cluster. 1: the greatest |x - y| (Dunn's), 2: the mean over its pairs, 3: twice the
    mean distance to its mean. A cluster of one point has the diameter 0.

    1 and 1 are Dunn's index; the authors found 3 with 3 the least brittle, hence the defaults. Delta 4, 5 and diameter 3 take
    a pass over the points, the others over pairs of them. It is infinite where all diameters are 0.

    Raises DataError on one cluster, on all noise, and where it would be 0 / 0; ConfigError on other numbers.
    """
    if set_distance not in (1, 2, 3, 4, 5, 6):
        raise ConfigError(f"generalized_dunn: set_distance is 1, 2, 3, 4, 5 or 6, not {set_distance!r}")
    if diameter not in (1, 2, 3):
        raise ConfigError(f"generalized_dunn: diameter is 1, 2 or 3, not {diameter!r}")
    groups = grouped(X, labels, "the generalised Dunn index")
    apart = least_separation(groups) if set_distance == 1 else float(_between(groups, set_distance).min())
    if diameter == 1:
        across = _greatest_diameter(groups)
    elif diameter == 2:
        across = float(_mean_within(groups).max())
    else:
        across = float(2 * groups.means(groups.radii).max())
    return ratio(apart, across, "the generalised Dunn index")


def least_separation(groups: Groups) -> float:
    """The least distance between points of different clusters."""
    best = np.inf
    for k in range(groups.count - 1):
        rest = groups.points[groups.starts[k + 1] :] - groups.centres[k]
        best = nearest_pair(groups.part(groups.offsets, k), rest, best)
    return float(best)


def average_linkage(groups: Groups) -> NDArray[np.float64]:
    """Mean distance between the points of two clusters (K, K), infinite on the diagonal."""
    return _between(groups, 3)


def _greatest_diameter(groups: Groups) -> float:
    best = 0.0
    for k in range(groups.count):
        best = farthest_pair(groups.part(groups.offsets, k), best)
    return best


def _mean_within(groups: Groups) -> NDArray[np.float64]:
    """Mean distance over the pairs of each cluster (K,), 0 for a cluster of one point."""
    found = np.zeros(groups.count)
    for k, size in enumerate(groups.sizes):
        own = groups.part(groups.offsets, k)
        if size > 1:
            found[k] = reached(own, own, "total").sum() / (size * (size - 1))
    return found


def _between(groups: Groups, set_distance: int) -> NDArray[np.float64]:
    """delta 2 to 6 between all clusters (K, K), infinite on the diagonal."""
    if set_distance == 4:
        return groups.centre_distances()
    sizes, count = groups.sizes, groups.count
    found: NDArray[np.float64] = np.full((count, count), np.inf)
    if set_distance in (5, 6):
        for k in range(count):  # column k: from the points of each cluster to the mean, or to the nearest point, of k
            points = groups.points - groups.centres[k]
            if set_distance == 5:
                found[:, k] = np.add.reduceat(norms(points), groups.starts[:-1])
            else:
                away = reached(groups.part(groups.offsets, k), points, "least")
                found[:, k] = np.maximum.reduceat(away, groups.starts[:-1])
        found = (found + found.T) / (sizes[:, None] + sizes) if set_distance == 5 else np.maximum(found, found.T)
        np.fill_diagonal(found, np.inf)
        return found
    for k in range(count - 1):
        rest = groups.points[groups.starts[k + 1] :] - groups.centres[k]
        own, starts = groups.part(groups.offsets, k), groups.starts[k + 1 : -1] - groups.starts[k + 1]
        if set_distance == 2:
            row = np.maximum.reduceat(reached(own, rest, "greatest"), starts)
        else:
            row = np.add.reduceat(reached(own, rest, "total"), starts) / (sizes[k] * sizes[k + 1 :])
        found[k, k + 1 :] = found[k + 1 :, k] = row
    return found
