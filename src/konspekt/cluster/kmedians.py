"""k-medians. Course: row J1 (document I, section 40.1).

Bradley, Mangasarian and Street 1996, "Clustering via concave minimization", NIPS 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.clusterer import Assigns, Clusterer, too_many
from konspekt.cluster.starts import check_centres, draw_history, given_start, starts_of, tell_agreement, without_empty
from konspekt.core.params import AtLeast, Search
from konspekt.core.registry import system
from konspekt.core.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KMedians", "medians_of", "nearest_by_manhattan"]

INITS = ("k-means++", "random")
ENTRIES = 1 << 19  # of a block of the distances between points and centres: it stays in the processor's cache

Step = dict[str, Any]


@system(name="kmedians", kind="estimator", task="clustering", rows=("J1",), paper="Bradley, Mangasarian & Street 1996")
@dataclass(kw_only=True, eq=False, repr=False)
class KMedians(Assigns, Clusterer):
    """Find clusters around medians, so that the sum of the Manhattan distances to them is small.

    Built here, as neither scikit-learn nor SciPy has it. The objective is sum_i min_k sum_f |x_if - m_kf|. In turns each point goes to
    the nearest centre by the Manhattan distance, and each centre to the median of its points in every coordinate, which is where the
    sum is least; so the sum falls with each step, and the steps end where it no longer does. A few points far out, which pull a
    mean along, leave a median where it is. For large data k-means is faster.

    n_clusters: how many clusters. Where the points stand in fewer places, fewer are found, which the log says.
    init: "k-means++": centres far from each other, drawn by Manhattan distance; "random": points drawn at random; or centres, (K, F).
    n_init: how many starts, of which the best is kept; "auto": 1 with "k-means++" and given centres, 10 with "random".
    max_iter: steps of a start at most.
    keep_history: keep each step of the best start in `history_`.
    random_state: the seed; None: another one each time, kept in `seed_`.

    Attributes after `fit`: labels_, cluster_centers_ (K, F), inertia_ (the sum of distances), n_iter_, and, if kept, history_: the
    start and each step as a dict of labels (N,), cluster_centers (K, F) and inertia.

    Raises ConfigError on parameters, DataError where there are more clusters than points.
    """

    n_clusters: Annotated[int, AtLeast(1), Search(2, 20, log=True)] = 8
    init: Literal["k-means++", "random"] | NDArray[Any] = "k-means++"
    n_init: Annotated[int | Literal["auto"], AtLeast(1)] = "auto"
    max_iter: Annotated[int, AtLeast(1)] = 300
    keep_history: bool = False
    random_state: int | None = None

    arrays = ("cluster_centers_",)
    values = ("inertia_", "n_iter_")

    def cluster(self, X: NDArray[Any]) -> None:
        """Learn centres from the best of several starts."""
        where = type(self).__name__
        self.__dict__.pop("history_", None)
        too_many(self.n_clusters, len(X), where)
        given = given_start(self.init, INITS, self.n_clusters, X, where)
        rng = np.random.default_rng(self.seed_)
        best: list[Step] = []
        for _ in range(starts_of(self.n_init, self.init, where)):
            if given is not None:
                start = given
            elif self.init == "random":
                start = X[rng.choice(len(X), self.n_clusters, replace=False)]
            else:
                start = spread_out(X, self.n_clusters, rng)
            steps = self._descend(X, start)
            if not best or steps[-1]["inertia"] < best[-1]["inertia"]:
                best = steps
        last = best[-1]
        self.labels_, self.cluster_centers_ = without_empty(last["labels"], last["cluster_centers"], X, self._run)
        self.inertia_, self.n_iter_ = last["inertia"], last["step"]
        if self.keep_history:
            self.history_ = [{k: v for k, v in step.items() if k != "step"} for step in best]

    def _descend(self, X: NDArray[Any], start: NDArray[Any]) -> list[Step]:
        """The steps from a start, the last one only unless a history is kept."""
        centres = start
        labels, apart = nearest_by_manhattan(X, centres)
        steps: list[Step] = [{"labels": labels, "cluster_centers": centres, "inertia": float(apart.sum()), "step": 0}]
        before: NDArray[np.int64] | None = None
        for step in range(1, self.max_iter + 1):
            filled = _fill(labels, apart, len(centres))
            centres = medians_of(X, filled, centres, before)
            before = filled
            labels, apart = nearest_by_manhattan(X, centres)
            inertia = float(apart.sum())
            if not inertia < steps[-1]["inertia"]:
                break
            if not self.keep_history:
                steps.clear()
            steps.append({"labels": labels, "cluster_centers": centres, "inertia": inertia, "step": step})
        return steps

    def assign(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """The nearest centre by the Manhattan distance."""
        return nearest_by_manhattan(X, self.cluster_centers_)[0]

    def check_learned(self) -> None:
        """Raise DataError where centres do not fit labels or features."""
        check_centres(self)

    def exhibit(self, X: NDArray[Any], run: Run) -> None:
        """Whether starts agree, and the sum of distances after each step where a history was kept."""
        tell_agreement(self, X, run)
        if self.keep_history:
            run.keep("steps", "curve", {"sum of distances": [step["inertia"] for step in self.history_]})

    def plot_history(self) -> Figure:
        """The start and each step as frames, as a matplotlib figure.

        Raises ConfigError where no history was kept.
        """
        return draw_history(self, "sum of distances")

    def card_limits(self) -> list[str]:
        """That clusters are boxes of like size."""
        return [
            "Clusters are the cells around medians: long, curved or nested groups are cut up.",
            *super().card_limits(),
        ]


def nearest_by_manhattan(X: NDArray[Any], centres: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest centre of each point, (N,), and the distance to it, (N,). X: (N, F); centres: (K, F)."""
    from scipy.spatial.distance import cdist

    labels, apart = np.empty(len(X), np.int64), np.empty(len(X))
    rows = max(1, ENTRIES // max(centres.shape))
    for begin in range(0, len(X), rows):
        distances = cdist(X[begin : begin + rows], centres, "cityblock")
        own = distances.argmin(axis=1)
        labels[begin : begin + rows] = own
        apart[begin : begin + rows] = distances[np.arange(len(own)), own]
    return labels, apart


def medians_of(
    X: NDArray[Any], labels: NDArray[np.int64], centres: NDArray[Any], before: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """The median of each cluster's points in every coordinate, (K, F), in the type of X; of an even number, the middle of two.

    centres: (K, F), what stays for a cluster without points and, where `before` tells the labels that they are the medians of, for
    those whose points are the same.
    """
    clusters = len(centres)
    new = centres.copy()
    changed = np.ones(clusters, bool)
    if before is not None:
        moved = labels != before
        changed[:] = False
        changed[labels[moved]] = changed[before[moved]] = True
    if clusters < 1 << 16:
        order = np.argsort(labels.astype(np.uint16), kind="stable")  # by radix: in one pass for each byte
    else:
        order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=clusters))
    for cluster in np.flatnonzero(changed):
        own = order[ends[cluster - 1] if cluster else 0 : ends[cluster]]
        if not len(own):
            continue
        half = len(own) // 2
        columns = np.ascontiguousarray(X[own].T)
        columns.partition(half if len(own) % 2 else (half - 1, half), axis=1)
        low, high = columns[:, (len(own) - 1) // 2], columns[:, half]
        new[cluster] = low + (high - low) / 2  # a sum of two large numbers may be infinite
    return new


def _fill(labels: NDArray[np.int64], apart: NDArray[np.float64], clusters: int) -> NDArray[np.int64]:
    """The labels, with the points furthest from their centres given to the clusters without any: the sum falls by that."""
    empty = np.flatnonzero(np.bincount(labels, minlength=clusters) == 0)
    if not len(empty):
        return labels
    far = np.argsort(-apart, kind="stable")[: len(empty)]
    far = far[apart[far] > 0]  # points that all stand on centres fill no more clusters
    filled = labels.copy()
    filled[far] = empty[: len(far)]
    return filled


def spread_out(X: NDArray[Any], n_clusters: int, rng: np.random.Generator) -> NDArray[Any]:
    """Starting centres, (K, F): each the best of 2 + log K points drawn by their Manhattan distance to the ones before.

    Greedy k-means++ (Arthur and Vassilvitskii 2007) with the distance in the place of its square, as the objective has it.
    """
    from scipy.spatial.distance import cdist

    trials = 2 + int(np.log(n_clusters))
    chosen = [int(rng.integers(len(X)))]
    closest = cdist(X, X[chosen], "cityblock")[:, 0]
    for _ in range(n_clusters - 1):
        heights = np.cumsum(closest)
        drawn = np.searchsorted(heights, rng.random(trials) * heights[-1], side="right").clip(max=len(X) - 1)
        apart = np.minimum(cdist(X[drawn], X, "cityblock"), closest)
        best = int(apart.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        closest = apart[best]
    return X[chosen]
