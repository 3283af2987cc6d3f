"""Indices of agreement that count pairs: together in the true classes, in the clusters, in both or in neither.

Two labellings agree alike under any names of their labels. Noise, -1, counts as a cluster of its own here. All take
O(N) time.

Where labellings part the points in the same way (also where N = 1), each similarity is 1 and each distance 0. Otherwise
a similarity whose denominator is 0 (such as one labelling of a single cluster, or of single points) is 0: nothing links
the two.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from konspekt.core.errors import ConfigError
from konspekt.core.registry import system
from konspekt.metrics.clustering.contingency import contingency

__all__ = [
    "PairCounts",
    "adjusted_rand",
    "fowlkes_mallows",
    "hubert_gamma",
    "jaccard",
    "minkowski_score",
    "pair_counts",
    "phi",
    "rand",
]


class PairCounts(NamedTuple):
    """Pairs of points: together in both labellings (tp), in the clusters only (fp), in the classes only (fn), in none."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def total(self) -> int:
        """All pairs, N (N - 1) / 2."""
        return sum(self)

    @property
    def alike(self) -> bool:
        """Whether both part the points in the same way."""
        return self.fp == self.fn == 0


def pair_counts(truth: Any, labels: Any) -> PairCounts:
    """The four counts of pairs, as Python's integers, which do not overflow.

    With n_ij points of class i in cluster j: tp = sum C(n_ij, 2), tp + fn = sum C(n_i., 2), tp + fp = sum C(n_.j, 2).
    Each pair is counted once; scikit-learn's `pair_confusion_matrix` counts each twice.

    Raises DataError where the labellings are not of one length.
    """
    return _counts(truth, labels, "pair_counts")


