"""A minimum spanning tree of points: Prim's, a row of distances at a time, or Boruvka's over a k-d tree.

`by_tree` is a dual-tree Boruvka (March, Ram & Gray 2010) whose loop goes over the levels of the tree, each level in one piece. First
lists of the nearest neighbours serve: a component's nearest neighbour outside is sure if it is in such a list and no nearer one can be
missing from one. When too few are sure, pairs of nodes are followed from the root down; one is dropped if all its points are of one
component, or its boxes are farther apart than what is known already for each of the components in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError

__all__ = ["Edges", "by_prim", "by_tree", "spanning_tree"]

Edges = tuple[
    NDArray[np.int64], NDArray[np.float64]
]  # pairs of points (N - 1, 2), and their distances (N - 1,), shortest first

_DEEP = 6  # columns up to which the tree may be faster
_FEW = 200  # times 2 for each column: points up to which Prim's is faster still
_LISTED = 8  # neighbours in a list
_LEAF = 8  # points in a leaf, about
_BLOCK = 1 << 15  # pairs of leaves looked at at once
_SURE = 0.1  # of the components: with fewer that are sure the tree is asked


def spanning_tree(X: NDArray[Any], *, metric: str = "euclidean") -> Edges:
    """The edges of a minimum spanning tree of all distances. X: (N, F), or with metric="precomputed" (N, N).

    By the tree for Euclidean distances of few columns, otherwise by Prim's: time N^2, memory N besides X.

    Raises DataError where a distance is no finite number.
    """
    if metric == "euclidean" and X.shape[1] <= _DEEP and len(X) > _FEW << X.shape[1]:
        edges, lengths = by_tree(X)
    else:
        edges, lengths = by_prim(X, metric=metric)
    if not np.isfinite(lengths).all():
        raise DataError(
            f"with metric={metric!r} some distances are no finite numbers; leave out rows to which it gives none (all zeros with "
            "cosine, all equal with correlation)"
        )
    return edges, lengths


def by_prim(X: NDArray[Any], *, metric: str = "euclidean") -> Edges:
    """Prim's: the point nearest to the tree joins it, and what it is nearer to than the tree was learns so."""
    from scipy.spatial.distance import cdist

    count = len(X)
    name = {"manhattan": "cityblock"}.get(metric, metric)
    rest = np.arange(1, count)
    points = np.array(X[1:], dtype=np.float64) if metric != "precomputed" else None
    best, parent = np.full(count - 1, np.inf), np.zeros(count - 1, dtype=np.int64)
    edges, lengths = np.empty((count - 1, 2), dtype=np.int64), np.empty(count - 1)
    last, here = 0, np.array(X[:1], dtype=np.float64)
    for step in range(count - 1):
        left = count - 1 - step
        far = X[last].take(rest[:left]) if points is None else cdist(here, points[:left], name)[0]
        nearer = far < best[:left]
        np.copyto(best[:left], far, where=nearer)
        parent[:left][nearer] = last
        at = int(best[:left].argmin())
        last = int(rest[at])
        edges[step], lengths[step] = (parent[at], last), best[at]
        for kept in (rest, best, parent):  # the last one left takes its place
            kept[at] = kept[left - 1]
        if points is not None:
            here = points[at : at + 1].copy()
            points[at] = points[left - 1]
    return _sorted(edges, lengths)


def _sorted(edges: NDArray[np.int64], lengths: NDArray[np.float64]) -> Edges:
    order = np.argsort(lengths, kind="stable")
    return np.sort(edges[order], axis=1), lengths[order]


def by_tree(X: NDArray[Any]) -> Edges:
    """Boruvka's for Euclidean distances: each component gets its shortest edge to another, until there is one."""
    forest = _Forest(np.ascontiguousarray(X, dtype=np.float64))
    while forest.count > 1:
        found = forest.from_lists()
        if found is None:
            found = forest.from_tree()
        forest.join(*found)
    edges = forest.order[np.concatenate(forest.edges)]
    return _sorted(edges, np.sqrt(((X[edges[:, 0]].astype(np.float64) - X[edges[:, 1]]) ** 2).sum(1)))


