"""Several clusterings of the same points side by side. Course: rows J5, J6 (document I, section 39).

Stability is the mean adjusted Rand index (Hubert and Arabie 1985) of all pairs of clusterings of subsamples, on the points that
both hold (Ben-Hur, Elisseeff and Guyon 2002, "A stability based method for discovering structure in clustered data"), and of all pairs of fits
that differ in their seed only. A stable clustering need not be a good one: one cluster of all points never changes.
"""

from __future__ import annotations

import inspect
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from konspekt.cluster.clusterer import NOISE, Clusterer
from konspekt.cluster.label_free import clusterers, suit
from konspekt.cluster.points import read_points
from konspekt.cluster.side_by_side import Comparison
from konspekt.core import registry
from konspekt.core.errors import ConfigError, DataError, KonspektError, nearest
from konspekt.core.params import AtLeast, check_arguments, shown
from konspekt.core.registry import system
from konspekt.data.readers import source_of
from konspekt.metrics.clustering.checking import check_scale, codes_of

__all__ = ["compare"]

SHARE = 0.8  # of the points that a subsample holds
AGREEMENT = (
    "External indices rate the agreement with labels that somebody gave, not what a clustering is worth: it may show groups "
    "that are there and that the labels do not name."
)
SHAPE = (
    "An internal index prefers the shapes that it assumes: silhouette, Calinski-Harabasz and Davies-Bouldin prefer round groups, and "
    "so k-means to a method that follows a spiral. It serves to compare clusterings of one method rather than methods."
)
STABLE = (
    "Stability is the mean adjusted Rand index of clusterings of subsamples on the points they share, and of fits that differ in "
    "their seed. What is stable need not be right: one cluster of all points never changes."
)
CHOSEN = "Parameters that a rule has chosen were chosen without labels; others may do better."
UNITS = (
    "The columns differ in their spread up to {ratio:.0f}-fold, and distances count them by their units: consider standardising "
    "them (sklearn.preprocessing.StandardScaler)."
)


@system(name="compare-clusterings", kind="tool", rows=("J5", "J6"), paper="Ben-Hur, Elisseeff & Guyon 2002")
def compare(
    X: Any,
    estimators: Mapping[str, Any] | Sequence[Any] | None = None,
    y: Any = None,
    *,
    n_resamples: Annotated[int, AtLeast(0)] = 5,
    n_seeds: Annotated[int, AtLeast(0)] = 3,
    n_points: Annotated[int, AtLeast(10)] | None = 2000,
    indices: Sequence[str] | None = None,
    random_state: Annotated[int, AtLeast(0)] | None = None,
    progress: Callable[[str], Any] | None = None,
) -> Comparison:
    """Cluster the same points by several methods, and set number of clusters, noise, time, indices and stability side by side.

    X: what a clusterer takes: an array (N, F), a DataFrame, a file, of finite numbers.
    estimators: estimators, or names of registered ones, in a list or by the names they get in the table; None: all that are
        registered. Those given by name get parameters that are chosen without labels, by `konspekt.cluster.label_free`.
    y: known labels (N,), or the name of a column; then the external indices are given, too.
    n_resamples: subsamples of 80 % for the stability, at least 2, or 0 for none.
    n_seeds: fits for the stability over seeds, at least 2, or 0 for none.
    n_points: of more points so many are drawn, and the others are left out; None: all. Some methods and indices take time and
        memory in the square of their number.
    indices: names of `konspekt.metrics.clustering.INDICES`; None: all; the external ones only with y.
    random_state: the seed; None: another one each time.
    progress: is called with the name of each method before it.

    A method that fails becomes a row that says why. Its parameters are chosen once, on the whole, and not again for each subsample.

    Raises ConfigError on an argument; DataError on the data as a clusterer does.
    """
    given: dict[str, Any] = {
        "n_resamples": n_resamples,
        "n_seeds": n_seeds,
        "n_points": n_points,
        "random_state": random_state,
    }
    check_arguments("compare", compare, given)
    for name, value in (("n_resamples", n_resamples), ("n_seeds", n_seeds)):
        if value == 1:
            raise ConfigError(f"compare: {name}=1 leaves nothing to compare; give 2 or more, or 0 for none")
    methods, source = _methods(estimators), str(source_of(X, y)["source"])
    points, truth, names = read_points(_Reader(), X, y, reset=True)
    check_scale(points, "compare")
    rng = np.random.default_rng(random_state)
    seed = int(rng.integers(2**31)) if random_state is None else int(random_state)
    total = len(points)
    if n_points is not None and total > n_points:
        chosen = np.sort(rng.choice(total, n_points, replace=False))
        points, truth = points[chosen], None if truth is None else truth[chosen]
    if truth is not None:
        codes_of(truth, "compare: the known labels (y, or the target)")  # a gap would leave all external indices out
    measures = _measures(indices, truth is not None)
    parts = [np.sort(rng.permutation(len(points))[: max(2, int(SHARE * len(points)))]) for _ in range(n_resamples)]
    rows, labels = [], {}
    for name, method in methods:
        if progress is not None:
            progress(name)
        row, found = _row(name, method, points, truth, measures, parts, n_seeds, seed)
        rows.append(row)
        if found is not None:
            labels[name] = found
    return Comparison(
        rows=rows,
        indices={kind: list(functions) for kind, functions in measures.items()},
        labels=labels,
        points=points,
        columns=names or [f"column {i}" for i in range(points.shape[1])],
        truth=truth,
        total=total,
        settings=given | {"seed": seed},
        notes=(AGREEMENT, SHAPE, STABLE, CHOSEN, *_units(points)),
        source=source,
    )


