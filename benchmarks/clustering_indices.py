"""The indices of clusterings: beside scikit-learn's, beside their definitions in plain NumPy, and on many points.

    python benchmarks/clustering_indices.py            all of it, in some minutes; prints
    python benchmarks/clustering_indices.py --quick    few repetitions, no 50,000 points

The sides take turns on the same points, and both must give the same value. Part of `clustering.py`, which writes the page.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it; it counts from OpenMP's start on

import numpy as np
from engine import Line, against, say, steady
from numpy.typing import NDArray

from konspekt.metrics.clustering import INDICES, Index, silhouette

__all__ = ["beside_plain", "beside_scikit_learn", "lines", "many_points"]

CLUSTERS, COLUMNS = 10, 10
LIKE = 1.05  # of scikit-learn's time
TENTH = 0.1  # of the time of a definition in plain NumPy
SMALL = 2_000  # points for those definitions, which take all distances at once
TINY = 300  # points for gamma's, which takes all pairs of distances
SECONDS, BYTES = 60.0, 2e9  # of all indices
RANKING = ("c_index", "gamma")
REPORT = "FIGURES "


def points(n: int, columns: int = COLUMNS) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Balls that overlap (N, F), their labels, and labels of which a fifth is drawn."""
    r = np.random.default_rng(0)
    truth = r.integers(0, CLUSTERS, n)
    labels = np.where(r.random(n) < 0.2, r.integers(0, CLUSTERS, n), truth)
    return 1.5 * r.normal(size=(CLUSTERS, columns))[truth] + r.normal(size=(n, columns)), truth, labels


def turns(
    what: str, ours: Callable[[], Any], base: Callable[[], Any], bound: float | None, repeat: int, limit: str
) -> Line:
    """Ours over the base, which must give the same."""
    assert np.allclose(ours(), base(), rtol=1e-6, atol=1e-9), f"{what}: {ours()} is not {base()}"

    def timed(run: Callable[[], Any]) -> Callable[[], float]:
        def go() -> float:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start

        return go

    seconds = steady({"ours": timed(ours), "base": timed(base)}, "base", repeat, what)
    if seconds is None:
        return Line(what, "none: the machine was too unsteady", limit, None, bound)
    ratio, least, most = against(seconds["ours"], seconds["base"])
    taken = f"{1e3 * statistics.median(seconds['ours']):.3g} ms"
    return Line(what, f"{ratio:.3f} ({least:.3f} to {most:.3f}), {taken}", limit, ratio, bound)


# --- scikit-learn -----------------------------------------------------------------------------------------------------


