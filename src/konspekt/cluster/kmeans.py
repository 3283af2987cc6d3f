"""k-means. Course: row J1 (document I, section 40.1)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from konspekt.cluster.clusterer import Assigns, Clusterer, too_many
from konspekt.cluster.starts import check_centres, draw_history, given_start, starts_of, tell_agreement, without_empty
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import AtLeast, Search
from konspekt.core.registry import system
from konspekt.core.runs import Run

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

__all__ = ["KMeans"]

INITS = ("k-means++", "random")
SOME = 1000  # points by which it is judged whether all lie far from 0
NEAR = 0.01  # of the spread of the centres: digits that a prediction may lose, squared


@system(
    name="kmeans",
    kind="estimator",
    task="clustering",
    rows=("J1",),
    paper="Lloyd 1982; Elkan 2003; Arthur & Vassilvitskii 2007; Sculley 2010 (mini-batches)",
)
@dataclass(kw_only=True, eq=False, repr=False)
class KMeans(Assigns, ClassNamePrefixFeaturesOutMixin, TransformerMixin, Clusterer):
    """Find clusters around means, so that the sum of the squares of the distances to them is small.

    On the CPU a thin class over scikit-learn's `KMeans` and, in mini-batches, `MiniBatchKMeans`; on a GPU Lloyd's steps by torch
    (`cluster/lloyd.py`), by the same rules. It looks for balls of like size, and what it finds may depend on the start; a run's
    page says whether five starts agree.

    n_clusters: how many clusters. Where the points stand in fewer places, fewer are found, which the log says.
    init: "k-means++": centres far from each other; "random": points drawn at random; or centres, (K, F).
    n_init: how many starts, of which the best is kept; "auto": 1 with "k-means++" and given centres, 10 with "random".
    max_iter: steps of a start at most; in mini-batches, passes over the data.
    tol: a start ends where the centres move by less than this share of the features' variance.
    algorithm: "lloyd", or "elkan", which gives the same clusters and saves distances by the triangle inequality at the price of
        (N, K) numbers in memory; on a GPU both are Lloyd's steps.
    batch_size: points of a mini-batch, which gives about the same clusters in less time; None: all points in each step. On the CPU.
    device: where to compute: cpu, auto (a GPU if there is one), cuda, cuda:1, mps.
    keep_history: keep each step of the best start in `history_`, at the price of going that way once more.
    random_state: the seed; None: another one each time, kept in `seed_`.

    Attributes after `fit`: labels_, cluster_centers_ (K, F), inertia_ (the sum of squares), n_iter_, and, if kept, history_: the start
    and each step as a dict of labels (N,), cluster_centers (K, F) and inertia.

    Raises ConfigError on parameters, DataError where there are more clusters than points.
    """

    n_clusters: Annotated[int, AtLeast(1), Search(2, 20, log=True)] = 8
    init: Literal["k-means++", "random"] | NDArray[Any] = "k-means++"
    n_init: Annotated[int | Literal["auto"], AtLeast(1)] = "auto"
    max_iter: Annotated[int, AtLeast(1)] = 300
    tol: Annotated[float, AtLeast(0)] = 1e-4
    algorithm: Literal["lloyd", "elkan"] = "lloyd"
    batch_size: Annotated[int | None, AtLeast(1)] = None
    device: str = "cpu"
    keep_history: bool = False
    random_state: int | None = None

    arrays = ("cluster_centers_",)
    values = ("inertia_", "n_iter_")

    def cluster(self, X: NDArray[Any]) -> None:
        """Learn centres, by scikit-learn or, on a GPU, by torch."""
        where = type(self).__name__
        for name in ("history_", "_peer"):
            self.__dict__.pop(name, None)
        too_many(self.n_clusters, len(X), where)
        start = given_start(self.init, INITS, self.n_clusters, X, where)
        n_init = starts_of(self.n_init, self.init, where)
        self._check_batches()
        device = self._device()
        if device is None:
            self._by_peer(X, start, n_init)
            if self.keep_history:
                self._remember(X, start, n_init)
        else:
            self._by_torch(X, start, n_init, device)

    def _check_batches(self) -> None:
        if self.batch_size is None:
            return
        for name, given, plain in (
            ("keep_history", self.keep_history, False),
            ("algorithm", self.algorithm, "lloyd"),
        ):
            if given != plain:
                raise ConfigError(
                    f"KMeans: {name}={given!r} is of steps over all points, not of mini-batches; leave batch_size out"
                )
        if self.device not in ("cpu", "auto"):
            raise ConfigError(
                f"KMeans: mini-batches are computed on the CPU; leave device={self.device!r} or batch_size out"
            )

    def _device(self) -> torch.device | None:
        """The GPU to compute on; None: the CPU."""
        if self.device == "cpu" or self.batch_size is not None:
            return None
        from konspekt.engine.session import choose_device

        device = choose_device(self.device)
        return None if device.type == "cpu" else device

    def _by_peer(self, X: NDArray[Any], start: NDArray[Any] | None, n_init: int) -> None:
        import sklearn
        from sklearn.cluster import KMeans as Peer
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.exceptions import ConvergenceWarning

        settings: dict[str, Any] = {
            "init": self.init if start is None else start,
            "n_init": n_init,
            "max_iter": self.max_iter,
            "tol": self.tol,
            "random_state": self.seed_,
        }
        if self.batch_size is None:
            peer = Peer(self.n_clusters, algorithm=self.algorithm, **settings)
        else:
            peer = MiniBatchKMeans(self.n_clusters, batch_size=self.batch_size, **settings)
        # With all points, scikit-learn takes the mean away itself.
        middle = None if self.batch_size is None else _far(X)
        if middle is not None and start is not None:
            peer.init = start - middle
        with (
            warnings.catch_warnings(),
            np.errstate(over="ignore", invalid="ignore"),  # is said below
            sklearn.config_context(assume_finite=True),  # the points are checked already
        ):
            warnings.simplefilter("ignore", ConvergenceWarning)  # that clusters are empty: `without_empty` says so
            peer.fit(X if middle is None else X - middle)
        if not np.isfinite(peer.inertia_):
            raise DataError(
                f"KMeans: X holds numbers as large as {np.abs(X).max():.3g}, whose squares overflow in {X.dtype}; scale X down"
            )
        if middle is not None:
            peer.cluster_centers_ += middle
        self._learn(X, peer.labels_, peer.cluster_centers_, peer.inertia_, peer.n_iter_)
        if len(self.cluster_centers_) == self.n_clusters:
            del peer.labels_
            self._peer = peer  # for `assign`

    def _learn(self, X: NDArray[Any], labels: NDArray[Any], centres: NDArray[Any], inertia: float, n_iter: int) -> None:
        self.labels_, self.cluster_centers_ = without_empty(labels, centres, X, self._run)
        self.inertia_, self.n_iter_ = float(inertia), int(n_iter)
        if self.n_iter_ >= self.max_iter and self.batch_size is None:
            self._run.log(f"the steps reached max_iter={self.max_iter}; more may make the sum of squares smaller")

    def _by_torch(self, X: NDArray[Any], start: NDArray[Any] | None, n_init: int, device: torch.device) -> None:
        """Learn centres on a device. Points go there once."""
        import torch

        from konspekt.cluster.lloyd import best_of

        mean = X.mean(axis=0)
        points = torch.from_numpy(X).to(device, torch.float32 if device.type == "mps" else None)
        points = points - torch.from_numpy(mean).to(points)
        init: Any = self.init if start is None else torch.from_numpy(start - mean).to(points)
        found, begun = best_of(
            points,
            self.n_clusters,
            init,
            n_init=n_init,
            max_iter=self.max_iter,
            tol=self._tolerance(X),
            seed=self.seed_,
        )
        if self.keep_history:
            self._record(X, points, begun, mean)
        centres = found.centres.cpu().numpy().astype(X.dtype, copy=False) + mean
        self._learn(X, found.labels.cpu().numpy(), centres, found.inertia, found.n_iter)

    def _tolerance(self, X: NDArray[Any]) -> float:
        return float(self.tol * np.mean(np.var(X, axis=0))) if self.tol else 0.0

    def _remember(self, X: NDArray[Any], start: NDArray[Any] | None, n_init: int) -> None:
        """Go the way of the start that scikit-learn found the best again: it draws starts, and nothing else, from the seed."""
        import torch
        from sklearn.cluster import kmeans_plusplus

        from konspekt.cluster.lloyd import lloyd

        mean, tol = X.mean(axis=0), self._tolerance(X)
        centred, rng = X - mean, np.random.RandomState(self.seed_)
        points = torch.from_numpy(centred)

        def drawn() -> NDArray[Any]:
            if start is not None:
                return np.asarray(start - mean)
            if self.init == "random":
                even = np.ones(len(X), X.dtype)
                return np.asarray(centred[rng.choice(len(X), self.n_clusters, replace=False, p=even / even.sum())])
            return np.asarray(kmeans_plusplus(centred, self.n_clusters, random_state=rng)[0])

        begun = [torch.from_numpy(drawn()) for _ in range(n_init)]
        best = begun[0]
        if n_init > 1:
            best = min(begun, key=lambda s: lloyd(points, s, max_iter=self.max_iter, tol=tol).inertia)
        self._record(X, points, best, mean)

    def _record(self, X: NDArray[Any], points: torch.Tensor, start: torch.Tensor, mean: NDArray[Any]) -> None:
        from konspekt.cluster.lloyd import lloyd, within

        self.history_: list[dict[str, Any]] = []

        def note(labels: torch.Tensor, centres: torch.Tensor) -> None:
            self.history_.append(
                {
                    "labels": labels.cpu().numpy().astype(np.int32),
                    "cluster_centers": centres.cpu().numpy().astype(X.dtype) + mean,
                    "inertia": within(points, labels, centres),
                }
            )

        lloyd(points, start, max_iter=self.max_iter, tol=self._tolerance(X), record=note)

    def assign(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """The nearest centre, by scikit-learn's own way, which is several times as fast as a matrix of distances."""
        import sklearn

        centres = self.cluster_centers_
        X, mean = X.astype(centres.dtype, copy=False), centres.mean(axis=0)
        peer = getattr(self, "_peer", None)
        spread = np.abs(centres - mean).max()
        if np.abs(mean).max() * np.sqrt(np.finfo(centres.dtype).eps) > NEAR * spread:
            # Digits of the squares would cancel.
            X, peer = X - mean, _peer_of(centres - mean)
        with sklearn.config_context(assume_finite=True):  # the points are checked already
            return np.asarray((peer or _peer_of(centres)).predict(X), dtype=np.int64)

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the sum of squares of the distances of points to the nearest centre: the more, the better. y is not used."""
        points = self.read(X)
        return -float(np.square(points - self.cluster_centers_[self.assign(points)], dtype=np.float64).sum())

    def transform(self, X: Any) -> NDArray[Any]:
        """The distance of each new point to each centre, (M, K)."""
        from sklearn.metrics import euclidean_distances

        points, mean = self.read(X), self.cluster_centers_.mean(axis=0)
        return np.asarray(euclidean_distances(points - mean, self.cluster_centers_ - mean))

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self, "labels_")
        return len(self.cluster_centers_)

    def check_learned(self) -> None:
        """Raise DataError where centres do not fit labels or features."""
        check_centres(self)

    def exhibit(self, X: NDArray[Any], run: Run) -> None:
        """Whether starts agree, and the sum of squares after each step where a history was kept."""
        tell_agreement(self, X, run)
        if hasattr(self, "history_"):
            run.keep("steps", "curve", {"sum of squares": [step["inertia"] for step in self.history_]})

    def plot_history(self) -> Figure:
        """The start and each step as frames, as a matplotlib figure.

        Raises ConfigError where no history was kept.
        """
        return draw_history(self, "sum of squares")

    def card_limits(self) -> list[str]:
        """That clusters are balls of like size."""
        return [
            "Clusters are the cells around means: long, curved or nested groups are cut up.",
            *super().card_limits(),
        ]


def _far(X: NDArray[Any]) -> NDArray[Any] | None:
    """A point (F,) among those of X where they lie so far from 0 that digits of their squares would cancel; else None."""
    some = X[:SOME]  # they are no farther from each other than all are
    spread = max(float(np.abs(some - some[0]).max()), float(np.finfo(X.dtype).tiny))
    return some[0].copy() if np.abs(some[0]).max() * np.sqrt(np.finfo(X.dtype).eps) > NEAR * spread else None


def _peer_of(centres: NDArray[Any]) -> Any:
    """scikit-learn's k-means, with these centres, (K, F), to predict by."""
    from sklearn.cluster import KMeans as Peer

    peer = Peer(len(centres), init=centres, n_init=1, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that centres are alike
        peer.fit(centres)
    peer.cluster_centers_ = centres
    return peer