def _units(points: NDArray[Any]) -> tuple[str, ...]:
    """A note where one column outweighs the others."""
    spreads = points.std(0, dtype=np.float64)
    spreads = spreads[spreads > 0]
    ratio = float(spreads.max() / spreads.min()) if len(spreads) else 1.0
    return (UNITS.format(ratio=ratio),) if ratio > 10 else ()


def _row(
    name: str,
    method: Any,
    points: NDArray[Any],
    truth: NDArray[Any] | None,
    measures: dict[str, dict[str, Callable[..., Any]]],
    parts: list[NDArray[np.int64]],
    n_seeds: int,
    seed: int,
) -> tuple[dict[str, Any], NDArray[np.int64] | None]:
    """The row of one method, and its labels; None where it failed, for which the row has the reason."""
    row: dict[str, Any] = {
        "method": name,
        "clusters": None,
        "noise": None,
        "seconds": None,
        "stability": None,
        "seeds": None,
    }
    row |= {index: None for functions in measures.values() for index in functions}
    row |= {"parameters": "", "rule": "", "problem": ""}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            estimator, row["rule"] = _made(method, points, seed)
            row["parameters"] = _told(estimator)
            began = time.perf_counter()
            labels = _labels(estimator, points)
            row["seconds"] = time.perf_counter() - began
            row["clusters"], row["noise"] = len(np.unique(labels[labels != NOISE])), float((labels == NOISE).mean())
            row |= _indices(measures, points, labels, truth)
            row["stability"] = _stability([(part, _labels(estimator, points[part])) for part in parts], len(points))
            if n_seeds and "random_state" in estimator.get_params():
                seeded = [clone(estimator).set_params(random_state=seed + i) for i in range(n_seeds)]
                every = np.arange(len(points))
                row["seeds"] = _stability([(every, _labels(one, points)) for one in seeded], len(points))
        except Exception as error:  # noqa: BLE001 - one method that fails is a row with its message, whatever it is
            kind = "" if isinstance(error, KonspektError) else f"{type(error).__name__}: "
            row["problem"] = kind + (" ".join(str(error).split())[:300] or "no message")
            return row, None
    texts = list(dict.fromkeys(" ".join(str(w.message).split())[:200] for w in said))
    row["problem"] = "warned: " + "; ".join(texts[:2]) if texts else ""
    return row, labels


def _made(method: Any, points: NDArray[Any], seed: int) -> tuple[Any, str]:
    """The estimator, and how its parameters came about. method: a class, for which they are chosen, or an estimator."""
    if isinstance(method, type):
        choice = suit(method, points, seed)
        return choice.estimator, choice.rule
    estimator = clone(method)
    if estimator.get_params().get("random_state", 0) is None:
        estimator.set_params(random_state=seed)
    return estimator, "as given"


