"""DBSCAN without lists of all neighbours, and with scikit-learn's very labels: by pairs of near points, or by a grid.

`by_pairs`: SciPy's tree against itself gives the pairs within eps faster than a search from each point. They fill memory where points
lie dense; there `by_grid` is for one to three columns. A cell's diagonal is eps, so that points of a cell are neighbours, and a cell of
min_samples points has core points only. The others are asked for their min_samples-th neighbour. Cells with core points are joined where a
core point of one is near one of the other; cells that are together already are not looked at, which leaves few. Gunawan 2013;
Gan & Tao 2015.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError

__all__ = ["COLUMNS", "NORMS", "Found", "by_grid", "by_pairs", "check_range"]

Found = tuple[NDArray[np.int64], NDArray[np.bool_]]  # the labels (N,), and which points are core, (N,)

NORMS = {"euclidean": 2.0, "manhattan": 1.0, "chebyshev": np.inf}  # metrics of SciPy's tree
COLUMNS = 3  # of the grid; with more, a cell has too many neighbours
_HUGE = 1e150  # the squares of larger numbers overflow, and what searches by them goes wrong without a word
_DEEP = 12  # columns up to which the tree is worth its while
_PAIRED = 20_000_000  # pairs that are held at once: 320 MB, and as much again while they are joined
_MANY = 100  # neighbours of a point, on average, with which scikit-learn's lists are made faster than pairs
_CROWD = 30  # those with which the grid is faster
_TRIED = 512  # points whose neighbours are counted to foresee that
_SHRINK = 1 - 1e-7  # of a cell's side: its corners are within eps whatever is rounded
_WIDEST = 10**8  # cells along an axis, beyond which rounding is coarser than that
_FEW = 16  # a nearest neighbour of this rank is found faster than all within eps are counted
_BLOCK = 1 << 16  # points asked about at once
_PAIRS = 1 << 21  # distances at once
_LARGE = 1 << 16  # a pair of cells with more pairs of points than this gets a tree


def check_range(X: NDArray[Any], where: str) -> None:
    """Raise DataError where the squares of the numbers would overflow."""
    if X.dtype == np.float64 and max(X.max(), -X.min()) > _HUGE:
        raise DataError(
            f"{where}: X holds numbers as large as {max(X.max(), -X.min()):.3g}, whose squares overflow; scale X down"
        )


def by_pairs(X: NDArray[Any], eps: float, min_samples: int, *, norm: float = 2.0) -> Found | None:
    """The labels, numbered by the first core point of each cluster, and which points are core.

    A point that is near core points of several clusters goes to the first of them, as in scikit-learn. X: (N, F).
    None where there would be too many pairs, or another way is faster.
    """
    from scipy.spatial import cKDTree

    if X.shape[1] > _DEEP:
        return None
    X = np.ascontiguousarray(X, dtype=np.float64)
    tree = cKDTree(X)
    some = X[:: max(1, len(X) // _TRIED)]
    crowd = tree.query_ball_point(some, eps, p=norm, return_length=True).mean()
    gridded = norm == 2 and X.shape[1] <= COLUMNS and len(X) > _TRIED
    if crowd > (_CROWD if gridded else _MANY) or crowd * len(X) / 2 > _PAIRED:
        return None
    one, other = tree.query_pairs(eps, p=norm, output_type="ndarray").T
    core = 1 + np.bincount(one, minlength=len(X)) + np.bincount(other, minlength=len(X)) >= min_samples
    labels = np.full(len(X), -1, dtype=np.int64)
    of_core = core[one], core[other]
    both = of_core[0] & of_core[1]
    joined = _Joined(len(X))
    joined.join(one[both], other[both])
    labels[core] = _numbered(joined.part[core])
    least = np.full(len(X), len(X))
    for at, near, border in ((one, other, of_core[0] & ~of_core[1]), (other, one, of_core[1] & ~of_core[0])):
        np.minimum.at(least, near[border], labels[at[border]])
    reached = least < len(X)
    labels[reached] = least[reached]
    return labels, core


def by_grid(X: NDArray[Any], eps: float, min_samples: int) -> Found | None:
    """The same for Euclidean distances; X: (N, F), F at most 3.

    None where eps is so small beside the extent of X that cells cannot be numbered.
    """
    from scipy.spatial import cKDTree

    X = np.ascontiguousarray(X, dtype=np.float64)
    keys, steps = _cells(X, eps)
    if keys is None:
        return None
    order = np.argsort(keys)
    sorted_keys = keys[order]
    begins = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]])
    sizes = np.diff(np.r_[begins, len(X)])
    crowded = np.repeat(sizes >= min_samples, sizes)  # in the order of the cells, which is good for the caches
    core = np.zeros(len(X), dtype=bool)
    core[order[crowded]] = True
    asked = order[~crowded]
    tree = cKDTree(X) if len(asked) else None
    for part in _blocks(len(asked)):
        core[asked[part]] = _enough(tree, X[asked[part]], eps, min_samples)
    labels = np.full(len(X), -1, dtype=np.int64)
    of_cells = order[core[order]]
    if not len(of_cells):
        return labels, core
    labels[of_cells] = _joined(X[of_cells], keys[of_cells], steps, eps)
    labels[core] = _numbered(labels[core])
    _reach(X, eps, labels, core, asked[~core[asked]])
    return labels, core


def _enough(tree: Any, points: NDArray[np.float64], eps: float, min_samples: int) -> NDArray[np.bool_]:
    """Which points have min_samples points of the tree within eps."""
    if min_samples > tree.n:
        return np.zeros(len(points), dtype=bool)
    if min_samples <= _FEW:
        bound = np.nextafter(eps * (1 + 1e-12), np.inf)  # the tree takes what is nearer than the bound
        far: NDArray[np.float64] = tree.query(points, k=[min_samples], distance_upper_bound=bound)[0][:, 0]
        return far <= eps
    counts: NDArray[np.int64] = tree.query_ball_point(points, eps, return_length=True)
    return counts >= min_samples


def _blocks(count: int) -> list[slice]:
    return [slice(b, b + _BLOCK) for b in range(0, count, _BLOCK)]


def _cells(X: NDArray[np.float64], eps: float) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """The number of each point's cell, (N,), or None; and what to add to a number to come to a neighbour, nearest first."""
    width = X.shape[1]
    side = eps / np.sqrt(width) * _SHRINK
    low = X.min(0)
    with np.errstate(over="ignore"):
        spans = (X.max(0) - low) / side
        cells = np.prod(spans + 6)
    if not (spans < _WIDEST).all() or cells > 2.0**62:
        return None, np.zeros(0, dtype=np.int64)
    extents = spans.astype(np.int64) + 6  # two empty cells at each end: no neighbour wraps round
    strides = np.r_[np.cumprod(extents[::-1])[::-1][1:], 1]
    keys = np.full(len(X), 2 * strides.sum())
    for column, start, stride in zip(X.T, low, strides, strict=True):
        keys += ((column - start) / side).astype(np.int64) * stride
    offsets = np.array(list(itertools.product(range(-2, 3), repeat=width)))
    offsets = offsets[[tuple(o) > (0,) * width for o in offsets]]  # one of each two that are opposite
    offsets = offsets[np.argsort((offsets**2).sum(1), kind="stable")]
    return keys, offsets @ strides


