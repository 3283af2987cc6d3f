"""Parameters that are chosen without labels, for every registered clusterer. Course: rows J1 to J3 (document I, sections 38, 40).

A rule belongs to the name of a parameter, not to a class, so that a clusterer of another package is served too:

n_clusters    2 to 10, by the largest mean silhouette of the method's own clusters (Rousseeuw 1987)
n_components  1 to 10, by the least BIC where the method has one (Schwarz 1978), else as n_clusters
eps           the knee of the sorted distances to the min_samples-th neighbour (Ester et al. 1996), as `k_distances` has them: where
              the curve is farthest from the line between its ends (Satopää et al. 2011); min_samples is twice the columns, at
              least 4 (Sander et al. 1998)
radius        of the edges of the minimum spanning tree: by the largest mean silhouette of the 2 to 10 clusters of at least 1 % of the
              points that it leaves, times the share of the points in them; min_size is that 1 %
affinity      nearest_neighbors, which needs no unit, where there is one
bandwidth     the mean distance to the neighbour within which 30 % of the points are, `bandwidth_of`

Everything else stays as the class has it. At most 1,000 points are looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from konspekt.cluster.dbscan import k_distances
from konspekt.cluster.mean_shift import bandwidth_of
from konspekt.core import registry
from konspekt.core.errors import DataError, KonspektError
from konspekt.core.params import params_of

__all__ = ["Suited", "clusterers", "silhouette_of", "suit"]

MOST = 1_000  # points on which parameters are chosen
COUNTS = range(2, 11)
Found = tuple[dict[str, Any], str]  # parameters, and how they came about


@dataclass(frozen=True)
class Suited:
    """An estimator that is not fitted yet, and how its parameters came about."""

    estimator: Any
    rule: str


def clusterers() -> Iterator[tuple[str, type]]:
    """Name and class of everything that is registered for clustering."""
    for entry in registry.entries():
        if entry.kind == "estimator" and entry.task == "clustering":
            yield entry.name, entry.load()


def suit(cls: type, points: NDArray[Any], seed: int) -> Suited:
    """An estimator of this class with parameters that suit the points (N, F), chosen without labels.

    Raises DataError where the points are too few or too much alike for a rule; whatever the class raises.
    """
    few = points
    if len(points) > MOST:
        few = points[np.sort(np.random.default_rng(seed).choice(len(points), MOST, replace=False))]
    names, rules = params_of(cls), []
    given: dict[str, Any] = {"random_state": seed} if "random_state" in names else {}
    for name, rule in _RULES.items():
        if name in names:
            found, said = rule(cls, given, few)
            given |= found
            if said:
                rules.append(said)
            if name == "radius":  # what else there is names the same number of clusters
                break
    return Suited(cls(**given), "; ".join(rules) or "as the class has them")


def silhouette_of(points: NDArray[Any], labels: NDArray[Any]) -> float:
    """The mean silhouette without noise; -1 where there are fewer than two clusters, or as many as points."""
    from sklearn.metrics import silhouette_score

    own = labels != -1
    count = len(np.unique(labels[own]))
    return float(silhouette_score(points[own], labels[own])) if 2 <= count < own.sum() else -1.0


def _knee(curve: NDArray[np.float64]) -> float:
    """The value of a rising curve where it lies farthest below the line between its ends."""
    rise = curve[-1] - curve[0]
    if rise <= 0:
        return float(curve[-1])
    return float(curve[int(np.argmax(np.linspace(0, 1, len(curve)) - (curve - curve[0]) / rise))])


def _best(
    cls: type,
    given: dict[str, Any],
    name: str,
    values: Sequence[int],
    points: NDArray[Any],
    score: Callable[[Any], float],
) -> tuple[int, float]:
    """The value with the best score, and that. One with which the method fails is passed over, unless it fails with all."""
    best, value, failed = -np.inf, None, None
    for one in values:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the method says it again when it is fitted for the table
                found = score(clone(cls(**given, **{name: one})).fit(points))
        except KonspektError as error:
            failed = error
            continue
        if found > best:
            best, value = found, one
    if value is None:
        raise failed or DataError(f"{cls.__name__}: {len(points)} points are too few to choose {name} for them")
    return value, best


def _by_silhouette(cls: type, given: dict[str, Any], points: NDArray[Any], name: str) -> Found:
    values = [k for k in COUNTS if k < len(points)]
    count, best = _best(cls, given, name, values, points, lambda e: silhouette_of(points, e.labels_))
    return {name: count}, f"{name}={count} of 2 to 10, by the silhouette ({best:.2f})"


def _count(cls: type, given: dict[str, Any], points: NDArray[Any]) -> Found:
    return _by_silhouette(cls, given, points, "n_clusters")


def _components(cls: type, given: dict[str, Any], points: NDArray[Any]) -> Found:
    if "n_clusters" in params_of(cls):  # then these are dimensions, not clusters
        return {}, ""
    if not hasattr(cls, "bic"):
        return _by_silhouette(cls, given, points, "n_components")
    values = [k for k in range(1, 11) if k < len(points)]
    count, _ = _best(cls, given, "n_components", values, points, lambda e: -float(e.bic(points)))
    return {"n_components": count}, f"n_components={count} of 1 to 10, by BIC"


def _eps(cls: type, given: dict[str, Any], points: NDArray[Any]) -> Found:
    neighbours = max(4, 2 * points.shape[1])
    eps = _knee(k_distances(points, min(neighbours, len(points)))[::-1].astype(np.float64))
    if eps <= 0:
        raise DataError(
            f"{cls.__name__}: most points have {neighbours} others at no distance, so that no eps can be read from the distances"
        )
    found = {"eps": eps} | ({"min_samples": neighbours} if "min_samples" in params_of(cls) else {})
    said = f"eps={eps:.4g}, the knee of the distances to the neighbour {neighbours}"
    return found, said + (f"; min_samples={neighbours}" if len(found) > 1 else "")


def _radius(cls: type, given: dict[str, Any], points: NDArray[Any]) -> Found:
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(points, "single")  # the minimum spanning tree: its heights are the lengths of the edges
    lengths = np.unique(tree[:, 2])
    tried = np.unique(np.quantile(lengths, np.concatenate([np.linspace(0.5, 0.95, 10), np.linspace(0.96, 1, 30)])))
    best, radius, least = -np.inf, float(lengths[-1]), max(2, round(0.01 * len(points)))
    for length in tried:
        labels = fcluster(tree, length, "distance")
        kept = np.bincount(labels)[labels] >= least
        if 2 <= len(np.unique(labels[kept])) <= 10 and kept.mean() >= 0.5:
            found = silhouette_of(points[kept], labels[kept]) * float(kept.mean())
            if found > best:
                best, radius = found, float(length)
    said = "by the silhouette" if best > -np.inf else "the longest, as no shorter one leaves 2 to 10 clusters"
    found: dict[str, Any] = {"radius": radius}
    text = f"radius={radius:.4g}, of the edges of the minimum spanning tree {said}"
    if "min_size" in params_of(cls):
        found["min_size"] = least
        text += f"; min_size={least}"
    return found, text


def _affinity(cls: type, given: dict[str, Any], points: NDArray[Any]) -> Found:
    if "nearest_neighbors" not in params_of(cls)["affinity"].choices:
        return {}, ""
    return {"affinity": "nearest_neighbors"}, "affinity='nearest_neighbors', which needs no unit"


def _bandwidth(cls: type, given: dict[str, Any], points: NDArray[Any]) -> Found:
    bandwidth = bandwidth_of(points, quantile=0.3)
    return {"bandwidth": bandwidth}, f"bandwidth={bandwidth:.4g}, by the quantile rule (30 % of the points)"


_RULES: dict[str, Callable[[type, dict[str, Any], NDArray[Any]], Found]] = {
    "affinity": _affinity,
    "eps": _eps,
    "bandwidth": _bandwidth,
    "radius": _radius,
    "n_clusters": _count,
    "n_components": _components,
}
