"""The indices SV and OS, for clusters of different sizes and densities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.registry import system
from konspekt.metrics.clustering.groups import Groups, grouped, ratio
from konspekt.metrics.clustering.tiles import norms, reached, tiles

__all__ = ["os_index", "sv"]

BLOCK = 1 << 21  # distances held at once while the nearest points of other clusters are chosen: 16 MB
CLEAR = 0.4  # from this (b - a) / (b + a) on, a point overlaps with nothing


@system(
    name="sv",
    kind="metric",
    rows=("J5",),
    paper="Zalik & Zalik 2011, Validity index for clusters of different sizes and densities",
)
def sv(X: Any, labels: Any) -> float:
    """SV of clusters C_k with the centres c_k, separation over variation: from 0 to infinity, the higher the better.

        sum over k of min over l != k of |c_k - c_l|
        ---------------------------------------------------------------------------------
        sum over k of the mean of |x - c_k| over the tenth of C_k that is farthest from c_k

    A tenth of |C_k| points is rounded up, so that there is one at least. Infinite where each cluster is one place.

    Raises DataError on one cluster, on all noise, and on 0 / 0.
    """
    groups = grouped(X, labels, "SV")
    return ratio(float(groups.centre_distances().min(1).sum()), float(groups.outermost().sum()), "SV")


@system(
    name="os-index",
    kind="metric",
    rows=("J5",),
    paper="Zalik & Zalik 2011, Validity index for clusters of different sizes and densities",
)
def os_index(X: Any, labels: Any) -> float:
    """OS of clusters C_k with the centres c_k, overlap over separation: from 0 to infinity, the lower the better.

             sum over all points x of ov(x)
        --------------------------------------------
        sum over k of min over l != k of |c_k - c_l|

        ov(x) = a / b where (b - a) / (b + a) < 0.4, else 0
        a: the mean distance from x to the |C_k| points of its own cluster, itself among them
        b: the mean distance from x to the |C_k| points of other clusters nearest to it, or to all of them if they are fewer

    The separation is that of SV. Implementations after the survey by Arbelaitz et al. (2013) divide by SV's variation instead.
    Where b is 0, ov is infinite, and 1 if a is 0 too. Points that are clear of all other clusters by bounds are not searched
    for neighbours; exact.

    Raises DataError on one cluster, on all noise, and on 0 / 0.
    """
    groups = grouped(X, labels, "OS")
    overlap = sum(float(_overlaps(groups, k).sum()) for k in range(groups.count))
    return ratio(overlap, float(groups.centre_distances().min(1).sum()), "OS")


def _overlaps(groups: Groups, k: int) -> NDArray[np.float64]:
    """ov of the points of cluster k that may have one (n,)."""
    own, size = groups.part(groups.offsets, k), int(groups.sizes[k])
    outside = np.r_[groups.points[: groups.starts[k]], groups.points[groups.starts[k + 1] :]] - groups.centres[k]
    # about where most points are: one far point draws the centre away, and all distances would lose their digits
    middle = np.median(own, axis=0)
    inner = reached(shifted := own - middle, shifted, "total") / size
    # no point outside is nearer than this, so neither is their mean
    gap = norms(outside).min() - groups.part(groups.radii, k)
    near = gap - inner <= CLEAR * (gap + inner)
    own, inner, outside = shifted[near], inner[near], outside - middle
    many = min(size, len(outside))
    outer = np.empty(len(own))
    rows = max(1, BLOCK // len(outside))
    for down, _, tile in tiles(own, outside, rows=rows, columns=len(outside)):
        if many < tile.shape[1]:
            tile.partition(many - 1, axis=1)
        nearest = np.maximum(tile[:, :many], 0)
        outer[down] = np.sqrt(nearest, out=nearest).mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(inner == outer, 1.0, inner / outer)
    clear = (outer > inner) & (outer - inner >= CLEAR * (outer + inner))
    return np.where(clear, 0.0, shares)
