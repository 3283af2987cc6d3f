"""Indices that rank all distances between points: the C index and Baker and Hubert's gamma.

Their definitions sort the N (N - 1) / 2 distances. Here few of them are ever held: passes over the pairs, block by
block, count the distances in bins, and only those of the bins that decide are collected and sorted, in as many passes
as memory asks for. The bins' edges are whole multiples of powers of two, so that no rounding puts a distance on the
wrong side of one.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.registry import system
from konspekt.metrics.clustering.blocks import Block, of_unit_size, pairs_by_cluster
from konspekt.metrics.clustering.checking import matrix_and_codes, points_and_codes

__all__ = ["c_index", "gamma"]

BINS = 2**20  # of a pass; their counts stay in a core's cache, nearly
BATCH = 2**22  # numbers of bins that are counted at a time
FEW = 2**22  # distances that are sorted without another pass
HELD = 2**26  # distances that are held at a time: 512 MiB
FINEST = 2.0**-40  # of the largest: a crowd of distances (in gamma, of their squares) that differ by less are equal


@dataclass(frozen=True)
class _Pairs:
    """The distances of all pairs.

    points: (N, F), or a matrix of distances (N, N), sorted by code. root: distances are wanted, else their squares do
    too.
    """

    points: NDArray[np.float64]
    codes: NDArray[np.int64]
    matrix: bool
    root: bool

    @property
    def within(self) -> int:
        """How many pairs are of one cluster."""
        return sum(n * (n - 1) // 2 for n in np.bincount(self.codes).tolist())

    @property
    def total(self) -> int:
        """How many pairs there are."""
        return len(self.codes) * (len(self.codes) - 1) // 2

    def __iter__(self) -> Iterator[Block]:
        for values, within in pairs_by_cluster(self.points, self.codes, matrix=self.matrix):
            yield Block(np.sqrt(values, out=values) if self.root and not self.matrix else values, within)

    @cached_property
    def limit(self) -> float:
        """A power of two that no distance reaches."""
        if self.matrix:
            largest = float(self.points.max())
        else:
            apart = self.points - self.points.mean(0)
            largest = 4 * float(np.einsum("nf,nf->n", apart, apart).max())
            largest = math.sqrt(largest) if self.root else largest
        return 2.0 ** math.ceil(math.log2(largest * (1 + 1e-6)) + 1e-9) if largest > 0 else 1.0

    def histogram(self, low: float, width: float) -> NDArray[np.int64]:
        """Counts (2, BINS) of the distances from low on, below low + width: of those between clusters, and within."""
        counts = np.zeros((2, BINS), np.int64)
        waiting = np.empty((2, BATCH), np.intp)
        filled = [0, 0]
        scale = BINS / width

        def count(kind: int) -> None:
            counts[kind] += np.bincount(waiting[kind, : filled[kind]], minlength=BINS)
            filled[kind] = 0

        for values, within in self:
            flat, kind = self._inside(values, low, low + width), int(within)
            if filled[kind] + flat.size > BATCH:
                count(kind)
            waiting[kind, filled[kind] : filled[kind] + flat.size] = (flat - low if low else flat) * scale
            filled[kind] += flat.size
        count(0)
        count(1)
        return counts

    def collect(self, low: float, high: float, between: int, within: int) -> list[NDArray[np.float64]]:
        """The distances from low on, below high, which are so many: between clusters, and within."""
        found = [np.empty(between), np.empty(within)]
        filled = [0, 0]
        for values, kind in self:
            flat = self._inside(values, low, high)
            found[kind][filled[kind] : filled[kind] + flat.size] = flat
            filled[kind] += flat.size
        return found

    def _inside(self, values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
        flat = values.reshape(-1)
        return flat if low == 0 and high >= self.limit else flat[(flat >= low) & (flat < high)]


def _pairs(X: Any, labels: Any, name: str, metric: str, *, root: bool) -> _Pairs:
    """Raises DataError where there is no pair within a cluster, or none between two; ConfigError on another metric."""
    if metric not in ("euclidean", "precomputed"):
        raise ConfigError(
            f"{name}: metric is 'euclidean' or 'precomputed' (X is then the matrix of them), not {metric!r}"
        )
    matrix = metric == "precomputed"
    read = matrix_and_codes if matrix else points_and_codes
    points, codes, _ = read(X, labels, name, singletons=False)
    order = np.argsort(codes, kind="stable")
    points = points[np.ix_(order, order)] if matrix else of_unit_size(points[order])
    return _Pairs(points, codes[order], matrix, root)


# --- the C index ------------------------------------------------------------------------------------------------------


@system(
    name="c-index",
    kind="metric",
    rows=("J5",),
    paper="Hubert & Levin 1976, A general statistical framework for assessing categorical clustering in free recall",
)
def c_index(X: Any, labels: Any, *, metric: Literal["euclidean", "precomputed"] = "euclidean") -> float:
    """C index: where the sum of the distances within clusters lies between the least and the greatest it could be.

    (S - S_min) / (S_max - S_min), with S the sum of the n distances between points of one cluster, S_min that of the n
    smallest of all distances, S_max that of the n largest. Lower is better, in [0, 1]. Ties do not matter. Noise (label
    -1) is left out.

    Exact up to rounding: two passes over the pairs find the bins in which the n-th smallest and the n-th largest lie,
    and sum what lies beyond; only these two bins are sorted. Memory hardly grows with N.

    metric: "euclidean", or "precomputed" where X is the matrix of distances (N, N).

    Raises DataError where there is one cluster only, where each point is one by itself, and where all distances are
    equal.
    """
    pairs = _pairs(X, labels, "the C index", metric, root=True)
    own, least, most = _sums_at_once(pairs) if pairs.total <= FEW else _sums_in_passes(pairs)
    if most - least <= 1e-12 * most:
        raise DataError("the C index is not defined where all distances are equal, as each sum of them is then")
    return float(np.clip((own - least) / (most - least), 0.0, 1.0))


def _sums_at_once(pairs: _Pairs) -> tuple[float, float, float]:
    """Sums of the n distances within clusters, of the n smallest of all and of the n largest."""
    n, total = pairs.within, pairs.total
    values, within = np.empty(total), 0.0
    filled = 0
    for part, kind in pairs:
        flat = part.reshape(-1)
        values[filled : filled + flat.size] = flat
        filled += flat.size
        within += float(flat.sum()) if kind else 0.0
    values.partition(n)
    least = float(values[:n].sum())
    values.partition(total - n)  # one after the other: NumPy is much slower where both are asked for together
    return within, least, float(values[total - n :].sum())


def _sums_in_passes(pairs: _Pairs) -> tuple[float, float, float]:
    """The same, holding only the distances near the two that limit the n smallest and the n largest."""
    own, n = 0.0, pairs.within
    bins = [_Bin(0.0, pairs.limit, rank, pairs.total) for rank in (n, pairs.total - n)]
    while any(b.crowded for b in bins):
        for found in {(b.low, b.width) for b in bins if b.crowded}:
            counts = pairs.histogram(*found).sum(0)
            bins = [b.narrowed(counts) if (b.low, b.width) == found and b.crowded else b for b in bins]
    (small, large), least, most = bins, 0.0, 0.0
    near: tuple[list[NDArray[np.float64]], ...] = ([], [])
    for values, within in pairs:
        flat = values.reshape(-1)
        own += float(flat.sum()) if within else 0.0
        least += float(flat.sum(where=flat < small.low))
        most += float(flat.sum(where=flat >= large.low + large.width))
        for b, held in zip(bins, near, strict=True):
            if b.inside <= FEW:
                held.append(flat[(flat >= b.low) & (flat < b.low + b.width)])
    return own, least + small.sums_of(near[0])[0], most + large.sums_of(near[1])[1]


@dataclass(frozen=True)
class _Bin:
    """The bin in which the distance of a rank lies, and its rank among the `inside` distances there, from 1 on."""

    low: float
    width: float
    rank: int
    inside: int
    finest: float = 0.0

    @property
    def crowded(self) -> bool:
        """Whether there are more distances in it than are sorted at once, and not all the same."""
        return self.inside > FEW and self.width > self.finest

    def narrowed(self, counts: NDArray[np.int64]) -> _Bin:
        """The part of it with this rank, by the counts of its parts (BINS,)."""
        upto = np.cumsum(counts)
        place = int(np.searchsorted(upto, self.rank))
        width = self.width / BINS
        before = int(upto[place] - counts[place])
        finest = self.finest or self.width * FINEST
        return _Bin(self.low + place * width, width, self.rank - before, int(counts[place]), finest)

    def sums_of(self, parts: list[NDArray[np.float64]]) -> tuple[float, float]:
        """Sums of its distances up to the rank, and above it; without the distances themselves, all are the same."""
        if not parts:
            return self.rank * self.low, (self.inside - self.rank) * self.low
        values = np.concatenate(parts)
        if self.rank < len(values):
            values.partition(self.rank)
        return float(values[: self.rank].sum()), float(values[self.rank :].sum())


# --- gamma ------------------------------------------------------------------------------------------------------------


@system(
    name="gamma",
    kind="metric",
    rows=("J5",),
    paper="Baker & Hubert 1975, Measuring the power of hierarchical cluster analysis",
)
def gamma(
    X: Any, labels: Any, *, metric: Literal["euclidean", "precomputed"] = "euclidean", tolerance: float = 1e-5
) -> float:
    """Gamma: whether distances within clusters are smaller than those between, as a rank correlation.

    (s+ - s-) / (s+ + s-) over all choices of a pair within a cluster and a pair between two: s+ counts those where the
    distance within is strictly smaller, s- those where it is strictly larger; ties count for neither, as in the gamma
    of Goodman & Kruskal (1954). Higher is better, in [-1, 1]. Noise (label -1) is left out.

    Exact up to 11,585 points (67 million pairs). Above, a first pass counts distances in a million bins and bounds what
    is unknown, the order within a bin; where that is more than `tolerance`, the bins are sorted too, as many as memory
    holds in a pass, and the result is exact. Only where more than 67 million squared distances differ by less than
    1e-12 of the largest are they taken as equal.

    Distances that would be equal but for the rounding of X, as of measures with one decimal, are no ties: give whole numbers
    (10 X) where such ties matter.

    metric: "euclidean", or "precomputed" where X is the matrix of distances (N, N).

    tolerance: by how much the value may be off at most; 0: exact however long it takes.

    Raises DataError where there is one cluster only, where each point is one by itself, and where all distances are
    equal.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, numbers.Real) or not tolerance >= 0:
        raise ConfigError(f"gamma: tolerance is a number from 0 on, not {tolerance!r}")
    pairs = _pairs(X, labels, "gamma", metric, root=False)
    limit, within = pairs.limit, pairs.within
    smaller, larger, unknown = _orders(pairs, 0.0, limit, (pairs.total - within, within), tolerance, limit * FINEST)
    if smaller + larger + unknown == 0:
        raise DataError("gamma is not defined where all distances are equal, as there is nothing to rank")
    return (smaller - larger) / (smaller + larger + unknown)