class _Forest:
    """The components so far. Points are numbered in the order of the k-d tree; distances are squared."""

    def __init__(self, X: NDArray[np.float64]) -> None:
        from scipy.spatial import cKDTree

        tree = cKDTree(X)
        self.order = np.asarray(tree.indices, dtype=np.int64)
        self.points = X[self.order]
        count = len(X)
        place = np.empty(count, dtype=np.int64)
        place[self.order] = np.arange(count)
        listed = min(_LISTED + 1, count)
        self.near, self.far = np.empty((count, listed), dtype=np.int32), np.empty((count, listed))
        for begin in range(0, count, 1 << 16):
            part = slice(begin, begin + (1 << 16))
            self.far[part], near = tree.query(self.points[part], k=listed)
            self.near[part] = place[near]
        self.far *= self.far
        self.rows = np.arange(count)  # points with neighbours of another component in their lists
        self.component, self.count = np.arange(count), count
        self.beyond = np.full(count, np.inf)  # by component: no edge that is missing from the lists is shorter
        self.edges: list[NDArray[np.int64]] = []
        self.depth = max(0, int(np.ceil(np.log2(count / _LEAF))))
        self.starts = [(np.arange(2**level) * count) >> level for level in range(self.depth + 1)]
        lows = [np.minimum.reduceat(self.points, self.starts[-1])]
        highs = [np.maximum.reduceat(self.points, self.starts[-1])]
        for _ in range(self.depth):
            lows.insert(0, np.minimum(lows[0][::2], lows[0][1::2]))
            highs.insert(0, np.maximum(highs[0][::2], highs[0][1::2]))
        self.lows, self.highs = lows, highs

    # -- what a component's shortest edge is --------------------------------------------------------------------------

    def from_lists(self) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Edges (E, 2) and squares (E,) of the components of which the lists are sure; None where those are too few."""
        component = self.component
        outside = component[self.near] != component[self.rows][:, None]
        some = outside.any(1)
        if not some.all():
            done = ~some
            np.minimum.at(self.beyond, component[self.rows[done]], self.far[done, -1])
            self.near, self.far, self.rows, outside = (a[some] for a in (self.near, self.far, self.rows, outside))
        first = outside.argmax(1)
        at = np.arange(len(self.rows))
        self.other, self.square = self.near[at, first].astype(np.int64), self.far[at, first]
        own = component[self.rows]
        self.least = np.full(self.count, np.inf)
        np.minimum.at(self.least, own, self.square)
        sure = np.isfinite(self.least) & (self.least <= self.beyond)
        if sure.sum() < max(1, _SURE * self.count):
            return None
        ends = np.flatnonzero((self.square == self.least[own]) & sure[own])
        # Of edges that are equally short one: two might close a ring with a shorter edge that is not sure.
        _, first = np.unique(own[ends], return_index=True)
        ends = ends[first]
        return np.stack([self.rows[ends], self.other[ends]], axis=1), self.square[ends]

    def from_tree(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The same for all components, by pairs of nodes from the root down. `from_lists` has been asked."""
        component = self.component
        best = _Best(self.least, np.stack([self.rows, self.other], axis=1), self.square, component)
        beside = np.flatnonzero(component[1:] != component[:-1])
        best.offer(beside, beside + 1, self._squares(beside, beside + 1))
        a = b = np.zeros(1, dtype=np.int64)
        for level in range(self.depth + 1):
            starts = self.starts[level]
            if level:
                a, b = _children(a, b)
            least = np.minimum.reduceat(component, starts)
            most = np.maximum.reduceat(component, starts)
            one, other = least[a], least[b]
            kept = ~((one == most[a]) & (other == most[b]) & (one == other))
            a, b = a[kept], b[kept]
            gaps = self._gaps(level, a, b)
            a, b, gaps = self._near(best, starts, a, b, gaps)
            if level < self.depth:
                middle = (starts + np.r_[starts[1:], len(component)]) // 2
                one, other = middle[a], middle[b]  # true edges: what they are long bounds what is worth following
                apart = component[one] != component[other]
                one, other = one[apart], other[apart]
                best.offer(one, other, self._squares(one, other))
                a, b, gaps = self._near(best, starts, a, b, gaps)
        order = np.argsort(gaps)  # the nearest first, so that most of the others need not be looked at
        a, b, gaps = a[order], b[order], gaps[order]
        while len(a):
            self._leaves(best, a[:_BLOCK], b[:_BLOCK])
            a, b, gaps = self._near(best, self.starts[-1], a[_BLOCK:], b[_BLOCK:], gaps[_BLOCK:])
        return best.edges()

    def _squares(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
        apart = self.points[one] - self.points[other]
        squares: NDArray[np.float64] = np.einsum("ij,ij->i", apart, apart)
        return squares

    def _gaps(self, level: int, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
        """The square of the distance between the boxes of two nodes."""
        low, high = self.lows[level], self.highs[level]
        gap = np.maximum(np.maximum(low[a] - high[b], low[b] - high[a]), 0.0)
        squares: NDArray[np.float64] = np.einsum("ij,ij->i", gap, gap)
        return squares

    def _near(
        self,
        best: _Best,
        starts: NDArray[np.int64],
        a: NDArray[np.int64],
        b: NDArray[np.int64],
        gaps: NDArray[np.float64],
    ) -> Any:
        """The pairs of nodes that may hold a shorter edge than is known."""
        bound = np.maximum.reduceat(best.least[self.component], starts)
        kept = gaps < np.maximum(bound[a], bound[b])
        return a[kept], b[kept], gaps[kept]

    def _leaves(self, best: _Best, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        """Offer the edges between the points of two leaves, for each pair."""
        starts = self.starts[-1]
        ends = np.r_[starts[1:], len(self.points)]
        steps = np.arange(int((ends - starts).max()))
        one, other = (np.minimum(starts[c][:, None] + steps, ends[c][:, None] - 1) for c in (a, b))
        squares = np.zeros((len(a), len(steps), len(steps)))
        for column in self.points.T:
            apart = column[one][:, :, None] - column[other][:, None, :]
            squares += apart * apart
        parts = self.component[one], self.component[other]
        bound = np.maximum(best.least[parts[0]][:, :, None], best.least[parts[1]][:, None, :])
        pair, i, j = np.nonzero((squares < bound) & (parts[0][:, :, None] != parts[1][:, None, :]))
        best.offer(one[pair, i], other[pair, j], squares[pair, i, j])

    # -- joining ------------------------------------------------------------------------------------------------------

    def join(self, edges: NDArray[np.int64], squares: NDArray[np.float64]) -> None:
        """Add edges, each the shortest from one of its two components, but for those that would close a ring."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

        ends = np.sort(self.component[edges], axis=1)
        order = np.lexsort((squares, ends[:, 1], ends[:, 0]))
        ends, edges, squares = ends[order], edges[order], squares[order]
        first = np.r_[True, (ends[1:] != ends[:-1]).any(1)]
        ends, edges, squares = ends[first], edges[first], squares[first]
        rank = np.empty(len(squares))
        rank[np.argsort(squares, kind="stable")] = np.arange(1, len(squares) + 1)  # SciPy takes 0 for no edge
        shape = (self.count, self.count)
        chosen = minimum_spanning_tree(coo_array((rank, (ends[:, 0], ends[:, 1])), shape=shape).tocsr())
        by_rank = np.argsort(rank)
        self.edges.append(edges[by_rank[chosen.data.astype(np.int64) - 1]])
        count, part = connected_components(chosen, directed=False)
        beyond = np.full(count, np.inf)
        np.minimum.at(beyond, part, self.beyond)
        self.component, self.count, self.beyond = part.astype(np.int64)[self.component], int(count), beyond


class _Best:
    """The shortest edge that is known from each component."""

    def __init__(
        self,
        least: NDArray[np.float64],
        edges: NDArray[np.int64],
        squares: NDArray[np.float64],
        component: NDArray[np.int64],
    ) -> None:
        self.component, self.least = component, least
        self.edge = np.full((len(least), 2), -1)
        self._take(component[edges[:, 0]], edges, squares)

    def _take(self, own: NDArray[np.int64], edges: NDArray[np.int64], squares: NDArray[np.float64]) -> None:
        ends = squares == self.least[own]
        self.edge[own[ends]] = edges[ends]

    def offer(self, one: NDArray[np.int64], other: NDArray[np.int64], squares: NDArray[np.float64]) -> None:
        """Take note of edges between two components where they are shorter."""
        edges = np.stack([one, other], axis=1)
        for end in (one, other):
            own = self.component[end]
            shorter = squares < self.least[own]
            np.minimum.at(self.least, own[shorter], squares[shorter])
            self._take(own[shorter], edges[shorter], squares[shorter])

    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """One for each component."""
        return self.edge, self.least


def _children(a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of a level below, each once."""
    pairs = [(2 * a, 2 * b), (2 * a, 2 * b + 1), (2 * a + 1, 2 * b), (2 * a + 1, 2 * b + 1)]
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    kept = one <= other
    return one[kept], other[kept]
