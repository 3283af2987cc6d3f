"""The dip: how far a sample is from having one mode. Course: row J7 (document I, section 38).

Hartigan and Hartigan 1985, "The dip test of unimodality", https://doi.org/10.1214/aos/1176346577: the largest distance between
the sample's distribution function and the nearest one with a single mode. Their algorithm takes hulls of the distribution
function on an interval that shrinks around the mode. The greatest convex minorant is an isotonic regression of slopes, which
SciPy has in compiled code; so hundreds of thousands of values take milliseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["dip_of"]


def dip_of(values: Any) -> float:
    """The dip of a sample: from 1 / (2 n), where one mode fits it as well as any sample, to 1/4.

    values: finite numbers, of any shape and order. Where all are the same, the dip is 0.
    """
    x, counts = np.unique(np.asarray(values, dtype=np.float64).ravel(), return_counts=True)
    if len(x) < 2:
        return 0.0
    total = int(counts.sum())
    after = np.cumsum(counts) / total  # the distribution function at each value, and just before it
    before = np.concatenate([[0.0], after[:-1]])
    low, high, twice = 0, len(x) - 1, 1 / total
    while low < high:
        part = slice(low, high + 1)
        below, corners = _hull(x[part], before[part])
        above, edges = _hull(x[part], -after[part])
        above = -above
        apart = above - below
        at_corner, at_edge = corners[apart[corners].argmax()], edges[apart[edges].argmax()]
        if max(apart[at_corner], apart[at_edge]) <= twice:
            break
        if apart[at_corner] >= apart[at_edge]:
            begin, end = at_corner, edges[np.searchsorted(edges, at_corner)]
        else:
            begin, end = corners[np.searchsorted(corners, at_edge, side="right") - 1], at_edge
        # Both ends of the new interval are left to it: at the mode itself a distribution function may jump.
        left = (after[part] - below)[:begin].max(initial=0.0)
        right = (above - before[part])[end + 1 :].max(initial=0.0)
        twice = max(twice, float(left), float(right))
        if (begin, end) == (0, high - low):
            break
        low, high = low + int(begin), low + int(end)
    return float(twice / 2)


def _hull(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The greatest convex function below points with increasing x, at these x, and the numbers of its corners."""
    from scipy.optimize import isotonic_regression

    gaps = np.diff(x)
    blocks = isotonic_regression(np.diff(y) / gaps, weights=gaps).blocks
    return np.interp(x, x[blocks], y[blocks]), blocks
