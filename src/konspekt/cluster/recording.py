"""What a clustering writes into its run folder, so that `konspekt report` can make a page of it."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.estimator import registered
from konspekt.core.folders import write_file
from konspekt.core.runs import Run
from konspekt.engine.record import describe

if TYPE_CHECKING:
    from konspekt.cluster.clusterer import Clusterer

__all__ = ["SHOWN", "indices", "write"]

SHOWN = 5_000  # points of the page's picture
SAMPLE = 10_000  # points of which the silhouette is taken; it takes the square of their number


def indices(
    points: NDArray[Any],
    labels: NDArray[np.int64],
    truth: NDArray[Any] | None,
    *,
    precomputed: bool = False,
    seed: int = 0,
) -> dict[str, float]:
    """Indices of a clustering, without noise: silhouette (of at most 10,000 points), Calinski-Harabasz, Davies-Bouldin.

    With truth, the adjusted Rand index too. Where there are fewer than two clusters, or as many as points, there is nothing to
    compare: only their number and the share of noise are given.
    """
    from konspekt.metrics.clustering import adjusted_rand, calinski_harabasz, davies_bouldin, silhouette

    own = labels != -1
    found = {"clusters": float(len(np.unique(labels[own]))), "noise": float(1 - own.mean())}
    if truth is not None:
        found["adjusted_rand"] = float(adjusted_rand(truth, labels))
    if not 2 <= found["clusters"] < own.sum():
        return found
    chosen = np.flatnonzero(own)
    if len(chosen) > SAMPLE:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, SAMPLE, replace=False))
    if 2 <= len(np.unique(labels[chosen])) < len(chosen):
        part = points[np.ix_(chosen, chosen)] if precomputed else points[chosen]
        metric = "precomputed" if precomputed else "euclidean"
        found["silhouette"] = float(silhouette(part, labels[chosen], metric=metric))
    if not precomputed:
        found["calinski_harabasz"] = float(calinski_harabasz(points[own], labels[own]))
        found["davies_bouldin"] = float(davies_bouldin(points[own], labels[own]))
    return found


def write(
    estimator: Clusterer,
    run: Run,
    source: dict[str, Any],
    points: NDArray[Any],
    truth: NDArray[Any] | None,
    names: list[str] | None,
    began: float,
) -> None:
    """Write config.yaml, data.json, clusters.npz, what the method keeps, model/ and result.json. began: when the fit did."""
    import yaml

    if run.path is None:
        return
    labels, fitted = estimator.labels_, time.perf_counter()
    columns = names or [f"column {i}" for i in range(points.shape[1])]
    mark = hashlib.sha256(np.ascontiguousarray(points).tobytes()).hexdigest()
    config = describe(estimator, source, mark, "cpu")
    facts = {
        "task": registered(type(estimator)).task,
        "source": source["source"],
        "rows": len(points),
        "train": len(points),
        "validation": 0,
        "skipped": [],
        "notes": [],
        "fingerprint": mark,
    }
    if not estimator.precomputed:
        facts["columns"] = [
            {
                "name": n,
                "type": "number",
                "missing": 0,
                "mean": c.mean(),
                "std": c.std(),
                "min": c.min(),
                "max": c.max(),
            }
            for n, c in zip(columns[:200], points.T, strict=False)
        ]
    run.write_json("data.json", facts)
    write_file(run.path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    run.log(f"{config['system']} on {source['source']}: {len(points)} points")
    apart = estimator.as_distances(points) if estimator.precomputed else points
    scores = indices(apart, labels, truth, precomputed=estimator.precomputed, seed=estimator.seed_)
    estimator.facts_["scores"] = {k: v for k, v in scores.items() if np.isfinite(v)}  # JSON has no infinity
    _write_picture(estimator, run, points, columns, truth)
    run.keep("clusters", "table", _sizes(estimator, points, labels, columns, truth))
    estimator.exhibit(points, run)
    estimator.save(run.path / "model")
    run.record("stage", stage="fit", state="finished", step=0, stopped="converged", seconds=fitted - began)
    run.write_json(
        "result.json",
        {
            "scores": scores,
            "scores_on": "train",
            "seconds": time.perf_counter() - run.began,
            "epochs": 0,
            "cut_short": False,
            "timings": {
                "data": began - run.began,
                "train": fitted - began,
                "evaluate": time.perf_counter() - fitted,
            },
        },
    )
    run.log("finished: " + ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))


def _write_picture(
    estimator: Clusterer, run: Run, points: NDArray[Any], columns: list[str], truth: NDArray[Any] | None
) -> None:
    """clusters.npz: at most 5,000 points in the plane, their labels and true labels, the centres, the axes' names."""
    from konspekt.cluster.pictures import by_distances, in_the_plane

    chosen = np.arange(len(points))
    if len(chosen) > SHOWN:
        chosen = np.sort(np.random.default_rng(0).choice(len(points), SHOWN, replace=False))
    marks = None
    if estimator.precomputed:
        shown, axes = by_distances(estimator.as_distances(points)[np.ix_(chosen, chosen)])
    else:
        plane, axes, project = in_the_plane(points, columns)
        shown, marks = plane[chosen], estimator._marks()
    arrays = {
        "points": shown,
        "labels": estimator.labels_[chosen],
        "axes": np.array(axes),
        "total": np.array(len(points)),
    }
    if marks is not None:
        arrays["marks"] = project(marks)
    if truth is not None:
        arrays["truth"] = truth[chosen].astype(str)
    run.write_arrays("clusters.npz", arrays)


def _sizes(
    estimator: Clusterer,
    points: NDArray[Any],
    labels: NDArray[np.int64],
    columns: list[str],
    truth: NDArray[Any] | None,
) -> list[dict[str, Any]]:
    """A row for each of the 50 largest clusters, and for noise: size, mean of each of the first 8 columns, commonest label."""
    rows = []
    found, counts = np.unique(labels, return_counts=True)
    for label in sorted(found[np.argsort(-counts, kind="stable")][:50], key=lambda c: (c == -1, c)):
        own = labels == label
        row: dict[str, Any] = {"cluster": "noise" if label == -1 else int(label), "points": int(own.sum())}
        row["share"] = float(own.mean())
        if not estimator.precomputed:
            row |= {f"mean {n}": float(m) for n, m in zip(columns[:8], points[own].mean(0), strict=False)}
        if truth is not None:
            values, times = np.unique(truth[own].astype(str), return_counts=True)
            row["commonest label"] = f"{values[times.argmax()]} ({times.max() / own.sum():.0%})"
        rows.append(row)
    return rows
