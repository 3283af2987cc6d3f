"""Clusters as what is left of the graph of all points without its long edges. Course: row J3 (document I, section 40.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.clusterer import NOISE, Assigns, Clusterer, is_count
from konspekt.cluster.dbscan import Metric
from konspekt.cluster.near import check_range
from konspekt.cluster.spanning import spanning_tree
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import AtLeast, Search
from konspekt.core.registry import system
from konspekt.core.runs import Run

__all__ = ["GraphClustering"]

SHOWN = 500  # points of the curve of the page


@system(name="graph-clustering", kind="estimator", task="clustering", rows=("J3",), paper="Zahn 1971")
@dataclass(kw_only=True, eq=False, repr=False)
class GraphClustering(Assigns, Clusterer):
    """Remove the edges longer than a radius from the graph of all points; what still hangs together is a cluster.

    Built here: a minimum spanning tree has the components of all radii in it, so `cut` gives other clusters without a fit. Its edges are
    found by a k-d tree in few columns, otherwise by Prim's algorithm, a row of distances at a time (`cluster.spanning`); neither holds the
    matrix of distances. The clusters are those of single linkage cut at the radius, and of DBSCAN with min_samples=1. New points
    get the cluster of the nearest point that was fitted if that is within the radius, else -1; the points are saved for that.

    radius: the longest edge that stays, in the unit of X; 0 joins only what is identical.
    min_size: components of fewer points are noise, -1.
    metric: the distance; "precomputed": X is the matrix of distances (N, N), and new points are rows of distances to the N.
    n_jobs: threads of the search for the nearest points in `predict`, as in scikit-learn.

    Attributes after fit: edges_ (N - 1, 2), the tree's, shortest first; lengths_ (N - 1,); points_ (N, F), or None with distances.
    """

    radius: Annotated[float, AtLeast(0), Search(0.01, 10.0, log=True)] = 0.5
    min_size: Annotated[int, AtLeast(1)] = 1
    metric: Metric = "euclidean"
    n_jobs: int | None = None

    arrays = ("edges_", "lengths_", "points_")

    def cluster(self, X: NDArray[Any]) -> None:
        """Find the tree, and cut it at the radius."""
        if not self.precomputed:
            check_range(X, type(self).__name__)
        self.edges_, self.lengths_ = spanning_tree(X, metric=self.metric)
        self.points_ = None if self.precomputed else X
        self.labels_ = self.cut(radius=self.radius)
        if not (self.labels_ != NOISE).any():
            self._run.log(
                f"all {len(X)} points are noise: no component at radius={self.radius:g} has min_size={self.min_size} points; raise "
                "radius, or lower min_size",
                warning=True,
            )

    def cut(self, *, radius: float | None = None, k: int | None = None) -> NDArray[np.int64]:
        """The clusters (N,) at another radius, or those when k components are left, numbered by their first points.

        Components smaller than `min_size` are noise, so that with k there may be fewer clusters. Where edges are equally long,
        k components are one choice of several. `labels_` stays.

        Raises ConfigError unless one of the two is given and can be.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "edges_")
        count = len(self.lengths_) + 1
        if (radius is None) == (k is None):
            raise ConfigError("GraphClustering: cut takes radius or k, one of them")
        if k is not None:
            if not is_count(k) or not 1 <= k <= count:
                raise ConfigError(f"GraphClustering: cut takes k from 1 to the {count} points, got {k!r}")
            kept = count - k
        else:
            if isinstance(radius, bool) or not isinstance(radius, (int, float, np.number)) or not radius >= 0:
                raise ConfigError(f"GraphClustering: cut takes a radius that is at least 0, got {radius!r}")
            kept = int(np.searchsorted(self.lengths_, radius, side="right"))
        ends = self.edges_[:kept].T
        links = coo_array((np.ones(kept, dtype=np.int8), (ends[0], ends[1])), shape=(count, count))
        _, part = connected_components(links, directed=False)
        large = np.bincount(part)[part] >= self.min_size
        labels = np.full(count, NOISE, dtype=np.int64)
        _, first, back = np.unique(part[large], return_index=True, return_inverse=True)
        labels[large] = np.argsort(np.argsort(first))[back]
        return labels

    def assign(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """The cluster of the nearest fitted point within the radius, or -1."""
        from sklearn.neighbors import NearestNeighbors

        if self.precomputed:
            near = X.argmin(1)
            far = X[np.arange(len(X)), near]
        else:
            search = NearestNeighbors(n_neighbors=1, metric=self.metric, n_jobs=self.n_jobs).fit(self.points_)
            found, places = search.kneighbors(X)
            far, near = found[:, 0], places[:, 0]
        return np.where(far <= self.radius, self.labels_[near], NOISE)

    def exhibit(self, X: NDArray[Any], run: Run) -> None:
        """How many components there are at each radius, and the longest edges."""
        count = len(self.lengths_) + 1
        some = np.unique(np.linspace(0, count - 2, min(SHOWN, count - 1)).astype(int))
        share = (count - 1 - some) / count
        run.keep(
            "components",
            "curve",
            {
                "components, as a share of the points": (self.lengths_[some], share),
                "radius": ([self.radius] * 2, [0, 1]),
            },
        )
        rows = []
        for k in range(2, min(12, count) + 1):  # k components are there from the k-th longest edge to the next longer
            low = float(self.lengths_[count - 1 - k]) if k < count else 0.0
            rows.append({"components": k, "radius from": low, "radius below": float(self.lengths_[count - k])})
        run.keep("radii", "table", rows)

    def check_learned(self) -> None:
        """A tree of as many points as there are labels, and the points."""
        edges, lengths, count = self.edges_, self.lengths_, len(self.labels_)
        if edges is None or lengths is None or edges.shape != (count - 1, 2) or lengths.shape != (count - 1,):
            raise DataError("edges_ and lengths_ are no tree of the points")
        if edges.dtype != np.int64 or edges.min(initial=0) < 0 or edges.max(initial=0) >= count:
            raise DataError("edges_ name no points")
        if (np.diff(lengths) < 0).any() or lengths.min(initial=0) < 0:
            raise DataError("lengths_ are not sorted")
        if self.precomputed:
            if self.points_ is not None or self.n_features_in_ != count:
                raise DataError("points_ are not for a matrix of distances")
        elif self.points_ is None or self.points_.shape != (count, self.n_features_in_):
            raise DataError("points_ are not those of the labels")
        else:
            self._points = self.points_  # `plot` needs no others
