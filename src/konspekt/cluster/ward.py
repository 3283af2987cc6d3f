"""Ward's tree from centres, without the distances of all pairs. Course: row J3 (document I, section 40.6)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.dendrogram import sizes_of

__all__ = ["ward_tree"]

_SPARE = 8  # rows of merged clusters are taken out when they are this share of all


def ward_tree(X: NDArray[Any]) -> NDArray[np.float64]:
    """Ward's tree of points (N, F) as `scipy.cluster.hierarchy.ward` gives it, in time N^2 F and memory N F.

    Chains of nearest neighbours (Murtagh 1983; Müllner 2011, algorithm 2): from a cluster to its nearest, until two are
    nearest to each other; those are merged, and the tree is sorted by height at the end. What a merge of A and B costs,
    |A| |B| / (|A| + |B|) times the squared distance of their means, needs no earlier distances.

    Squared distances come from products (a matrix by a vector) first; those that are least within the error of that are then
    taken from differences, so heights are as exact as from a matrix of distances.

    Raises FloatingPointError where a squared distance is not finite.
    """
    n = len(X)
    with np.errstate(over="ignore", invalid="ignore"):  # asked for right there
        state = _Centres(np.asarray(X, np.float64))
    merges = np.empty((n - 1, 2), np.int64)
    heights = np.empty(n - 1)
    node_height = np.zeros(2 * n - 1)
    chain: list[int] = []
    for row in range(n - 1):
        if not chain:
            chain = [state.some()]
        while True:
            tip, before = chain[-1], chain[-2] if len(chain) > 1 else -1
            near, cost = state.nearest(tip, before)
            if near == before or near in chain:  # the second is rounding's doing: as near as the one before
                break
            chain.append(near)
        one, other = chain.pop(), chain.pop()
        nodes = state.nodes[one], state.nodes[other]
        merges[row] = nodes
        # a merge is no lower than those under it, and rounding must not say so
        heights[row] = node_height[n + row] = max(np.sqrt(2.0 * cost), *node_height[list(nodes)])
        moved = state.merge(one, other, n + row)
        if moved is not None:
            chain = [int(moved[place]) for place in chain]
    return _sorted(merges, heights)


def _sorted(merges: NDArray[np.int64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The tree with its rows by height; its nodes are numbered anew."""
    n = len(merges) + 1
    order = np.argsort(heights, kind="stable")  # a merge stays behind those under it, which are not higher
    number = np.arange(2 * n - 1)
    number[n + order] = n + np.arange(n - 1)
    children = np.sort(number[merges[order]], axis=1)
    return np.column_stack([children, heights[order], sizes_of(children)])


class _Centres:
    """The clusters that are there: means, sizes, node numbers; merged ones are taken out now and then."""

    def __init__(self, X: NDArray[np.float64]) -> None:
        self.means = np.ascontiguousarray((X - X.mean(0)).T)  # (F, N): a product runs along the points
        n = self.count = len(X)
        self.sizes, self.nodes = np.ones(n), np.arange(n)
        self.squares = np.einsum("ij,ij->j", self.means, self.means)  # infinite: merged away
        if not np.isfinite(self.squares.max() * n):
            raise FloatingPointError("a squared distance is not finite")
        # of a squared distance by products; means are never farther out than points are
        self.error = 4.0 * (len(self.means) + 4) * np.finfo(np.float64).eps * float(self.squares.max())
        self.gone = self.start = 0
        self._costs, self._weights = np.empty(n), np.empty(n)

    def some(self) -> int:
        """A cluster to begin a chain with."""
        while not np.isfinite(self.squares[self.start]):
            self.start += 1
        return self.start

    def nearest(self, tip: int, before: int) -> tuple[int, float]:
        """The cluster whose merge with `tip` costs least, and the cost; of equal ones `before`, then the first."""
        m = self.count
        costs, weights, sizes = self._costs[:m], self._weights[:m], self.sizes[:m]
        np.dot(-2.0 * self.means[:, tip], self.means[:, :m], out=costs)
        costs += self.squares[:m]
        costs += self.squares[tip]
        np.add(sizes, sizes[tip], out=weights)
        np.divide(sizes, weights, out=weights)  # times the tip's size, which is left to the end: from 0 to 1
        costs *= weights
        costs[tip] = np.inf
        near = np.flatnonzero(costs <= costs.min() + 2.0 * self.error)
        apart = self.means[:, near] - self.means[:, tip, None]
        exact = np.einsum("ij,ij->j", apart, apart) * (sizes[near] * sizes[tip] / (sizes[near] + sizes[tip]))
        least = float(exact.min())
        if before >= 0 and least in exact[near == before]:
            return before, least
        return int(near[exact.argmin()]), least

    def merge(self, one: int, other: int, node: int) -> NDArray[np.int64] | None:
        """Put the two together as `node`; where this moved clusters, the new place of each."""
        size = self.sizes[one] + self.sizes[other]
        mean = (self.means[:, one] * self.sizes[one] + self.means[:, other] * self.sizes[other]) / size
        self.means[:, other], self.sizes[other], self.nodes[other] = mean, size, node
        self.squares[other], self.squares[one] = mean @ mean, np.inf
        self.gone += 1
        if self.gone * _SPARE < self.count:
            return None
        keep = np.flatnonzero(np.isfinite(self.squares[: self.count]))
        moved = np.full(self.count, -1)
        moved[keep] = np.arange(len(keep))
        self.means = np.ascontiguousarray(self.means[:, keep])
        self.sizes, self.nodes, self.squares = self.sizes[keep], self.nodes[keep], self.squares[keep]
        self.count, self.gone, self.start = len(keep), 0, 0
        return moved
