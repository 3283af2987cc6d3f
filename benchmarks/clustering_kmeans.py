"""k-means beside scikit-learn's, k-medians beside the plain definition. Part of `clustering.py`.

    python benchmarks/clustering_kmeans.py             a few minutes; prints
    python benchmarks/clustering_kmeans.py --quick     few turns
    python benchmarks/clustering_kmeans.py --large     and a million points of 64 features in 100 clusters

The sides take turns within one run, on the same points from the same seed, and must find the same clusters.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it; it counts from OpenMP's start on

import numpy as np
import torch
from engine import Line, against, machine_lines, say, steady
from numpy.typing import NDArray
from sklearn.cluster import KMeans as Peer
from sklearn.cluster import MiniBatchKMeans

from konspekt.cluster.kmeans import KMeans
from konspekt.cluster.kmedians import KMedians
from konspekt.cluster.lloyd import lloyd

__all__ = ["kmeans_lines", "kmedians_lines", "large_lines", "plain_kmedians", "torch_lines"]

BOUND = 1.05  # of scikit-learn's time
FASTER = 10.0  # than the plain definition, at least
SEED = 0
SIZES = ((10_000, 10, 10), (50_000, 20, 20), (200_000, 10, 8), (100_000, 64, 50))  # points, features, clusters
TINY = (150, 4, 3)  # where what is the same for any data, such as checking parameters, is all there is
PLAIN = ((2_000, 2, 5), (2_000, 10, 10), (500, 50, 20))  # small, as the plain definition is slow


def points_of(n: int, features: int, clusters: int, *, dtype: Any = np.float64) -> NDArray[Any]:
    """Groups that touch, so that k-means takes a good number of steps."""
    rng = np.random.default_rng(SEED)
    X = rng.standard_normal((n, features), dtype=dtype)
    X += 2 * rng.standard_normal((clusters, features), dtype=dtype)[rng.integers(clusters, size=n)]
    return X


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    made = call()
    return time.perf_counter() - start, made


def beside(
    what: str, own: Callable[[], Any], peer: Callable[[], Any], repeat: int, bound: float | None = BOUND
) -> Line:
    """Ours over theirs, with the medians' ratio and the range of the turns'. Both give labels, which must be the same."""
    labels: dict[str, NDArray[Any]] = {}

    def side(name: str, call: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            seconds, labels[name] = timed(call)
            return seconds

        return run

    seconds = steady({"own": side("own", own), "peer": side("peer", peer)}, "peer", repeat, what)
    assert np.array_equal(labels["own"], labels["peer"]), f"{what}: the two sides found other clusters"
    limit = f"{bound:.2f}" if bound else ""
    if seconds is None:
        return Line(what, "none: the machine was too unsteady", limit, None, bound)
    ratio, least, most = against(seconds["own"], seconds["peer"])
    note = f"ours {1e3 * statistics.median(seconds['own']):.4g} ms, theirs {1e3 * statistics.median(seconds['peer']):.4g} ms"
    return Line(what, f"{ratio:.3f} ({least:.3f} to {most:.3f})", limit, ratio, bound, [note])


def kmeans_lines(repeat: int) -> list[Line]:
    """Fits and predictions of several sizes, in steps over all points and in mini-batches."""
    lines = []
    for n, features, clusters in SIZES:
        X = points_of(n, features, clusters)
        size = f"{n:,} x {features}, k={clusters}"
        for algorithm in ("lloyd", "elkan"):
            lines.append(
                beside(
                    f"KMeans.fit ({algorithm}) over scikit-learn's, {size}",
                    lambda X=X, k=clusters, a=algorithm: (
                        KMeans(n_clusters=k, algorithm=a, random_state=SEED).fit(X).labels_
                    ),
                    lambda X=X, k=clusters, a=algorithm: Peer(k, algorithm=a, random_state=SEED).fit(X).labels_,
                    repeat,
                )
            )
        own, peer = KMeans(n_clusters=clusters, random_state=SEED).fit(X), Peer(clusters, random_state=SEED).fit(X)
        lines.append(
            beside(
                f"KMeans.predict over scikit-learn's, {size}",
                lambda own=own, X=X: own.predict(X),
                lambda peer=peer, X=X: peer.predict(X),
                2 * repeat,
            )
        )
    n, features, clusters = SIZES[2]
    X = points_of(n, features, clusters)
    settings: dict[str, Any] = {"batch_size": 1024, "random_state": SEED, "max_iter": 5}
    lines.append(
        beside(
            f"KMeans.fit (mini-batches of 1,024) over scikit-learn's, {n:,} x {features}, k={clusters}",
            lambda: KMeans(n_clusters=clusters, **settings).fit(X).labels_,
            lambda: MiniBatchKMeans(clusters, n_init=1, tol=1e-4, **settings).fit(X).labels_,
            repeat,
        )
    )
    n, features, clusters = TINY
    X = points_of(n, features, clusters)
    lines.append(
        beside(
            f"KMeans.fit over scikit-learn's, {n:,} x {features}, k={clusters}",
            lambda: KMeans(n_clusters=clusters, random_state=SEED).fit(X).labels_,
            lambda: Peer(clusters, random_state=SEED).fit(X).labels_,
            10 * repeat,
            None,
        )
    )
    return lines


def plain_kmedians(X: NDArray[Any], start: NDArray[Any]) -> tuple[NDArray[np.int64], float]:
    """k-medians as it is defined, with NumPy, a point and a cluster at a time: labels (N,) and the sum of distances."""
    centres, best, least = start.copy(), np.empty(0, np.int64), np.inf
    while True:
        labels, total = np.zeros(len(X), np.int64), 0.0
        for i, point in enumerate(X):
            apart = [np.abs(point - centre).sum() for centre in centres]
            labels[i] = np.argmin(apart)
            total += apart[labels[i]]
        if not total < least:
            return best, least
        best, least = labels, total
        for cluster in range(len(centres)):
            own = X[labels == cluster]
            if len(own):
                centres[cluster] = np.median(own, axis=0)


def kmedians_lines(repeat: int) -> list[Line]:
    """How many times as fast as the plain definition `KMedians` is, from the same start; and its time on more points."""
    lines = []
    for n, features, clusters in PLAIN:
        X = points_of(n, features, clusters)
        start = X[:clusters]
        model = KMedians(n_clusters=clusters, init=start)
        own, plain = [], []
        for _ in range(repeat):
            seconds, fitted = timed(functools.partial(model.fit, X))
            own.append(seconds)
            seconds, (labels, total) = timed(functools.partial(plain_kmedians, X, start))
            plain.append(seconds)
        assert np.array_equal(labels, fitted.labels_), "the plain definition found other clusters"
        assert abs(total - fitted.inertia_) < 1e-9 * total
        times = statistics.median(plain) / statistics.median(own)
        least, most = (
            min(a / b for a, b in zip(plain, own, strict=True)),
            max(a / b for a, b in zip(plain, own, strict=True)),
        )
        lines.append(
            Line(
                f"KMedians.fit against the plain definition, {n:,} x {features}, k={clusters}",
                f"{times:.0f} times as fast ({least:.0f} to {most:.0f})",
                f"{FASTER:.0f} times",
                -times,  # more is better
                -FASTER,
                [f"ours {1e3 * statistics.median(own):.3g} ms, plain {statistics.median(plain):.3g} s"],
            )
        )
    n, features, clusters = SIZES[2]
    X = points_of(n, features, clusters)
    seconds, fitted = timed(lambda: KMedians(n_clusters=clusters, random_state=SEED).fit(X))
    what = f"KMedians.fit, {n:,} x {features}, k={clusters}"
    return [*lines, Line(what, f"{seconds:.2f} s, {fitted.n_iter_} steps", "")]


def torch_lines(repeat: int) -> list[Line]:
    """A fit through torch: on a GPU if there is one, over scikit-learn's on the CPU; else Lloyd's steps by torch on the CPU."""
    n, features, clusters = SIZES[3]
    X = points_of(n, features, clusters, dtype=np.float32)
    start, size = X[:clusters], f"{n:,} x {features}, k={clusters}, 32 bits"
    settings: dict[str, Any] = {"max_iter": 20, "tol": 0.0}
    peer = Peer(clusters, init=start, n_init=1, **settings)
    if torch.cuda.is_available():
        own = KMeans(n_clusters=clusters, init=start, device="cuda", **settings)
        what = f"KMeans.fit on {torch.cuda.get_device_name()} over scikit-learn's on the CPU, {size}"
        call: Callable[[], float] = lambda: own.fit(X).inertia_  # noqa: E731
    else:
        mean = X.mean(axis=0)
        points, begin = torch.from_numpy(X - mean), torch.from_numpy(start - mean)
        what = f"Lloyd's steps by torch on the CPU over scikit-learn's, {size}"
        call = lambda: lloyd(points, begin, max_iter=20, tol=0.0).inertia  # noqa: E731
    ours, theirs = [], []
    for turn in range(repeat + 1):
        seconds, inertia = timed(call)
        second, fitted = timed(lambda: peer.fit(X))
        assert abs(inertia - fitted.inertia_) < 1e-4 * inertia, f"{what}: {inertia} against {fitted.inertia_}"
        if turn:
            ours.append(seconds)
            theirs.append(second)
    ratio, least, most = against(ours, theirs)
    note = f"{statistics.median(ours):.3g} s against {statistics.median(theirs):.3g} s for 20 steps"
    return [Line(what, f"{ratio:.3f} ({least:.3f} to {most:.3f})", "", ratio, None, [note])]


def large_lines(repeat: int = 1) -> list[Line]:
    """A million points of 64 features, 100 clusters."""
    X = points_of(1_000_000, 64, 100, dtype=np.float32)
    ours, theirs = [], []
    for turn in range(repeat):
        for side in ("own", "peer") if turn % 2 else ("peer", "own"):
            if side == "own":
                seconds, own = timed(lambda: KMeans(n_clusters=100, random_state=SEED).fit(X))
                ours.append(seconds)
            else:
                seconds, peer = timed(lambda: Peer(100, random_state=SEED).fit(X))
                theirs.append(seconds)
    assert np.array_equal(own.labels_, peer.labels_)
    ratio, least, most = against(ours, theirs)
    notes = [
        f"ours {statistics.median(ours):.1f} s, theirs {statistics.median(theirs):.1f} s; {own.n_iter_} steps; 32 bits"
    ]
    figure = f"{ratio:.3f} ({least:.3f} to {most:.3f})"
    return [Line("KMeans.fit over scikit-learn's, 1,000,000 x 64, k=100", figure, f"{BOUND:.2f}", ratio, BOUND, notes)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few turns")
    parser.add_argument("--large", action="store_true", help="a million points too: minutes")
    options = parser.parse_args()
    repeat = 3 if options.quick else 9
    for text in machine_lines():
        say(text)
    lines = [*kmeans_lines(repeat), *kmedians_lines(repeat if options.quick else 5), *torch_lines(repeat)]
    if options.large:
        lines += large_lines(1 if options.quick else 3)
    for line in lines:
        say(f"{line.what}: {line.figure}; limit {line.limit or 'none'}: {line.verdict}. {'; '.join(line.notes)}")
    return 0 if all(line.verdict != "missed" for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