def beside_scikit_learn(repeat: int, n: int = 10_000) -> list[Line]:
    """Those that scikit-learn has; the silhouette in several forms."""
    from sklearn import metrics as theirs

    X, truth, labels = points(n)
    wide = points(n // 2, 64)
    found = []
    for name, function, given in (
        ("silhouette", theirs.silhouette_score, X),
        ("calinski_harabasz", theirs.calinski_harabasz_score, X),
        ("davies_bouldin", theirs.davies_bouldin_score, X),
        ("rand", theirs.rand_score, truth),
        ("adjusted_rand", theirs.adjusted_rand_score, truth),
        ("fowlkes_mallows", theirs.fowlkes_mallows_score, truth),
    ):
        index, what = INDICES[name], f"{name}, {n:,} x {COLUMNS}, over scikit-learn's"
        found.append(
            turns(
                what,
                lambda index=index, given=given: index(given, labels),
                lambda function=function, given=given: function(given, labels),
                LIKE, repeat, f"{LIKE}",
            )
        )  # fmt: skip
    matrix = theirs.pairwise_distances(X[: n // 2], metric="manhattan")
    for what, given, own, metric in (
        (f"silhouette, {n // 2:,} x 64", wide[0], wide[2], "euclidean"),
        (f"silhouette, {n // 2:,} x {COLUMNS}, manhattan", X[: n // 2], labels[: n // 2], "manhattan"),
        (f"silhouette, a matrix of {n // 2:,} points", matrix, labels[: n // 2], "precomputed"),
    ):
        found.append(
            turns(
                f"{what}, over scikit-learn's",
                lambda given=given, own=own, metric=metric: silhouette(given, own, metric=metric),
                lambda given=given, own=own, metric=metric: theirs.silhouette_score(given, own, metric=metric),
                LIKE, repeat, f"{LIKE}",
            )
        )  # fmt: skip
    return found


# --- plain NumPy ------------------------------------------------------------------------------------------------------


class Plain:
    """The definitions, word for word, with all distances at once."""

    def __init__(self, X: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        self.X, self.labels = X, labels
        self.parts = [X[labels == k] for k in np.unique(labels)]
        self.centres = [p.mean(0) for p in self.parts]

    def distances(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
        return found

    def pairs(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        i, j = np.triu_indices(len(self.X), 1)
        return self.distances(self.X, self.X)[i, j], self.labels[i] == self.labels[j]

    def nearest_centres(self) -> NDArray[np.float64]:
        apart = self.distances(np.array(self.centres), np.array(self.centres))
        np.fill_diagonal(apart, np.inf)
        return apart

    def dunn(self) -> float:
        distances, own = self.pairs()
        return float(distances[~own].min() / distances[own].max())

    def c_index(self) -> float:
        distances, own = self.pairs()
        ranked, n = np.sort(distances), own.sum()
        least, most = ranked[:n].sum(), ranked[-n:].sum()
        return float((distances[own].sum() - least) / (most - least))

    def gamma(self) -> float:
        distances, own = self.pairs()
        smaller = sum(int((d < distances[~own]).sum()) for d in distances[own])
        larger = sum(int((d > distances[~own]).sum()) for d in distances[own])
        return (smaller - larger) / (smaller + larger)

    def generalized_dunn(self) -> float:
        parts = self.parts
        apart = min(self.distances(p, q).mean() for p in parts for q in parts if p is not q)
        return float(apart / max(2 * self._radii(p).mean() for p in parts))

    def _radii(self, part: NDArray[np.float64]) -> NDArray[np.float64]:
        radii: NDArray[np.float64] = np.linalg.norm(part - part.mean(0), axis=1)
        return radii

    def cop(self) -> float:
        total = 0.0
        for k, part in zip(np.unique(self.labels), self.parts, strict=True):
            total += self._radii(part).sum() / self.distances(self.X[self.labels != k], part).max(1).min()
        return float(total / len(self.X))

    def cs(self) -> float:
        spread = sum(self.distances(p, p).max(1).mean() for p in self.parts)
        return float(spread / self.nearest_centres().min(1).sum())

    def sym(self) -> float:
        total = 0.0
        for part, centre in zip(self.parts, self.centres, strict=True):
            near = np.sort(self.distances(2 * centre - part, part), axis=1)[:, :2]
            total += (near.mean(1) * self._radii(part)).sum()
        apart = self.distances(np.array(self.centres), np.array(self.centres)).max()
        return float(apart / (len(self.parts) * total))

    def _symmetry(self) -> list[NDArray[np.float64]]:
        found = []
        for part, centre in zip(self.parts, self.centres, strict=True):
            near = np.sort(self.distances(2 * centre - part, part), axis=1)[:, :2]
            found.append(near.mean(1) * self._radii(part))
        return found

    def sym_db(self) -> float:
        spread = np.array([d.mean() for d in self._symmetry()])
        return float(((spread[:, None] + spread) / self.nearest_centres()).max(1).mean())

    def sym_d(self) -> float:
        distances, own = self.pairs()
        return float(distances[~own].min() / max(d.max() for d in self._symmetry()))

    def sym_33(self) -> float:
        apart = min(self.distances(p, q).mean() for p in self.parts for q in self.parts if p is not q)
        return float(apart / max(2 * d.mean() for d in self._symmetry()))

    def s_dbw(self) -> float:
        parts, centres = self.parts, self.centres
        spreads = [np.linalg.norm(p.var(0)) for p in parts]
        radius = np.sqrt(sum(spreads)) / len(parts)

        def inside(points: NDArray[np.float64], middle: NDArray[np.float64]) -> int:
            return int((np.linalg.norm(points - middle, axis=1) <= radius).sum())

        density = 0.0
        for k, p in enumerate(parts):
            for m, q in enumerate(parts):
                if k != m:
                    between = inside(np.concatenate([p, q]), (centres[k] + centres[m]) / 2)
                    density += between / max(inside(p, centres[k]), inside(q, centres[m]), 1)
        pairs = len(parts) * (len(parts) - 1)
        return float(np.mean(spreads) / np.linalg.norm(self.X.var(0)) + density / pairs)

    def score_function(self) -> float:
        middle, within = self.X.mean(0), sum(self._radii(p).mean() for p in self.parts)
        between = sum(len(p) * np.linalg.norm(p.mean(0) - middle) for p in self.parts) / (len(self.X) * len(self.parts))
        return float(1 - 1 / np.exp(np.exp(between - within)))

    def sv(self) -> float:
        outer = sum(np.sort(self._radii(p))[-int(np.ceil(len(p) / 10)) :].mean() for p in self.parts)
        return float(self.nearest_centres().min(1).sum() / outer)

    def cohesion(self) -> float:
        return float(sum(((p - p.mean(0)) ** 2).sum() for p in self.parts))

    def separation(self) -> float:
        middle = self.X.mean(0)
        return float(sum(len(p) * ((p.mean(0) - middle) ** 2).sum() for p in self.parts))

    def davies_bouldin_star(self) -> float:
        wide = np.array([self._radii(p).mean() for p in self.parts])
        both = wide[:, None] + wide
        np.fill_diagonal(both, -np.inf)
        return float((both.max(1) / self.nearest_centres().min(1)).mean())

    def os_index(self) -> float:
        total = 0.0
        for k, part in zip(np.unique(self.labels), self.parts, strict=True):
            own = self.distances(part, part).mean(1)
            near = np.sort(self.distances(part, self.X[self.labels != k]), axis=1)[:, : len(part)].mean(1)
            total += np.where((near - own) / (near + own) < 0.4, own / near, 0).sum()
        return float(total / self.nearest_centres().min(1).sum())


def pairs_of(truth: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """The four counts by comparing all pairs."""
    i, j = np.triu_indices(len(truth), 1)
    p, q = truth[i] == truth[j], labels[i] == labels[j]
    return int((p & q).sum()), int((~p & q).sum()), int((p & ~q).sum()), int((~p & ~q).sum())


def plain_external(truth: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Callable[[], float]]:
    """Those that count pairs by all pairs, the others by the table of classes and clusters."""

    def phi() -> float:
        tp, fp, fn, tn = pairs_of(truth, labels)
        return float((tp * tn - fp * fn) / np.sqrt(float((tp + fp) * (tp + fn)) * float((tn + fp) * (tn + fn))))

    def jaccard() -> float:
        tp, fp, fn, _ = pairs_of(truth, labels)
        return tp / (tp + fp + fn)

    def minkowski() -> float:
        tp, fp, fn, _ = pairs_of(truth, labels)
        return float(np.sqrt((fp + fn) / (tp + fn)))

    def shared() -> NDArray[np.float64]:
        """(classes, clusters), the shares of the points, by a mask for each cell."""
        return np.array([[np.mean((truth == c) & (labels == k)) for k in np.unique(labels)] for c in np.unique(truth)])

    def variation() -> float:
        p = shared()
        return -sum(
            p[i, j] * (np.log(p[i, j] / p[i].sum()) + np.log(p[i, j] / p[:, j].sum()))
            for i, j in np.argwhere(p > 0)
        )  # fmt: skip

    return {
        "phi": phi,
        "hubert_gamma": phi,
        "jaccard": jaccard,
        "minkowski_score": minkowski,
        "purity": lambda: float(shared().max(0).sum()),
        "goodman_kruskal": lambda: float(1 - shared().max(0).sum()),
        "variation_of_information": variation,
    }


def beside_plain(repeat: int) -> list[Line]:
    """Those that scikit-learn has not, beside their definitions.

    A plain sum over the points of each cluster is as fast as NumPy can be: no tenfold is to be had of cohesion, separation and
    their like.
    """
    X, truth, labels = points(SMALL)
    found = []
    others = (n for n, i in INDICES.items() if i.kind == "internal" and hasattr(Plain, n))
    for name in others:
        n = TINY if name == "gamma" else SMALL
        plain, index = Plain(X[:n], labels[:n]), INDICES[name]
        found.append(
            turns(
                f"{name}, {n:,} x {COLUMNS}, over its definition in NumPy",
                lambda index=index, n=n: index(X[:n], labels[:n]),
                getattr(plain, name),
                TENTH, repeat, f"{TENTH}",
            )
        )  # fmt: skip
    for name, function in plain_external(truth, labels).items():
        what = f"{name}, {SMALL:,} points, over its definition in NumPy"
        index = INDICES[name]
        found.append(turns(what, lambda index=index: index(truth, labels), function, TENTH, repeat, f"{TENTH}"))
    return found


# --- many points ------------------------------------------------------------------------------------------------------


def take_all(n: int, names: list[str]) -> None:
    """In a process of its own: each index on n points, its seconds, and the most memory that the process held."""
    X, truth, labels = points(n)
    seconds, values = {}, {}
    for name in names:
        index: Index = INDICES[name]
        start = time.perf_counter()
        values[name] = index(X if index.kind == "internal" else truth, labels)
        seconds[name] = time.perf_counter() - start
    # Not ru_maxrss, which a process takes over from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    sys.stdout.write(REPORT + json.dumps({"seconds": seconds, "values": values, "held": held}) + "\n")


def measured(n: int, names: list[str]) -> dict[str, Any]:
    """`take_all` in another process."""
    command = [sys.executable, __file__, "--take", str(n), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(next(s for s in done.stdout.splitlines() if s.startswith(REPORT))[len(REPORT) :])
    return found


def many_points(n: int, *, ranking_apart: bool) -> list[Line]:
    """All indices of n x 10; ranking_apart: those that rank pairs by themselves, without a limit."""
    names = [name for name in INDICES if not (ranking_apart and name in RANKING)]
    found = measured(n, names)
    total = sum(found["seconds"].values())
    slowest = sorted(found["seconds"].items(), key=lambda s: -s[1])[:6]
    note = "the slowest: " + ", ".join(f"{name} {s:.3g} s" for name, s in slowest)
    what = f"{len(names)} indices of {n:,} x {COLUMNS}" + (" (all but those that rank pairs)" if ranking_apart else "")
    held = f"{found['held'] / 1e9:.2f} GB"
    lines = [
        Line(what, f"{total:.3g} s", f"{SECONDS:.0f} s", total, SECONDS, [note]),
        Line(f"{what}: memory", held, f"{BYTES / 1e9:.0f} GB", found["held"], BYTES),
    ]
    for name in RANKING if ranking_apart else ():
        one = measured(n, [name])
        note = "exact" if name == "c_index" else "within 1e-5, gamma's tolerance"
        figure = f"{one['seconds'][name]:.3g} s, {one['held'] / 1e9:.2f} GB, {note}"
        lines.append(Line(f"{name}, {n:,} x {COLUMNS}", figure, "none"))
    return lines


def lines(repeat: int, *, quick: bool) -> list[Line]:
    """All lines of the indices."""
    found = beside_scikit_learn(repeat, 4_000 if quick else 10_000) + beside_plain(repeat)
    found += many_points(10_000, ranking_apart=False)
    return found if quick else found + many_points(50_000, ranking_apart=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the indices of clusterings.")
    parser.add_argument("--repeat", type=int, default=9, help="turns that are counted (default 9)")
    parser.add_argument("--quick", action="store_true", help="3 turns, fewer points")
    parser.add_argument("--take", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.take:
        take_all(int(options.take[0]), options.take[1:])
        return 0
    missed = 0
    for line in lines(3 if options.quick else options.repeat, quick=options.quick):
        limit = f", limit {line.limit}" if line.limit else ""
        say(f"{line.what}: {line.figure}{limit}: {line.verdict}")
        for note in line.notes:
            say(f"  {note}")
        missed += line.verdict == "missed"
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
