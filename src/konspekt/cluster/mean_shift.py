"""Mean shift: windows climb to where points are densest. Course: row J2 (document I, section 40.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.clusterer import NOISE, Assigns, Clusterer
from konspekt.cluster.near import check_range
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import AtLeast, MoreThan, Search, Within
from konspekt.core.registry import system
from konspekt.core.runs import Run

__all__ = ["MeanShift", "bandwidth_of"]

SAMPLE = 10_000  # points of which the bandwidth rule looks; it takes the square of their number
STILL = 1e-3  # of the bandwidth: a window that moves no farther has arrived, as in scikit-learn
ROUNDING = 1.5e-6  # so many bandwidths from 0, a hundredth of a bandwidth is lost where squares are subtracted: sqrt(2^-52) / 0.01
AT_ONCE = 4_000_000  # points in windows that are added up in one go: about 64 MB


@system(name="mean-shift", kind="estimator", task="clustering", rows=("J2",), paper="Comaniciu & Meer 2002")
@dataclass(kw_only=True, eq=False, repr=False)
class MeanShift(Assigns, Clusterer):
    """Move a window from each seed to the mean of the points within it until it stands; the clusters are where windows end.

    Built here: scikit-learn moves one seed after the other, this one all at once and windows at the same place only once, by the same
    flat kernel and the same stop, so that they end at the same modes. The trees that find the points of a window are scikit-learn's.

    bandwidth: the radius of the window, in the unit of X. None: by the rule of `bandwidth_of`, which on more than 10,000 points looks
    at as many drawn ones; `bandwidth_` says what it came to.
    quantile: of the rule: the share of the points that a window should hold.
    seeding: where windows start. "sample": at every point. "grid" (scikit-learn's `bin_seeding`): at the middle of every cell of a
    grid of side `bandwidth` that holds points, which is faster.
    min_bin_freq: how many points a cell of the grid must hold to be a seed.
    cluster_all: give each point to the nearest mode; otherwise points farther than the bandwidth from all are noise, -1, new ones too.
    max_iter: how often a window may move.
    keep_history: keep `history_`, where the windows stood after each move, for `plot_history`.
    n_jobs: threads that search, as in scikit-learn.
    random_state: of the sample that the bandwidth rule looks at.

    Attributes after fit: cluster_centers_ (K, F), the modes, that with most points in its window first; points_within_ (K,), how
    many those are; bandwidth_; n_iter_, the most moves of a window.

    Raises DataError where the rule gives 0, and where no seed has a point within the bandwidth.
    """

    bandwidth: Annotated[float | None, MoreThan(0)] = None
    quantile: Annotated[float, MoreThan(0), Within(0, 1), Search(0.05, 0.5)] = 0.3
    seeding: Annotated[Literal["sample", "grid"], Search()] = "sample"
    min_bin_freq: Annotated[int, AtLeast(1)] = 1
    cluster_all: bool = True
    max_iter: Annotated[int, AtLeast(0)] = 300
    keep_history: bool = False
    n_jobs: int | None = None
    random_state: int | None = None

    arrays = ("cluster_centers_", "points_within_")
    values = ("bandwidth_", "n_iter_")

    def cluster(self, X: NDArray[Any]) -> None:
        """Find the modes."""
        check_range(X, type(self).__name__)
        self.bandwidth_ = self._width(X) if self.bandwidth is None else float(self.bandwidth)
        seeds = X if self.seeding == "sample" else self._grid(X)
        self.__dict__.pop("history_", None)
        places, within = self._climb(X, np.array(seeds, dtype=np.float64))
        self.cluster_centers_, self.points_within_ = _distinct(places, within, self.bandwidth_)
        self.labels_ = self.assign(X)
        if len(X) > 1 and len(self.cluster_centers_) == len(X):
            self._run.log(
                f"each of the {len(X)} points is a cluster by itself: within bandwidth={self.bandwidth_:g} no point has "
                "another; raise bandwidth",
                warning=True,
            )

    def _width(self, X: NDArray[Any]) -> float:
        some = X
        if len(X) > SAMPLE:
            some = X[np.random.default_rng(self.seed_).choice(len(X), SAMPLE, replace=False)]
            self._run.log(f"the bandwidth is that of {SAMPLE} of the {len(X)} points, which were drawn")
        return bandwidth_of(some, quantile=self.quantile)

    def _grid(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """The middles of the cells with points, as scikit-learn's `get_bin_seeds` has them."""
        cells, counts = np.unique(np.round(X / self.bandwidth_), axis=0, return_counts=True)
        kept: NDArray[np.float64] = cells[counts >= self.min_bin_freq].astype(np.float64) * self.bandwidth_
        if not len(kept):
            raise DataError(
                f"MeanShift: no cell of the grid holds {self.min_bin_freq} points, at most {counts.max()}; lower min_bin_freq or "
                "raise bandwidth"
            )
        return kept

    def _climb(self, X: NDArray[Any], where: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Where the windows end, (S', F), and how many points are in each; windows that never held one are left out."""
        from sklearn.neighbors import NearestNeighbors

        far = X[0].copy() if self._far(X[0]) else None
        if far is not None:
            X, where = X - far, where - far
        search = NearestNeighbors(radius=self.bandwidth_, n_jobs=self.n_jobs).fit(X)
        within = np.zeros(len(where), dtype=np.int64)
        going, self.n_iter_ = np.arange(len(where)), 0
        frames = [where.copy()] if self.keep_history else []
        while True:
            places, back = np.unique(where[going], axis=0, return_inverse=True)  # windows that have met go on as one
            means, counts = _means(search, X, places)
            means, counts = means[back.reshape(-1)], counts[back.reshape(-1)]
            held = counts > 0
            moved = np.linalg.norm(means - where[going], axis=1)
            where[going[held]], within[going] = means[held], counts
            if frames:
                frames.append(where.copy())
            going = going[held & (moved > STILL * self.bandwidth_)]
            if not len(going) or self.n_iter_ == self.max_iter:
                break
            self.n_iter_ += 1
        if frames:
            self.history_ = [
                {"marks": f if far is None else f + far, "title": f"after {i} moves"} for i, f in enumerate(frames)
            ]
        lost = int((within == 0).sum())
        if lost == len(where):
            raise DataError(
                f"MeanShift: no point is within bandwidth={self.bandwidth_:g} of any of the {lost} seeds; raise bandwidth, or take "
                "seeding='sample'"
            )
        if lost:
            self._run.log(
                f"{lost} of {len(where)} seeds have no point within bandwidth={self.bandwidth_:g} and were left out",
                warning=True,
            )
        if len(going):
            self._run.log(
                f"{len(going)} windows were still moving after max_iter={self.max_iter} moves; raise it", warning=True
            )
        places = where[within > 0]
        return places if far is None else places + far, within[within > 0]

    def _far(self, place: NDArray[Any]) -> bool:
        """Whether a place (F,) is so far from 0 that digits of the squares would cancel."""
        return bool(np.abs(place).max() * ROUNDING > self.bandwidth_)

    def assign(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """The nearest mode; with cluster_all=False, -1 where that is farther than the bandwidth."""
        from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_argmin_min

        modes = self.cluster_centers_
        middle = modes.mean(axis=0)
        if self._far(middle):
            X, modes = X - middle, modes - middle
        if self.cluster_all:
            return pairwise_distances_argmin(X, modes).astype(np.int64)
        nearest, far = pairwise_distances_argmin_min(X, modes)
        return np.where(far <= self.bandwidth_, nearest, NOISE).astype(np.int64)

    def plot_history(self, X: Any = None) -> Any:
        """Frames of where the windows stood. X: as in `plot`.

        Raises ConfigError where no history was kept.
        """
        from konspekt.cluster.pictures import draw_frames

        if not hasattr(self, "history_"):
            raise ConfigError("MeanShift: no history was kept; fit with keep_history=True")
        return draw_frames(self.points_of(X), self.history_, title=type(self).__name__)

    def exhibit(self, X: NDArray[Any], run: Run) -> None:
        """The modes, and the bandwidth."""
        rule = f"by the rule with quantile={self.quantile:g}" if self.bandwidth is None else "as given"
        run.keep(
            "bandwidth",
            "text",
            f"bandwidth {self.bandwidth_:.6g}, {rule}; the windows stood after {self.n_iter_} moves",
        )
        rows = [{"cluster": i, "points in its window": int(c)} for i, c in enumerate(self.points_within_[:50])]
        run.keep("modes", "table", rows)

    def check_learned(self) -> None:
        """Modes of as many columns as the points had, and labels of modes."""
        centers = self.cluster_centers_
        if centers is None or centers.ndim != 2 or centers.shape[1] != self.n_features_in_ or not len(centers):
            raise DataError("cluster_centers_ are no modes of these columns")
        if self.labels_.max(initial=NOISE) >= len(centers) or not float(self.bandwidth_) > 0:
            raise DataError("labels_, bandwidth_ and cluster_centers_ do not fit together")
        if self.points_within_ is None or self.points_within_.shape != (len(centers),):
            raise DataError("points_within_ are not one for each mode")


def bandwidth_of(X: Any, *, quantile: float = 0.3) -> float:
    """A bandwidth for mean shift: the mean distance of a point to its nearest neighbour number quantile * N, itself counted.

    scikit-learn's `estimate_bandwidth`, by blocks of distances instead of a search, but looking at one other point at least.
    X: (N, F). It takes the square of N in time, and blocks of 2 million distances in memory.

    Raises DataError where that is 0.
    """
    from scipy.spatial.distance import cdist

    X = np.asarray(X, dtype=np.float64)
    rank = min(max(int(len(X) * quantile), 2), len(X))
    rows, total = max(1, 2_000_000 // len(X)), 0.0
    for begin in range(0, len(X), rows):
        squares = cdist(X[begin : begin + rows], X, "sqeuclidean")
        squares.partition(rank - 1, axis=1)
        total += float(np.sqrt(squares[:, rank - 1]).sum())
    if not total > 0:
        raise DataError(
            f"MeanShift: the bandwidth rule gives 0, as every one of the {len(X)} points has {rank - 1} others at its place; give "
            "bandwidth, raise quantile, or leave out what is identical"
        )
    return total / len(X)


def _means(search: Any, X: NDArray[Any], places: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The mean (S, F) and number (S,) of the points in the window around each place."""
    means, counts = np.array(places), np.zeros(len(places), dtype=np.int64)
    begin, rows = 0, max(1, min(256, AT_ONCE // len(X)))
    while begin < len(places):
        part = slice(begin, begin + rows)
        inside = search.radius_neighbors_graph(places[part], mode="connectivity")
        counts[part] = np.diff(inside.indptr)
        held = counts[part] > 0
        means[part][held] = (inside @ X)[held] / counts[part][held, None]
        begin += rows
        rows = max(1, AT_ONCE * rows // max(inside.nnz, AT_ONCE // 2))  # the next windows may be fuller
    return means, counts


def _distinct(
    places: NDArray[np.float64], within: NDArray[np.int64], bandwidth: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The windows with most points, none of them within the bandwidth of one with more; of equals that farther right."""
    order = np.lexsort((*places.T[::-1], within))[::-1]
    left, counts = places[order], within[order]
    centers, kept = [], []
    while len(left):
        centers.append(left[0])
        kept.append(counts[0])
        apart = np.sqrt(((left - left[0]) ** 2).sum(1)) > bandwidth
        apart[0] = False
        left, counts = left[apart], counts[apart]
    return np.array(centers), np.array(kept, dtype=np.int64)