def _told(estimator: Any) -> str:
    """The parameters that differ from the class's own, but for the seed."""
    usual = {n: p.default for n, p in inspect.signature(type(estimator)).parameters.items()}
    own = estimator.get_params(deep=False)
    other = {n: v for n, v in own.items() if n != "random_state" and not _same(v, usual.get(n))}
    return ", ".join(f"{n}={f'{v:.4g}' if isinstance(v, float) else shown(v)}" for n, v in other.items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return one is other
    return type(one) is type(other) and bool(one == other)


def _labels(estimator: Any, points: NDArray[Any]) -> NDArray[np.int64]:
    return np.asarray(clone(estimator).fit_predict(points), dtype=np.int64)


def _indices(
    measures: dict[str, dict[str, Callable[..., Any]]],
    points: NDArray[Any],
    labels: NDArray[np.int64],
    truth: NDArray[Any] | None,
) -> dict[str, float | None]:
    """The indices by name; None where one is not defined for these clusters."""
    found: dict[str, float | None] = {}
    own = labels != NOISE
    for kind, functions in measures.items():
        first, second = (points[own], labels[own]) if kind == "internal" else (truth, labels)
        for name, function in functions.items():
            try:
                value = float(function(first, second))
            except (DataError, ValueError):  # one cluster, all noise: the index says for what it is not defined
                value = np.nan
            found[name] = value if np.isfinite(value) else None
    return found


def _stability(fits: list[tuple[NDArray[np.int64], NDArray[np.int64]]], total: int) -> float | None:
    """The mean adjusted Rand index of all pairs of fits on their common points. fits: numbers of points, and their labels."""
    from konspekt.metrics.clustering import adjusted_rand

    if len(fits) < 2:
        return None
    agreed = []
    for (first, one), (second, other) in itertools.combinations(fits, 2):
        _, here, there = np.intersect1d(first, second, assume_unique=True, return_indices=True)
        if len(here) > 1:
            agreed.append(float(adjusted_rand(one[here], other[there])))
    return float(np.mean(agreed)) if agreed else None


def _measures(indices: Sequence[str] | None, with_truth: bool) -> dict[str, dict[str, Callable[..., float]]]:
    """The indices by kind and name; without labels known before there are no external ones."""
    from konspekt.metrics.clustering import INDICES

    if isinstance(indices, str):
        raise ConfigError(f"compare: indices must be a list of names, got {indices!r}; write [{indices!r}]")
    for name in indices or ():
        if name not in INDICES:
            raise ConfigError(f"compare: there is no index {name!r}; {nearest(str(name), INDICES)}")
        if INDICES[name].kind == "external" and not with_truth:
            raise ConfigError(f"compare: the index {name} compares with known labels: give y, or leave it out")
    found: dict[str, dict[str, Callable[..., float]]] = {"internal": {}, "external": {}}
    for name in INDICES if indices is None else indices:
        if with_truth or INDICES[name].kind == "internal":
            found[INDICES[name].kind][name] = INDICES[name]
    return found


def _methods(estimators: Mapping[str, Any] | Sequence[Any] | None) -> list[tuple[str, Any]]:
    """Names, each with an estimator, or the class of one whose parameters are to be chosen."""
    if estimators is None:
        return list(clusterers())
    if isinstance(estimators, Mapping):
        pairs: Iterable[tuple[str | None, Any]] = estimators.items()
    elif isinstance(estimators, (list, tuple)):
        pairs = [(None, e) for e in estimators]
    else:
        raise ConfigError(f"compare: estimators are a list or a dict of them, got {type(estimators).__name__}")
    found: dict[str, Any] = {}
    for key, one in pairs:
        if isinstance(one, str):
            entry = registry.lookup("estimator", one)
            if entry.task != "clustering":
                raise ConfigError(f"compare: {one} is for {entry.task or 'something else'}, not for clustering")
            method, name = entry.load(), one
        elif hasattr(one, "fit_predict") and hasattr(one, "get_params") and not isinstance(one, type):
            method, name = one, type(one).__name__
        else:
            raise ConfigError(
                f"compare: an estimator of clusters has fit_predict; got {shown(one)}. Give objects, such as KMeans(n_clusters=3), or names"
            )
        name, number = str(key or name), 1
        while name in found:
            number += 1
            name = f"{name.rpartition(' ')[0] if number > 2 else name} {number}"
        found[name] = method
    if not found:
        raise ConfigError("compare: estimators is empty; leave it out for all that are registered")
    return list(found.items())


class _Reader(Clusterer):
    """Reads points as every clusterer does; its messages bear the tool's name."""


_Reader.__name__ = "compare"
