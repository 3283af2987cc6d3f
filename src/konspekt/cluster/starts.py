"""What methods that begin at random share: centres given as a start, clusters left empty, whether starts agree, their history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import shown
from konspekt.core.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_centres", "draw_history", "given_start", "starts_of", "tell_agreement", "without_empty"]

STARTS = 5  # single starts that are compared for the run's page
SAMPLE = 5_000  # points of which they are made
AGREE = 0.9  # of the adjusted Rand index: below, starts are said to disagree


def given_start(init: Any, names: tuple[str, ...], n_clusters: int, X: NDArray[Any], where: str) -> NDArray[Any] | None:
    """The start that a user gives as centres, (K, F) in the type of X; None where init is one of the names.

    Raises ConfigError on anything else, and where the shape does not fit.
    """
    if isinstance(init, str):
        if init not in names:
            raise ConfigError(f"{where}: init must be {', '.join(map(repr, names))} or centres (K, F), got {init!r}")
        return None
    try:
        centres = np.array(init, dtype=X.dtype, order="C")
    except (TypeError, ValueError):
        raise ConfigError(
            f"{where}: init must be {', '.join(map(repr, names))} or centres (K, F), got {shown(init)}"
        ) from None
    if centres.shape != (n_clusters, X.shape[1]):
        raise ConfigError(
            f"{where}: init has the shape {centres.shape}, but n_clusters={n_clusters} centres of {X.shape[1]} features are "
            f"({n_clusters}, {X.shape[1]})"
        )
    if not np.isfinite(centres).all():
        raise ConfigError(f"{where}: init holds NaN or infinite numbers")
    return centres


def starts_of(n_init: Any, init: Any, where: str) -> int:
    """How many starts there are: "auto" is 1 for k-means++ and given centres, 10 for random ones.

    Raises ConfigError where centres are given and several starts are asked for.
    """
    if not isinstance(init, str):
        if n_init not in ("auto", 1):
            raise ConfigError(
                f"{where}: init gives the centres of one start, so n_init={n_init} makes no sense; leave it out"
            )
        return 1
    return (10 if init == "random" else 1) if n_init == "auto" else int(n_init)


def without_empty(
    labels: NDArray[Any], centres: NDArray[Any], X: NDArray[Any], run: Run
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Labels and centres without clusters that hold no point; that there were such is said in the run's log."""
    asked = len(centres)
    counts = np.bincount(labels, minlength=asked)
    if counts.all():
        return labels.astype(np.int64), centres
    own = counts > 0
    places = len(np.unique(X, axis=0))
    why = (
        f"the points stand in only {places} distinct place{'s' * (places > 1)}; lower n_clusters"
        if places < asked
        else "the others were left without a point when the steps ended; raise max_iter, or lower n_clusters"
    )
    run.log(f"n_clusters={asked} were asked for and {int(own.sum())} found: {why}", warning=True)
    return (np.cumsum(own) - 1)[labels].astype(np.int64), centres[own]


def check_centres(estimator: Any) -> None:
    """Raise DataError where restored centres do not fit the labels or the features."""
    centres = estimator.cluster_centers_
    if (
        centres is None
        or centres.ndim != 2
        or centres.dtype.kind != "f"
        or centres.shape[1] != estimator.n_features_in_
    ):
        raise DataError(f"cluster_centers_ are no centres of {estimator.n_features_in_} features")
    if not len(centres) or estimator.labels_.max(initial=-1) >= len(centres) or estimator.labels_.min(initial=0) < 0:
        raise DataError(f"labels_ name clusters that none of the {len(centres)} cluster_centers_ is of")


def tell_agreement(estimator: Any, X: NDArray[Any], run: Run) -> None:
    """Keep, for the run's page, what five single starts of at most 5,000 points lead to; warn where they disagree.

    They disagree where the adjusted Rand index between them is below 0.9 on average: the clusters then depend on where the
    fit happened to begin.
    """
    from sklearn.base import clone

    from konspekt.metrics.clustering import adjusted_rand

    if estimator.n_clusters < 2 or not isinstance(estimator.init, str):
        return
    rng = np.random.default_rng(estimator.seed_)
    part = X if len(X) <= SAMPLE else X[np.sort(rng.choice(len(X), SAMPLE, replace=False))]
    if estimator.n_clusters > len(part):
        return
    alone = clone(estimator).set_params(run_dir=None, verbose=False, keep_history=False, n_init=1)
    fits = [clone(alone).set_params(random_state=int(seed)).fit(part) for seed in rng.integers(2**31, size=STARTS)]
    best = min(range(STARTS), key=lambda i: fits[i].inertia_)
    rates = np.array([[adjusted_rand(a.labels_, b.labels_) for b in fits] for a in fits])
    run.keep(
        "starts",
        "table",
        [
            {"start": i + 1, "inertia a point": f.inertia_ / len(part), "adjusted Rand index with the best": float(r)}
            for i, (f, r) in enumerate(zip(fits, rates[best], strict=True))
        ],
    )
    mean = float(rates[np.triu_indices(STARTS, 1)].mean())
    if mean < AGREE:
        run.log(
            f"starts disagree: {STARTS} single starts of {len(part)} points agree by an adjusted Rand index of {mean:.2f} on "
            f"average (the same clusters: 1; below {AGREE}: depends on the start); raise n_init, or another n_clusters may fit",
            warning=True,
        )


def draw_history(estimator: Any, what: str) -> Figure:
    """The steps of a fit with keep_history=True, as frames. what: the name of `inertia_`.

    Raises ConfigError where there are none.
    """
    from konspekt.cluster.pictures import draw_frames

    points = estimator.points_of()
    if not hasattr(estimator, "history_"):
        raise ConfigError(f"{type(estimator).__name__}: no history was kept; fit it with keep_history=True")
    frames = [
        {
            "labels": step["labels"],
            "marks": step["cluster_centers"],
            "title": f"{f'step {i}' if i else 'start'}: {what} {step['inertia']:.4g}",
        }
        for i, step in enumerate(estimator.history_)
    ]
    return draw_frames(points, frames, title=type(estimator).__name__)
