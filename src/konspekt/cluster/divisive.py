"""Divisive clustering: bisecting k-means and DIANA. Course: row J3 (document I, section 40.6)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.agglomerative import SCIPYS, not_finite
from konspekt.cluster.clusterer import Clusterer, too_many
from konspekt.cluster.dendrogram import Hierarchical, Metric, sizes_of
from konspekt.cluster.diana import diana
from konspekt.core.errors import ConfigError
from konspekt.core.memory import check_room
from konspekt.core.params import AtLeast, Search
from konspekt.core.registry import system

__all__ = ["DivisiveClustering"]


@system(
    name="divisive",
    kind="estimator",
    task="clustering",
    rows=("J3",),
    paper="Kaufman & Rousseeuw 1990; Steinbach, Karypis & Kumar 2000",
)
@dataclass(kw_only=True, eq=False, repr=False)
class DivisiveClustering(Hierarchical, Clusterer):
    """Divide all points into two clusters, then the widest of those, and so on; cut the tree anywhere.

    Built here, the halves of a bisection by scikit-learn's `KMeans`: its `BisectingKMeans` keeps no tree that could be cut
    again, and DIANA it lacks. It has no clusters for new points.

    "bisecting" divides the cluster with the greatest sum of squares by k-means with two centres, as far as asked: its tree ends
    in n_leaves clusters, and `cut` goes as far. Each division takes time in the points of the cluster only.

    "diana" divides down to single points. The point that is farthest from the others of the cluster with the greatest diameter,
    on average, splits off; those that are nearer to what split off than to the rest follow, the nearest first. It takes the
    matrix of distances, 8 N^2 bytes, and time in N^2 or somewhat more: 5,000 points take 200 MiB and 1 to 7 s on one core, by the
    data; so 20,000 take 3 GiB and a minute, more or less.

    method: "bisecting" or "diana".
    n_clusters: how many clusters labels_ has; None: distance_threshold says.
    metric: of diana: the distance of two points, or "precomputed": X is the matrix of distances, which need not be a metric's.
        bisecting is of Euclidean points only.
    distance_threshold: clusters whose height is below are not divided in labels_; n_clusters must be None then. The height is the
        diameter with diana, and the root of the sum of squared distances to the mean with bisecting.
    n_leaves: of bisecting: how many clusters the tree ends in, so that `cut` can go further than labels_; None: no more than
        labels_ has.
    n_init: of bisecting: starts of k-means in each division, the best of which is taken.
    random_state: of bisecting: the seed of the starts.

    Attributes after `fit`: dendrogram_ (L - 1, 4), the tree, read from the bottom, as SciPy's `linkage` has it; leaves_ (N,), the
    leaf of each point with bisecting, None with diana, where L = N; children_, distances_, n_leaves_.

    Raises ConfigError where not one of n_clusters and distance_threshold is None, where bisecting gets another metric, diana
    n_leaves, or n_leaves is below n_clusters; DataError where there are fewer points than clusters or a distance is not
    finite; ResourceError where the distances do not fit the free memory. Equal points are not divided by bisecting: there may be fewer
    clusters than asked, which the run's log says.
    """

    method: Annotated[Literal["bisecting", "diana"], Search()] = "bisecting"
    n_clusters: Annotated[int | None, AtLeast(1), Search(2, 20, log=True)] = 2
    metric: Metric = "euclidean"
    distance_threshold: Annotated[float | None, AtLeast(0)] = None
    n_leaves: Annotated[int | None, AtLeast(1)] = None
    n_init: Annotated[int, AtLeast(1)] = 1
    random_state: int | None = None

    def _height_is(self) -> str:
        return "diameter" if self.method == "diana" else "root of the sum of squares"

    def cluster(self, X: NDArray[Any]) -> None:
        """Learn the tree, and cut it."""
        where = type(self).__name__
        self._check_asked()
        if self.method == "bisecting" and self.metric not in ("euclidean", "l2"):
            raise ConfigError(
                f"{where}: method='bisecting' divides by means, so it is of Euclidean points, not of metric={self.metric!r}; take "
                "metric='euclidean' or method='diana'"
            )
        if self.method == "diana" and self.n_leaves is not None:
            raise ConfigError(f"{where}: method='diana' divides down to single points; leave n_leaves out")
        if self.n_leaves is not None and self.n_clusters is not None and self.n_leaves < self.n_clusters:
            raise ConfigError(
                f"{where}: n_leaves={self.n_leaves} is less than n_clusters={self.n_clusters}; raise it, or leave it out"
            )
        for wanted in (self.n_clusters, self.n_leaves):
            if wanted is not None:
                too_many(wanted, len(X), where)
        if self.method == "diana":
            self.dendrogram_, self.leaves_ = self._diana(X), None
        else:
            self.dendrogram_, self.leaves_ = self._bisect(X)
        wanted = self.n_clusters
        if wanted is not None and wanted > self.n_leaves_:
            text = (
                f"{where}: {self.n_leaves_} clusters instead of n_clusters={wanted}: the others are of equal points, which "
                "k-means does not divide"
            )
            self._run.log(text, warning=True)
            wanted = self.n_leaves_
        self.labels_ = self._labels(self._made(wanted, self.distance_threshold))

    # -- DIANA ------------------------------------------------------------------------------------------------------

    def _diana(self, X: NDArray[Any]) -> NDArray[np.float64]:
        from scipy.spatial.distance import cdist

        where, n = type(self).__name__, len(X)
        if self.precomputed:
            return diana(X)
        what = f"{where}: DIANA of {n:,} points by the distances of all pairs"
        check_room(8 * n * n, what)
        self._run.log(f"{what} takes {8 * n * n / 2**30:,.2g} GiB of memory for the time of the fit")
        distances = cdist(X, X, SCIPYS.get(self.metric, self.metric))
        if not np.isfinite(distances.max()):
            raise not_finite(where, self.metric)
        if self.metric in ("cosine", "correlation"):
            np.fill_diagonal(distances, 0.0)  # where rounding leaves 1e-16
        return diana(distances)

    # -- bisecting --------------------------------------------------------------------------------------------------

    def _bisect(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The tree, and the leaf of each point."""
        most = max((n for n in (self.n_clusters, self.n_leaves) if n is not None), default=len(X))
        threshold = self.distance_threshold if self.n_leaves is None else None
        rng = np.random.RandomState(self.seed_)
        members: list[NDArray[np.int64]] = [np.arange(len(X))]  # of each node; a node's halves come after it
        heights, halves = [_spread(X.copy())], dict[int, tuple[int, int]]()
        if not heights[0] < np.sqrt(np.finfo(X.dtype).max):  # k-means takes squares in the width of X
            raise not_finite(type(self).__name__, self.metric)
        waiting = [(-heights[0], 0)]
        while waiting and len(halves) + 1 < most:
            negative, node = heappop(waiting)
            if threshold is not None and -negative < threshold:
                break
            parts = self._halve(X, members[node], rng)
            if parts is None:
                continue
            halves[node] = (len(members), len(members) + 1)
            members[node] = members[node][:0]
            for part, height in parts:
                heights.append(height)
                heappush(waiting, (-height, len(members)))
                members.append(part)
        return _tree_of(members, heights, halves, len(X))

    def _halve(
        self, X: NDArray[Any], own: NDArray[np.int64], rng: np.random.RandomState
    ) -> list[tuple[NDArray[np.int64], float]] | None:
        """The two halves of a cluster and their heights; None where its points are equal."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        points = X[own]
        if (points[0] == points[-1]).all() and (points == points[0]).all():
            return None
        if len(own) == 2:
            return [(own[:1], 0.0), (own[1:], 0.0)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # points that differ by rounding: not divided
            second = KMeans(2, n_init=self.n_init, random_state=rng).fit(points).labels_ == 1
        if second.all() or not second.any():
            return None
        return [(own[part], _spread(points[part])) for part in (~second, second)]


def _spread(points: NDArray[Any]) -> float:
    """The root of the sum of squared distances of points, which are overwritten, to their mean."""
    with np.errstate(over="ignore", invalid="ignore"):  # the first sum is asked for, the others are less
        points -= points.mean(0, dtype=np.float64)
        return float(np.sqrt(np.einsum("ij,ij->", points, points, dtype=np.float64)))


def _tree_of(
    members: list[NDArray[np.int64]], heights: list[float], halves: dict[int, tuple[int, int]], points: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Divisions, from the first to the last, as a tree that merges from the last to the first, and each point's leaf."""
    ends = sorted((node for node in range(len(members)) if node not in halves), key=lambda node: int(members[node][0]))
    number = {node: leaf for leaf, node in enumerate(ends)}
    leaves = np.empty(points, np.int64)
    for leaf, node in enumerate(ends):
        leaves[members[node]] = leaf
    children = np.empty((len(halves), 2), np.int64)
    rows = list(reversed(halves))
    for row, node in enumerate(rows):
        number[node] = len(ends) + row
        children[row] = sorted(number[half] for half in halves[node])
    tree = (
        np.column_stack([children, [heights[node] for node in rows], sizes_of(children)]) if rows else np.empty((0, 4))
    )
    return tree, leaves
