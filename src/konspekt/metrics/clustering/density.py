"""S_Dbw: how thin the points are between the centres of clusters."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError
from konspekt.core.registry import system
from konspekt.metrics.clustering.groups import Groups, grouped

__all__ = ["s_dbw"]

CHUNK = 1 << 20  # numbers held at once while points are measured from the midpoints


@system(
    name="s-dbw",
    kind="metric",
    rows=("J5",),
    paper="Halkidi & Vazirgiannis 2001, Clustering validity assessment: finding the optimal partitioning of a data set",
)
def s_dbw(X: Any, labels: Any) -> float:
    """S_Dbw of clusters C_1..C_K with the centres c_k, of the points X (N, F): 0 and more, the lower the better.

        scatter + density between
        scatter = (1 / K) sum over k of |v(C_k)| / |v(X)|
        density between = 1 / (K (K - 1)) sum over k != l of n(C_k + C_l, (c_k + c_l) / 2) / max(n(C_k, c_k), n(C_l, c_l))
        n(C, u): the number of points of C no farther than r from u
        r = (1 / K) sqrt(sum over k of |v(C_k)|)

    v(C) is the vector of the columns' variances (divided by |C|), |v| its Euclidean length: the paper's sigma, and its stdev
    is r. The neighbourhood is the paper's ball of the radius r, the same for all clusters, not the later boxes by column (Kim &
    Lee 2003; Tong & Tan 2009); the package s-dbw takes standard deviations for the variances. Where no point is within r of
    either centre the paper divides by 0: 1 stands there instead, so that a void between them adds nothing.

    Raises DataError on one cluster, on all noise, and where all points lie in one place.
    """
    groups = grouped(X, labels, "S_Dbw")
    # the length of a variance is a root of fourth powers, which overflow or vanish early; the value does not depend on the scale
    size = -math.frexp(float(np.abs(groups.points - groups.points[0]).max()))[1]
    scaled = {n: np.ldexp(getattr(groups, n), size) for n in ("points", "centres", "offsets")}
    groups = replace(groups, **scaled)
    square = groups.offsets**2
    spreads = np.linalg.norm(np.add.reduceat(square, groups.starts[:-1], axis=0) / groups.sizes[:, None], axis=1)
    whole = np.linalg.norm((groups.points - groups.points[0]).var(0))
    if whole == 0:
        raise DataError("S_Dbw is not defined where all points lie in one place: its scatter is relative to theirs")
    radius = float(np.sqrt(spreads.sum()) / groups.count)
    own = np.add.reduceat(groups.radii <= radius, groups.starts[:-1], dtype=np.int64)
    halfway = _between(groups, radius)
    dense = np.maximum(np.maximum(own[:, None], own), 1)
    pairs = groups.count * (groups.count - 1)
    return float(spreads.mean() / whole + (halfway / dense).sum() / pairs)


def _between(groups: Groups, radius: float) -> NDArray[np.int64]:
    """How many points of clusters k and l lie within the radius of the middle between their centres (K, K), 0 on the diagonal."""
    found = np.zeros((groups.count, groups.count), np.int64)
    for k, size in enumerate(groups.sizes):
        own, middles = groups.part(groups.offsets, k), (groups.centres - groups.centres[k]) / 2
        step = max(1, CHUNK // int(size * own.shape[1]))
        for i in range(0, groups.count, step):
            apart = own[:, None] - middles[i : i + step]
            near = np.sqrt(np.einsum("nlf,nlf->nl", apart, apart)) <= radius
            found[k, i : i + step] = near.sum(0)
    found += found.T
    np.fill_diagonal(found, 0)
    return found