def _joined(P: NDArray[np.float64], keys: NDArray[np.int64], steps: NDArray[np.int64], eps: float) -> NDArray[np.int64]:
    """Which component each core point is of, (C,). P: (C, F), keys: (C,), both in the order of the cells."""
    begins = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    sizes = np.diff(np.r_[begins, len(keys)])
    cells = keys[begins]
    joined = _Joined(len(cells))
    for step in steps:
        there = np.searchsorted(cells, cells + step)
        there[there == len(cells)] = 0
        a = np.flatnonzero(cells[there] == cells + step)
        b = there[a]
        a, b = joined.apart(a, b)
        near = ((P[begins[a]] - P[begins[b]]) ** 2).sum(1) <= eps * eps  # most are joined by the first points already
        joined.join(a[near], b[near])
        a, b = joined.apart(a[~near], b[~near])
        while len(a):
            ends = np.cumsum(np.minimum(sizes[a] * sizes[b], _LARGE + 1))
            now = max(1, int(np.searchsorted(ends, _PAIRS)))
            near = _near(P, begins, sizes, a[:now], b[:now], eps)
            joined.join(a[:now][near], b[:now][near])
            a, b = joined.apart(a[now:], b[now:])
    return np.repeat(joined.part, sizes)


class _Joined:
    """Cells, and which of them are together."""

    def __init__(self, count: int) -> None:
        self.part = np.arange(count)

    def apart(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs that are not together yet."""
        apart = self.part[a] != self.part[b]
        return a[apart], b[apart]

    def join(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        """Put the cells of each pair together, and all that is with them."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not len(a):
            return
        count = int(self.part.max()) + 1
        links = coo_array((np.ones(len(a), dtype=np.int8), (self.part[a], self.part[b])), shape=(count, count))
        self.part = connected_components(links, directed=False)[1].astype(np.int64)[self.part]


def _near(
    P: NDArray[np.float64],
    begins: NDArray[np.int64],
    sizes: NDArray[np.int64],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    eps: float,
) -> NDArray[np.bool_]:
    """Whether any point of cell a is within eps of any of cell b, for each pair."""
    from scipy.spatial import cKDTree

    near = np.zeros(len(a), dtype=bool)
    counts = sizes[a] * sizes[b]
    for i in np.flatnonzero(counts > _LARGE):
        one, other = (P[begins[c[i]] : begins[c[i]] + sizes[c[i]]] for c in (a, b))
        least = cKDTree(one).query(other, distance_upper_bound=eps * (1 + 1e-9))[0].min()
        near[i] = least <= eps
    small = np.flatnonzero(counts <= _LARGE)
    counts = counts[small]
    if not len(small):
        return near
    starts = np.cumsum(counts) - counts
    pair = np.repeat(small, counts)
    place = np.arange(len(pair)) - np.repeat(starts, counts)
    row, column = np.divmod(place, sizes[b][pair])
    apart = P[begins[a][pair] + row] - P[begins[b][pair] + column]
    near[small] = np.logical_or.reduceat((apart * apart).sum(1) <= eps * eps, starts)
    return near


def _numbered(parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Components numbered in the order of their first points."""
    _, first, back = np.unique(parts, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[back]


def _reach(
    X: NDArray[np.float64], eps: float, labels: NDArray[np.int64], core: NDArray[np.bool_], others: NDArray[np.int64]
) -> None:
    """Give each point that is not core, but near core ones, the first of their labels."""
    from scipy.spatial import cKDTree

    own = np.flatnonzero(core)
    tree = cKDTree(X[own]) if len(others) else None
    for part in _blocks(len(others)):
        rest = others[part]
        pairs = cKDTree(X[rest]).sparse_distance_matrix(tree, eps, output_type="coo_matrix")
        least = np.full(len(rest), len(X))
        np.minimum.at(least, pairs.row, labels[own[pairs.col]])
        labels[rest] = np.where(least < len(X), least, -1)
