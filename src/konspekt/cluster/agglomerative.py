"""Agglomerative clustering. Course: row J3 (document I, section 40.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.clusterer import Clusterer, too_many
from konspekt.cluster.dendrogram import Hierarchical, Metric, sizes_of
from konspekt.cluster.ward import ward_tree
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.memory import available_memory, check_room
from konspekt.core.params import AtLeast, Search
from konspekt.core.registry import system

__all__ = ["SCIPYS", "AgglomerativeClustering", "not_finite"]

_MANY, _FEW = 4_000, 64  # points from which, columns to which Ward's tree is faster from centres
_EUCLIDEAN = ("euclidean", "l2")
# SciPy's name of a metric, where it has another
SCIPYS = {"l2": "euclidean", "l1": "cityblock", "manhattan": "cityblock"}
# those that scikit-learn's single linkage takes without a matrix, and takes as SciPy does (braycurtis it does not)
_ONE_BY_ONE = frozenset({"euclidean", "l2", "manhattan", "l1", "cityblock", "chebyshev", "canberra"})


@system(
    name="agglomerative",
    kind="estimator",
    task="clustering",
    rows=("J3",),
    paper="Ward 1963; Sneath & Sokal 1973; Müllner 2011",
)
@dataclass(kw_only=True, eq=False, repr=False)
class AgglomerativeClustering(Hierarchical, Clusterer):
    """Merge the two nearest clusters, again and again, from single points to one cluster; cut the tree anywhere.

    A thin class over SciPy's `linkage`, and for single linkage over scikit-learn's `linkage_tree`, which are right and fast.
    Built here: Ward's tree of many points, cuts without a refit, the check of a tree that was loaded, the picture. It
    has no clusters for new points.

    The tree takes time in the square of the number N of points. Average, complete and centroid linkage take memory in it too:
    8 N^2 bytes, the distances and the copy that SciPy works on, 3 GiB for 20,000 points. That is said in the run's log, and
    refused where it is not free, before it is taken. Memory in N only is taken by single linkage (but with metric cosine,
    correlation, braycurtis or precomputed), and by Ward's where that is faster, from 4,000 points of at most 64 columns, or the
    distances would not fit; its trees are the same, but for rounding and ties.

    n_clusters: how many clusters labels_ has; None: distance_threshold says.
    linkage: what is near. "ward": the least growth of the sum of squares; "average", "complete", "single": the mean, the
        greatest, the smallest distance between points of the two; "centroid": the distance between their means. Heights of centroid
        linkage may invert, a merge being lower than one under it; `cut` says what holds then.
    metric: the distance of two points, or "precomputed": X is the matrix of distances. Ward and centroid linkage are of
        Euclidean points only. Others need no triangle inequality.
    distance_threshold: merges at or above this height are not made in labels_; n_clusters must be None then.

    Attributes after `fit`: dendrogram_ (N - 1, 4), the tree as SciPy's `linkage` has it; children_, distances_ and n_leaves_, as
    scikit-learn names its parts.

    Raises ConfigError where not one of n_clusters and distance_threshold is None, or a linkage of Euclidean points gets
    another metric; DataError where there are fewer points than clusters or a distance is not finite (cosine: of a
    zero row; correlation: of a constant one); ResourceError where the distances do not fit the free memory.
    """

    n_clusters: Annotated[int | None, AtLeast(1), Search(2, 20, log=True)] = 2
    linkage: Annotated[Literal["ward", "average", "single", "complete", "centroid"], Search()] = "ward"
    metric: Metric = "euclidean"
    distance_threshold: Annotated[float | None, AtLeast(0)] = None

    def _height_is(self) -> str:
        return f"{self.linkage} linkage"

    def cluster(self, X: NDArray[Any]) -> None:
        """Learn the tree, and cut it."""
        where = type(self).__name__
        self._check_asked()
        if self.linkage in ("ward", "centroid") and self.metric not in _EUCLIDEAN:
            raise ConfigError(
                f"{where}: linkage={self.linkage!r} is of Euclidean points, not of metric={self.metric!r}; take "
                "metric='euclidean', or average, complete or single linkage"
            )
        if self.n_clusters is not None:
            too_many(self.n_clusters, len(X), where)
        if self.linkage == "single" and self.metric in _ONE_BY_ONE:
            tree = self._spanning_tree(X)
        elif self.linkage == "ward" and self._by_centres(X):
            try:
                tree = ward_tree(X)
            except FloatingPointError:
                raise not_finite(where, self.metric) from None
        else:
            tree = self._by_distances(X)
        if not np.isfinite(tree[:, 2]).all():
            raise not_finite(where, self.metric)
        self.dendrogram_, self.leaves_ = tree, None
        self.labels_ = self._cut_as_asked()

    def _spanning_tree(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Single linkage from the minimum spanning tree, whose distances are taken row by row and forgotten."""
        from sklearn.cluster import linkage_tree

        children, _, _, _, heights = linkage_tree(X, linkage="single", affinity=self.metric, return_distance=True)
        return np.column_stack([children, heights, sizes_of(children)])

    def _by_centres(self, X: NDArray[Any]) -> bool:
        """Whether Ward's tree is to be had faster from centres, or the distances do not fit the memory."""
        n, columns = X.shape
        free = available_memory()
        if free is not None and _room(n, self.linkage) > free:
            self._run.log(
                f"{type(self).__name__}: the distances of {n:,} points do not fit the memory; centres are used"
            )
            return True
        return bool(n >= _MANY and columns <= _FEW)

    def _by_distances(self, X: NDArray[Any]) -> NDArray[np.float64]:
        from scipy.cluster.hierarchy import linkage
        from scipy.spatial.distance import pdist, squareform

        where, n = type(self).__name__, len(X)
        need = _room(n, self.linkage)
        what = f"{where}: {self.linkage} linkage of {n:,} points by the distances of all pairs"
        check_room(need, what)
        self._run.log(f"{what} takes {need / 2**30:,.2g} GiB of memory for the time of the fit")
        distances = squareform(X, checks=False) if self.precomputed else pdist(X, SCIPYS.get(self.metric, self.metric))
        try:
            tree: NDArray[np.float64] = linkage(distances, self.linkage)
        except ValueError as error:
            if "finite" not in str(error):
                raise
            raise not_finite(where, self.metric) from None
        return tree


def _room(n: int, linkage: str) -> int:
    """Bytes: the distances of all pairs of n points, and the copy that SciPy works on."""
    return 8 * (n * (n - 1) // 2) * (1 if linkage == "single" else 2)


def not_finite(where: str, metric: str) -> DataError:
    """What to raise where a distance is not finite."""
    causes = {
        "cosine": "a row of zeros has no direction; leave such rows out",
        "correlation": "a row of equal numbers has no correlation; leave such rows out",
        "braycurtis": "rows that sum to 0 have none; leave them out",
    }
    cause = causes.get(metric, "numbers are too large to be squared or added; scale them (sklearn.preprocessing)")
    return DataError(f"{where}: a distance by metric={metric!r} is not finite: {cause}")
