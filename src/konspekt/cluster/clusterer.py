"""What all clusterers share: reading, fitting without y, saving, the run folder, `predict_frame`, `plot`.

A subclass writes `cluster(X)`, which learns `labels_` and whatever else, names in `arrays` and `values` what of it is
saved, and, where new points can be assigned, `assign(X)`. No gradient and nothing of the engine is in it.
"""

from __future__ import annotations

import numbers
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClusterMixin
from sklearn.utils.validation import check_is_fitted

from konspekt.cluster import recording
from konspekt.cluster.points import read_points
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.estimator import Estimator
from konspekt.core.runs import Run
from konspekt.data.readers import source_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["Assigns", "Clusterer"]

NOISE = -1  # the label of what belongs to no cluster
SEEDS = 2**32  # that NumPy's RandomState takes


@dataclass(kw_only=True, eq=False, repr=False)
class Clusterer(ClusterMixin, Estimator):
    """The base of every estimator of clusters.

    X: an array (N, F) of finite numbers, a DataFrame, or a csv or parquet file, of numbers only; where `metric` is
    "precomputed", the matrix (N, N) of distances. y is not learned from: labels, or the name of a column, to which the run's
    page compares the clusters.

    run_dir: the folder to write the run into; None: nothing is written.
    verbose: say what is being done.

    Attributes after `fit`: labels_ (N,) int64, the cluster of each point, -1 for noise; n_clusters_; run_; n_features_in_
    and, where the columns have names, feature_names_in_.
    """

    run_dir: str | None = None
    verbose: bool = False

    supervised: ClassVar[bool] = False
    arrays: ClassVar[tuple[str, ...]] = ()  # learned arrays besides labels_ that a saved model needs
    values: ClassVar[tuple[str, ...]] = ()  # learned numbers, text, lists of them, or None

    # -- what a subclass says ---------------------------------------------------------------------------------------

    def cluster(self, X: NDArray[Any]) -> None:
        """Learn `labels_`, (N,) integers, and what else there is. X: (N, F) float32 or float64, finite, in C order.

        Random numbers come from `self.seed_` only. Warnings for the user: `self._run.log(text, warning=True)`.
        """
        raise NotImplementedError(f"{type(self).__name__}.cluster")

    def exhibit(self, X: NDArray[Any], run: Run) -> None:
        """What the report should show of this method besides: calls of `run.keep`."""

    @property
    def precomputed(self) -> bool:
        """Whether X is a matrix of distances."""
        return getattr(self, "metric", None) == "precomputed"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.precomputed  # scikit-learn's splits then take columns as well as rows
        return tags

    def as_distances(self, X: NDArray[Any]) -> NDArray[Any]:
        """The matrix of distances (N, N) that a precomputed X is, for indices; an override turns affinities into one."""
        return X

    # -- fit --------------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        validation: Any = None,
        resume: str | Path | None = None,
        callbacks: Sequence[Callable[..., Any]] = (),
    ) -> Self:
        """Find the clusters of X.

        Raises ConfigError on a parameter, and on validation, resume and callbacks, which a clustering has no use for; DataError
        on the data.
        """
        where = type(self).__name__
        self.check_params()
        _check_common(self, where)
        for name, given in (("validation", validation), ("resume", resume), ("callbacks", list(callbacks) or None)):
            if given is not None:
                raise ConfigError(
                    f"{where}: {name} is not for a clustering, which learns from all points at once; leave it out"
                )
        before = dict(vars(self))
        run = Run(self.run_dir)
        try:
            self._fit(X, y, run)
        except BaseException as error:
            self.__dict__.clear()  # what an earlier fit learned stays, and nothing half learned does
            self.__dict__.update(before)
            if isinstance(error, Exception):
                run.abandon()
            raise
        finally:
            run.close()
        return self

    def _fit(self, X: Any, y: Any, run: Run) -> None:
        source = source_of(X, y)
        points, truth, names = read_points(self, X, y, reset=True)
        seed = getattr(self, "random_state", None)
        self.seed_ = secrets.randbits(31) if seed is None else int(seed)
        read = time.perf_counter()
        self._run = run
        try:
            self.cluster(points)
        except MemoryError:
            raise DataError(
                f"{type(self).__name__}: {len(points):,} points do not fit into the memory with this method; take fewer, or "
                "another method"
            ) from None
        finally:
            del self._run
        self.labels_ = np.asarray(self.labels_, dtype=np.int64)
        self.n_clusters_ = int(np.count_nonzero(np.bincount(self.labels_ - NOISE)[1:]))  # np.unique takes longer
        self.facts_ = {
            "source": source["source"],
            "train": len(points),
            "validation": 0,
            "scores": {},
            "scores_on": "training",
        }
        self._points = points  # for `plot`; not saved
        recording.write(self, run, source, points, truth, names, read)
        self.run_ = run

    def fit_predict(self, X: Any, y: Any = None, **more: Any) -> NDArray[np.int64]:
        """Fit, and give the cluster of each point, (N,)."""
        labels: NDArray[np.int64] = self.fit(X, y, **more).labels_
        return labels

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        state.pop("_points", None)
        return state

    # -- after fit --------------------------------------------------------------------------------------------------

    def read(self, X: Any) -> NDArray[Any]:
        """New points, checked against those of the fit: (M, F)."""
        check_is_fitted(self, "labels_")
        return read_points(self, X, None, reset=False)[0]

    def predict_frame(self, X: Any) -> pd.DataFrame:
        """A row for each new point: its number, and its cluster.

        Raises ConfigError where the method has no clusters for new points.
        """
        import pandas as pd

        if not hasattr(self, "predict"):
            raise ConfigError(
                f"{type(self).__name__} has no clusters for new points, only labels_ for those that it was fitted on; fit it "
                "with them, or take a method that predicts, such as k-means"
            )
        labels = self.predict(X)
        return pd.DataFrame({"item": range(len(labels)), "cluster": labels})

    def plot(self, X: Any = None, *, truth: Any = None) -> Figure:
        """The points in the colours of their clusters, as a matplotlib figure; noise is grey.

        With more than two columns, a projection onto the first two principal components, named as one on the axes; of
        distances, points whose distances are near to them.

        X: the points that were fitted; they need to be given only to a model that was loaded. truth: (N,) other labels, drawn
        beside.
        """
        from konspekt.cluster.pictures import draw_clusters

        points = self.points_of(X)
        return draw_clusters(
            self.as_distances(points) if self.precomputed else points,
            self.labels_,
            title=type(self).__name__,
            columns=list(getattr(self, "feature_names_in_", ())) or None,
            truth=truth,
            marks=self._marks(),
            precomputed=self.precomputed,
        )

    def points_of(self, X: Any = None) -> NDArray[Any]:
        """The points that were fitted, (N, F).

        Raises ConfigError where they are needed and not there.
        """
        check_is_fitted(self, "labels_")
        if X is not None:
            points = self.read(X)
        elif hasattr(self, "_points"):
            points = self._points
        else:
            raise ConfigError(
                f"{type(self).__name__}: the points are not saved with a model; give plot those of the fit"
            )
        if len(points) != len(self.labels_):
            raise DataError(
                f"{type(self).__name__}: {len(points)} points for {len(self.labels_)} labels; give those of the fit"
            )
        return points

    def _marks(self) -> NDArray[Any] | None:
        """The centres, (K, F), that a picture marks; None where a method has none."""
        return getattr(self, "cluster_centers_", None)

    # -- saving -----------------------------------------------------------------------------------------------------

    def learned(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The names of the columns and the learned values as JSON, the learned arrays as tensors."""
        import torch

        config: dict[str, Any] = {"n_features_in": self.n_features_in_, "seed": self.seed_, "facts": self.facts_}
        if hasattr(self, "feature_names_in_"):
            config["feature_names_in"] = self.feature_names_in_.tolist()
        config["values"] = {name: _json(getattr(self, name)) for name in self.values}
        there = {name: getattr(self, name) for name in ("labels_", *self.arrays)}
        tensors = {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in there.items() if a is not None}
        return config, tensors

    def restore(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned` gave."""
        wrong = sorted(set(tensors) - {"labels_", *self.arrays})
        if wrong or "labels_" not in tensors or set(config["values"]) != set(self.values):
            raise DataError(f"the folder holds other numbers than a {type(self).__name__} learns ({', '.join(wrong)})")
        self.n_features_in_ = int(config["n_features_in"])
        if "feature_names_in" in config:
            names = config["feature_names_in"]
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise DataError("the names of columns in config.json are no list of text; the file is damaged")
            self.feature_names_in_ = np.array(names, dtype=object)
        for name in ("labels_", *self.arrays):
            array = tensors[name].numpy() if name in tensors else None
            if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
                raise DataError(f"{name} holds NaN or infinite numbers")
            setattr(self, name, array)
        for name, value in config["values"].items():
            setattr(self, name, value)
        if self.labels_.ndim != 1 or self.labels_.dtype != np.int64 or self.labels_.min(initial=NOISE) < NOISE:
            raise DataError("labels_ are no numbers of clusters")
        self.n_clusters_ = len(np.unique(self.labels_[self.labels_ != NOISE]))
        self.seed_ = int(config["seed"])
        self.facts_ = dict(config.get("facts") or {})
        self.check_learned()

    def check_learned(self) -> None:
        """Raise DataError where restored arrays do not fit together: `predict` must be able to trust their shapes."""

    def card_data(self) -> list[str]:
        """How many clusters of what sizes were found."""
        sizes = np.sort(np.bincount(self.labels_[self.labels_ != NOISE]))[::-1]
        noise = int((self.labels_ == NOISE).sum())
        said = (
            f"{self.n_clusters_} clusters, of {', '.join(map(str, sizes[:8]))}{' ...' if len(sizes) > 8 else ''} points"
        )
        return [said + (f"; {noise} points are noise" if noise else "")]

    def card_limits(self) -> list[str]:
        """What the clusters must not be trusted with."""
        return ["A clustering is one view of the data: whether there are clusters at all, `cluster.tendency` asks."]


class Assigns:
    """What a clusterer has besides that knows clusters for new points. A subclass writes `assign`."""

    def assign(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """The cluster of each new point, (M,). X: (M, F), checked."""
        raise NotImplementedError(f"{type(self).__name__}.assign")

    def predict(self: Any, X: Any) -> NDArray[np.int64]:
        """The cluster of each new point, (M,); -1: none."""
        return np.asarray(self.assign(self.read(X)), dtype=np.int64)

    def evaluate(self: Any, X: Any, y: Any = None) -> dict[str, float]:
        """Indices of the clusters that new points fall into; against labels y, or the column of that name, agreement too."""
        check_is_fitted(self, "labels_")
        points, truth, _ = read_points(self, X, y, reset=False)
        return recording.indices(points, np.asarray(self.assign(points), dtype=np.int64), truth, seed=self.seed_)


def _check_common(estimator: Any, where: str) -> None:
    """Raise ConfigError on a seed or a number of threads that NumPy and joblib do not take."""
    seed = getattr(estimator, "random_state", None)
    if seed is not None and not 0 <= seed < SEEDS:
        raise ConfigError(f"{where}: random_state must be an integer from 0 to {SEEDS - 1}, or None, got {seed}")
    if getattr(estimator, "n_jobs", None) == 0:
        raise ConfigError(f"{where}: n_jobs must not be 0; give a number of threads, -1 for all cores, or None")


def _json(value: Any) -> Any:
    """A learned value as JSON holds it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def too_many(n_clusters: int, points: int, where: str) -> None:
    """Raise DataError where there are fewer points than clusters."""
    if n_clusters > points:
        raise DataError(f"{where}: n_clusters={n_clusters} is more than the {points} points; lower n_clusters")


def is_count(value: Any) -> bool:
    """Whether a parameter is a whole number."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
