"""How many clusters? The elbow, silhouettes, the gap statistic. Course: row J1 (document I, section 40.1).

Rousseeuw 1987, "Silhouettes", Journal of Computational and Applied Mathematics 20.
Tibshirani, Walther and Hastie 2001, "Estimating the number of clusters in a data set via the gap statistic", JRSS B 63.
Satopaa, Albrecht, Irwin and Raghavan 2011, "Finding a 'kneedle' in a haystack", https://doi.org/10.1109/ICDCSW.2011.20.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.choices import Choice, Widths
from konspekt.cluster.clusterer import NOISE, Clusterer, is_count
from konspekt.cluster.kmeans import KMeans
from konspekt.cluster.points import read_points
from konspekt.core.errors import ConfigError, DataError, nearest
from konspekt.core.params import params_of, shown
from konspekt.core.registry import system
from konspekt.metrics.clustering.checking import check_scale

__all__ = ["choose_k", "elbow_of", "first_within_error", "reference", "within_squares"]

DEPTH = 0.1  # how far below the chord, as a difference of natural logarithms, an elbow lies at least
NOTHING = 1e-12  # of the sum around one mean: what is left where each point stands on its centre, but for rounding
SAMPLE = 10_000  # points of which silhouettes are taken; they take the square of their number
NONE, WEAK = 0.25, 0.5  # mean silhouettes up to which Kaufman and Rousseeuw (1990) see no or a weak structure

ELBOW = (
    "the k at which the sum lies furthest below the straight line from the first k to the last, on logarithmic axes, if it is at "
    f"least {1 - np.exp(-DEPTH):.0%} less than on the line"
)
SILHOUETTE = "the k with the largest mean silhouette"
GAP = "the smallest k whose gap is at least that of the next k less its standard error"


@system(
    name="choose-k",
    kind="tool",
    rows=("J1",),
    paper="Rousseeuw 1987; Tibshirani, Walther & Hastie 2001; Satopaa et al. 2011",
)
def choose_k(
    X: Any,
    ks: Iterable[int] = range(1, 11),
    method: Literal["elbow", "silhouette", "gap"] = "elbow",
    estimator: Clusterer | None = None,
    random_state: int | None = None,
    *,
    references: int = 20,
) -> Choice:
    """Choose the number of clusters, by a curve over several.

    X: points as a clusterer takes them. ks: the numbers that are tried. random_state: the seed; None: another one each time.
    estimator: a clusterer with n_clusters or n_components, which is copied; None: k-means, the best of 5 starts.

    method: "elbow": the estimator's sum (inertia_, otherwise the sum of squares around the means of its clusters). The chord's rule
    is Kneedle's, but on logarithmic axes: the sum of F features without any clusters falls about as k^(-2/F), which has a knee on
    plain axes and is a straight line on logarithmic ones. k is None where there is no elbow. Points stretched along one direction
    have one too, where cells become round.
    "silhouette": s = (b - a) / max(a, b) of each point, with a the mean distance to its own cluster and b to the nearest other one;
    around 0 it lies at a border, below 0 nearer to another cluster. Of at most 10,000 points; one cluster has none.
    "gap": the mean logarithm of the sum of squares of `references` sets drawn evenly from the box around the points along their
    principal components, less that of the points. It knows the answer 1. k is None where the gap still grows at the last k.

    Raises ConfigError on ks, method and estimator, DataError on the points and where there are fewer than the largest k.
    """
    if method not in _METHODS:
        raise ConfigError(f"choose_k: method must be one of {', '.join(map(repr, _METHODS))}, got {shown(method)}; "
                          f"{nearest(str(method), _METHODS)}")  # fmt: skip
    if not is_count(references) or references < 2:
        raise ConfigError(f"choose_k: references must be an integer of at least 2, got {shown(references)}")
    if random_state is not None and (not is_count(random_state) or random_state < 0):
        raise ConfigError(
            f"choose_k: random_state must be an integer of at least 0, or None, got {shown(random_state)}"
        )
    counts = _counts(ks, method)
    fitter = _Fitter.of(estimator, secrets.randbits(31) if random_state is None else int(random_state))
    if fitter.precomputed and method != "silhouette":
        raise ConfigError(f"choose_k: method={method!r} needs points, not distances; method='silhouette' takes them")
    points = fitter.read(X)
    if counts[-1] > len(points):
        raise DataError(f"choose_k: ks go up to {counts[-1]}, but there are {len(points)} points; lower them")
    if not fitter.precomputed:
        check_scale(points, "choose_k")
    return _METHODS[method](points, counts, fitter, int(references))


def _counts(ks: Any, method: str) -> NDArray[np.int64]:
    """The numbers of clusters in order, checked."""
    try:
        given = list(ks)
    except TypeError:
        given = [ks]
    if not given or not all(is_count(k) and k >= 1 for k in given):
        raise ConfigError(f"choose_k: ks must be integers of at least 1, got {shown(ks)}")
    counts = np.unique(np.array(given, dtype=np.int64))
    least = {"elbow": 3, "silhouette": 1, "gap": 2}[method]
    if len(counts) < least or (method == "silhouette" and counts[-1] < 2):
        need = "a k of at least 2" if method == "silhouette" else f"at least {least} different ks"
        raise ConfigError(f"choose_k: method={method!r} needs {need}, got {shown(ks)}")
    return counts


@dataclass(frozen=True)
class _Fitter:
    """Copies of an estimator with another number of clusters and a seed that depends on that number."""

    model: Any
    name: str  # of the parameter
    seed: int

    @classmethod
    def of(cls, estimator: Any, seed: int) -> _Fitter:
        model = KMeans(n_init=5) if estimator is None else estimator
        names = params_of(type(model)) if isinstance(model, Clusterer) else {}
        name = next((n for n in ("n_clusters", "n_components") if n in names), None)
        if name is None:
            what = type(model).__name__ if isinstance(model, Clusterer) else shown(model)
            raise ConfigError(f"choose_k: estimator must be a clusterer with n_clusters or n_components, got {what}")
        return cls(model, name, seed)

    @property
    def precomputed(self) -> bool:
        return bool(self.model.precomputed)

    def _copy(self, changes: Mapping[str, Any]) -> Any:
        from sklearn.base import clone

        quiet: dict[str, Any] = {"run_dir": None, "verbose": False, "keep_history": False, **changes}
        return clone(self.model).set_params(**{k: v for k, v in quiet.items() if k in params_of(type(self.model))})

    def read(self, X: Any) -> NDArray[Any]:
        return read_points(self._copy({}), X, None, reset=True)[0]

    def fit(self, X: NDArray[Any], k: int, draw: int = 0) -> Any:
        """A copy with k clusters, fitted. draw: of the reference sets, from 1."""
        seed = int(np.random.SeedSequence([self.seed, int(k), draw]).generate_state(1)[0] >> 1)
        return self._copy({self.name: int(k), "random_state": seed}).fit(X)


def within_squares(X: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """The sum of squared distances of points (N, F) to the means of their clusters; noise is left out."""
    own = labels != NOISE
    X, codes = X[own].astype(np.float64), np.unique(labels[own], return_inverse=True)[1]
    counts = np.bincount(codes)
    means = np.stack([np.bincount(codes, weights=column) / counts for column in X.T], axis=1)
    return float(np.square(X - means[codes]).sum())


# -- the elbow -----------------------------------------------------------------------------------------------------------


def elbow_of(ks: NDArray[np.int64], sums: NDArray[np.float64]) -> tuple[int | None, NDArray[np.float64]]:
    """The elbow, or None, and how far the curve lies below its chord at each k, (len(ks),), in natural logarithms.

    ks: increasing; sums: positive, one for each k.
    """
    x, y = np.log(ks), np.log(sums)
    depth = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0]) - y
    best = int(depth.argmax())
    return (int(ks[best]) if depth[best] >= DEPTH else None), depth


def _elbow(X: NDArray[Any], ks: NDArray[np.int64], fitter: _Fitter, _: int) -> Choice:
    fits = {int(k): fitter.fit(X, k) for k in ks}
    sums = np.array([_sum(f, X) for f in fits.values()])
    what = "sum of squares" if not hasattr(fits[ks[0]], "inertia_") or isinstance(fits[ks[0]], KMeans) else "inertia_"
    notes = _rises(ks, sums)
    gone = np.flatnonzero(sums <= NOTHING * max(float(sums[0]), within_squares(X, np.zeros(len(X), np.int64))))
    depth = None
    k: int | None
    if len(gone):  # fewer places than clusters: a curve that reaches 0 has no logarithm
        k = int(ks[gone[0]])
        reason = f"at k={k} each point stands on its centre: there are not more places"
    else:
        k, depth = elbow_of(ks, sums)
        best = int(depth.argmax())
        share = 1 - np.exp(-depth[best])
        reason = (
            f"at k={k} the {what} is {share:.0%} less than on the line"
            if k is not None
            else "there is no elbow: "
            + (
                f"the {what} lies nowhere below the line"
                if share < 0.005
                else f"furthest below the line, at k={ks[best]}, the {what} is only {share:.0%} less"
            )
            + "; ask method='silhouette' or 'gap', try other ks, or there may be no clusters"
        )
    curves = {what: sums} if depth is None else {what: sums, "depth below the chord": depth}
    return Choice(k, "elbow", ks, curves, ELBOW, reason, tuple(notes), fits.get(k) if k else None)


def _sum(fitted: Any, X: NDArray[Any]) -> float:
    return float(fitted.inertia_) if hasattr(fitted, "inertia_") else within_squares(X, fitted.labels_)


def _rises(ks: NDArray[np.int64], sums: NDArray[np.float64]) -> list[str]:
    """Where more clusters have a larger sum: a start that led nowhere good."""
    where = [f"{a} to {b}" for a, b, up in zip(ks, ks[1:], np.diff(sums) > 1e-9 * sums[:-1], strict=False) if up]
    if not where:
        return []
    return [f"the sum rises from k={', '.join(where)}: a fit stuck in a poor place; more starts (n_init) are safer"]


# -- silhouettes -----------------------------------------------------------------------------------------------------------


def _silhouette(X: NDArray[Any], ks: NDArray[np.int64], fitter: _Fitter, _: int) -> Choice:
    rng = np.random.default_rng(fitter.seed)
    part = np.arange(len(X)) if len(X) <= SAMPLE else np.sort(rng.choice(len(X), SAMPLE, replace=False))
    fits = {int(k): fitter.fit(X, k) for k in ks if k > 1}
    found = {k: _widths(X, f.labels_, part, fitter.precomputed) for k, f in fits.items()}
    means = np.array([w.values.mean() if (w := found.get(int(k))) is not None else np.nan for k in ks])
    shares = np.array([(w.values < 0).mean() if (w := found.get(int(k))) is not None else np.nan for k in ks])
    curves = {"mean silhouette": means, "share below 0": shares}
    notes = [f"silhouettes of {SAMPLE:,} of {len(X):,} points"] if len(part) < len(X) else []
    if np.isnan(means).all():
        reason = "no k gives at least two clusters and fewer than there are points: silhouettes are not defined"
        return Choice(None, "silhouette", ks, curves, SILHOUETTE, reason, tuple(notes), None)
    best = int(np.nanargmax(means))
    k = int(ks[best])
    if means[best] <= WEAK:
        found_what = "no substantial structure" if means[best] <= NONE else "a weak structure that may be artificial"
        notes.append(
            f"a mean of at most {NONE if means[best] <= NONE else WEAK} shows {found_what} (Kaufman and Rousseeuw 1990)"
        )
    reason = f"at k={k} the mean silhouette is {means[best]:.2f}; {_share(shares[best])} nearer to another cluster"
    return Choice(k, "silhouette", ks, curves, SILHOUETTE, reason, tuple(notes), fits[k], found[k])


def _share(share: float) -> str:
    return f"{share:.1%} of the points lie" if share else "no point lies"


def _widths(X: NDArray[Any], labels: NDArray[np.int64], part: NDArray[np.int64], precomputed: bool) -> Widths | None:
    from sklearn.metrics import silhouette_samples as of_matrix

    from konspekt.metrics.clustering import silhouette_samples

    part = part[labels[part] != NOISE]
    own = labels[part]
    if not 2 <= len(np.unique(own)) < len(own):
        return None
    if precomputed:  # checked by the clusterer already, which lets more rounding pass
        return Widths(of_matrix(X[np.ix_(part, part)], own, metric="precomputed"), own)
    return Widths(silhouette_samples(X[part], own), own)  # scikit-learn's loses its digits far from the origin


# -- the gap -----------------------------------------------------------------------------------------------------------


def reference(X: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """As many points drawn evenly from the box around X (N, F) along its principal components (the paper's choice b)."""
    mean = X.mean(axis=0, dtype=np.float64)
    centred = X - mean
    axes = np.linalg.eigh(centred.T @ centred)[1]
    turned = centred @ axes
    return np.asarray(rng.uniform(turned.min(axis=0), turned.max(axis=0), size=X.shape) @ axes.T + mean, dtype=X.dtype)


def first_within_error(gaps: NDArray[np.float64], errors: NDArray[np.float64]) -> int | None:
    """The first place where a gap is at least the next one less its error; None: the gap grows to the last."""
    holds = np.flatnonzero(gaps[:-1] >= gaps[1:] - errors[1:])
    return int(holds[0]) if len(holds) else None


def _gap(X: NDArray[Any], ks: NDArray[np.int64], fitter: _Fitter, references: int) -> Choice:
    total = within_squares(X, np.zeros(len(X), np.int64))
    if total == 0:
        reason = "all points are the same one"
        return Choice(1, "gap", ks, {"sum of squares": np.zeros(len(ks))}, GAP, reason, (), None)
    rng = np.random.default_rng(fitter.seed)
    fits = {int(k): fitter.fit(X, k) for k in ks}
    sums = np.array([within_squares(X, f.labels_) for f in fits.values()])
    logs = np.empty((references, len(ks)))
    for draw in range(references):
        drawn = reference(X, rng)
        made = [within_squares(drawn, fitter.fit(drawn, k, draw + 1).labels_) for k in ks]
        logs[draw] = np.log(np.maximum(made, NOTHING * total))
    own = np.log(np.maximum(sums, NOTHING * total))
    gaps = logs.mean(axis=0) - own
    errors = logs.std(axis=0) * np.sqrt(1 + 1 / references)
    curves = {"log of the sum": own, "of references": logs.mean(axis=0), "gap": gaps, "standard error": errors}
    at = first_within_error(gaps, errors)
    notes = tuple(_rises(ks, sums))
    if at is None:
        reason = f"the gap grows up to the last, k={ks[-1]}; try larger ks"
        return Choice(None, "gap", ks, curves, GAP, reason, notes, None)
    k = int(ks[at])
    reason = (
        f"at k={k} the gap is {gaps[at]:.3f}, at the next, k={ks[at + 1]}, {gaps[at + 1]:.3f} with an error of {errors[at + 1]:.3f} "
        f"({references} references)"
    )
    top = int(gaps.argmax())
    if gaps[top] - errors[top] > gaps[at]:
        notes += (
            f"the gap falls after k={k} and is larger again at k={ks[top]} ({gaps[top]:.3f}): look at that k too",
        )
    elif k == 1:
        reason += "; no grouping beats points without clusters"
    return Choice(k, "gap", ks, curves, GAP, reason, notes, fits[k])


_METHODS: dict[str, Callable[[NDArray[Any], NDArray[np.int64], _Fitter, int], Choice]] = {
    "elbow": _elbow,
    "silhouette": _silhouette,
    "gap": _gap,
}