def _counts(truth: Any, labels: Any, name: str) -> PairCounts:
    table = contingency(truth, labels, name)

    def pairs(sizes: Any) -> int:
        return sum((sizes * (sizes - 1) // 2).tolist())  # each term fits 64 bits up to 4e9 points; the sum need not

    both, own, found = pairs(table.cells), pairs(table.classes), pairs(table.clusters)
    every = table.points * (table.points - 1) // 2
    return PairCounts(both, found - both, own - both, every - own - found + both)


@system(
    name="rand",
    kind="metric",
    rows=("J6",),
    paper="Rand 1971, Objective criteria for the evaluation of clustering methods",
)
def rand(truth: Any, labels: Any) -> float:
    """Rand index: (tp + tn) / pairs. Higher is better, in [0, 1].

    The share of pairs on which both agree. Two random
    labellings come near 1 too where there are many clusters; `adjusted_rand` corrects for this. N = 1: 1.
    """
    c = _counts(truth, labels, "rand")
    return 1.0 if c.alike else (c.tp + c.tn) / c.total


@system(name="adjusted-rand", kind="metric", rows=("J6",), paper="Hubert & Arabie 1985, Comparing partitions")
def adjusted_rand(truth: Any, labels: Any) -> float:
    """Adjusted Rand index: 0 is what chance gives, 1 is agreement. Higher is better, in [-1/2, 1].

    (Rand - E Rand) / (1 - E Rand), with the expectation over labellings of the same sizes, which is
    2 (tp tn - fn fp) / ((tp + fn) (fn + tn) + (tp + fp) (fp + tn)). One cluster
    or single points against anything else: 0. Labellings alike: 1.
    """
    c = _counts(truth, labels, "adjusted_rand")
    if c.alike:
        return 1.0
    return 2 * (c.tp * c.tn - c.fn * c.fp) / ((c.tp + c.fn) * (c.fn + c.tn) + (c.tp + c.fp) * (c.fp + c.tn))


@system(name="jaccard", kind="metric", rows=("J6",), paper="Jaccard 1901; of pairs, Downton & Brennan 1980")
def jaccard(truth: Any, labels: Any) -> float:
    """Jaccard index of pairs: tp / (tp + fp + fn). Higher is better, in [0, 1].

    Pairs apart in both count for nothing, unlike in the Rand index.
    Single points in both labellings, and N = 1: 1.
    """
    c = _counts(truth, labels, "jaccard")
    return 1.0 if c.alike else c.tp / (c.tp + c.fp + c.fn)


@system(
    name="fowlkes-mallows",
    kind="metric",
    rows=("J6",),
    paper="Fowlkes & Mallows 1983, A method for comparing two hierarchical clusterings",
)
def fowlkes_mallows(truth: Any, labels: Any) -> float:
    """Fowlkes-Mallows index: tp / sqrt((tp + fp) (tp + fn)). Higher is better, in [0, 1].

    The geometric mean of precision and recall of pairs. Single points in both: 1 (scikit-learn gives 0 there); no pair
    together in both: 0.
    """
    c = _counts(truth, labels, "fowlkes_mallows")
    if c.alike:
        return 1.0
    return math.sqrt(c.tp / (c.tp + c.fp)) * math.sqrt(c.tp / (c.tp + c.fn)) if c.tp else 0.0


@system(name="hubert-gamma", kind="metric", rows=("J6",), paper="Hubert & Arabie 1985, Comparing partitions")
def hubert_gamma(truth: Any, labels: Any, *, form: Literal["normalised", "raw"] = "normalised") -> float:
    """Hubert's Gamma of two labellings: how the two matrices of "in one cluster" correlate. Higher is better.

    With P_ij = 1 where i and j are of one class, Q_ij = 1 where they are of one cluster, and M pairs i < j: the raw
    form is sum P_ij Q_ij / M = tp / M, in [0, 1]; the normalised form is the correlation of P_ij and Q_ij, in [-1, 1],
    (M tp - (tp + fp) (tp + fn)) / sqrt((tp + fp) (tp + fn) (M - tp - fp) (M - tp - fn)) (Hubert & Arabie 1985; Jain &
    Dubes 1988, section 4.2). The normalised form is `phi` in other words, since both correlate two columns of zeros and
    ones. Labellings alike: the normalised form is 1; else with one cluster or single points on a side: 0. N = 1: 1, raw
    0.

    form: "normalised" or "raw".

    Raises DataError where the labellings are not of one length; ConfigError on another form.
    """
    if form not in ("normalised", "raw"):
        raise ConfigError(f"hubert_gamma: form is 'normalised' or 'raw', not {form!r}")
    c = _counts(truth, labels, "hubert_gamma")
    if form == "raw":
        return c.tp / c.total if c.total else 0.0
    return _correlation(c)


@system(
    name="phi",
    kind="metric",
    rows=("J6",),
    paper="Yule 1912, On the methods of measuring association between two attributes",
)
def phi(truth: Any, labels: Any) -> float:
    """Phi coefficient of pairs, the correlation of two dichotomies. Higher is better, in [-1, 1].

    (tp tn - fp fn) / sqrt((tp + fp) (tp + fn) (tn + fp) (tn + fn)), also known as Matthews' coefficient. Some lists of
    indices print it without the root (Desgraupes, Clustering indices, 2013); that is no correlation and depends on N.
    Equal to the normalised `hubert_gamma`. Labellings alike: 1; else with one cluster or single points on a side: 0.
    """
    return _correlation(_counts(truth, labels, "phi"))


@system(name="minkowski-score", kind="metric", rows=("J6",), paper="Jardine & Sibson 1971, Mathematical taxonomy")
def minkowski_score(truth: Any, labels: Any) -> float:
    """Minkowski score: sqrt((fp + fn) / (tp + fn)). Lower is better, in [0, infinity).

    ||P - Q|| / ||P|| of the matrices of "in one cluster", P of the classes, Q of the clusters. It is not symmetric.
    Labellings alike: 0; classes of single points, and clusters that are not: infinity.
    """
    c = _counts(truth, labels, "minkowski_score")
    if c.alike:
        return 0.0
    return math.sqrt((c.fp + c.fn) / (c.tp + c.fn)) if c.tp + c.fn else math.inf


def _correlation(c: PairCounts) -> float:
    if c.alike:
        return 1.0
    below = (c.tp + c.fp) * (c.tp + c.fn) * (c.tn + c.fp) * (c.tn + c.fn)
    return (c.tp * c.tn - c.fp * c.fn) / math.sqrt(below) if below else 0.0
