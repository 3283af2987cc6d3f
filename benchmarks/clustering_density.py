"""Clusters by density beside scikit-learn's classes of the same name. Part of `clustering.py`; by itself:

    python benchmarks/clustering_density.py              in some minutes; prints
    python benchmarks/clustering_density.py --million    DBSCAN and the radius graph on a million points in the plane, too

Both sides fit the same points with the same parameters, in turns, and must give the same labels. The memory of a fit is the growth of
the process's own, looked at every few milliseconds, in a process that has fitted a small set before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import sklearn.cluster as peers
from engine import Line, against, say, steady
from sklearn.datasets import make_blobs, make_moons

from konspekt.cluster import DBSCAN, GraphClustering, MeanShift

BOUND = 1.05
TURN = 0.15  # seconds that a turn takes at least: a fit of few points is over before the machine has settled
MILLION = 1_000_000


@dataclass(frozen=True)
class Case:
    """Points, and a class of ours and of scikit-learn's with the same parameters."""

    name: str
    points: np.ndarray
    ours: Any
    peer: Any


def blobs(count: int, columns: int = 2, *, std: float = 1.0) -> np.ndarray:
    """Ten round groups."""
    X: np.ndarray = make_blobs(count, columns, centers=10, cluster_std=std, random_state=0)[0]
    return X


def dbscan_cases() -> list[Case]:
    """Few and many neighbours, few and many columns, few and many points."""
    cases = []
    for count in (300, 3_000, 30_000):
        flat = np.random.default_rng(0).random((count, 2))
        moons = make_moons(count, noise=0.05, random_state=0)[0]
        sets: list[tuple[str, np.ndarray, float, int]] = [
            ("uniform in the plane", flat, 1.5 / count**0.5, 5),
            ("moons", moons, 0.1, 5),
            ("blobs in 3 columns", blobs(count, 3), 12 / count ** (1 / 3), 5),
            ("blobs in 8 columns", blobs(count, 8), 1.8, 5),
            ("blobs in 20 columns", blobs(min(count, 10_000), 20), 5.0, 5),
        ]
        for name, X, eps, least in sets:
            keywords: dict[str, Any] = {"eps": eps, "min_samples": least}
            cases.append(Case(f"DBSCAN, {len(X):,} {name}", X, DBSCAN(**keywords), peers.DBSCAN(**keywords)))
    return cases


def mean_shift_cases() -> list[Case]:
    """Seeds at every point and on the grid, with and without the bandwidth rule."""
    cases = []
    for count, columns, width, grid in (
        (300, 2, None, False),
        (1_000, 2, 1.0, False),
        (1_000, 20, 7.0, False),
        (3_000, 2, None, True),
        (10_000, 2, 0.5, True),
    ):
        name = f"MeanShift, {count:,} x {columns}, {'grid' if grid else 'sample'}, " + (
            "bandwidth by rule" if width is None else f"bandwidth {width:g}"
        )
        ours = MeanShift(bandwidth=width, seeding="grid" if grid else "sample")
        peer = peers.MeanShift(bandwidth=width, bin_seeding=grid)
        cases.append(Case(name, blobs(count, columns), ours, peer))
    return cases


def graph_cases() -> list[Case]:
    """The radius graph beside DBSCAN with min_samples=1, which is the same clusters; in 8 columns by Prim's."""
    cases = []
    for count, columns, radius in ((1_000, 2, 0.1), (30_000, 2, 0.05), (10_000, 8, 1.0)):
        X = blobs(count, columns)
        ours, peer = GraphClustering(radius=radius), peers.DBSCAN(eps=radius, min_samples=1)
        cases.append(Case(f"GraphClustering, {count:,} x {columns}", X, ours, peer))
    return cases


def compare(case: Case, repeat: int, *, bound: float | None = BOUND) -> Line:
    """Seconds of our fit over scikit-learn's; bound None: for information."""
    found: dict[str, np.ndarray] = {}
    start = time.perf_counter()
    case.peer.fit(case.points)
    fits = max(1, round(TURN / (time.perf_counter() - start)))

    def side(name: str, model: Any) -> Callable[[], float]:
        def fit() -> float:
            start = time.perf_counter()
            for _ in range(fits):
                model.fit(case.points)
            seconds = time.perf_counter() - start
            found[name] = model.labels_
            return seconds / fits

        return fit

    seconds = steady({"ours": side("ours", case.ours), "peer": side("peer", case.peer)}, "peer", repeat, case.name)
    assert (found["ours"] == found["peer"]).all(), f"{case.name}: the two sides have other labels"
    limit = "" if bound is None else f"{bound:.2f}"
    if seconds is None:
        return Line(case.name, "none: the machine was too unsteady", limit, None, bound)
    ratio, least, most = against(seconds["ours"], seconds["peer"])
    milli = {name: 1e3 * statistics.median(spent) for name, spent in seconds.items()}
    clusters = len(np.unique(found["ours"][found["ours"] >= 0]))
    note = f"{milli['ours']:.3g} ms, scikit-learn {milli['peer']:.3g} ms; the same labels, {clusters} clusters"
    return Line(case.name, f"{ratio:.3f} ({least:.3f} to {most:.3f})", limit, ratio, bound, [note])