def _orders(
    pairs: _Pairs, low: float, width: float, sizes: tuple[int, int], tolerance: float, finest: float
) -> tuple[int, int, int]:
    """s+, s- and choices of unknown order among the distances from low on, below low + width. sizes: between, within."""
    if sum(sizes) <= HELD:
        return *_merged(*pairs.collect(low, low + width, *sizes)), 0
    if width <= finest:
        return 0, 0, 0  # all equal
    between, within = pairs.histogram(low, width)
    before = np.cumsum(between) - between
    larger = _dot(within, before)
    mixed = np.flatnonzero((between > 0) & (within > 0))
    unknown = _dot(within, between)
    smaller = sizes[0] * sizes[1] - larger - unknown
    if unknown <= tolerance * (smaller + larger + unknown):
        return smaller, larger, unknown
    part = width / BINS
    for group in _packed(mixed, between + within):
        other, own = between[group], within[group]
        start, span, held = low + group.start * part, len(own) * part, (int(other.sum()), int(own.sum()))
        if len(own) == 1:
            more = _orders(pairs, start, span, held, 0.0, finest)
            smaller, larger = smaller + more[0], larger + more[1]
            continue
        up, down = _merged(*pairs.collect(start, start + span, *held))
        # what lies in different bins is known already
        crossing = _dot(own, np.cumsum(other) - other)
        smaller += up - (held[0] * held[1] - crossing - _dot(own, other))
        larger += down - crossing
    return smaller, larger, 0


