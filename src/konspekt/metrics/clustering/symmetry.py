"""Indices by the point symmetry distance: is there a point where the mirror image of each lies?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.registry import system
from konspekt.metrics.clustering.dunns import average_linkage, least_separation
from konspekt.metrics.clustering.groups import Groups, grouped, ratio
from konspekt.metrics.clustering.tiles import tiles

__all__ = ["sym", "sym_33", "sym_d", "sym_db"]

TREE = 6  # columns up to which a kd-tree finds neighbours faster than all distances do
BLOCK = 1 << 19  # distances held at once where they do: 4 MB


@system(
    name="sym",
    kind="metric",
    rows=("J5",),
    paper="Bandyopadhyay & Saha 2008, A point symmetry-based clustering technique for automatic evolution of clusters",
)
def sym(X: Any, labels: Any, weighted: bool = True) -> float:
    """Sym of clusters C_1..C_K with the centres c_k: from 0 to infinity, the higher the better.

                max over k, l of |c_k - c_l|
        --------------------------------------------
        K sum over k of sum over x in C_k of d(x, k)

        d(x, k) = (d_1 + d_2) / 2 |x - c_k|

    d is the point symmetry distance: d_1 and d_2 are the distances from the mirror image of x, 2 c_k - x, to the two points of
    C_k nearest to it (x itself is one of them where it is near; in a cluster of one point d is 0).

    weighted: with the factor |x - c_k|, as the authors define d; the survey by Arbelaitz et al. (2013) leaves it out in all of
    these indices, and so does weighted=False.

    Infinite where all d are 0. Raises DataError on one cluster, on all noise, and on 0 / 0.
    """
    groups = grouped(X, labels, "Sym")
    apart = groups.centre_distances()
    np.fill_diagonal(apart, 0)
    return ratio(float(apart.max()), float(groups.count * symmetry(groups, weighted).sum()), "Sym")


@system(
    name="sym-db",
    kind="metric",
    rows=("J5",),
    paper="Saha & Bandyopadhyay 2009, Performance evaluation of some symmetry-based cluster validity indexes",
)
def sym_db(X: Any, labels: Any, weighted: bool = True) -> float:
    """Davies-Bouldin's index by the point symmetry distance d (see sym): from 0 to infinity, the lower the better.

        (1 / K) sum over k of max over l != k of (S_k + S_l) / |c_k - c_l|
        S_k = (1 / |C_k|) sum over x in C_k of d(x, k)

    Infinite where two centres lie in one place. Raises DataError on one cluster, on all noise, and where such a pair's S are 0.
    """
    groups = grouped(X, labels, "Sym-DB")
    spread = groups.means(symmetry(groups, weighted))
    apart, both = groups.centre_distances(), spread[:, None] + spread
    for k, other in np.argwhere(apart == 0):
        ratio(both[k, other], 0.0, "Sym-DB")  # infinite, or an error where it would be 0 / 0
    with np.errstate(divide="ignore"):
        return float((both / apart).max(1).mean())


@system(
    name="sym-d",
    kind="metric",
    rows=("J5",),
    paper="Saha & Bandyopadhyay 2009, Performance evaluation of some symmetry-based cluster validity indexes",
)
def sym_d(X: Any, labels: Any, weighted: bool = True) -> float:
    """Dunn's index with the greatest point symmetry distance d (see sym) as diameter: 0 to infinity, the higher the better.

        min over k != l of min |x - y|, x in C_k, y in C_l / max over k of max over x in C_k of d(x, k)

    Infinite where all d are 0. Raises DataError on one cluster, on all noise, and on 0 / 0.
    """
    groups = grouped(X, labels, "Sym-Dunn")
    return ratio(least_separation(groups), float(symmetry(groups, weighted).max()), "Sym-Dunn")


@system(
    name="sym-33",
    kind="metric",
    rows=("J5",),
    paper="Saha & Bandyopadhyay 2009, Performance evaluation of some symmetry-based cluster validity indexes",
)
def sym_33(X: Any, labels: Any, weighted: bool = True) -> float:
    """The generalised Dunn index 33 with the point symmetry distance d (see sym): 0 to infinity, the higher the better.

        min over k != l of the mean of |x - y|, x in C_k, y in C_l
        -----------------------------------------------------------
           max over k of (2 / |C_k|) sum over x in C_k of d(x, k)

    Infinite where all d are 0. Raises DataError on one cluster, on all noise, and on 0 / 0.
    """
    groups = grouped(X, labels, "Sym33")
    across = float(2 * groups.means(symmetry(groups, weighted)).max())
    return ratio(float(average_linkage(groups).min()), across, "Sym33")


def symmetry(groups: Groups, weighted: bool) -> NDArray[np.float64]:
    """The point symmetry distance of each point to its cluster (N,), by a kd-tree in few columns, by tiles in many."""
    from scipy.spatial import cKDTree

    found = np.zeros(len(groups.points))
    for k, size in enumerate(groups.sizes):
        if size > 1:
            own = groups.part(groups.offsets, k)
            nearest = cKDTree(own).query(-own, k=2)[0].mean(1) if own.shape[1] <= TREE else _two_nearest(own)
            groups.part(found, k)[:] = nearest
    return found * groups.radii if weighted else found


def _two_nearest(own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean distance from the mirror image of each point of a cluster (n, F) to the two points nearest to it (n,)."""
    found, rows = np.empty(len(own)), max(1, BLOCK // len(own))
    for down, _, tile in tiles(-own, own, rows=rows, columns=len(own)):
        each, at = np.arange(len(tile)), tile.argmin(1)
        first = tile[each, at]
        tile[each, at] = np.inf
        found[down] = np.sqrt(np.maximum([first, tile.min(1)], 0)).mean(0)
    return found
