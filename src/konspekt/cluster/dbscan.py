"""DBSCAN: clusters are where points lie dense, the rest is noise. Course: row J2 (document I, section 40.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.clusterer import NOISE, Assigns, Clusterer
from konspekt.cluster.near import COLUMNS, NORMS, by_grid, by_pairs, check_range
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import AtLeast, MoreThan, Search
from konspekt.core.registry import system
from konspekt.core.runs import Run

__all__ = ["DBSCAN", "Metric", "k_distances"]

Metric = Literal[
    "euclidean", "manhattan", "chebyshev", "cosine", "correlation", "canberra", "braycurtis", "hamming", "precomputed"
]
SHOWN = 2_000  # points whose distances make the curve of the page


@system(name="dbscan", kind="estimator", task="clustering", rows=("J2",), paper="Ester, Kriegel, Sander & Xu 1996")
@dataclass(kw_only=True, eq=False, repr=False)
class DBSCAN(Assigns, Clusterer):
    """Join points that have many neighbours near them, and the neighbours of such; what no such point reaches is noise, -1.

    Built here for Euclidean, Manhattan and Chebyshev distances of a few columns, as scikit-learn's search for the neighbours of every
    point takes nearly all of its time and memory: by pairs of near points or, where they lie dense, by a grid (`cluster.near`), with
    scikit-learn's very labels. Otherwise thin over scikit-learn's class. A point with at least `min_samples` points within `eps`, itself
    counted as in the paper, is a core point. A point near core points of several clusters belongs to the first of them. New points get
    the label of the nearest core point if that is within eps, else -1; so a point between clusters may be predicted otherwise than it
    was labelled.

    eps: how near a neighbour is, in the unit of X; `k_distances` helps to choose it.
    min_samples: how many points must be within eps of a core point, itself included.
    metric: the distance; "precomputed": X is the matrix of distances (N, N), and new points are rows of distances to the N.
    algorithm: "grid": for Euclidean distances of at most three columns; "kd_tree", "ball_tree", "brute": scikit-learn's; "auto": what is
    fast.
    n_jobs: threads of scikit-learn's search; the rest uses one.

    Attributes after fit: core_sample_indices_ (C,); components_ (C, F), the core points (with distances given, rows of the matrix).

    Raises ConfigError where the grid cannot be for these points; DataError as in `Clusterer`.
    """

    eps: Annotated[float, MoreThan(0), Search(0.01, 10.0, log=True)] = 0.5
    min_samples: Annotated[int, AtLeast(1), Search(3, 50, log=True)] = 5
    metric: Metric = "euclidean"
    algorithm: Literal["auto", "grid", "kd_tree", "ball_tree", "brute"] = "auto"
    n_jobs: int | None = None

    arrays = ("core_sample_indices_", "components_")

    def cluster(self, X: NDArray[Any]) -> None:
        """Find core points and what they reach."""
        if not self.precomputed:
            check_range(X, type(self).__name__)
        eps, norm = float(self.eps), NORMS.get(self.metric)
        able = self.metric == "euclidean" and X.shape[1] <= COLUMNS
        if self.algorithm == "grid" and not able:
            raise ConfigError(
                f"DBSCAN: algorithm='grid' is for Euclidean distances of at most {COLUMNS} columns, not metric={self.metric!r} of "
                f"{X.shape[1]}; take 'auto'"
            )
        found = by_pairs(X, eps, self.min_samples, norm=norm) if self.algorithm == "auto" and norm else None
        if found is None and able and self.algorithm in ("auto", "grid"):
            found = by_grid(X, eps, self.min_samples)
            if found is None and self.algorithm == "grid":
                raise ConfigError(
                    f"DBSCAN: eps={self.eps:g} makes too many cells of a grid over {np.ptp(X, axis=0).max():g}; raise eps, or take "
                    "algorithm='auto'"
                )
        if found is not None:
            self.labels_, core = found
            self.core_sample_indices_ = np.flatnonzero(core)
        else:
            self._by_peer(X)
        self.components_ = X[self.core_sample_indices_]
        if not len(self.core_sample_indices_):
            self._run.log(
                f"all {len(X)} points are noise: none has min_samples={self.min_samples} points within eps={self.eps:g}; raise eps "
                "(cluster.k_distances shows how far), or lower min_samples",
                warning=True,
            )

    def _by_peer(self, X: NDArray[Any]) -> None:
        from sklearn import config_context
        from sklearn.cluster import DBSCAN as Peer

        peer = Peer(
            eps=float(self.eps), min_samples=self.min_samples, metric=self.metric, n_jobs=self.n_jobs,
            algorithm="auto" if self.algorithm == "grid" else self.algorithm,
        )  # fmt: skip
        try:
            with config_context(assume_finite=True, skip_parameter_validation=True):  # all is checked
                peer.fit(X)
        except ValueError as error:
            said = " ".join(str(error).split())
            if "Metric" in said:
                said = f"algorithm={self.algorithm!r} has no metric={self.metric!r}"
            raise ConfigError(f"DBSCAN: {said}; take algorithm='auto'") from None
        self.labels_, self.core_sample_indices_ = peer.labels_, peer.core_sample_indices_.astype(np.int64)

    def assign(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """The label of the nearest core point within eps, or -1."""
        from sklearn.neighbors import NearestNeighbors

        if not len(self.core_sample_indices_):
            return np.full(len(X), NOISE, dtype=np.int64)
        own = self.labels_[self.core_sample_indices_]
        if self.precomputed:
            far = X[:, self.core_sample_indices_]
            nearest = far.argmin(1)
            least = far[np.arange(len(X)), nearest]
        else:
            search = NearestNeighbors(n_neighbors=1, metric=self.metric, n_jobs=self.n_jobs).fit(self.components_)
            far, near = search.kneighbors(X)
            least, nearest = far[:, 0], near[:, 0]
        return np.where(least <= self.eps, own[nearest], NOISE)

    def exhibit(self, X: NDArray[Any], run: Run) -> None:
        """How many points are core, border and noise, and what share would be core with another eps."""
        core, noise = len(self.core_sample_indices_), int((self.labels_ == NOISE).sum())
        rows = [("core", core), ("border", len(X) - core - noise), ("noise", noise)]
        run.keep("points", "table", [{"kind": k, "points": c, "share": c / len(X)} for k, c in rows])
        k = min(self.min_samples, len(X))
        far = k_distances(X, k, metric=self.metric, sample=SHOWN, random_state=self.seed_)[::-1]
        shares = np.arange(1, len(far) + 1) / len(far)
        name = f"share of points with {k} points within this distance"
        run.keep("k-distances", "curve", {name: (far, shares), "eps": ([self.eps, self.eps], [0, 1])})

    def check_learned(self) -> None:
        """Core points that are among the points, with labels, of as many columns."""
        core, parts = self.core_sample_indices_, self.components_
        if core is None or core.ndim != 1 or core.dtype != np.int64 or parts is None or parts.ndim != 2:
            raise DataError("core_sample_indices_ and components_ are no core points")
        if parts.shape != (len(core), self.n_features_in_) or (
            self.precomputed and len(self.labels_) != parts.shape[1]
        ):
            raise DataError("components_ are not the core points of these columns")
        if len(core) and (core.min() < 0 or core.max() >= len(self.labels_) or self.labels_[core].min() < 0):
            raise DataError("core_sample_indices_ name no labelled points")


def k_distances(
    X: Any, k: int = 5, *, metric: str = "euclidean", sample: int | None = None, random_state: int = 0
) -> NDArray[np.float64]:
    """The distance of each point to the k-th nearest, itself counted, the largest first (Ester et al. 1996, section 4.2).

    So the share of points whose value is at most eps is the share of core points of `DBSCAN(eps=eps, min_samples=k)`. The paper
    looks for the first valley: where the curve drops from the steep part of noise into the flat one of clusters is a good eps.

    X: (N, F), or with metric="precomputed" the distances (N, N). sample: look from so many drawn points only. Returns (N,) or (sample,).

    Raises DataError where k is not from 1 to N, or X is no table of finite numbers.
    """
    from sklearn.neighbors import NearestNeighbors
    from sklearn.utils.validation import check_array

    try:
        X = check_array(X, dtype=[np.float64, np.float32])
    except ValueError as error:
        raise DataError(f"k_distances: {' '.join(str(error).split())}") from None
    if metric == "precomputed" and X.shape[0] != X.shape[1]:
        raise DataError(f"k_distances: with metric='precomputed' X is the matrix of distances (N, N), not {X.shape}")
    if not 1 <= k <= len(X):
        raise DataError(f"k_distances: k={k} of {len(X)} points; give 1 to {len(X)}, the point itself counted")
    looked = X
    if sample is not None and sample < len(X):
        looked = X[np.sort(np.random.default_rng(random_state).choice(len(X), sample, replace=False))]
    if metric == "precomputed":
        far = np.partition(looked, k - 1, axis=1)[:, k - 1]
    else:
        far = NearestNeighbors(n_neighbors=k, metric=metric).fit(X).kneighbors(looked)[0][:, -1]
    return np.sort(far.astype(np.float64))[::-1]