def _packed(mixed: NDArray[np.intp], amounts: NDArray[np.int64]) -> Iterator[slice]:
    """Runs of bins that hold at most HELD together, from one mixed bin to another; one that holds more stands alone."""
    upto = np.cumsum(amounts)
    first = 0
    while first < len(mixed):
        limit = int(upto[mixed[first]] - amounts[mixed[first]]) + HELD
        last = max(first + 1, int(np.searchsorted(upto[mixed], limit, side="right")))
        yield slice(int(mixed[first]), int(mixed[last - 1]) + 1)
        first = last


def _merged(between: NDArray[np.float64], within: NDArray[np.float64]) -> tuple[int, int]:
    """How many choices have the distance within smaller, and how many larger; both are sorted in their places."""
    between.sort()
    within.sort()
    if len(within) <= len(between):
        return _merge(within, between)
    larger, smaller = _merge(between, within)
    return smaller, larger


def _merge(few: NDArray[np.float64], many: NDArray[np.float64]) -> tuple[int, int]:
    """Choices with the one of `few` smaller, and larger, by pieces, so that a search stays within the cache."""
    smaller = larger = 0
    for start in range(0, len(few), 8192):
        asked = few[start : start + 8192]
        first, last = np.searchsorted(many, asked[[0, -1]], side="left")
        last = max(int(last), int(np.searchsorted(many, asked[-1], side="right")))
        near = many[first:last]
        larger += int(np.searchsorted(near, asked, side="left").sum()) + int(first) * len(asked)
        smaller += len(asked) * (len(many) - int(first)) - int(np.searchsorted(near, asked, side="right").sum())
    return smaller, larger


def _dot(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """The exact sum of products of at most BINS counts below 2**40, by halves, as 64 bits may not hold it."""
    half = 2**20
    (a_high, a_low), (b_high, b_low) = np.divmod(a, half), np.divmod(b, half)
    middle = int(np.dot(a_high, b_low)) + int(np.dot(a_low, b_high))
    return int(np.dot(a_low, b_low)) + middle * half + int(np.dot(a_high, b_high)) * half**2
