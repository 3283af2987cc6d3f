"""Trees of clusters: their matrix, cuts without a refit, their picture. Course: row J3 (document I, section 40.6).

A tree over L leaves is the matrix (L - 1, 4) of `scipy.cluster.hierarchy`: row i merges the nodes of its first two columns
into node L + i, at the height of the third, over as many leaves as the fourth says. Nodes below L are leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from konspekt.cluster.clusterer import is_count
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import shown
from konspekt.core.runs import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

__all__ = ["Hierarchical", "Metric", "check_tree", "roots_of", "sizes_of"]

Metric = Literal[
    "euclidean",
    "l2",
    "manhattan",
    "l1",
    "cityblock",
    "cosine",
    "correlation",
    "chebyshev",
    "canberra",
    "braycurtis",
    "precomputed",
]


class Hierarchical:
    """What a clusterer has besides that learns a tree: `cut`, `plot_dendrogram`, the check of a tree that was loaded.

    The subclass learns `dendrogram_`, (L - 1, 4), its rows in the order of merging, and `leaves_`: (N,) the leaf of each point,
    or None where each point is a leaf. It calls `_cut_as_asked` at the end of its `cluster`.
    """

    dendrogram_: NDArray[np.float64]
    leaves_: NDArray[np.int64] | None
    labels_: NDArray[np.int64]
    n_clusters: int | None
    distance_threshold: float | None
    arrays: ClassVar[tuple[str, ...]] = ("dendrogram_", "leaves_")

    @property
    def n_leaves_(self) -> int:
        """How many leaves the tree has."""
        return len(self.dendrogram_) + 1

    @property
    def children_(self) -> NDArray[np.int64]:
        """The two nodes that each merge joins, (L - 1, 2), as scikit-learn has them."""
        return self.dendrogram_[:, :2].astype(np.int64)

    @property
    def distances_(self) -> NDArray[np.float64]:
        """The height of each merge, (L - 1,)."""
        return self.dendrogram_[:, 2]

    def _height_is(self) -> str:
        """What the heights of the tree are, as an axis says it."""
        raise NotImplementedError(f"{type(self).__name__}._height_is")

    # -- cuts -------------------------------------------------------------------------------------------------------

    def cut(self, k: int | None = None, *, height: float | None = None) -> NDArray[np.int64]:
        """The clusters of another cut through the tree that was learned, (N,); labels_ stays as it is.

        Numbers go by the first point of each cluster, so cluster 0 has point 0.

        k: how many clusters: all merges but the last k - 1 are made. height: merges at or above it are not made, as with
        distance_threshold; where heights invert (centroid linkage: a merge may be lower than one under it), a merge is made
        only if it and all those under it are below. Cuts are nested: a lower one splits clusters of a higher one.

        Raises ConfigError unless one of the two is given, k is at most the number of leaves, and height is not negative.
        """
        check_is_fitted(self, "labels_")
        return self._labels(self._made(k, height))

    def _cut_as_asked(self) -> NDArray[np.int64]:
        return self._labels(self._made(self.n_clusters, self.distance_threshold))

    def _check_asked(self) -> None:
        """Raise ConfigError unless it is said where to cut: by number or by height."""
        if (self.n_clusters is None) == (self.distance_threshold is None):
            raise ConfigError(
                f"{type(self).__name__}: n_clusters={self.n_clusters} and distance_threshold={self.distance_threshold}: one of "
                "the two says where the tree is cut, the other must be None"
            )

    def _made(self, k: int | None, height: float | None) -> NDArray[np.bool_]:
        """Which merges a cut makes, (L - 1,)."""
        where = f"{type(self).__name__}.cut"
        if (k is None) == (height is None):
            raise ConfigError(f"{where}: give either k, the number of clusters, or height; got k={k}, height={height}")
        if k is not None:
            if not is_count(k) or k < 1:
                raise ConfigError(f"{where}: k must be an integer at least 1, got {shown(k)}")
            if k > self.n_leaves_:
                raise ConfigError(
                    f"{where}: k={k}, but the tree has {self.n_leaves_} leaves; ask for at most as many"
                    + ("" if self.leaves_ is None else ", or fit with more n_leaves")
                )
            return np.arange(len(self.dendrogram_)) < self.n_leaves_ - k
        if isinstance(height, bool) or not isinstance(height, (int, float, np.number)) or not height >= 0:
            raise ConfigError(f"{where}: height must be a number at least 0, got {shown(height)}")
        return reach_of(self.dendrogram_) < height

    def _labels(self, made: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The cluster of each point, where these merges are made."""
        leaves = _numbered(roots_of(self.dendrogram_, made)[: self.n_leaves_])
        return leaves if self.leaves_ is None else _numbered(leaves[self.leaves_])

    # -- pictures ---------------------------------------------------------------------------------------------------

    def plot_dendrogram(
        self, k: int | None = None, *, height: float | None = None, names: Sequence[str] | None = None
    ) -> Figure:
        """The tree with a cut, by default that of labels_, as a matplotlib figure; merges in the colours of their clusters.

        Above 60 leaves only the upper part is drawn: what hangs below is a bundle, with the number of its points in
        brackets. Where heights invert, there may be no line that cuts the tree into the clusters; none is drawn then.

        k, height: another cut, as for `cut`. names: (N,) what to write under the points instead of their numbers.
        """
        from konspekt.cluster.trees import draw_tree

        check_is_fitted(self, "labels_")
        if k is None and height is None:
            k, height = self.n_clusters, self.distance_threshold
            k = None if k is None else min(k, self.n_leaves_)
        made = self._made(k, height)
        if names is not None and len(names) != len(self.labels_):
            raise ConfigError(
                f"{type(self).__name__}: {len(names)} names for {len(self.labels_)} points; give one for each"
            )
        written = [str(n) for n in (names if names is not None else range(len(self.labels_)))]
        sizes = np.ones(self.n_leaves_, np.int64)
        if self.leaves_ is not None:
            _, first, sizes = np.unique(self.leaves_, return_index=True, return_counts=True)
            written = [written[point] for point in first]
        return draw_tree(
            self.dendrogram_,
            made,
            sizes,
            self._leaf_labels(made),
            title=type(self).__name__,
            height_is=self._height_is(),
            at=line_of(self.dendrogram_, made) if height is None else float(height),
            names=written,
        )

    def _leaf_labels(self, made: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The cluster of each leaf."""
        labels = self._labels(made)
        if self.leaves_ is None:
            return labels
        found: NDArray[np.int64] = np.zeros(self.n_leaves_, np.int64)
        found[self.leaves_] = labels
        return found

    def exhibit(self, points: NDArray[Any], run: Run) -> None:
        """Keep the heights of the last merges, against the clusters that are left where each is not made."""
        last = self.distances_[::-1][:50]
        if len(last) > 1:
            run.keep("merge-heights", "curve", {self._height_is(): (np.arange(2, len(last) + 2), last)})

    # -- what was loaded --------------------------------------------------------------------------------------------

    def check_learned(self) -> None:
        """Raise DataError where the tree is none, or does not belong to the labels."""
        check_tree(self.dendrogram_)
        leaves, points = self.n_leaves_, len(self.labels_)
        if self.leaves_ is None:
            fits = points == leaves
        else:
            fits = self.leaves_.shape == (points,) and self.leaves_.dtype == np.int64
            fits = fits and np.array_equal(np.unique(self.leaves_), np.arange(leaves))
        if not fits or self.labels_.min() < 0 or self.labels_.max() >= leaves:
            raise DataError(f"a tree of {leaves} leaves does not belong to {points} labels; the file is damaged")


def check_tree(tree: Any) -> None:
    """Raise DataError where an array is no tree as this module has it."""
    head = "dendrogram_ is no tree"
    if not isinstance(tree, np.ndarray) or tree.ndim != 2 or tree.shape[1] != 4 or tree.dtype != np.float64:
        raise DataError(f"{head}: it is not a matrix (L - 1, 4) of float64")
    if not np.isfinite(tree).all() or (tree[:, 2] < 0).any():
        raise DataError(f"{head}: a height is negative or not finite")
    leaves, nodes = len(tree) + 1, tree[:, :2]
    ahead = leaves + np.arange(len(tree))[:, None]
    if (nodes != np.floor(nodes)).any() or (nodes < 0).any() or (nodes >= ahead).any():
        raise DataError(f"{head}: a merge joins what is not there yet")
    joined = nodes.astype(np.int64)
    if len(np.unique(joined)) != joined.size:
        raise DataError(f"{head}: a node is merged twice")
    sizes = np.concatenate([np.ones(leaves), tree[:, 3]])
    if not np.array_equal(tree[:, 3], sizes[joined].sum(1)):
        raise DataError(f"{head}: the sizes of its clusters do not add up")


def roots_of(tree: NDArray[np.float64], made: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The topmost node over each node, (2L - 1,), where only these merges are made; a made merge needs those under it."""
    leaves = len(tree) + 1
    above: NDArray[np.int64] = np.arange(2 * leaves - 1)
    rows = np.flatnonzero(made)
    above[tree[rows, :2].astype(np.int64)] = leaves + rows[:, None]
    while True:  # each round doubles the steps: as many as the depth has binary digits
        higher = above[above]
        if np.array_equal(higher, above):
            return above
        above = higher


def reach_of(tree: NDArray[np.float64]) -> NDArray[np.float64]:
    """The greatest height in each merge and those under it, (L - 1,): its own, where heights do not invert."""
    heights = tree[:, 2]
    if (np.diff(heights) >= 0).all():
        return heights
    from scipy.cluster.hierarchy import maxdists

    found: NDArray[np.float64] = maxdists(tree)
    return found


def line_of(tree: NDArray[np.float64], made: NDArray[np.bool_]) -> float | None:
    """A height that cuts the tree into these clusters; None where there is none, or all is one cluster."""
    reach = reach_of(tree)
    below, above = reach[made].max(initial=0.0), reach[~made].min(initial=np.inf)
    return (below + above) / 2 if below < above < np.inf else None


def sizes_of(children: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many leaves each merge has under it, (L - 1,). children: (L - 1, 2)."""
    sizes = [1] * (len(children) + 1)
    for left, right in children.tolist():
        sizes.append(sizes[left] + sizes[right])
    return np.array(sizes[len(children) + 1 :], dtype=np.float64)


def _numbered(marks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Marks as numbers from 0, in the order in which they come first."""
    _, first, codes = np.unique(marks, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    numbered: NDArray[np.int64] = rank[codes]
    return numbered