def lines(repeat: int) -> list[Line]:
    """All cases; those of the radius graph are for information, as scikit-learn has no such class."""
    found = [compare(case, repeat) for case in dbscan_cases() + mean_shift_cases()]
    return found + [compare(case, repeat, bound=None) for case in graph_cases()]


# -- a million points ---------------------------------------------------------------------------------------------------


def _memory() -> float:
    """MB that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def million_sets() -> dict[str, tuple[np.ndarray, float, int]]:
    """Points, eps and min_samples: about 7, 80 and 2,000 neighbours a point."""
    round_ones = make_blobs(MILLION, centers=20, cluster_std=0.3, random_state=0)[0]
    return {
        "uniform": (np.random.default_rng(0).random((MILLION, 2)), 0.0015, 5),
        "blobs": (round_ones, 0.02, 10),
        "dense blobs": (round_ones, 0.1, 10),
    }


def _fit_alone(who: str, name: str, send: Any) -> None:
    X, eps, least = million_sets()[name]
    made: dict[str, Callable[[], Any]] = {
        "DBSCAN": lambda: DBSCAN(eps=eps, min_samples=least),
        "scikit-learn's DBSCAN": lambda: peers.DBSCAN(eps=eps, min_samples=least),
        "GraphClustering": lambda: GraphClustering(radius=eps),
    }
    made[who]().fit(X[:2000])
    base, stop = _memory(), threading.Event()
    peak = base

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.005):
            peak = max(peak, _memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, model = time.perf_counter(), made[who]().fit(X)
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    labels = model.labels_.astype(np.int64)
    send.send((seconds, peak - base, int(labels.max()) + 1, int((labels * np.arange(MILLION) % 1_000_003).sum())))


def alone(who: str, name: str) -> tuple[float, float, int, int]:
    """Seconds, MB, clusters and a sum of the labels of one fit in a process of its own."""
    context = multiprocessing.get_context("spawn")
    take, give = context.Pipe(duplex=False)
    process = context.Process(target=_fit_alone, args=(who, name, give))
    process.start()
    give.close()
    found: tuple[float, float, int, int] = take.recv()
    process.join()
    return found


def million() -> list[Line]:
    """DBSCAN beside scikit-learn's, but for the dense set, whose lists of neighbours would take some 20 GB; and the radius graph."""
    found = []
    for name in ("uniform", "blobs", "dense blobs"):
        seconds, memory, clusters, mark = alone("DBSCAN", name)
        what, figure = f"DBSCAN, a million points, {name}", f"{seconds:.1f} s, {memory:.0f} MB; {clusters} clusters"
        if name == "dense blobs":
            found.append(Line(what, figure, ""))
            continue
        theirs, more, _, other = alone("scikit-learn's DBSCAN", name)
        assert mark == other, f"{what}: the two sides have other labels"
        note = f"scikit-learn {theirs:.1f} s, {more:.0f} MB; the same labels"
        found.append(Line(what, f"{figure}; {seconds / theirs:.3f}", f"{BOUND:.2f}", seconds / theirs, BOUND, [note]))
    seconds, memory, clusters, _ = alone("GraphClustering", "blobs")
    figure = f"{seconds:.1f} s, {memory:.0f} MB; {clusters} components"
    return [*found, Line("GraphClustering, a million points, blobs", figure, "")]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure clusters by density against scikit-learn.")
    parser.add_argument("--repeat", type=int, default=5, help="turns that are counted (default 5)")
    parser.add_argument("--million", action="store_true", help="a million points, too")
    options = parser.parse_args()
    for line in lines(options.repeat) + (million() if options.million else []):
        say(f"{line.what}: {line.figure}" + (f", limit {line.limit}" if line.limit else "") + f": {line.verdict}")
        for note in line.notes:
            say(f"  {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
