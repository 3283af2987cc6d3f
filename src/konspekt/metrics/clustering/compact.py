"""Indices that weigh how close points are to their cluster's centre against how far apart the clusters are."""

from __future__ import annotations

from typing import Any

import numpy as np

from konspekt.core.registry import system
from konspekt.metrics.clustering.groups import Groups, grouped, ratio
from konspekt.metrics.clustering.tiles import reached

__all__ = ["cop", "cs", "score_function"]

FIRST, BATCH = 64, 2048  # outer points that COP looks at before it asks whether nearer ones are left: at first, at most


@system(
    name="score-function",
    kind="metric",
    rows=("J5",),
    paper="Saitta, Raphael & Smith 2007, A bounded index for cluster validity",
)
def score_function(X: Any, labels: Any) -> float:
    """The score function of clusters C_k with the centres c_k, of points X (N, F) with the mean c: from 0 to 1, higher is better.

        1 - 1 / exp(exp(between - within))
        between = sum over k of |C_k| |c_k - c| / (N K)
        within = sum over k of (1 / |C_k|) sum over x in C_k of |x - c_k|

    Defined for one cluster too (between is 0). It is not free of scale: twice the units, another value, and on far-spread data
    it is 0 or 1 to the last digit; standardise the columns first. `within` has no 1 / K, as in the paper.

    Raises DataError on all noise.
    """
    groups = grouped(X, labels, "the score function", least=1)
    sizes, total = groups.sizes, len(groups.points)
    middle = groups.centres[0] + (groups.sizes[:, None] * (groups.centres - groups.centres[0])).sum(0) / total
    between = float((sizes * np.linalg.norm(groups.centres - middle, axis=1)).sum() / (total * groups.count))
    within = float(groups.means(groups.radii).sum())
    return float(-np.expm1(-np.exp(min(between - within, 700.0))))


@system(
    name="cop",
    kind="metric",
    rows=("J5",),
    paper="Gurrutxaga et al. 2010, SEP/COP: an efficient method to find the best partition in hierarchical clustering",
)
def cop(X: Any, labels: Any) -> float:
    """COP of clusters C_k with the centres c_k, of N points: from 0 to infinity, the lower the better.

        (1 / N) sum over k of |C_k| intra(C_k) / inter(C_k)
        intra(C) = (1 / |C|) sum over x in C of |x - c|
        inter(C) = min over x not in C of max over y in C of |x - y|

    Clusters of one point add 0. Points outside are looked at from the one nearest to the centre on, until no farther one can
    have a smaller maximum; exact.

    Raises DataError on one cluster, on all noise, and where a cluster is one place that another cluster's point shares (0 / 0).
    """
    groups = grouped(X, labels, "COP")
    intra = groups.means(groups.radii)
    terms = [size * ratio(intra[k], _farthest_neighbour(groups, k), "COP") for k, size in enumerate(groups.sizes)]
    return float(sum(terms) / len(groups.points))


def _farthest_neighbour(groups: Groups, k: int) -> float:
    """min over points outside cluster k of the distance to its farthest point."""
    own = groups.part(groups.offsets, k)
    outside = np.r_[groups.points[: groups.starts[k]], groups.points[groups.starts[k + 1] :]] - groups.centres[k]
    square = np.einsum("nf,nf->n", outside, outside)
    # the mean square of the distances to all of C is |x - c|^2 + the mean of |y - c|^2, and the greatest is no less
    bounds = np.sqrt(square + np.einsum("nf,nf->n", own, own).mean())
    order = np.argsort(bounds)
    best, i, step = np.inf, 0, FIRST
    while i < len(order) and bounds[order[i]] < best:
        best = min(best, float(reached(own, outside[order[i : i + step]], "greatest").min()))
        i, step = i + step, min(2 * step, BATCH)
    return best


@system(
    name="cs",
    kind="metric",
    rows=("J5",),
    paper="Chou, Su & Lai 2004, A new cluster validity measure and its application to image compression",
)
def cs(X: Any, labels: Any) -> float:
    """CS of clusters C_k with the centres c_k: from 0 to infinity, the lower the better.

        sum over k of (1 / |C_k|) sum over x in C_k of max over y in C_k of |x - y|
        ---------------------------------------------------------------------------
                      sum over k of min over l != k of |c_k - c_l|

    0 where each cluster is one place, infinite where each centre lies on another.

    Raises DataError on one cluster, on all noise, and on 0 / 0.
    """
    groups = grouped(X, labels, "CS")
    spread = 0.0
    for k in range(groups.count):
        own = groups.part(groups.offsets, k)
        spread += float(reached(own, own, "greatest").mean())
    return ratio(spread, float(groups.centre_distances().min(1).sum()), "CS")
