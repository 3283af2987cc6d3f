"""Hierarchies beside scikit-learn's classes of the same name, and 20,000 points. Part of `clustering.py`.

Both sides make the whole tree and its cut into so many clusters, on the same points, and must find the same clusters. scikit-learn has
no linkage by centroids; there the other side is SciPy.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from engine import Line, against, steady
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from sklearn import cluster as peers
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from konspekt.cluster import AgglomerativeClustering, DivisiveClustering

__all__ = ["large", "lines"]

BOUND, CLUSTERS = 1.05, 8


def points(count: int, columns: int = 8) -> NDArray[np.float64]:
    """Groups that touch."""
    found: NDArray[np.float64] = make_blobs(count, columns, centers=CLUSTERS, cluster_std=2.0, random_state=0)[0]
    return found


def beside(what: str, own: Callable[[], Any], peer: Callable[[], Any], repeat: int) -> Line:
    """Seconds of ours over theirs."""
    found: dict[str, Any] = {}

    def side(name: str, call: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            start = time.perf_counter()
            found[name] = call()
            return time.perf_counter() - start

        return run

    seconds = steady({"own": side("own", own), "peer": side("peer", peer)}, "peer", repeat, what)
    alike = adjusted_rand_score(found["own"], found["peer"])
    assert alike == 1, f"{what}: the two sides agree by {alike:.3f} only"
    if seconds is None:
        return Line(what, "none: the machine was too unsteady", f"{BOUND:.2f}", None, BOUND)
    ratio, least, most = against(seconds["own"], seconds["peer"])
    milli = {name: 1e3 * statistics.median(spent) for name, spent in seconds.items()}
    note = f"{milli['own']:.3g} ms, theirs {milli['peer']:.3g} ms; the same clusters"
    return Line(what, f"{ratio:.3f} ({least:.3f} to {most:.3f})", f"{BOUND:.2f}", ratio, BOUND, [note])


def lines(repeat: int) -> list[Line]:
    """Every linkage, and bisecting k-means."""
    found = []
    for count in (500, 4_000):
        X = points(count)
        for linkage in ("average", "single", "complete", "ward"):
            ours = AgglomerativeClustering(n_clusters=CLUSTERS, linkage=linkage)
            # The tree with its heights, which ours always has.
            peer = peers.AgglomerativeClustering(
                n_clusters=CLUSTERS, linkage=linkage, compute_distances=True, compute_full_tree=True
            )
            what = f"AgglomerativeClustering, {linkage}, {count:,} x 8"
            found.append(
                beside(what, lambda m=ours, X=X: m.fit(X).labels_, lambda m=peer, X=X: m.fit(X).labels_, repeat)
            )
    X = points(4_000)
    ours = AgglomerativeClustering(n_clusters=CLUSTERS, linkage="centroid")
    found.append(
        beside(
            "AgglomerativeClustering, centroid, 4,000 x 8, beside SciPy",
            lambda: ours.fit(X).labels_,
            lambda: hierarchy.fcluster(hierarchy.centroid(X), CLUSTERS, "maxclust"),
            repeat,
        )
    )
    return found


def _fit_large(linkage: str, send: Any) -> None:
    AgglomerativeClustering(linkage=linkage).fit(points(200))  # what is loaded once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    X = points(20_000)
    start = time.perf_counter()
    found = AgglomerativeClustering(n_clusters=CLUSTERS, linkage=linkage).fit(X)
    seconds = time.perf_counter() - start
    send.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, found.n_clusters_))


def large() -> list[Line]:
    """20,000 points: seconds, and how much the process grew at most."""
    found = []
    for linkage in ("single", "average", "complete", "centroid", "ward"):
        receive, send = multiprocessing.get_context("spawn").Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(target=_fit_large, args=(linkage, send))
        process.start()
        seconds, grown, clusters = receive.recv()
        process.join()
        figure = f"{seconds:.2f} s, {grown / 2**20:.2f} GiB"
        found.append(
            Line(f"AgglomerativeClustering, {linkage}, 20,000 x 8", figure, "", notes=[f"{clusters} clusters"])
        )
    X = points(1_000)
    start = time.perf_counter()
    DivisiveClustering(method="diana", n_clusters=CLUSTERS).fit(X)
    return [*found, Line("DivisiveClustering, diana, 1,000 x 8", f"{time.perf_counter() - start:.2f} s", "")]
